import ArgumentParser
import Base
import FoundationEssentials
import Multiformats
import Naming
import Volume

struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Give a name in a volume to the file or directory of a CID.",
        discussion: """
            That costs one entry, whatever is below it: directories are loaded when they are looked into, \
            and content comes when it is read, from the sources of the mount. A CAR file is fetched whole; of \
            one with several roots PATH becomes a directory of all. Prints the CIDs.
            """)

    @Argument(
        help:
            "A CID, /ipfs/CID/path, ipfs://…, /ipns/NAME/path, ipns://…, a domain, or a .car file.")
    var ref: String

    @Argument(
        help: "The new path, on a mount or in the volume; nothing may be there.",
        completion: .file())
    var path: String

    @Flag(help: "Fetch all of it, so that nobody else is needed to read it.")
    var pin = false

    @OptionGroup var volume: VolumeOption
    @OptionGroup(title: "Sources of a volume that is not mounted")
    var offline: OfflineOptions
    @OptionGroup var names: DNSOption
    @OptionGroup var report: ReportOption

    func run() throws {
        let reference = try SourceSettings.reference(ref)
        let target = try ImportTarget(
            path, stateDirectory: volume.stateDir, try offline.sources(dns: names.dns))
        try ImportRun.run(reference, to: target, fetches: pin, json: report.json)
    }
}

struct ImportCARCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import-car",
        abstract: "Bring a CAR file into a volume, mounted or not.",
        discussion: """
            Its root becomes a file or directory of the volume, whole and of its own: the file is not needed any \
            more, nor is anybody else. Of several roots it becomes a directory with each under its CID. Every \
            block is verified; all of it is there at the end, or nothing. Prints the CIDs.
            """)

    @Argument(help: "The CAR file, of version 1 or 2.", completion: .file())
    var file: String

    @Argument(
        help: "A mount point; may be left out where only one volume is mounted.",
        completion: .directory)
    var mountpoint: String?

    @Option(
        help: ArgumentHelp(
            "The new path in the volume; nothing may be there (default: the file's name without .car).",
            valueName: "path"))
    var at: String?

    @OptionGroup var volume: VolumeOption
    @OptionGroup var report: ReportOption

    func run() throws {
        let bytes = RawText.bytes(of: file)
        let path = try at ?? ImportRun.name(ofArchive: bytes)
        let choice = try VolumeChoice.find(
            mountpoint: mountpoint, stateDirectory: volume.stateDir)
        let target: ImportTarget
        switch choice {
        case .mounted(let mount):
            let point = mountpoint ?? RawText.text(of: mount.point)
            target = try ImportTarget(point + "/" + path, stateDirectory: nil, OfflineSources())
        case .directory, nil:
            target = try ImportTarget(
                path,
                stateDirectory: choice?.stateDirectory ?? VolumeAccess.defaultStateDirectory,
                OfflineSources())
        }
        try ImportRun.run(.archive(bytes), to: target, fetches: true, json: report.json)
    }
}

/// What `import` and `import-car` print with `--json`. The keys are part of the program's interface.
struct ImportReport: Codable, Sendable {
    /// What the path leads to; of a CAR file with several roots, what its entries lead to.
    var cids: [String]
    /// Where it is now, as it was written.
    var path: String?
    /// Of what was fetched: regular files below, and their bytes.
    var files: UInt64?
    var bytes: UInt64?
    /// With `--pin`: files whose DAG is laid out as the volume's profile does not. Their bytes are kept in the cache,
    /// until the next mount.
    var cachedFiles: UInt64?
    /// Of a CAR file: such files. They have the CID that the profile gives them.
    var convertedFiles: UInt64?

    init(cids: [String]) {
        self.cids = cids
    }
}

/// Where a new name is to be, and who gives it.
struct ImportTarget {
    let access: VolumeAccess
    let names: [FileName]
    let fixedCount: Int
    /// For messages.
    let shown: String

