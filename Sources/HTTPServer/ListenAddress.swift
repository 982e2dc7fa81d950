/// Where to listen: `host:port`, `[address]:port`, `:port` for all addresses, or `unix:/path`.
public enum ListenAddress: Hashable, Sendable, CustomStringConvertible {
    /// A name or an address, empty for all of both families; port 0 for a free one.
    case network(host: String, port: UInt16)
    case unix(path: String)

    /// Reads an address of at most 512 bytes.
    ///
    /// - Throws: what is wrong with it, in one line.
    public init(_ text: String) throws(ServerFailure) {
        let shown = "listen address '\(text.prefix(80))'"
        guard text.utf8.count <= 512, !text.utf8.contains(0) else {
            throw ServerFailure("\(shown) is too long, or has a zero byte")
        }
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard path.hasPrefix("/") else {
                throw ServerFailure("\(shown): the path of a unix socket begins with '/'")
            }
            self = .unix(path: path)
            return
        }
        guard let colon = text.lastIndex(of: ":") else {
            throw ServerFailure("\(shown) is neither host:port, [address]:port nor unix:/path")
        }
        var host = String(text[..<colon])
        let digits = text[text.index(after: colon)...]
        guard !digits.isEmpty,
            digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let port = UInt16(digits)
        else {
            throw ServerFailure("\(shown): the port is 0 to 65535")
        }
        if host.hasPrefix("[") && host.hasSuffix("]") && host.utf8.count > 2 {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") || host.contains("[") || host.contains("]") {
            throw ServerFailure("\(shown): an IPv6 address stands in brackets, as in [::1]:8080")
        }
        self = .network(host: host, port: port)
    }

    public var description: String {
        switch self {
        case .network(let host, let port):
            host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}
