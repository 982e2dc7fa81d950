import ArgumentParser
import Base
import FoundationEssentials
import Volume

struct SnapshotDiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Print what differs between two trees: + added, - removed, M changed.",
        discussion: """
            A tree is a snapshot's name, . for the tree as it is now, or a CID. Names come in the order of their \
            bytes, and directories with a slash; one that both trees have is looked into, and not printed.
            """)

    @Argument(help: "The tree before.")
    var old: String

    @Argument(help: "The tree after.")
    var new: String

    @OptionGroup var place: SnapshotPlace

    func run() throws {
        for tree in [old, new] { try SnapshotName.check(tree: tree) }
        let request = SnapshotRequest(.diff, [old, new])
        var reader = RecordReader(end: 0)
        let json = place.json
        try SnapshotAccess(place).ask(request, "comparing") { (bytes) throws(Failure) in
            var text: [UInt8] = []
            try reader.take(bytes) { (record) throws(Failure) in
                guard let difference = DifferenceRecord.parse(record) else {
                    throw Failure("the daemon tells of no difference")
                }
                text += Array(
                    (json ? try ReportText.line(difference) : difference.text).utf8)
                text.append(UInt8(ascii: "\n"))
            }
            if !text.isEmpty {
                try text.withBytes { (bytes) throws(Failure) in try Output.bytes(bytes) }
            }
        }
    }
}

struct SnapshotRestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Bring the tree, or what is at a path of it, to what it was in a snapshot.",
        discussion: """
            What did not change is not touched, and who has a file open keeps what he had. Where the snapshot has \
            nothing at the path, what is there goes. Make a snapshot before, to have what is there now again.
            """)

    @Argument(help: "The snapshot's name.")
    var name: String

    @Argument(
        help:
            "A path below the mount point, or from the root of the volume on; all of it where it is left out.",
        completion: .file())
    var path: String?

    @OptionGroup var place: SnapshotPlace

    func run() throws {
        try SnapshotName.check(name)
        var request = SnapshotRequest(.restore, [name])
        let access: SnapshotAccess
        if let path {
            (access, request.path) = try SnapshotAccess.located(path, place)
        } else {
            access = try SnapshotAccess(place)
        }
        guard let report = try access.ask(request, "restoring").restored else {
            throw Failure("the daemon does not tell what it did")
        }
        try Output.line(
            place.json
                ? try ReportText.json(report)
                : "\(report.added) added, \(report.changed) changed, \(report.removed) removed")
    }
}

struct SnapshotExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write the tree of a snapshot as a CAR file.")

    @Argument(help: "The snapshot's name.")
    var name: String

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "The file to write; it appears when it is whole. - is standard output.",
            valueName: "file"),
        completion: .file())
    var output: String

    @OptionGroup var place: SnapshotPlace

    func validate() throws {
        guard output != "-" || !place.json else {
            throw ValidationError("--json and --output - exclude each other")
        }
    }

    func run() throws {
        try SnapshotName.check(name)
        let access = try SnapshotAccess(place)
        let found = try access.askForOne(SnapshotRequest(.show, [name]), "reading")
        var finder = access.finder
        _ = try ExportCARRun.run(found.manifest ?? found.root, output: output, &finder)
        try finder.close()
        if place.json { try Output.line(try ReportText.json(found)) }
    }
}
