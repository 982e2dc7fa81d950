import Base
import FoundationEssentials
import Glibc
import Logging
import MerkleDAG
import Multiformats
import Volume

import struct SystemPackage.Errno

/// A volume that a command asks: one that a daemon serves, or one that this process has opened.
enum VolumeAccess {
    case daemon(ControlClient)
    case opened(OpenedVolume)

    /// The state directory of a mount that names none.
    static let defaultStateDirectory = "/var/lib/registryfs"

    /// Reaches the volume of a state directory, through its daemon where one runs.
    ///
    /// Only for a directory that the person named, or the default one: what the table of mounts names
    /// is never opened.
    ///
    /// - Parameters:
    ///   - seals: whether a volume that this process opens may be changed: CIDs that are computed are kept.
    ///   - sources: who has what such a volume has not.
    init(stateDirectory: String, seals: Bool, sources: OfflineSources) throws(Failure) {
        let path = try Self.checked(stateDirectory)
        let client = ControlClient(stateDirectory: path)
        if try client.isReachable {
            try sources.refuseForMount()
            self = .daemon(client)
        } else {
            self = .opened(try OpenedVolume(path, seals: seals, sources))
        }
    }

    /// A state directory's path, absolute; fails where there is none.
    static func checked(_ stateDirectory: String) throws(Failure) -> String {
        let path = RawText.text(of: try SystemFiles.absolute(RawText.bytes(of: stateDirectory)))
        guard !RawText.carriesBytes(path) else {
            throw Failure("the state directory's path is not UTF-8: \(RawText.shown(path))")
        }
        guard access(path, F_OK) == 0 else {
            throw Failure(
                "no state directory at \(RawText.shown(path)) (\(Errno(rawValue: errno).reason)): "
                    + "give another by --state-dir")
        }
        guard access(path + "/manifest.sqlite", F_OK) == 0 || errno != ENOENT else {
            throw Failure(
                "\(RawText.shown(path)) is no state directory, it has no manifest.sqlite: "
                    + "give another by --state-dir")
        }
        return path
    }

    /// Sends a request to the volume and waits for its end.
    func ask(
        _ request: ControlRequest,
        pulse: (ControlProgress?) -> Void = { _ in },
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void = { _ in }
    ) throws(Failure) -> ControlResult {
        switch self {
        case .daemon(let client): try client.ask(request, pulse: pulse, data: data)
        case .opened(let opened): try opened.answer(request, pulse: pulse, data: data)
        }
    }

    /// Whether what it gives was verified in this process.
    var isVerified: Bool {
        if case .opened = self { true } else { false }
    }

    /// Lets go of the volume; a volume that this process opened is closed.
    func close() throws(Failure) {
        guard case .opened(let opened) = self else { return }
        do throws(VolumeError) {
            try opened.volume.close()
        } catch {
            throw Failure(volume: error)
        }
    }

}

/// A volume that is not mounted, opened for the time of a command.
struct OpenedVolume {
    let volume: Volume
    private let stateDirectory: String
    private let sources: MountSources
    private let node: KuboSettings?
    private let log: Logger

    fileprivate init(
        _ stateDirectory: String, seals: Bool, _ given: OfflineSources
    ) throws(Failure) {
        self.stateDirectory = stateDirectory
        node = given.node
        log = .ofCommand
        let fetch: FetchOptions?
        (sources, fetch) = try given.open(log: log)
        var options = VolumeOptions()
        options.isReadOnly = !seals
        options.sealThreads = 0
        options.sources = fetch
        do throws(VolumeError) {
            volume = try Volume.open(stateDirectory: stateDirectory, options: options, log: log)
        } catch {
            throw Failure(volume: error)
        }
    }

    fileprivate func answer(
        _ request: ControlRequest, pulse: (ControlProgress?) -> Void,
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> ControlResult {
        guard request.command == .importTree else { return try volume.answer(request, data: data) }
        let trees = TreeImport(
            volume: volume, stateDirectory: stateDirectory, sources: sources, node: node, log: log)
        let report = try trees.run(request) { progress in
            pulse(progress)
            return true
        }
        return ControlResult(imported: report)
    }
}

extension Logger {
    /// The log of a command: what it has to say, it says by its failure.
    static var ofCommand: Logger {
        // What goes wrong is the command's own line: a source's failure would be told twice.
        Logger(label: "registryfs") { _ in LineLogHandler(file: LogFile(), level: .critical) }
    }
}

/// Asks about paths and CIDs, wherever their volume is.
struct VolumeFinder {
    /// The state directory that the person gave; paths are then those inside of the volume.
    let stateDirectory: String?

