// The media types that a client takes.
//
// Text:     types with commas between them; behind each parameters (`;name=value`, the value quoted or not), one of
//           which may be its weight: `q`, 0 to 1 with up to three decimals.
// Validity: what is no type is passed over, as is what stands behind the first `countMax` of them; a weight that is
//           none counts as 1.
// Source:   https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1

/// A media type that a client takes, or a range of them.
public struct AcceptedType: Hashable, Sendable {
    /// In lower case, for example `application/vnd.ipld.car`, `text/*` or `*/*`.
    public var type: String
    /// The parameters but for the weight; the names in lower case, the values without their quotes.
    public var parameters: [String: String]
    /// 0 (not taken) to 1000.
    public var weight: Int

    /// The most types of a field that are looked at.
    public static let countMax = 64

    /// Whether it says which type, and not just of which kind.
    public var isExact: Bool { !type.contains("*") }

    /// Reads an Accept field: the greater weights first, those of one weight in the order of the field.
    public static func parse(_ field: String?) -> [AcceptedType] {
        guard let field else { return [] }
        var types: [AcceptedType] = []
        for element in pieces(field.utf8[...], at: UInt8(ascii: ",")) {
            guard types.count < countMax else { break }
            if let type = AcceptedType(element) { types.append(type) }
        }
        // The standard sort is stable.
        return types.sorted { $0.weight > $1.weight }
    }

    private init?(_ element: Substring.UTF8View) {
        let parts = Self.pieces(element, at: UInt8(ascii: ";"))
        type = Self.trimmed(parts[0]).lowercased()
        guard type.utf8.contains(UInt8(ascii: "/")) else { return nil }
        parameters = [:]
        weight = 1000
        for part in parts.dropFirst() {
            guard let mark = part.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let name = Self.trimmed(part[..<mark]).lowercased()
            let value = Self.unquoted(Self.trimmed(part[part.index(after: mark)...]))
            if name == "q" {
                weight = Self.weight(value) ?? 1000
            } else {
                parameters[name] = value
            }
        }
    }

    /// Cuts at a separator, but not within quotes.
    private static func pieces(
        _ text: Substring.UTF8View, at separator: UInt8
    ) -> [Substring.UTF8View] {
        var pieces: [Substring.UTF8View] = []
        var start = text.startIndex
        var isQuoted = false
        var isEscaped = false
        for index in text.indices {
            let byte = text[index]
            if isEscaped {
                isEscaped = false
            } else if isQuoted, byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isQuoted.toggle()
            } else if byte == separator, !isQuoted {
                pieces.append(text[start..<index])
                start = text.index(after: index)
            }
        }
        return pieces + [text[start...]]
    }

    private static func trimmed(_ text: Substring.UTF8View) -> String {
        let isBlank: (UInt8) -> Bool = { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        let bytes = text.drop(while: isBlank).reversed().drop(while: isBlank).reversed()
        return String(decoding: Array(bytes), as: UTF8.self)
    }

    private static func unquoted(_ text: String) -> String {
        guard text.utf8.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return text }
        var value = ""
        var isEscaped = false
        for character in text.unicodeScalars.dropFirst().dropLast() {
            if character == "\\", !isEscaped {
                isEscaped = true
            } else {
                isEscaped = false
                value.unicodeScalars.append(character)
            }
        }
        return value
    }

    private static func weight(_ text: String) -> Int? {
        let digits = Array(text.utf8)
        guard let first = digits.first, first == UInt8(ascii: "0") || first == UInt8(ascii: "1"),
            digits.count <= 5, digits.count == 1 || digits[1] == UInt8(ascii: ".")
        else { return nil }
        var weight = Int(first - UInt8(ascii: "0"))
        for place in 2..<5 {
            let digit = place < digits.count ? digits[place] : UInt8(ascii: "0")
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            weight = weight * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return weight <= 1000 ? weight : nil
    }
}
