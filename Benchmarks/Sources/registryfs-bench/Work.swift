/// In what a work item is measured.
enum Unit: String {
    case throughput = "MiB/s"
    case rate = "ops/s"
    case time = "s"
    case cpu = "s/GiB"
    case memory = "MiB"

    var higherIsBetter: Bool { self == .throughput || self == .rate }

    /// Whether the figure is compared with the same work on another filesystem.
    var isCompared: Bool { self == .throughput || self == .rate || self == .time }
}

/// What is measured together; each can be asked for alone.
enum Group: String, CaseIterable {
    case io, files, durable, listing, registry, daemon
}

/// One thing that is measured.
struct Work: Hashable {
    let group: Group
    let name: String
    let unit: Unit
    /// A figure of the mount alone, which has no counterpart on the disk.
    var isAlone = false
    /// Later work needs what this one leaves, so that nobody may skip it.
    var isNeeded = false

    init(
        _ group: Group, _ name: String, _ unit: Unit, isAlone: Bool = false,
        isNeeded: Bool = false
    ) {
        self.group = group
        self.name = name
        self.unit = unit
        self.isAlone = isAlone
        self.isNeeded = isNeeded
    }
}

/// A filesystem under test.
struct Target {
    let name: String
    /// A directory of it for this program alone, on the same disk as the others'.
    let directory: String
    /// Where a registry that keeps its content in `directory` listens on the loopback.
    var registryPort: UInt16?
    /// The process that answers its requests.
    var daemon: Int32?
}

/// What must hold for one work item; a median over the rounds is compared.
struct Bound {
    enum Measure {
        /// The ratio to the disk below.
        case ratioToDisk
        /// The ratio to another filesystem, where that one was measured too.
        case ratioTo(String)
        /// The figure itself.
        case figure
    }

    let work: String
    let measure: Measure
    let limit: Double
    let isAtLeast: Bool

    static func atLeast(_ limit: Double, _ work: String, _ measure: Measure = .ratioToDisk) -> Bound
    {
        Bound(work: work, measure: measure, limit: limit, isAtLeast: true)
    }

    static func atMost(_ limit: Double, _ work: String, _ measure: Measure = .ratioToDisk) -> Bound
    {
        Bound(work: work, measure: measure, limit: limit, isAtLeast: false)
    }

    func holds(_ value: Double) -> Bool { isAtLeast ? value >= limit : value <= limit }

    /// Whether something must hold against this filesystem; where a work item is given, in that one.
    static func isReference(_ name: String, in work: String? = nil) -> Bool {
        all.contains { bound in
            guard case .ratioTo(let peer) = bound.measure else { return false }
            return peer == name && (work == nil || work == bound.work)
        }
    }

    /// What this project asks of itself, in one place.
    static let all: [Bound] = [
        .atLeast(0.60, "write 4 KiB, fsync"),
        .atLeast(0.95, "write 32 KiB, fsync"),
        .atLeast(0.95, "write 1 MiB, fsync"),
        .atLeast(0.60, "read 4 KiB, cold"),
        .atLeast(0.95, "read 32 KiB, cold"),
        .atLeast(0.95, "read 1 MiB, cold"),
        .atLeast(0.95, "read 4 KiB, warm"),
        .atLeast(0.95, "read 32 KiB, warm"),
        .atLeast(0.95, "read 1 MiB, warm"),
        .atLeast(0.90, "random read 4 KiB, cold"),
        .atLeast(0.90, "random read 4 KiB, warm"),
        .atLeast(1.00, "create, write 71, close", .ratioTo("passthrough_ll")),
        .atLeast(1.00, "stat, cold", .ratioTo("passthrough_ll")),
        .atLeast(1.00, "unlink", .ratioTo("passthrough_ll")),
        .atLeast(1.00, "PutContent, 1 writer"),
        .atLeast(1.30, "PutContent, 6 writers"),
        .atMost(1.50, "find, warm"),
        .atMost(1.50, "ls -lR, warm"),
        .atMost(1.05, "skopeo push 500 MB"),
        .atMost(1.05, "skopeo pull 500 MB, cold"),
        .atMost(1.10, "skopeo push 200 layers"),
        .atMost(1.10, "skopeo pull 200 layers, cold"),
        .atMost(1.15, "push 500 MB"),
        .atMost(1.05, "pull 500 MB, cold"),
        .atMost(1.05, "pull 500 MB, warm"),
        .atMost(1.25, "push 200 layers"),
        .atMost(1.05, "pull 200 layers, cold"),
        .atMost(1.05, "pull 200 layers, warm"),
        .atMost(0.75, "daemon CPU, written", .figure),
        // "Next to nothing": a read-ahead request for each MiB would already be more.
        .atMost(0.05, "daemon CPU, read cold", .figure),
        .atMost(0.05, "daemon CPU, read warm", .figure),
        .atMost(1.00, "CID after the last write of 1 GiB", .figure),
    ]
}