    private let seals: Bool
    /// The mount that alone is asked about CIDs, by its daemon.
    private var mount: MountEntry?
    private let sources: OfflineSources
    private var opened: [String: VolumeAccess] = [:]

    /// - Parameters:
    ///   - seals: whether a volume that is not mounted may be changed.
    ///   - sources: who has what such a volume has not.
    init(stateDirectory: String?, seals: Bool, sources: OfflineSources = OfflineSources()) {
        self.stateDirectory = stateDirectory
        self.seals = seals
        self.sources = sources
    }

    /// Asks one mount about CIDs.
    init(asking mount: MountEntry) {
        self.init(stateDirectory: nil, seals: false)
        self.mount = mount
    }

    /// The CID of what a path leads to, which is sealed where it is not yet. On a terminal a line shows
    /// that it goes on.
    mutating func cid(ofPath path: String) throws(Failure) -> CID {
        var bar = ProgressBar("sealing")
        let start = MonotonicClock.milliseconds
        let result = try ask(.cid, path: path) {
            bar.update(seconds: (MonotonicClock.milliseconds - start) / 1000)
        }
        guard let text = result.cid else {
            throw Failure("\(RawText.shown(path)): the daemon tells no CID")
        }
        return try ContentID.parse(text)
    }

    /// Asks about a path, following it from mount to mount where symlinks lead.
    mutating func ask(
        _ command: ControlRequest.Command, path shown: String, pulse: () -> Void = {}
    ) throws(Failure) -> ControlResult {
        var path = RawText.bytes(of: shown)
        if let stateDirectory {
            var names = SystemFiles.components(path).map { FileName($0) }
            if SystemFiles.namesDirectory(path), !names.isEmpty { names.append(FileName(".")) }
            let result = try access(stateDirectory).ask(
                request(command, names, fixedCount: 0, shown), pulse: { _ in pulse() })
            guard result.elsewhere == nil else {
                throw Failure("\(RawText.shown(shown)): a symlink leads out of the volume")
            }
            return result
        }
        try sources.refuseForMount()
        for _ in 0...PathWalk.linkCountMax {
            let place = try PathWalk.place(of: path, in: try MountTable.read())
            guard case .registry(let mount, let names, let fixedCount) = place else {
                throw Failure(
                    "\(RawText.shown(shown)) is not on a mount of registryfs: 'registryfs status' "
                        + "lists them; --state-dir DIR reaches a volume that is not mounted")
            }
            let client = ControlClient(stateDirectory: mount.stateDirectory)
            let result = try client.ask(
                request(command, names, fixedCount: fixedCount, shown), pulse: { _ in pulse() })
            guard let elsewhere = result.elsewhere else { return result }
            path = Array(elsewhere)
            if path.first != UInt8(ascii: "/") {
                // The first `..` leaves the mount.
                path = mount.point + [UInt8(ascii: "/")] + path
            }
        }
        throw Failure("\(RawText.shown(shown)): too many levels of symbolic links")
    }

    private func request(
        _ command: ControlRequest.Command, _ names: [FileName], fixedCount: Int, _ shown: String
    ) -> ControlRequest {
        ControlRequest(
            command: command, names: names.map { Data($0.bytes) }, fixedCount: fixedCount,
            shownPath: shown)
    }

    /// The bytes of a block, verified here: from the first volume at hand that has it.
    mutating func block(_ text: String) throws(Failure) -> [UInt8] {
        let cid = try ContentID.parse(text)
        let request = ControlRequest(command: .block, cid: cid.description)
        var block: [UInt8] = []
        try search(for: cid) { (access, _) throws(Failure) in
            block = []
            _ = try access.ask(
                request,
                data: { (bytes) throws(Failure) in
                    guard block.count + bytes.count <= DAGNode.blockSizeMax else {
                        throw Failure("\(cid): more bytes came than a block has")
                    }
                    block.append(contentsOf: bytes)
                })
            do throws(MultihashError) {
                try block.withBytes { (bytes) throws(MultihashError) in try cid.verify(bytes) }
            } catch {
                throw Failure("\(cid): other bytes came than those of the CID")
            }
        }
        return block
    }

