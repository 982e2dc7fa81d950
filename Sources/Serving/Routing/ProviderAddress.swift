// The multiaddr of an HTTP server.
//
// Text:     /dns/HOST/tcp/PORT/https, or /ip4/…, /ip6/… and /http.
// Source:   https://github.com/multiformats/multiaddr, https://specs.ipfs.tech/routing/http-routing-v1/

internal import Base
internal import Glibc

/// Why a URL has no multiaddr.
public struct ProviderAddressError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

/// Where a server is found, as a multiaddr.
public struct ProviderAddress: Hashable, Sendable, CustomStringConvertible {
    /// The longest name of a host that there is, in bytes (RFC 1035).
    private static let hostLengthMax = 253

    /// The multiaddr.
    public let description: String
    /// The names of the protocols in it.
    let protocols: [String]

    /// Takes the base of a server's URLs: `https://host[:port]` or `http://host[:port]`, where the host may be an address
    /// (that of IPv6 in brackets), with a slash behind it or none.
    public init(baseURL: String) throws(ProviderAddressError) {
        func refusal(_ reason: String) -> ProviderAddressError {
            ProviderAddressError(description: "'\(oneLine(baseURL, lengthMax: 300))' \(reason)")
        }
        let isSecure = baseURL.lowercased().hasPrefix("https://")
        guard isSecure || baseURL.lowercased().hasPrefix("http://") else {
            throw refusal("does not begin with https:// or http://")
        }
        var rest = Substring(baseURL).dropFirst(isSecure ? 8 : 7)
        if rest.hasSuffix("/") { rest.removeLast() }
        guard !rest.utf8.contains(where: { "/?#@\0".utf8.contains($0) }) else {
            throw refusal("has more than a host and a port")
        }
        let host: Substring
        let isBracketed = rest.hasPrefix("[")
        if isBracketed {
            guard let end = rest.firstIndex(of: "]") else { throw refusal("has no ]") }
            host = rest[rest.index(after: rest.startIndex)..<end]
            rest = rest[rest.index(after: end)...]
        } else {
            host = rest.prefix { $0 != ":" }
            rest = rest.dropFirst(host.count)
        }
        var port: UInt16 = isSecure ? 443 : 80
        if !rest.isEmpty {
            guard rest.hasPrefix(":"), rest.dropFirst().utf8.allSatisfy(Self.isDigit),
                let number = UInt16(rest.dropFirst()), number > 0
            else { throw refusal("has a port that is none") }
            port = number
        }
        let kind: String
        if isBracketed {
            guard Self.isAddress(host, AF_INET6) else { throw refusal("has no IPv6 address in []") }
            kind = "ip6"
        } else if Self.isAddress(host, AF_INET) {
            kind = "ip4"
        } else {
            guard Self.isName(host) else { throw refusal("has a host that is none") }
            kind = "dns"
        }
        let scheme = isSecure ? "https" : "http"
        protocols = [kind, "tcp", scheme]
        description = "/\(kind)/\(host.lowercased())/tcp/\(port)/\(scheme)"
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private static func isAddress(_ text: Substring, _ family: Int32) -> Bool {
        var address = in6_addr()
        // Room for either kind.
        return withUnsafeMutableBytes(of: &address) {
            inet_pton(family, String(text), $0.baseAddress) == 1
        }
    }

    private static func isName(_ text: Substring) -> Bool {
        (1...hostLengthMax).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                isDigit(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
                    || byte == UInt8(ascii: "_")
                    || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
            }
    }
}
