// Where a gateway is.
//
// Text:     http://HOST[:PORT][/PREFIX] or https://…; HOST may be [IPV6]. `/ipfs` at its end is left out:
//           the paths of the gateway begin with it.
// Validity: a port is 1…65535; no user, query or fragment; at most `GatewayURL.lengthMax` bytes.
// Source:   RFC 3986

internal import Base
internal import Glibc

/// Why a text is not the URL of a gateway.
public struct GatewayURLError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One line.
    public let description: String

    init(_ text: String, _ why: String) {
        // What stands before an @ may be a password.
        let shown = text.utf8.contains(UInt8(ascii: "@")) ? "" : " \"\(oneLine(text))\""
        description = "not the URL of a gateway\(shown): \(why)"
    }
}

/// The URL of a gateway.
public struct GatewayURL: Sendable, Hashable, CustomStringConvertible {
    /// The longest text, in bytes.
    public static let lengthMax = 2048

    /// What stands before `/ipfs/CID`; no slash at its end.
    let base: String
    /// Whether the gateway is on this machine by its address, so that no proxy stands between.
    let isLocal: Bool

    /// Whether it begins with https://.
    public var isEncrypted: Bool { base.hasPrefix("https://") }

    /// The URL, without a slash at its end.
    public var description: String { base }

    /// Reads a URL.
    public init(_ text: String) throws(GatewayURLError) {
        guard text.utf8.count <= Self.lengthMax,
            text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\\") })
        else { throw GatewayURLError(text, "it is too long, or has what must be escaped") }
        let lowered = text.lowercased()
        guard let scheme = ["http://", "https://"].first(where: { lowered.hasPrefix($0) }) else {
            throw GatewayURLError(text, "it begins with https:// or http://")
        }
        let rest = text.dropFirst(scheme.count)
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        guard !rest[..<slash].contains("@") else {
            throw GatewayURLError(text, "it must have no user")
        }
        guard !rest.contains("?"), !rest.contains("#") else {
            throw GatewayURLError(text, "it must have no query and no fragment")
        }
        let host = try Self.host(rest[..<slash], of: text)
        var path = rest[slash...]
        while path.hasSuffix("/") { path.removeLast() }
        if path.hasSuffix("/ipfs") { path.removeLast("/ipfs".count) }
        while path.hasSuffix("/") { path.removeLast() }
        base = scheme + rest[..<slash].lowercased() + path
        isLocal = Self.isLoopback(host)
    }

    /// The host of an authority, without brackets.
    private static func host(
        _ authority: Substring, of text: String
    ) throws(GatewayURLError) -> String {
        let host: Substring
        let behind: Substring
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else {
                throw GatewayURLError(text, "a [ without its ]")
            }
            host = authority[authority.index(after: authority.startIndex)..<end]
            behind = authority[authority.index(after: end)...]
            var address = in6_addr()
            guard inet_pton(AF_INET6, String(host), &address) == 1 else {
                throw GatewayURLError(text, "what stands in [ ] is no IPv6 address")
            }
        } else {
            let colon = authority.firstIndex(of: ":") ?? authority.endIndex
            host = authority[..<colon]
            behind = authority[colon...]
            guard !host.isEmpty, host.utf8.count <= 253, host.utf8.allSatisfy(isHostByte) else {
                throw GatewayURLError(text, "bad host name")
            }
        }
        guard !behind.isEmpty else { return String(host) }
        let port = behind.dropFirst()
        guard behind.hasPrefix(":"), port.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt16(port), number > 0
        else { throw GatewayURLError(text, "a port is a number from 1 to 65535") }
        return String(host)
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"):
            true
        default: false
        }
    }

    /// Whether a host is this machine by its name or number. A name such as `127.example` is not.
    private static func isLoopback(_ host: String) -> Bool {
        if host.lowercased() == "localhost" { return true }
        var version4 = in_addr()
        if inet_pton(AF_INET, host, &version4) == 1 {
            return UInt32(bigEndian: version4.s_addr) >> 24 == 127
        }
        var version6 = in6_addr()
        guard inet_pton(AF_INET6, host, &version6) == 1 else { return false }
        return withUnsafeBytes(of: version6) { bytes in
            bytes[15] == 1 && bytes.dropLast().allSatisfy { $0 == 0 }
        }
    }
}
