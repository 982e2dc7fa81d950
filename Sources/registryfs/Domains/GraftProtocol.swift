import Base
import FoundationEssentials
import Volume

/// What a client asks of a volume's grafts.
struct GraftRequest: Codable, Sendable {
    enum Action: String, Codable, Sendable {
        case list, add, remove, refresh, pin
    }

    var action: Action
    /// `remove`, `refresh`, `pin`: what `list` shows; `add`: a domain.
    var name: String?
    /// `add`: the path from /ipfs/ or /ipns/ on in place of a domain, of any bytes.
    var reference: Data?

    init(_ action: Action, _ name: String? = nil) {
        self.action = action
        self.name = name
    }
}

/// The end of an answer about grafts. Before it come those that it is about, as data: a line of JSON (`GraftReport`) for
/// each.
struct GraftResult: Codable, Sendable {
    /// `pin`: regular files below, and their bytes.
    var files: UInt64?
    var bytes: UInt64?
}

/// What the commands print of a graft with `--json`. The keys are part of the program's interface.
struct GraftReport: Codable, Sendable {
    /// The directory of `repositories`: the domain, where it is one.
    var name: String
    /// What is asked for: the domain, or what was given to `grafts add`.
    var reference: String
    /// Where it leads: a CID, and the path below it.
    var root: String?
    var path: String?
    /// `registry`, `domain` or `static`.
    var layout: String
    /// When that was found out, as RFC 3339 in UTC.
    var resolvedAt: String
    var nextLookAt: String?
    /// Why the last look failed; nil where it did not.
    var lastError: String?
    /// Something was pushed here that the domain does not have.
    var ahead: Bool
    var pinned: Bool

    init(_ status: GraftStatus) {
        name = RawText.shown(status.name)
        reference = RawText.shown(status.reference)
        root = status.root.map { "\($0)" }
        path =
            status.path.isEmpty
            ? nil : status.path.map { RawText.shown($0) }.joined(separator: "/")
        layout = status.layout
        resolvedAt = Figures.time(seconds: status.resolvedAt)
        nextLookAt = status.nextLookAt.map { Figures.time(seconds: $0) }
        lastError = status.lastError.map { oneLine($0) }
        ahead = status.isAhead
        pinned = status.isPinned
    }
}

/// What `status` says of domains.
struct DomainsStatus: Codable, Sendable {
    /// The patterns of the mount.
    var patterns: [String]
    var grafts: Int
    /// Of these, those whose last look failed.
    var failed: Int
    /// When the next one is looked at.
    var nextLookAt: String?

    init(_ settings: PullThroughSettings, _ found: [GraftStatus]) {
        patterns = settings.patterns
        grafts = found.count
        failed = found.count { $0.lastError != nil }
        nextLookAt = found.compactMap(\.nextLookAt).min().map { Figures.time(seconds: $0) }
    }

    func add(to table: inout Table) {
        table.add("pull-through", patterns.joined(separator: " "))
        var words = [Figures.count(UInt64(grafts))]
        if failed > 0 { words.append("\(Figures.count(UInt64(failed))) failed at the last look") }
        if let nextLookAt { words.append("next look \(nextLookAt)") }
        table.add("grafts", words.joined(separator: ", "))
    }
}
