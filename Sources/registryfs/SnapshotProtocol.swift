import Base
import FoundationEssentials
import Volume

/// What a client asks of a volume's snapshots.
struct SnapshotRequest: Codable, Sendable {
    enum Action: String, Codable, Sendable {
        case create, list, show, diff, restore, delete, prune
    }

    var action: Action
    /// Names of snapshots; of `diff` the two trees: a snapshot's name, `.` for the live tree, or a CID.
    var names: [String] = []
    /// `create`.
    var message = ""
    /// `create`: make the portable manifest too.
    var withManifest = false
    /// `restore`: names from the root of the volume down.
    var path: [Data] = []
    /// `prune`.
    var rule: PruneRule?
    /// `prune`: only those that `--snapshot-every` made.
    var automaticOnly = false
    /// `prune`: delete nothing.
    var isDryRun = false

    /// At most so many names go in one request.
    static let namesMax = 256

    init(_ action: Action, _ names: [String] = []) {
        self.action = action
        self.names = names
    }

    /// Whether the volume has to be open for changes: what is here is to be found by its CID then, too.
    var changes: Bool {
        switch action {
        case .list, .show: false
        case .create, .diff, .restore, .delete, .prune: true
        }
    }
}

/// The end of an answer about snapshots; which members are there depends on the action. Lists and differences come as data
/// before it: `list`, `delete` and `prune` send a line of JSON (`SnapshotReport`) for each snapshot, `diff` a `DifferenceRecord`
/// for each name.
struct SnapshotResult: Codable, Sendable {
    /// `create`, `show`.
    var snapshot: SnapshotReport?
    /// `restore`.
    var restored: RestoreReport?
    /// `prune`: how many stay.
    var kept: Int?
}

/// What the commands print of a snapshot with `--json`. The keys are part of the program's interface.
struct SnapshotReport: Codable, Sendable {
    var name: String
    /// The tree's CID.
    var root: String
    /// The CID of the portable manifest that was made with it.
    var manifest: String?
    /// Bytes of the tree's DAG, a block as often as it is linked.
    var size: UInt64
    /// When it was made, as RFC 3339 in UTC.
    var created: String
    var message: String?
    /// `--snapshot-every` made it.
    var automatic: Bool

    init(_ snapshot: Snapshot) {
        name = snapshot.name
        root = "\(snapshot.root)"
        manifest = snapshot.manifest.map { "\($0)" }
        size = snapshot.treeSize
        created = Figures.time(Timestamp(nanoseconds: snapshot.createdAt), digits: 3)
        message = snapshot.message.isEmpty ? nil : snapshot.message
        automatic = snapshot.isAutomatic
    }
}

/// What `snapshot restore --json` prints. The keys are part of the program's interface.
struct RestoreReport: Codable, Sendable {
    var added: Int
    var changed: Int
    var removed: Int

    init(_ tree: RestoredTree) {
        (added, changed, removed) = (tree.added, tree.changed, tree.removed)
    }
}

/// A difference of two trees on its way to the client: `+`, `-` or `M`, a space, the path with a slash behind a
/// directory, and a NUL, which no path has.
enum DifferenceRecord {
    static func bytes(_ difference: TreeDifference) -> [UInt8] {
        let mark: UInt8 =
            switch difference.kind {
            case .added: UInt8(ascii: "+")
            case .removed: UInt8(ascii: "-")
            case .changed: UInt8(ascii: "M")
            }
        let path = difference.path.joined(separator: [UInt8(ascii: "/")])
        return [mark, UInt8(ascii: " ")] + path
            + (difference.isDirectory ? [UInt8(ascii: "/"), 0] : [0])
    }

    /// Reads a record without its NUL; nil where it is none.
    static func parse(_ record: some Collection<UInt8>) -> DifferenceReport? {
        var path = Array(record.dropFirst(2))
        guard record.dropFirst().first == UInt8(ascii: " "), let mark = record.first,
            let change = changes[mark]
        else { return nil }
        let isDirectory = path.last == UInt8(ascii: "/")
        if isDirectory { path.removeLast() }
        guard !path.isEmpty else { return nil }
        return DifferenceReport(
            change: change, directory: isDirectory, path: RawText.shown(path))
    }

    private static let changes: [UInt8: String] = [
        UInt8(ascii: "+"): "added", UInt8(ascii: "-"): "removed", UInt8(ascii: "M"): "changed",
    ]
}

/// What `snapshot diff --json` prints, one a line. The keys are part of the program's interface.
struct DifferenceReport: Codable, Sendable {
    /// `added`, `removed` or `changed`.
    var change: String
    var directory: Bool
    /// From the trees' root on, for people: what is not printable is escaped.
    var path: String

    /// The line for people.
    var text: String {
        let mark = ["added": "+", "removed": "-"][change] ?? "M"
        return "\(mark) \(path)\(directory ? "/" : "")"
    }
}

/// Pieces of bytes, put together to records again.
struct RecordReader {
    private let end: UInt8
    private var rest: [UInt8] = []

    /// - Parameter end: what stands behind each record.
    init(end: UInt8) {
        self.end = end
    }

    /// Takes a piece, and gives the records that are whole.
    mutating func take(
        _ bytes: UnsafeRawBufferPointer, _ body: (ArraySlice<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        rest.append(contentsOf: bytes)
        var start = rest.startIndex
        while let index = rest[start...].firstIndex(of: end) {
            try body(rest[start..<index])
            start = index + 1
        }
        rest.removeSubrange(..<start)
        guard rest.count <= ControlProtocol.lineCountMax else {
            throw Failure("the daemon sends a line without an end")
        }
    }
}
