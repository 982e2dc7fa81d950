import ArgumentParser
import Base
import FoundationEssentials
import Multiformats
import Naming

struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Give a name on a mount to the file or directory of a CID.",
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
        help: "The new path on the mount; nothing may be there.", completion: .file())
    var path: String

    @Flag(help: "Fetch all of it, so that nobody else is needed to read it.")
    var pin = false

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try ImportRun.run(ref, to: path, fetches: pin, json: json)
    }
}

/// What `import` prints with `--json`. The keys are part of the program's interface.
struct ImportReport: Codable, Sendable {
    /// What the path leads to; of a CAR file with several roots, what its entries lead to.
    var cids: [String]
    /// With `--pin`: regular files below, and their bytes.
    var files: UInt64?
    var bytes: UInt64?
    /// With `--pin`: files whose DAG is laid out as the volume's profile does not. Their bytes are kept in the cache,
    /// until the next mount.
    var cachedFiles: UInt64?
}

/// What `import` does once its arguments are read.
enum ImportRun {
    static func run(_ ref: String, to path: String, fetches: Bool, json: Bool) throws(Failure) {
        let reference = try SourceSettings.reference(ref)
        let bytes = RawText.bytes(of: path)
        let place = try PathWalk.place(of: bytes, in: try MountTable.read())
        guard case .registry(let mount, let names, let fixedCount) = place else {
            throw Failure(
                "\(RawText.shown(path)) is not on a mount of registryfs: 'registryfs status' lists them"
            )
        }
        guard mount.isTrusted else { throw Failure(mount.otherUser, kind: .foreign) }
        guard names.count > fixedCount else {
            throw Failure("\(RawText.shown(path)) is there already: give a new name below it")
        }
        var request = ControlRequest(
            command: .importTree, names: names.map { Data($0.bytes) }, fixedCount: fixedCount,
            shownPath: path)
        switch reference {
        case .path(let content): request.reference = Data(content.bytes)
        // Nobody says that the file stays.
        case .archive(let path): request.archive = Data(try SystemFiles.absolute(path))
        }
        request.fetches = fetches || request.archive != nil
        let client = ControlClient(stateDirectory: mount.stateDirectory)
        var bar = ProgressBar("fetching")
        let result = try client.ask(
            request,
            pulse: { progress in
                guard let progress else { return }
                bar.update(bytes: progress.done, of: progress.done + progress.left)
            })
        guard let report = result.imported else { throw Failure("the daemon tells no CID") }
        if let count = report.cachedFiles, count > 0 {
            Program.complain(
                "\(Figures.count(count, "file")) of another layout than the volume's stay in the cache "
                    + "until the next mount: copy them to keep them")
        }
        guard !json else { return try Output.line(try ReportText.json(report)) }
        for cid in report.cids { try Output.line(try ContentID.parse(cid).description) }
    }
}
