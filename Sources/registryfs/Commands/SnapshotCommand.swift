import ArgumentParser
import Multiformats
import Volume

struct SnapshotCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot",
        abstract:
            "Give the tree of a volume, as it is now, a name; compare and restore such trees.",
        discussion: """
            On a mount they are there to read at MOUNTPOINT/.registryfs/snapshots/NAME, which no listing of the \
            mount shows.
            """,
        subcommands: [
            Create.self, List.self, Show.self, SnapshotDiffCommand.self,
            SnapshotRestoreCommand.self, Delete.self, SnapshotPruneCommand.self,
            SnapshotExportCommand.self,
        ])

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give the tree as it is now a name, and print that with the tree's CID.",
            discussion: "That costs what has changed since the tree's last CID; nothing is copied.")

        @Argument(help: "Its name; one made of the time where it is left out.")
        var name: String?

        @Option(help: ArgumentHelp("What it is for.", valueName: "text"))
        var message: String = ""

        @Flag(
            help:
                "Make the portable manifest too: owners, modes, times, and what else no CID covers."
        )
        var withManifest = false

        @OptionGroup var place: SnapshotPlace

        func run() throws {
            if let name { try SnapshotName.check(name) }
            guard message.utf8.count <= Snapshot.messageLengthMax,
                !RawText.carriesBytes(message)
            else {
                throw Failure(
                    "--message: it has at most \(Snapshot.messageLengthMax) bytes, in UTF-8",
                    exitCode: 64)
            }
            var request = SnapshotRequest(.create, name.map { [$0] } ?? [])
            request.message = message
            request.withManifest = withManifest
            let made = try SnapshotAccess(place).askForOne(request, "sealing")
            try Output.line(place.json ? try ReportText.json(made) : SnapshotText.line(made))
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the snapshots, the oldest first: name, time, size, message.")

        @OptionGroup var place: SnapshotPlace

        func run() throws {
            var found: [SnapshotReport] = []
            _ = try SnapshotAccess(place).askForAll(SnapshotRequest(.list), "reading") {
                found.append($0)
            }
            guard !place.json else {
                return try Output.line(try ReportText.json(SnapshotList(snapshots: found)))
            }
            try Output.line(found.isEmpty ? "no snapshots" : SnapshotText.table(found))
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what is known of a snapshot.")

        @Argument(help: "Its name.")
        var name: String

        @OptionGroup var place: SnapshotPlace

        func run() throws {
            try SnapshotName.check(name)
            let found = try SnapshotAccess(place)
                .askForOne(SnapshotRequest(.show, [name]), "reading")
            try Output.line(place.json ? try ReportText.json(found) : SnapshotText.shown(found))
        }
    }

    struct Delete: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Delete snapshots, and what nothing else has of them; print their names.")

        @Argument(help: "Their names.")
        var names: [String]

        @OptionGroup var place: SnapshotPlace

        func run() throws {
            var wanted: [String] = []
            for name in names where !wanted.contains(name) {
                try SnapshotName.check(name)
                wanted.append(name)
            }
            let access = try SnapshotAccess(place)
            var deleted: [String] = []
            for start in stride(from: 0, to: wanted.count, by: SnapshotRequest.namesMax) {
                let part = wanted[start...].prefix(SnapshotRequest.namesMax)
                _ = try access.askForAll(SnapshotRequest(.delete, Array(part)), "deleting") {
                    (snapshot) throws(Failure) in
                    try SnapshotText.tellDeleted(snapshot, &deleted, json: place.json)
                }
            }
            if place.json { try Output.line(try ReportText.json(DeletionReport(deleted: deleted))) }
        }
    }
}

/// What `snapshot list --json` prints. The keys are part of the program's interface.
struct SnapshotList: Codable, Sendable {
    var snapshots: [SnapshotReport]
}

/// What `snapshot delete --json` and `snapshot prune --json` print. The keys are part of the program's interface.
struct DeletionReport: Codable, Sendable {
    /// Their names, in the order in which they were deleted.
    var deleted: [String]
    /// `prune`: how many stay.
    var kept: Int?
    /// `prune`: nothing was deleted.
    var dryRun: Bool?
}

/// Snapshots for a person to read.
enum SnapshotText {
    /// What `create` prints: the name and the CIDs.
    static func line(_ snapshot: SnapshotReport) throws(Failure) -> String {
        let root = try ContentID.parse(snapshot.root)
        let manifest = try snapshot.manifest.map { (text) throws(Failure) in
            " \(try ContentID.parse(text))"
        }
        return "\(RawText.shown(snapshot.name)) \(root)\(manifest ?? "")"
    }

    static func table(_ snapshots: [SnapshotReport]) -> String {
        let rows = snapshots.map { snapshot in
            [
                snapshot.name, snapshot.created, Figures.bytes(snapshot.size),
                snapshot.message ?? "",
            ].map { RawText.shown($0) }
        }
        let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                guard column < 3, row[(column + 1)...].contains(where: { !$0.isEmpty }) else {
                    break
                }
                line += String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            return line
        }.joined(separator: "\n")
    }

    static func shown(_ snapshot: SnapshotReport) -> String {
        var table = Table(title: snapshot.name)
        table.add("root CID", snapshot.root)
        if let manifest = snapshot.manifest { table.add("manifest CID", manifest) }
        table.add(
            "size", "\(Figures.count(snapshot.size)) bytes (\(Figures.bytes(snapshot.size)))")
        table.add("created", snapshot.created)
        table.add("made", snapshot.automatic ? "by --snapshot-every" : "by a command")
        if let message = snapshot.message { table.add("message", message) }
        return table.text
    }

    /// Prints the name of one that is gone, at once, or notes it for the JSON at the end.
    static func tellDeleted(
        _ snapshot: SnapshotReport, _ deleted: inout [String], json: Bool
    ) throws(Failure) {
        deleted.append(snapshot.name)
        if !json { try Output.line(RawText.shown(snapshot.name)) }
    }
}
