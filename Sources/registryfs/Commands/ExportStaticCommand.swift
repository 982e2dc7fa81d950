import ArgumentParser
import RegistryLayout

struct ExportStaticCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export-static",
        abstract:
            "Make a registry that is only files of repositories on a mount, and print its CID.",
        discussion: """
            In the volume nothing is copied: each file is one more name of a blob. With --dir plain files are \
            written, for any web server, and what nginx and Caddy have to be told. Once more, it changes only what \
            differs; what is not named any more is removed.
            """)

    @Argument(
        help:
            "Repositories as NAME or NAME:TAG, * for any part; and the mount point, from / or . on, where several volumes are mounted."
    )
    var repositories: [String]

    @Option(
        help: ArgumentHelp(
            "The directory of the volume that gets the tree v2 (default: static).",
            valueName: "path"))
    var at: String?

    @Option(
        help: ArgumentHelp("Write plain files below this directory instead.", valueName: "dir"),
        completion: .directory)
    var dir: String?

    @Option(
        help: ArgumentHelp(
            "Where the registry lies in the volume (default: docker/registry/v2).",
            valueName: "path"))
    var registryDir: String?

    @OptionGroup var volume: VolumeOption
    @OptionGroup var report: ReportOption

    func validate() throws {
        guard at == nil || dir == nil else {
            throw ValidationError("--at and --dir exclude each other")
        }
    }

    func run() throws {
        let places = repositories.filter { $0.hasPrefix("/") || $0.hasPrefix(".") }
        let names = repositories.filter { !$0.hasPrefix("/") && !$0.hasPrefix(".") }
        guard places.count <= 1 else {
            throw Failure("one mount point, and not \(places.count)", exitCode: 64)
        }
        guard !names.isEmpty else {
            throw Failure("say which repositories: NAME, NAME:TAG, or '*' for all", exitCode: 64)
        }
        var patterns: [RepositoryPattern] = []
        for name in names {
            patterns.append(
                try Failure.ofUsage { () throws(LayoutError) in try RepositoryPattern(name) })
        }
        let path = try RegistryMount.names(of: at ?? "static", "--at")
        let mount = try RegistryMount(
            places.first, stateDirectory: volume.stateDir, directory: registryDir)
        let run = StaticRun(mount, patterns)
        let report =
            if let dir { try run.write(to: dir) } else { try run.link(at: path) }
        for fault in report.missing { Program.say(fault) }
        if self.report.json {
            try Output.line(try ReportText.json(report))
        } else {
            try Output.line(report.cid ?? report.directory)
            let changes =
                "\(report.made) made, \(report.replaced) replaced, \(report.removed) removed, \(report.kept) kept"
            Program.say("\(report.directory): \(changes)")
        }
    }
}

/// What `export-static --json` prints. The keys are part of the program's interface.
struct StaticReport: Codable, Sendable {
    /// The CID of the directory that has `v2`; nil for plain files.
    var cid: String?
    var directory: String
    var repositories: [String]
    var tags: Int
    var manifests: Int
    var blobs: Int
    /// Files that were made, took the place of others, were removed, and were there already.
    var made: Int
    var replaced: Int
    var removed: Int
    var kept: Int
    var copiedBytes: UInt64
    /// What is referred to and not here.
    var missing: [String]
}
