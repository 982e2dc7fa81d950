internal import HTTPTypes
internal import NIOCore
internal import Serving

/// Who may ask.
public struct AccessRules: Sendable {
    /// What is in a file of tokens; its description is one line.
    public struct Malformed: Error, CustomStringConvertible {
        public let description: String
    }

    /// The most tokens of one file, and the most bytes of each.
    public static let tokensMax = 1_000
    public static let tokenBytesMax = 512

    /// One of these has to be shown (`Authorization: Bearer …`, RFC 6750); without any, none.
    public var tokens: [String] = []
    /// Addresses outside of these get 403; without any, all may ask. Who comes by a unix socket always may: that is what its
    /// mode is for.
    public var allowed: [AddressRange] = []

    public init() {}

    /// Reads a file of tokens: one on each line. Empty lines and those that begin with `#` do not count.
    ///
    /// - Throws: also where there is none at all, because that would let everybody in.
    public static func tokens(inFile bytes: [UInt8]) throws(Malformed) -> [String] {
        var tokens: [String] = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            var line = line
            while let last = line.last, isSpace(last) { line.removeLast() }
            while let first = line.first, isSpace(first) { line.removeFirst() }
            if line.isEmpty || line.first == UInt8(ascii: "#") { continue }
            guard line.count <= tokenBytesMax else {
                throw Malformed(
                    description: "line \(index + 1): a token is longer than \(tokenBytesMax) bytes")
            }
            // RFC 6750, section 2.1: b64token.
            let body = line.prefix { $0 != UInt8(ascii: "=") }
            guard !body.isEmpty, body.allSatisfy(isTokenByte),
                line.dropFirst(body.count).allSatisfy({ $0 == UInt8(ascii: "=") })
            else {
                throw Malformed(
                    description:
                        "line \(index + 1): a token has letters, digits and -._~+/ only, and = at its end"
                )
            }
            guard tokens.count < tokensMax else {
                throw Malformed(description: "line \(index + 1): more than \(tokensMax) tokens")
            }
            tokens.append(String(decoding: line, as: UTF8.self))
        }
        guard !tokens.isEmpty else { throw Malformed(description: "there is no token in it") }
        return tokens
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0d
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "-._~+/".utf8.contains(byte)
        }
    }

    /// Whether answers are not for everybody.
    var isRestricted: Bool { !tokens.isEmpty || !allowed.isEmpty }

    /// The value of Cache-Control of an answer that is not for everybody: no cache that several people share is to keep it (RFC
    /// 9111, section 5.2.2.7), whatever the handler says, which does not know who may ask.
    static func caching(_ value: String) -> String {
        let kept = value.split(separator: ",").map { $0.drop { $0 == " " || $0 == "\t" } }.filter {
            let name = $0.lowercased()
            return name != "public" && !name.hasPrefix("s-maxage") && !name.hasPrefix("private")
        }
        return (["private"] + kept.map(String.init)).joined(separator: ", ")
    }

    /// Whether a client may ask at all, by its address.
    func isAllowed(_ address: SocketAddress?) -> Bool {
        if allowed.isEmpty { return true }
        if case .unixDomainSocket = address { return true }
        let bytes = AddressRange.bytes(of: address)
        return allowed.contains { $0.contains(bytes) }
    }

    /// What a request is refused by; nil where it shows one of the tokens, or need not.
    func refusal(of fields: HTTPFields) -> ServeResponse? {
        if tokens.isEmpty { return nil }
        let values = fields[values: .authorization]
        if values.count == 1, let value = values.first, let shown = Self.bearer(value),
            holds(shown)
        {
            return nil
        }
        return .refusal(401, [.wwwAuthenticate: "Bearer"])
    }

    /// The token of a value of Authorization; the scheme's case does not matter (RFC 9110, section 11.1).
    private static func bearer(_ value: String) -> [UInt8]? {
        let bytes = Array(value.utf8)
        let scheme = Array("bearer ".utf8)
        guard bytes.count > scheme.count, bytes.count <= scheme.count + tokenBytesMax + 16,
            zip(bytes, scheme).allSatisfy({ $0 == $1 || ($0 | 0x20 == $1 && $1 != 0x20) })
        else { return nil }
        return Array(bytes[scheme.count...].drop { $0 == 0x20 })
    }

    /// Looks at all bytes of all tokens, whatever is shown, so that the time tells nothing but lengths.
    private func holds(_ shown: [UInt8]) -> Bool {
        var isOne = false
        for token in tokens {
            let token = Array(token.utf8)
            var difference = token.count == shown.count ? 0 : UInt8.max
            for index in token.indices {
                difference |= token[index] ^ (index < shown.count ? shown[index] : 0)
            }
            if difference == 0 && !token.isEmpty { isOne = true }
        }
        return isOne
    }
}

extension ServeResponse {
    /// An answer of the server's own, in one line of text.
    static func refusal(_ status: Int, _ fields: HTTPFields = [:]) -> ServeResponse {
        var fields = fields
        fields[.contentType] = "text/plain; charset=utf-8"
        fields[.cacheControl] = "no-store"
        return ServeResponse(status, fields, .bytes(Array((words(for: status) + "\n").utf8)))
    }

    private static func words(for status: Int) -> String {
        switch status {
        case 400: "malformed request"
        case 401: "a token is needed"
        case 403: "not from this address"
        case 413: "request bodies are not taken"
        case 414: "the target is too long"
        case 431: "too many or too long header fields"
        case 503: "too many requests at once"
        default: "status \(status)"
        }
    }
}
