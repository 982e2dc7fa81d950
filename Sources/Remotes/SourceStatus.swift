public import Base

/// What sort of place a source is.
public enum SourceKind: String, Sendable, CaseIterable {
    /// A file of blocks on this machine: asked before all others, and never let go for its bytes, which a
    /// bad disk damages and nobody forges.
    case archive
    case kubo
    case gateway
    /// A gateway that somebody else named: asked after all others, and where it is known for whom, for their blocks
    /// alone.
    case announced

    /// Sources of a lower number are asked first.
    var tier: Int {
        switch self {
        case .archive: 0
        case .kubo, .gateway: 1
        case .announced: 2
        }
    }
}

/// What is known of one source of a set, for people and reports.
public struct SourceStatus: Sendable {
    /// Whether it is asked.
    public enum State: Sendable, Hashable {
        case ok
        /// Not before some milliseconds from now, and why.
        case backingOff(milliseconds: Int64, because: String)
        /// No more in this mount, and why.
        case excluded(because: String)
    }

    /// As in `RemoteBlocks.address`.
    public var address: String
    public var kind: SourceKind
    public var state: State
    /// Blocks that came from it, verified, and their bytes.
    public var blocks: UInt64
    public var bytes: UInt64
    /// Answers that it lacks a block.
    public var absences: UInt64
    /// Requests that failed otherwise.
    public var failures: UInt64
    /// Answers whose bytes were not those of the CID.
    public var wrongAnswers: UInt64
    /// The time from a request to its block, recent ones counting most, in milliseconds; nil before the
    /// first.
    public var latencyMilliseconds: Double?
    /// What went wrong last, on one line, and when.
    public var problem: String?
    public var problemTime: Timestamp?
}
