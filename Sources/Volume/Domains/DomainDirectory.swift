public import Base
public import Multiformats

/// Who knows which domains may be pulled through, and where they lead.
public protocol DomainDirectory: Sendable {
    /// Whether a name of `repositories` is a domain that may be looked up: patterns and grammar alone, without the
    /// network. Called for each such name that is not here.
    func covers(_ domain: String) -> Bool

    /// Where a domain leads now. Blocks for the network, until the deadline at most.
    ///
    /// - Parameter deadline: in milliseconds of `MonotonicClock`.
    func resolve(
        _ domain: String, deadline: Int64, cancellation: Cancellation
    ) throws(DomainError) -> DomainRoot
}

/// Where a domain leads.
public struct DomainRoot: Sendable {
    /// The DAG in which `path` begins.
    public var cid: CID
    /// Names from there down to the tree that is meant; 64 at most are followed.
    public var path: [[UInt8]]
    /// How long that may be believed, in seconds, as DNS says; nil where nobody says. The volume has bounds of its own.
    public var lifetimeSeconds: Double?
    /// How it was found, a line a step.
    public var steps: [String]

    public init(
        cid: CID, path: [[UInt8]] = [], lifetimeSeconds: Double? = nil, steps: [String] = []
    ) {
        self.cid = cid
        self.path = path
        self.lifetimeSeconds = lifetimeSeconds
        self.steps = steps
    }
}

/// Why a domain leads nowhere; one line.
public struct DomainError: Error, Sendable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// There is no such name, or no link of that name.
        case absent
        /// Nobody answered, or what was answered is malformed or a loop.
        case failed
    }

    public var kind: Kind
    public var description: String
    /// How long that may be believed, in seconds; nil where nobody says.
    public var lifetimeSeconds: Double?

    public init(_ kind: Kind, _ description: String, lifetimeSeconds: Double? = nil) {
        self.kind = kind
        self.description = description
        self.lifetimeSeconds = lifetimeSeconds
    }
}

/// How a volume pulls domains through.
public struct DomainOptions: Sendable {
    public var directory: any DomainDirectory
    /// How long a lookup may take that asks others, in milliseconds, all of it together.
    public var lookupMilliseconds = 10_000
    /// Between two looks at where a domain leads, whatever DNS says, in seconds.
    public var lifetimeSeconds: ClosedRange<Double> = 30...3_600
    /// How long a domain that leads nowhere is not asked for again, in seconds, at most.
    public var absentSeconds: Double = 60

    public init(_ directory: any DomainDirectory) {
        self.directory = directory
    }
}

/// A tree of others that repositories of the volume come from, for people.
public struct GraftStatus: Sendable {
    /// The name of its directory in `repositories`: the domain, where it is one.
    public var name: String
    /// What was asked for: the domain, or the reference of a tree that has a CID.
    public var reference: String
    /// Where it led when its tree was taken last.
    public var root: CID?
    /// Names from there down.
    public var path: [[UInt8]]
    /// `registry`, `domain` or `static`.
    public var layout: String
    /// When its tree was looked for last with success, in seconds since the epoch.
    public var resolvedAt: Double
    /// When it is looked for next, in seconds since the epoch; nil for never.
    public var nextLookAt: Double?
    /// Why the last look failed; nil where it did not.
    public var lastError: String?
    /// Whether the volume has something there that the domain has not.
    public var isAhead: Bool
    /// Whether all of it is kept here.
    public var isPinned: Bool
}