    /// Writes the DAG under a CID as an archive, from the first volume at hand that has its root. What a
    /// daemon sends is verified block by block before it is passed on.
    mutating func export(
        _ text: String, to sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        let cid = try ContentID.parse(text)
        let request = ControlRequest(command: .exportCAR, cid: cid.description)
        try search(for: cid) { (access, hasBegun) throws(Failure) in
            var verifier = CARVerifier(root: cid)
            let isVerified = access.isVerified
            _ = try access.ask(
                request,
                data: { (bytes) throws(Failure) in
                    guard !isVerified else {
                        hasBegun = true
                        return try sink(bytes)
                    }
                    let verified = try Self.verifying(cid) { () throws(CARError) in
                        try verifier.take(bytes)
                    }
                    guard !verified.isEmpty else { return }
                    hasBegun = true
                    try verified.withBytes(sink)
                })
            if !isVerified {
                try Self.verifying(cid) { () throws(CARError) in try verifier.finish() }
            }
        }
    }

    private static func verifying<Result>(
        _ cid: CID, _ body: () throws(CARError) -> Result
    ) throws(Failure) -> Result {
        do throws(CARError) {
            return try body()
        } catch {
            throw Failure("\(cid): what came is not its archive: \(error)")
        }
    }

    /// Asks the volumes at hand one after the other, until one has what belongs to a CID. Those that do
    /// not answer are passed over, and named on standard error.
    ///
    /// - Parameter body: asks one; it notes once it has begun to pass something on, from when on its
    ///   failure is the end.
    private mutating func search(
        for cid: CID, _ body: (VolumeAccess, _ hasBegun: inout Bool) throws(Failure) -> Void
    ) throws(Failure) {
        var failures: [Failure] = []
        var hasBegun = false
        let places = try placesAtHand()
        for place in places {
            do throws(Failure) {
                try body(try access(place), &hasBegun)
                for failure in failures where failure.kind != .absent {
                    Program.complain("passed over: \(failure.message)")
                }
                return
            } catch {
                guard !hasBegun else { throw error }
                failures.append(error)
            }
        }
        // A volume that could not be asked may have what the others have not.
        let unasked = failures.filter { $0.kind != .absent }
        guard let first = unasked.first else {
            let names = places.map { RawText.shown($0.stateDirectory) }.joined(separator: ", ")
            throw Failure(
                "\(cid): not found in \(names): give another volume by --state-dir", kind: .absent)
        }
        guard places.count > 1 else { throw first }
        let reasons = unasked.map(\.message).joined(separator: "; ")
        throw Failure(
            "\(cid): not found in \(places.count) volumes, of which not all answered: \(reasons)")
    }

    /// Where a volume may be found.
    private struct Place {
        let stateDirectory: String
        /// Named by a person, or the default: it may be opened. What the table of mounts names is only
        /// asked through its daemon.
        let mayBeOpened: Bool
    }

    private func placesAtHand() throws(Failure) -> [Place] {
        if let stateDirectory { return [Place(stateDirectory: stateDirectory, mayBeOpened: true)] }
        if let mount { return [Place(stateDirectory: mount.stateDirectory, mayBeOpened: false)] }
        var directories: [String] = []
        for mount in try MountTable.read().trustedRegistryMounts {
            let directory = mount.stateDirectory
            if directory.hasPrefix("/"), !directories.contains(directory) {
                directories.append(directory)
            }
        }
        guard directories.isEmpty else {
            return directories.map { Place(stateDirectory: $0, mayBeOpened: false) }
        }
        return [Place(stateDirectory: VolumeAccess.defaultStateDirectory, mayBeOpened: true)]
    }

    private mutating func access(_ place: Place) throws(Failure) -> VolumeAccess {
        guard place.mayBeOpened else {
            try sources.refuseForMount()
            return .daemon(ControlClient(stateDirectory: place.stateDirectory))
        }
        return try access(place.stateDirectory)
    }

    /// The volume of a directory that the person named, or the default one.
    private mutating func access(_ stateDirectory: String) throws(Failure) -> VolumeAccess {
        if let known = opened[stateDirectory] { return known }
        let access = try VolumeAccess(
            stateDirectory: stateDirectory, seals: seals, sources: sources)
        opened[stateDirectory] = access
        return access
    }

    /// Closes what was opened.
    mutating func close() throws(Failure) {
        defer { opened = [:] }
        for access in opened.values { try access.close() }
    }
}
