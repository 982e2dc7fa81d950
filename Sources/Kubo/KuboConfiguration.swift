public import HTTP

/// How to speak to a node.
public struct KuboConfiguration: Sendable {
    /// Where the node listens.
    public var address: KuboAddress
    /// Who we are, where the node asks for that.
    public var credentials: KuboCredentials?
    /// Lets credentials go over plain http to other machines, where everyone on the way can read them.
    public var sendsCredentialsInTheOpen = false
    /// How the program calls itself; never a name with `/kubo/` in it, which the node would hold
    /// against its own version.
    public var userAgent = "registryfs"
    /// The longest that connecting may take.
    public var connectMilliseconds = 5_000
    /// The longest from the last byte of a request to the first of its reply.
    public var firstByteMilliseconds = 30_000
    /// The same, for calls that have the node walk or write much before it answers: pins, imports,
    /// flushes, copies and removals of MFS trees.
    public var workMilliseconds = 300_000
    /// The longest without a byte moved while a request is sent or a reply received.
    public var stallMilliseconds = 30_000
    /// What a call has to move on the average, requests and replies together, in bytes a second: its
    /// time is what the limits above allow for waiting, and that of its bytes at this rate. Low enough
    /// for the slowest line; a call that drips has an end.
    public var bytesPerSecondMin = 4 << 10
    /// The longest that a pin may take, however it goes on: what a tree of ten million blocks takes
    /// on a slow disk (230 blocks a second).
    public var pinMilliseconds = 12 * 3_600_000
    /// How many calls may be under way at once, at least 1; further ones wait. A quarter of them is
    /// kept free of uploads.
    public var connectionsMax = 8
    /// How often a call is tried that may be tried again, the first time counted; at least 1.
    public var attemptsMax = 4
    /// The limit of all uploads together; nil for none. Not below
    /// `KuboConfiguration.uploadBytesPerSecondMin`.
    public var uploadBytesPerSecond: UInt64?

    /// Proxies and certificate authorities. No proxy ever stands before a node on this machine.
    public var environment = HTTPEnvironment.current

    /// The lowest limit of uploads; a lower one counts as this one.
    public static let uploadBytesPerSecondMin = UploadRate.bytesPerSecondMin

    public init(address: KuboAddress, credentials: KuboCredentials? = nil) {
        self.address = address
        self.credentials = credentials
    }
}
