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

    public init(socketPath: String? = nil, family: Family = .any, isDirect: Bool = false) {
        self.socketPath = socketPath
        self.family = family
        self.isDirect = isDirect
    }
}
