// Where a node's RPC listens, in the forms that people and the node itself write.
//
// URLs:       http://HOST[:PORT][/PREFIX], https://…, unix:///PATH; HOST may be [IPV6].
// Short:      HOST:PORT.
// Multiaddrs: /ip4/A/tcp/P, /ip6/A/tcp/P, /dns/N/tcp/P, /dns4/…, /dns6/…, each with /http,
//             /https or /tls/http behind it; /unix/PATH.
// Validity:   a port is 1…65535; no user, query or fragment, for credentials have a place of
//             their own; at most `KuboAddress.lengthMax` bytes.
// Source:     https://github.com/multiformats/multiaddr, RFC 3986, and the file `api` in a
//             repository of Kubo.

internal import Base
internal import Glibc
internal import HTTP

import struct SystemPackage.Errno

/// Why a text is not the address of a node, or why there is none.
public struct KuboAddressError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One line.
    public let description: String

    init(_ description: String) {
        self.description = KuboError.line(description)
    }
}

/// The address of a node's RPC.
public struct KuboAddress: Sendable, Hashable, CustomStringConvertible {
    /// The longest text, in bytes.
    public static let lengthMax = 2048

    /// What stands before `/api/v0` in the URL of a call; no slash at its end.
    let base: String
    /// The host alone, without brackets; empty for a unix socket.
    let host: String
    /// The path of a unix socket.
    let socketPath: String?
    let family: HTTPRoute.Family

    /// The address as a URL, or `unix://` and a path.
    public var description: String { socketPath.map { "unix://\($0)" } ?? base }

    /// Whether the node is on this machine by its address, so that no proxy stands between.
    var isLocal: Bool { socketPath != nil || isLoopback(host) }

    /// The way to the node, without a proxy where it is on this machine.
    var route: HTTPRoute {
        HTTPRoute(socketPath: socketPath, family: family, isDirect: isLocal)
    }

    /// Whether nobody on the way to the node can read what is sent: it is on this machine, or what is
    /// sent is encrypted.
    public var isPrivate: Bool { isLocal || isEncrypted }

    var isEncrypted: Bool { base.hasPrefix("https:") }

