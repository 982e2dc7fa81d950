public import Base
public import Multiformats

/// Where the tree of a volume comes from that does not begin empty.
public struct OriginOptions: Sendable {
    /// What the root is named by, in its canonical form. A volume remembers it, and has no other.
    public var reference: String
    /// Says what the reference stands for now. May block for the network until its own deadline; called on a thread of
    /// the volume's, or of who opens it.
    public var resolve: @Sendable (Cancellation) throws(OriginError) -> OriginRoot
    /// The tree goes with what the reference stands for. Nobody else may change it then.
    public var follows = false

    public init(
        reference: String,
        resolve: @escaping @Sendable (Cancellation) throws(OriginError) -> OriginRoot
    ) {
        self.reference = reference
        self.resolve = resolve
    }
}

/// What a reference stands for.
public struct OriginRoot: Sendable {
    /// The DAG in which `path` begins.
    public var cid: CID
    /// Names from there down to the directory that is meant.
    public var path: [[UInt8]]
    /// How long that may be believed, in seconds; nil where nobody says.
    public var lifetimeSeconds: Double?

    public init(cid: CID, path: [[UInt8]] = [], lifetimeSeconds: Double? = nil) {
        self.cid = cid
        self.path = path
        self.lifetimeSeconds = lifetimeSeconds
    }
}

/// Why a reference cannot be followed to a directory; one line.
public struct OriginError: Error, Sendable, CustomStringConvertible {
    public var description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// What a volume knows of its origin.
public struct OriginStatus: Sendable {
    /// What the root was named by.
    public var reference = ""
    /// The root that was taken last.
    public var root: CID
    /// When that was, in seconds since the epoch.
    public var rootAt: Double
    /// The tree goes with the reference.
    public var isFollowed = false
    /// When the reference is looked at next, in seconds since the epoch; nil where it is not.
    public var nextLookAt: Double?
    /// Why the last look failed; nil where it did not.
    public var lastError: String?
}
