/// The way to a server, beside what its URL says.
public struct HTTPRoute: Sendable, Hashable {
    /// Which addresses of a name may be used.
    public enum Family: Hashable, Sendable {
        case any, version4, version6
    }

    /// The path of the unix socket on which the server listens; the URL's host is then a name only.
    public var socketPath: String?
    public var family: Family
    /// Whether no proxy may stand between, whatever the environment says. None ever stands before a
    /// unix socket.
    public var isDirect: Bool
    /// Whether a server is reached at public addresses alone (`PublicAddress`): for a URL that somebody else
    /// chose. Looked at as each connection is opened, redirects among them, so what a name leads to in DNS
    /// does not matter. Behind a proxy it is the proxy that decides, and no host is reached without it
    /// (`no_proxy`) but by `isDirect`.
    public var isPublicOnly: Bool

    public init(
        socketPath: String? = nil, family: Family = .any, isDirect: Bool = false,
        isPublicOnly: Bool = false
    ) {
        self.socketPath = socketPath
        self.family = family
        self.isDirect = isDirect
        self.isPublicOnly = isPublicOnly
    }
}
