/// What has to be known of a URL before it is sent: the rest is libcurl's.
/// Source: RFC 3986.
struct HTTPURL {
    /// The longest URL, in bytes.
    static let lengthMax = 1 << 20

    let isEncrypted: Bool
    /// Scheme, host and port, for telling one server from the other.
    let origin: String

    /// Nil where the scheme is another than http and https, where a character has to be escaped, and
    /// where a user stands in it: credentials belong into a header.
    init?(_ text: String) {
        guard text.utf8.count <= Self.lengthMax, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }),
            let colon = text.utf8.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        switch text[..<colon].lowercased() {
        case "http": isEncrypted = false
        case "https": isEncrypted = true
        default: return nil
        }
        let rest = text[colon...]
        guard rest.hasPrefix("://") else { return nil }
        let authority = rest.dropFirst(3).prefix { !"/?#\\".contains($0) }
        guard !authority.isEmpty, !authority.contains("@") else { return nil }
        origin = (isEncrypted ? "https://" : "http://") + authority.lowercased()
    }

    /// A URL without its query, for people.
    static func shown(_ text: String) -> String {
        String(text.prefix { $0 != "?" && $0 != "#" })
    }
}
