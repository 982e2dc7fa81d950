public import HTTP

/// How to speak to a gateway. Each time is kept between 1 ms and 24 days by the transport.
public struct GatewayConfiguration: Sendable {
    /// Where it is.
    public var url: GatewayURL
    /// How the program calls itself.
    public var userAgent = "registryfs"
    /// The longest that connecting may take, in milliseconds.
    public var connectMilliseconds = 5_000
    /// The longest from the last byte of a request to the first of its reply. A request that has the gateway
    /// look among its peers may wait until its deadline.
    public var firstByteMilliseconds = 10_000
    /// The longest without a byte moved.
    public var stallMilliseconds = 30_000
    /// How many requests may be under way at once, at least 2; further ones wait. A quarter of them is kept
    /// free of requests that have the gateway look among its peers.
    public var requestsMax = 32
    /// Whether it is asked at public addresses alone, for a URL that somebody else chose (`HTTPRoute.isPublicOnly`).
    public var isPublicOnly = false
    /// Proxies and certificate authorities. No proxy ever stands before a gateway on this machine.
    public var environment = HTTPEnvironment.current

    public init(_ url: GatewayURL) {
        self.url = url
    }
}
