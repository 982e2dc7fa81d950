/// Bytes in URLs.
enum URLText {
    /// Writes bytes so that they can stand in a path as one name.
    static func pathName(_ name: some Sequence<UInt8>) -> String {
        encoded(name) { isUnreserved($0) || pathMarks.contains($0) }
    }

    /// Writes names as a path, each with a slash before it.
    static func path(_ names: some Sequence<[UInt8]>) -> String {
        names.reduce(into: "") { $0 += "/" + pathName($1) }
    }

    /// Writes text so that it can stand on one side of a pair in a query, or in an extended parameter of a field.
    static func component(_ text: String) -> String { FieldText.escaped(Array(text.utf8)) }

    /// Writes pairs as a query with its question mark; empty where there are none.
    static func query(_ pairs: [(name: String, value: String)]) -> String {
        guard !pairs.isEmpty else { return "" }
        return "?"
            + pairs.map { component($0.name) + "=" + component($0.value) }
            .joined(separator: "&")
    }

    /// Encodes what no URL can have, and leaves its signs, percent signs among them, as they are.
    static func made(of text: some Sequence<UInt8>) -> String {
        encoded(text) { (0x21...0x7e).contains($0) && !unsafeMarks.contains($0) }
    }

    /// Decodes percent signs; one without two digits behind it stands for itself.
    static func decoded(_ text: some Sequence<UInt8>) -> [UInt8] {
        let text = Array(text)
        var result: [UInt8] = []
        var index = 0
        while index < text.count {
            if text[index] == UInt8(ascii: "%"), index + 2 < text.count,
                let high = digit(text[index + 1]), let low = digit(text[index + 2])
            {
                result.append(high << 4 | low)
                index += 3
            } else {
                result.append(text[index])
                index += 1
            }
        }
        return result
    }

    private static let pathMarks = Set("$&+=:@,;!()*".utf8)
    private static let unsafeMarks = Set("\"<>\\^`{|}".utf8)

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    private static func encoded(
        _ bytes: some Sequence<UInt8>, _ isKept: (UInt8) -> Bool
    ) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in bytes {
            if isKept(byte) {
                result.append(byte)
            } else {
                result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The value of a hexadecimal digit of either case; nil for everything else.
    static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
