/// The name under which a client keeps a file.
enum FileName {
    /// The value of Content-Disposition (RFC 6266): the name in ASCII for old clients, with `_` for every other character,
    /// and the name itself.
    static func disposition(_ kind: String, name: String) -> String {
        let plain = String(
            String.UnicodeScalarView(
                name.unicodeScalars.map { scalar in
                    let isPlain =
                        (0x20...0x7e).contains(scalar.value) && !special.contains(scalar)
                    return isPlain ? scalar : "_"
                }))
        return "\(kind); filename=\"\(plain)\"; filename*=UTF-8''\(URLText.component(name))"
    }

    /// The name that `filename` of a query gives.
    ///
    /// The listings of Kubo encode it twice: what has no sign that a URL must encode, but percent signs with digits, is decoded
    /// once more.
    static func given(_ value: String?) -> String? {
        guard let value, !value.isEmpty else { return nil }
        let isEncoded =
            value.utf8.contains(UInt8(ascii: "%"))
            && value.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        guard isEncoded else { return value }
        return String(validating: URLText.decoded(value.utf8), as: UTF8.self) ?? value
    }

    /// What would end the quotes, lead elsewhere, or be decoded by some.
    private static let special = Set("\"\\/%".unicodeScalars)
}
