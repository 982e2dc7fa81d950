import Base
import FoundationEssentials
import Glibc
import Logging
import Multiformats
import Volume

import struct SystemPackage.Errno

/// A volume that a command asks: one that a daemon serves, or one that this process has opened.
enum VolumeAccess {
    case daemon(ControlClient)
    case opened(Volume)

    /// The state directory of a mount that names none.
    static let defaultStateDirectory = "/var/lib/registryfs"

    /// Reaches the volume of a state directory, through its daemon where one runs.
    ///
    /// - Parameter seals: whether a volume that this process opens may compute CIDs and keep them.
    init(stateDirectory: String, seals: Bool) throws(Failure) {
        let path = try Self.checked(stateDirectory)
        let client = ControlClient(stateDirectory: path)
        if client.isReachable {
            self = .daemon(client)
        } else {
            self = .opened(try Self.open(path, seals: seals))
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
        pulse: () -> Void = {},
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void = { _ in }
    ) throws(Failure) -> ControlResult {
        switch self {
        case .daemon(let client): try client.ask(request, pulse: { _ in pulse() }, data: data)
        case .opened(let volume): try volume.answer(request, data: data)
        }
    }

    /// Lets go of the volume; a volume that this process opened is closed.
    func close() throws(Failure) {
        guard case .opened(let volume) = self else { return }
        do throws(VolumeError) {
            try volume.close()
        } catch {
            throw Failure(volume: error)
        }
    }

    private static func open(
        _ stateDirectory: String, seals: Bool
    ) throws(Failure) -> Volume {
        // What a command without a daemon has to say, it says by its failure.
        let log = Logger(label: "registryfs") { _ in
            LineLogHandler(file: LogFile(), level: .error)
        }
        var options = VolumeOptions()
        options.isReadOnly = !seals
        options.sealThreads = 0
        do throws(VolumeError) {
            return try Volume.open(stateDirectory: stateDirectory, options: options, log: log)
        } catch {
            throw Failure(volume: error)
        }
    }
}

/// Asks about paths and CIDs, wherever their volume is.
struct VolumeFinder {
    /// The state directory that the person gave; paths are then those inside of the volume.
    let stateDirectory: String?

    private let seals: Bool
    private var opened: [String: VolumeAccess] = [:]

    /// - Parameter seals: whether a volume that is not mounted may compute CIDs and keep them.
    init(stateDirectory: String?, seals: Bool) {
        self.stateDirectory = stateDirectory
        self.seals = seals
    }

    /// Asks about a path, following it from mount to mount where symlinks lead.
    mutating func ask(
        _ command: ControlRequest.Command, path shown: String, pulse: () -> Void = {}
    ) throws(Failure) -> ControlResult {
        var path = RawText.bytes(of: shown)
        if let stateDirectory {
            let names = SystemFiles.components(path).map { FileName($0) }
            let result = try access(stateDirectory).ask(
                request(command, names, fixedCount: 0, shown), pulse: pulse)
            guard result.elsewhere == nil else {
                throw Failure("\(RawText.shown(shown)): a symlink leads out of the volume")
            }
            return result
        }
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
                // The first `..` leaves the mount; that step is taken here, as a walk down to
                // the mount point would end in the mount again.
                let above = Array(SystemFiles.components(mount.point).dropLast())
                path = SystemFiles.join(above + SystemFiles.components(path).dropFirst())
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

    /// Asks every volume at hand about a CID until one has it.
    mutating func ask(
        _ command: ControlRequest.Command, cid: String,
        pulse: () -> Void = {},
        data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        let request = ControlRequest(
            command: command, cid: try ContentID.parse(cid).description)
        var failure: Failure?
        var hasBegun = false
        let directories = try directoriesAtHand()
        for directory in directories {
            do throws(Failure) {
                _ = try access(directory).ask(request, pulse: pulse) { (bytes) throws(Failure) in
                    hasBegun = true
                    try data(bytes)
                }
                return
            } catch {
                guard !hasBegun else { throw error }
                // A volume that could not be asked may have what the others have not.
                if failure == nil || failure?.kind == .absent { failure = error }
            }
        }
        if let failure, failure.kind != .absent { throw failure }
        let places = directories.map { RawText.shown($0) }.joined(separator: ", ")
        throw Failure(
            "\(cid): not found in \(places): give another volume by --state-dir", kind: .absent)
    }

    private func directoriesAtHand() throws(Failure) -> [String] {
        if let stateDirectory { return [stateDirectory] }
        var directories: [String] = []
        for mount in try MountTable.read().registryMounts {
            let directory = mount.stateDirectory
            if directory.hasPrefix("/"), !directories.contains(directory) {
                directories.append(directory)
            }
        }
        return directories.isEmpty ? [VolumeAccess.defaultStateDirectory] : directories
    }

    private mutating func access(_ stateDirectory: String) throws(Failure) -> VolumeAccess {
        if let known = opened[stateDirectory] { return known }
        let access = try VolumeAccess(stateDirectory: stateDirectory, seals: seals)
        opened[stateDirectory] = access
        return access
    }

    /// Closes what was opened.
    mutating func close() throws(Failure) {
        defer { opened = [:] }
        for access in opened.values { try access.close() }
    }
}
