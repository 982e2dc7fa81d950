import ArgumentParser
import Base
import FoundationEssentials
import Multiformats
import Naming

struct GraftsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "grafts",
        abstract:
            "Show the repositories that come from domains; add, refresh, keep and remove them.",
        discussion: """
            With 'mount --pull-through' a domain becomes one as soon as somebody asks for a repository of its \
            name. What is below it comes when it is read.
            """,
        subcommands: [
            List.self, Add.self, Remove.self, Refresh.self, Pin.self,
        ], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the grafts: name, layout, where it leads, and what is to be known.")

        @OptionGroup var place: GraftPlace

        func run() throws {
            var found: [GraftReport] = []
            _ = try place.ask(GraftRequest(.list), "reading") { found.append($0) }
            guard !place.report.json else {
                return try Output.line(try ReportText.json(GraftList(grafts: found)))
            }
            try Output.line(found.isEmpty ? "no grafts" : GraftText.table(found))
        }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Look a domain up now, or give a volume the repositories of a tree.",
            discussion: """
                A domain stays with what it leads to. Of a tree, each repository that is missing here gets its \
                name, as the tree has it now.
                """)

        @Argument(help: "A domain, or a CID, /ipfs/CID/path, ipfs://…, /ipns/NAME/path, ipns://….")
        var ref: String

        @OptionGroup var place: GraftPlace

        func run() throws {
            let text = RawText.shown(ref)
            guard case .path(let path) = try SourceSettings.reference(ref) else {
                throw Failure(
                    "\(text) is a CAR file: 'registryfs import-car' brings it into a volume",
                    exitCode: 64)
            }
            var request = GraftRequest(.add)
            if case .domain(let domain) = path.root, path.names.isEmpty, !ref.contains("/") {
                guard DomainPattern.isDomain("\(domain)") else {
                    throw Failure("\(text) cannot be the domain of a repository", exitCode: 64)
                }
                request.name = "\(domain)"
            } else {
                request.reference = Data(path.bytes)
            }
            try place.tell(request, "looking")
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Take a graft away; refused where something was pushed to it here.")

        @Argument(help: "Its name, as 'grafts list' shows it.")
        var name: String

        @OptionGroup var place: GraftPlace

        func run() throws {
            _ = try place.ask(GraftRequest(.remove, name), "removing") { _ in }
            guard !place.report.json else {
                return try Output.line(try ReportText.json(GraftRemoval(removed: name)))
            }
            try Output.line(RawText.shown(name))
        }
    }

    struct Refresh: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Look a domain up anew, and go with what it leads to now.")

        @Argument(help: "Its name, as 'grafts list' shows it.")
        var name: String

        @OptionGroup var place: GraftPlace

        func run() throws {
            try place.tell(GraftRequest(.refresh, name), "looking")
        }
    }

    struct Pin: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Fetch all of a graft, so that nobody else is needed to read it.")

        @Argument(help: "Its name, as 'grafts list' shows it.")
        var name: String

        @OptionGroup var place: GraftPlace

        func run() throws {
            let result = try place.ask(GraftRequest(.pin, name), "fetching") { _ in }
            var report = GraftPin(name: name)
            (report.files, report.bytes) = (result.files ?? 0, result.bytes ?? 0)
            guard !place.report.json else { return try Output.line(try ReportText.json(report)) }
            try Output.line(
                "\(RawText.shown(name)): \(Figures.count(report.files, "file")), "
                    + Figures.bytes(report.bytes))
        }
    }
}

/// Which mount's grafts a command is about, and how it answers.
struct GraftPlace: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The mount; may be left out where only one volume is mounted.", valueName: "mountpoint"),
        completion: .directory)
    var at: String?

    @OptionGroup var report: ReportOption

    /// Sends a request to the daemon and waits for its end.
    func ask(
        _ request: GraftRequest, _ label: String,
        _ body: (GraftReport) throws(Failure) -> Void
    ) throws(Failure) -> GraftResult {
        guard case .mounted(let mount)? = try VolumeChoice.find(mountpoint: at) else {
            throw Failure("nothing is mounted: 'registryfs mount --pull-through PATTERN' first")
        }
        var control = ControlRequest(command: .grafts)
        control.grafts = request
        var reader = RecordReader(end: UInt8(ascii: "\n"))
        var bar = ProgressBar(label)
        let start = MonotonicClock.milliseconds
        let result = try ControlClient(stateDirectory: mount.stateDirectory).ask(
            control,
            pulse: { progress in
                if let progress {
                    bar.update(bytes: progress.done)
                } else {
                    bar.update(seconds: (MonotonicClock.milliseconds - start) / 1000)
                }
            },
            data: { (bytes) throws(Failure) in
                try reader.take(bytes) { (line) throws(Failure) in
                    guard let graft = ControlProtocol.decode(GraftReport.self, from: Array(line))
                    else { throw Failure("the daemon tells of no graft") }
                    try body(graft)
                }
            })
        guard let grafts = result.grafts else { throw Failure("the daemon tells nothing") }
        return grafts
    }

    /// Asks, and prints the graft that the answer is about.
    func tell(_ request: GraftRequest, _ label: String) throws(Failure) {
        var found: GraftReport?
        _ = try ask(request, label) { found = $0 }
        guard let found else { throw Failure("the daemon tells of no graft") }
        try Output.line(report.json ? try ReportText.json(found) : GraftText.table([found]))
    }
}

/// What `grafts list --json` prints. The keys are part of the program's interface.
struct GraftList: Codable, Sendable {
    var grafts: [GraftReport]
}

/// What `grafts remove --json` prints. The keys are part of the program's interface.
struct GraftRemoval: Codable, Sendable {
    var removed: String
}

/// What `grafts pin --json` prints. The keys are part of the program's interface.
struct GraftPin: Codable, Sendable {
    var name: String
    var files: UInt64 = 0
    var bytes: UInt64 = 0
}

/// Grafts for a person to read.
enum GraftText {
    static func table(_ grafts: [GraftReport]) -> String {
        let rows = grafts.map { graft in
            [
                graft.name, graft.layout,
                graft.root.map { "/ipfs/\($0)" + (graft.path.map { "/\($0)" } ?? "") } ?? "-",
                note(graft),
            ].map { RawText.shown($0) }
        }
        let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                guard column < 3, !row[(column + 1)...].joined().isEmpty else { break }
                line += String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            return line
        }.joined(separator: "\n")
    }

    private static func note(_ graft: GraftReport) -> String {
        var words: [String] = graft.reference == graft.name ? [] : ["from \(graft.reference)"]
        if graft.ahead { words.append("ahead") }
        if graft.pinned { words.append("pinned") }
        if let error = graft.lastError { words.append("last look: \(error)") }
        return words.joined(separator: ", ")
    }
}