    /// Reads an address in any of its forms.
    public init(_ text: String) throws(KuboAddressError) {
        guard text.utf8.count <= Self.lengthMax else {
            throw KuboAddressError("the node's address is longer than \(Self.lengthMax) bytes")
        }
        // Spaces and control characters never stand in a URL; a socket's path could have a space,
        // but nothing below one.
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
            throw KuboAddressError("the node's address is empty, or has control characters in it")
        }
        if let path = text.without(prefix: "unix://") ?? text.without(prefix: "unix:") {
            try self.init(socketPath: path, of: text)
        } else if let rest = text.without(prefix: "http://") {
            try self.init(scheme: "http", url: rest, of: text)
        } else if let rest = text.without(prefix: "https://") {
            try self.init(scheme: "https", url: rest, of: text)
        } else if text.hasPrefix("/") {
            try self.init(multiaddr: text)
        } else if text.contains("://") {
            throw Self.unusable(text, "only http, https and unix are spoken")
        } else {
            guard let colon = text.lastIndex(of: ":"), !text.contains("/"),
                text[..<colon].contains(":") == text.hasPrefix("[")
            else {
                throw Self.unusable(
                    text, "expected http://HOST:PORT, HOST:PORT, /ip4/A/tcp/PORT or unix:///PATH")
            }
            try self.init(scheme: "http", url: text, of: text)
        }
    }

    /// Reads the address that a running node wrote into its repository: `$IPFS_PATH/api`, or
    /// `~/.ipfs/api` where that variable is not set.
    ///
    /// - Throws: also where the file is a symlink, or belongs to others than root and the caller; one below
    ///   `$IPFS_PATH` may belong to whom that directory does: a node often has a user of its own.
    public static func discovered(
        environment: [String: String]
    ) throws(KuboAddressError) -> KuboAddress {
        let directory: String
        var isNamed = false
        if let path = environment["IPFS_PATH"], !path.isEmpty {
            directory = path
            isNamed = true
        } else if let home = environment["HOME"], !home.isEmpty {
            directory = home + "/.ipfs"
        } else {
            throw KuboAddressError("no node's address: neither IPFS_PATH nor HOME is set")
        }
        let file = directory + "/api"
        var bytes: [UInt8]
        do throws(TrustedFileError) {
            let owner = isNamed ? try TrustedFile.owner(of: directory) : nil
            let descriptor = try TrustedFile.open(file, alsoOwnedBy: owner, followsLinks: false)
            bytes = try contents(of: descriptor.raw)
        } catch {
            let text =
                switch error {
                case .system(.noSuchFileOrDirectory):
                    "no node's address: there is no \(file), so no node runs there"
                case .system(.tooManySymbolicLinkLevels): "\(file) is a symlink, as no node makes"
                case .system(let error): "\(file): \(error)"
                case .owner(let uid):
                    "\(file) belongs to user \(uid), who could send your content anywhere: "
                        + "give the node's address itself, or IPFS_PATH"
                }
            throw KuboAddressError(text)
        }
        while let last = bytes.last, last <= 0x20 {
            bytes.removeLast()
        }
        do throws(KuboAddressError) {
            return try KuboAddress(String(decoding: bytes, as: UTF8.self))
        } catch {
            throw KuboAddressError("\(file): \(error)")
        }
    }

    private static func contents(of descriptor: Int32) throws(TrustedFileError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: lengthMax + 2)
        do throws(Errno) {
            let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
                try Sys.read(descriptor, at: 0, into: buffer)
            }
            return Array(bytes[..<count])
        } catch {
            throw .system(error)
        }
    }

    private static func unusable(_ text: String, _ why: String) -> KuboAddressError {
        // What stands before an @ may be a password.
        let shown = text.utf8.contains(UInt8(ascii: "@")) ? "" : " \"\(text)\""
        return KuboAddressError("not the address of a node\(shown): \(why)")
    }

    private init(socketPath path: String, of text: String) throws(KuboAddressError) {
        // unix(7): sun_path has 108 bytes, one of them for the end.
        guard path.hasPrefix("/"), path.utf8.count <= 107 else {
            throw Self.unusable(text, "a socket's path begins with / and has at most 107 bytes")
        }
        base = "http://localhost"
        host = ""
        socketPath = path
        family = .any
    }

    private init(scheme: String, url: String, of text: String) throws(KuboAddressError) {
        let slash = url.firstIndex(of: "/") ?? url.endIndex
        let authority = url[..<slash]
        guard !authority.contains("@") else {
            throw Self.unusable(text, "credentials do not belong into the address")
        }
        guard !url.contains("?"), !url.contains("#") else {
            throw Self.unusable(text, "it must have no query and no fragment")
        }
        let host: Substring
        let behind: Substring
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else {
                throw Self.unusable(text, "a [ without its ]")
            }
            host = authority[authority.index(after: authority.startIndex)..<end]
            behind = authority[authority.index(after: end)...]
            guard isAddress(String(host), AF_INET6) else {
                throw Self.unusable(text, "what stands in [ ] is no IPv6 address")
            }
        } else {
            let colon = authority.firstIndex(of: ":") ?? authority.endIndex
            host = authority[..<colon]
            behind = authority[colon...]
            guard isHostName(host) else { throw Self.unusable(text, "bad host name") }
        }
        var port: Substring?
        if !behind.isEmpty {
            guard behind.hasPrefix(":") else { throw Self.unusable(text, "bad port") }
            port = behind.dropFirst()
        }
        try self.init(
            scheme: scheme, host: String(host), port: port, prefix: url[slash...], family: .any,
            of: text)
    }

    private init(multiaddr text: String) throws(KuboAddressError) {
        let parts = text.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        if parts[0] == "unix" {
            try self.init(socketPath: String(text.dropFirst("/unix".count)), of: text)
            return
        }
        guard parts.count >= 4, parts[2] == "tcp" else {
            throw Self.unusable(text, "expected /ip4/A/tcp/PORT, /dns/NAME/tcp/PORT or /unix/PATH")
        }
        let scheme: String
        switch parts[4...] {
        case [], ["http"]: scheme = "http"
        case ["https"], ["tls", "http"]: scheme = "https"
        default:
            throw Self.unusable(text, "after the port only /http, /https or /tls/http may stand")
        }
        var host = String(parts[1])
        let family: HTTPRoute.Family
        switch parts[0] {
        case "ip4":
            guard isAddress(host, AF_INET) else { throw Self.unusable(text, "bad IPv4 address") }
            // A node that listens everywhere is reached on the loopback.
            if host == "0.0.0.0" { host = "127.0.0.1" }
            family = .version4
        case "ip6":
            guard isAddress(host, AF_INET6) else { throw Self.unusable(text, "bad IPv6 address") }
            if host == "::" { host = "::1" }
            family = .version6
        case "dns", "dns4", "dns6":
            guard isHostName(parts[1]) else { throw Self.unusable(text, "bad host name") }
            family = parts[0] == "dns" ? .any : parts[0] == "dns4" ? .version4 : .version6
        default:
            throw Self.unusable(text, "only ip4, ip6, dns, dns4, dns6 and unix are understood")
        }
        try self.init(
            scheme: scheme, host: host, port: parts[3], prefix: "", family: family, of: text)
    }

    private init(
        scheme: String, host: String, port: Substring?, prefix: Substring, family: HTTPRoute.Family,
        of text: String
    ) throws(KuboAddressError) {
        var base = "\(scheme)://" + (host.contains(":") ? "[\(host)]" : host)
        if let port {
            guard port.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
                let number = UInt16(port), number > 0
            else { throw Self.unusable(text, "a port is a number from 1 to 65535") }
            base += ":\(number)"
        }
        guard prefix.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\\") }) else {
            throw Self.unusable(text, "what stands after the host must be escaped as in a URL")
        }
        var path = prefix
        while path.hasSuffix("/") { path.removeLast() }
        if path.hasSuffix("/api/v0") { path.removeLast("/api/v0".count) }
        while path.hasSuffix("/") { path.removeLast() }
        self.base = base + path
        self.host = host
        socketPath = nil
        self.family = family
    }
}

/// Whether a text is a name or an IPv4 address that can stand in a URL.
private func isHostName(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.count <= 253
        && text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"):
                true
            default: false
            }
        }
}

/// Whether a host is this machine by its name or number. A name such as `127.example` is not.
private func isLoopback(_ host: String) -> Bool {
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

/// Whether a text is a numeric address (inet_pton(3)).
private func isAddress(_ text: String, _ family: Int32) -> Bool {
    var storage = in6_addr()
    return inet_pton(family, text, &storage) == 1
}
