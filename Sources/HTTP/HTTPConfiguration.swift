/// What the requests of one client have in common.
public struct HTTPConfiguration: Sendable {
    /// How the program calls itself.
    public var userAgent = "registryfs"
    /// What texts of errors call the other side.
    public var server = "the server"
    /// How many requests may be under way at once, at least 1; further ones wait.
    public var connectionsMax = 8
    /// How many connections are kept while they are not used.
    public var idleConnectionsMax = 8
    /// The longest wait for one of them to end, for a request that has no deadline, in milliseconds.
    public var waitMilliseconds = 300_000
    /// The limit of all bodies that are sent; clients may share one. Nil for none.
    public var uploadRate: UploadRate?
    /// Proxies and certificate authorities.
    public var environment = HTTPEnvironment.current

    public init() {}
}
