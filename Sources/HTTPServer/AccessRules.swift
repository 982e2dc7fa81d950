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

    /// One of these has to be shown; without any, none. As `Authorization: Bearer …` (RFC 6750), or as the password of
    /// `Basic` under whatever name: container engines can do no other where nobody gives them tokens of one request each.
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
            let name = $0.prefix { $0 != "=" && $0 != " " && $0 != "\t" }.lowercased()
            return !["public", "private", "s-maxage", ""].contains(name)
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

    /// What a request without a token is told to show. Not Bearer: clients of registries look for a realm behind that word,
    /// where tokens are given, and end with an error where it has none.
    static let challenge = "Basic realm=\"registryfs\", charset=\"UTF-8\""

    /// Whether a request shows one of the tokens, or need not.
    func holdsToken(_ fields: HTTPFields) -> Bool {
        if tokens.isEmpty { return true }
        let values = fields[values: .authorization]
        guard values.count == 1, let value = values.first else { return false }
        let bytes = Array(value.utf8)
        guard let shown = Self.credentials(bytes, "bearer ") ?? Self.password(bytes) else {
            return false
        }
        return holds(shown)
    }

    /// What stands behind a scheme, whose case does not matter (RFC 9110, section 11.1).
    ///
    /// - Parameter scheme: in lower case, with a blank behind it.
    private static func credentials(_ bytes: [UInt8], _ scheme: String) -> [UInt8]? {
        let scheme = Array(scheme.utf8)
        guard bytes.count > scheme.count, bytes.count <= scheme.count + credentialBytesMax,
            zip(bytes, scheme).allSatisfy({ $0 == $1 || ($0 | 0x20 == $1 && $1 != 0x20) })
        else { return nil }
        return Array(bytes[scheme.count...].drop { $0 == 0x20 })
    }

    /// A name and a token, in base64.
    private static var credentialBytesMax: Int { 2 * tokenBytesMax }

    /// The password of Basic (RFC 7617); nil for what is malformed.
    private static func password(_ bytes: [UInt8]) -> [UInt8]? {
        guard let text = credentials(bytes, "basic "), let pair = decoded(text),
            let colon = pair.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        return Array(pair[(colon + 1)...])
    }

    /// Bytes of base64 (RFC 4648, section 4); nil for what is malformed.
    private static func decoded(_ text: [UInt8]) -> [UInt8]? {
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var bitCount = 0
        let digits = text.prefix { $0 != UInt8(ascii: "=") }
        let padding = text[digits.count...]
        guard padding.count <= 2, padding.allSatisfy({ $0 == UInt8(ascii: "=") }),
            text.count % 4 == 0
        else { return nil }
        for character in digits {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit = character - UInt8(ascii: "A")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): digit = character - UInt8(ascii: "a") + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0") + 52
            case UInt8(ascii: "+"): digit = 62
            case UInt8(ascii: "/"): digit = 63
            default: return nil
            }
            bits = bits << 6 & 0xffff | UInt32(digit)
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
            }
        }
        return bytes
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
        case 429: "too many requests at once"
        case 503: "the server is ending"
        default: "status \(status)"
        }
    }
}
