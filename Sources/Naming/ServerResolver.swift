// A name server that is asked directly.
//
// By UDP first: a question with a random id from a port that the kernel chose, and again after one second, two
// and four. What comes from elsewhere, has another id or answers another question is passed over. An answer that
// is cut off is asked for again by TCP, where its length (16 bits) stands before it.
// Source: RFC 1035 section 4.2, RFC 5452, RFC 7766

public import Base
internal import Glibc

/// Asks one name server over UDP and TCP.
public struct ServerResolver: DNSResolver {
    /// How often a question is sent over UDP.
    static let attemptsMax = 4
    /// The wait for an answer before the question is sent again, in milliseconds; then twice as long.
    static let firstWaitMilliseconds: Int64 = 1_000
    /// How many packets that are no answer are looked at for one question.
    static let strangersMax = 64

    private let endpoint: Endpoint

    /// Takes the address of a server: `A.B.C.D`, `A.B.C.D:PORT`, `IPV6` or `[IPV6]:PORT`.
    ///
    /// - Throws: `malformed`, also for a host's name: who finds out its address?
    public init(_ text: String) throws(NamingError) {
        endpoint = try Endpoint(text)
    }

    public var address: String { endpoint.description }

    public func texts(
        of name: DNSName, deadline: Int64, cancellation: Cancellation?
    ) throws(NamingError) -> DNSAnswer {
        let call = try DNSCall(name, endpoint, deadline: deadline, cancellation)
        var message = try call.overUDP()
        if message.isTruncated { message = try call.overTCP() }
        return try message.answer(to: name, from: address)
    }
}

/// The address of a name server.
struct Endpoint: Sendable, CustomStringConvertible {
    let description: String
    let family: Int32
    /// A `sockaddr_in` or `sockaddr_in6`.
    let socketAddress: [UInt8]

    init(_ text: String) throws(NamingError) {
        let (host, port) = try Self.split(text)
        var version4 = sockaddr_in()
        var version6 = sockaddr_in6()
        if inet_pton(AF_INET, host, &version4.sin_addr) == 1 {
            version4.sin_family = sa_family_t(AF_INET)
            version4.sin_port = port.bigEndian
            (family, description) = (AF_INET, "\(host):\(port)")
            socketAddress = withUnsafeBytes(of: version4) { Array($0) }
        } else if inet_pton(AF_INET6, host, &version6.sin6_addr) == 1 {
            version6.sin6_family = sa_family_t(AF_INET6)
            version6.sin6_port = port.bigEndian
            (family, description) = (AF_INET6, "[\(host)]:\(port)")
            socketAddress = withUnsafeBytes(of: version6) { Array($0) }
        } else {
            throw NamingError(
                .malformed,
                "'\(text)' is no name server: it is A.B.C.D[:PORT], [IPV6][:PORT] or an https:// URL"
            )
        }
    }

    private static func split(_ text: String) throws(NamingError) -> (String, UInt16) {
        var host = text
        var port = "53"
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            host = String(text[text.index(after: text.startIndex)..<end])
            let behind = text[text.index(after: end)...]
            if !behind.isEmpty { port = String(behind.dropFirst()) }
            if !behind.isEmpty, !behind.hasPrefix(":") { port = "" }
        } else if let colon = text.firstIndex(of: ":"), colon == text.lastIndex(of: ":") {
            host = String(text[..<colon])
            port = String(text[text.index(after: colon)...])
        }
        guard port.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt16(port),
            number > 0
        else {
            throw NamingError(
                .malformed, "'\(text)' is no name server: a port is a number from 1 to 65535")
        }
        return (host, number)
    }
}