    /// - Parameters:
    ///   - path: on a mount; with a state directory, inside of its volume.
    ///   - sources: who has what a volume that is not mounted has not.
    init(
        _ path: String, stateDirectory: String?, _ sources: OfflineSources
    ) throws(Failure) {
        shown = path
        let bytes = RawText.bytes(of: path)
        if let stateDirectory {
            names = SystemFiles.components(bytes).map { FileName($0) }
            fixedCount = 0
            guard !names.isEmpty else { throw Self.isThere(path) }
            access = try VolumeAccess(
                stateDirectory: stateDirectory, seals: true, sources: sources)
            return
        }
        let place = try PathWalk.place(of: bytes, in: try MountTable.read())
        guard case .registry(let mount, let names, let fixedCount) = place else {
            throw Failure(
                "\(RawText.shown(path)) is not on a mount of registryfs: 'registryfs status' lists them; "
                    + "--state-dir DIR reaches a volume that is not mounted")
        }
        guard mount.isTrusted else { throw Failure(mount.otherUser, kind: .foreign) }
        guard names.count > fixedCount else { throw Self.isThere(path) }
        try sources.refuseForMount()
        (self.names, self.fixedCount) = (names, fixedCount)
        access = .daemon(ControlClient(stateDirectory: mount.stateDirectory))
    }

    private static func isThere(_ path: String) -> Failure {
        Failure("\(RawText.shown(path)) is there already: give a new name below it")
    }
}

/// What `import` and `import-car` do once their arguments are read.
enum ImportRun {
    static func run(
        _ reference: Reference, to target: ImportTarget, fetches: Bool, json: Bool
    ) throws(Failure) {
        var request = ControlRequest(
            command: .importTree, names: target.names.map { Data($0.bytes) },
            fixedCount: target.fixedCount, shownPath: target.shown)
        switch reference {
        case .path(let content): request.reference = Data(content.bytes)
        // Nobody says that the file stays.
        case .archive(let path): request.archive = Data(try SystemFiles.absolute(path))
        }
        request.fetches = fetches || request.archive != nil
        var report: ImportReport
        do throws(Failure) {
            report = try ask(target.access, request)
        } catch {
            try? target.access.close()
            throw error
        }
        try target.access.close()
        report.path = RawText.shown(target.shown)
        tell(report)
        guard !json else { return try Output.line(try ReportText.json(report)) }
        for cid in report.cids { try Output.line(try ContentID.parse(cid).description) }
    }

    private static func ask(
        _ access: VolumeAccess, _ request: ControlRequest
    ) throws(Failure) -> ImportReport {
        var bar = ProgressBar("fetching")
        let result = try access.ask(
            request,
            pulse: { progress in
                guard let progress else { return }
                bar.update(bytes: progress.done, of: progress.done + progress.left)
            })
        guard let report = result.imported else { throw Failure("the daemon tells no CID") }
        return report
    }

    /// What a person should know of files that did not stay what they were.
    private static func tell(_ report: ImportReport) {
        if let count = report.cachedFiles, count > 0 {
            Program.complain(
                "\(Figures.count(count, "file")) of another layout than the volume's stay in the cache "
                    + "until the next mount: copy them to keep them")
        }
        if let count = report.convertedFiles, count > 0 {
            Program.complain(
                "\(Figures.count(count, "file")) of another layout than the volume's: their bytes are here, "
                    + "under CIDs of the volume's own")
        }
    }

    /// The name that a CAR file's content gets where none is given: the file's without its ending.
    static func name(ofArchive path: [UInt8]) throws(Failure) -> String {
        var name = SystemFiles.components(path).last ?? []
        let ending = Array(".car".utf8)
        if name.suffix(ending.count).elementsEqual(ending) { name.removeLast(ending.count) }
        guard !name.isEmpty, name != Array("..".utf8) else {
            throw Failure(
                "\(RawText.shown(path)) has no name to give: say one by --at", exitCode: 64)
        }
        return RawText.text(of: name)
    }
}
