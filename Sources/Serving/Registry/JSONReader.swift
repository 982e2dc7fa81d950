// Reads JSON front to back, for the few fields that are wanted of it.
//
// Validity: RFC 8259, in UTF-8; what is not is repaired in the strings that are read, and passed over in others.
//           Nesting up to `JSONReader.depthMax`. Of members with one name the caller sees all.
// Cost:     linear; nothing recurses with the nesting of the document.

/// Why bytes are not read as JSON.
package enum JSONFault: Error, Hashable, Sendable {
    case malformed
    /// Nested deeper than `JSONReader.depthMax`.
    case tooDeep
}

/// A place in a JSON document, before a value.
package struct JSONReader {
    /// How deep a value that is passed over may be nested.
    package static let depthMax = 512

    /// What a value is, by its first character.
    package enum Kind {
        case object, array, string, other
    }

    private let bytes: [UInt8]
    private var position = 0

    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// What the next value is; nil at the end.
    package mutating func kind() -> Kind? {
        skipBlanks()
        return switch next {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case nil: nil
        default: .other
        }
    }

    /// Takes an object apart.
    ///
    /// - Parameter member: reads or passes over the one value that stands behind a name.
    package mutating func readMembers(
        _ member: (inout JSONReader, String) throws(JSONFault) -> Void
    ) throws(JSONFault) {
        try expect(UInt8(ascii: "{"))
        if takes(UInt8(ascii: "}")) { return }
        repeat {
            let name = try readString()
            try expect(UInt8(ascii: ":"))
            try member(&self, name)
        } while takes(UInt8(ascii: ","))
        try expect(UInt8(ascii: "}"))
    }

    /// Takes an array apart.
    ///
    /// - Parameter element: reads or passes over one value.
    package mutating func readElements(
        _ element: (inout JSONReader) throws(JSONFault) -> Void
    ) throws(JSONFault) {
        try expect(UInt8(ascii: "["))
        if takes(UInt8(ascii: "]")) { return }
        repeat { try element(&self) } while takes(UInt8(ascii: ","))
        try expect(UInt8(ascii: "]"))
    }

    /// Reads a string. A half of a surrogate pair that stands alone becomes U+FFFD.
    package mutating func readString() throws(JSONFault) -> String {
        let (content, hasEscapes) = try scanString()
        guard hasEscapes else { return String(decoding: bytes[content], as: UTF8.self) }
        return String(decoding: unescaped(content), as: UTF8.self)
    }

    /// Passes over a value of any kind.
    package mutating func skipValue() throws(JSONFault) {
        // Of the objects (true) and arrays that are open.
        var open: [Bool] = []
        repeat {
            skipBlanks()
            switch next {
            case UInt8(ascii: "{"):
                position += 1
                if takes(UInt8(ascii: "}")) { break }
                guard open.count < Self.depthMax else { throw .tooDeep }
                open.append(true)
                try skipName()
                continue
            case UInt8(ascii: "["):
                position += 1
                if takes(UInt8(ascii: "]")) { break }
                guard open.count < Self.depthMax else { throw .tooDeep }
                open.append(false)
                continue
            case UInt8(ascii: "\""): _ = try scanString()
            case UInt8(ascii: "t"): try skipLiteral("true")
            case UInt8(ascii: "f"): try skipLiteral("false")
            case UInt8(ascii: "n"): try skipLiteral("null")
            default: try skipNumber()
            }
            // A value has ended, and with it all that it was the last of.
            while let isObject = open.last {
                if takes(UInt8(ascii: ",")) {
                    if isObject { try skipName() }
                    break
                }
                try expect(isObject ? UInt8(ascii: "}") : UInt8(ascii: "]"))
                open.removeLast()
            }
        } while !open.isEmpty
    }

    /// Whether nothing but blanks is left.
    package mutating func isAtEnd() -> Bool {
        skipBlanks()
        return next == nil
    }

    // MARK: Parts

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
            position += 1
        }
    }

    private mutating func takes(_ byte: UInt8) -> Bool {
        skipBlanks()
        guard next == byte else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ byte: UInt8) throws(JSONFault) {
        guard takes(byte) else { throw .malformed }
    }

    private mutating func skipName() throws(JSONFault) {
        _ = try scanString()
        try expect(UInt8(ascii: ":"))
    }

    private mutating func skipLiteral(_ literal: StaticString) throws(JSONFault) {
        let end = position + literal.utf8CodeUnitCount
        let isEqual = literal.withUTF8Buffer { expected in
            end <= bytes.count && bytes[position..<end].elementsEqual(expected)
        }
        guard isEqual else { throw .malformed }
        position = end
    }

    private mutating func skipNumber() throws(JSONFault) {
        if next == UInt8(ascii: "-") { position += 1 }
        if next == UInt8(ascii: "0") {
            position += 1
        } else {
            try skipDigits()
        }
        if next == UInt8(ascii: ".") {
            position += 1
            try skipDigits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            position += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
            try skipDigits()
        }
    }

    private mutating func skipDigits() throws(JSONFault) {
        let start = position
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
            position += 1
        }
        guard position > start else { throw .malformed }
    }

    /// Passes over a string.
    ///
    /// - Returns: where it stands without its quotes, and whether there is a backslash in it. Its escapes are whole.
    private mutating func scanString() throws(JSONFault) -> (content: Range<Int>, hasEscapes: Bool)
    {
        try expect(UInt8(ascii: "\""))
        let start = position
        var hasEscapes = false
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                return (start..<position - 1, hasEscapes)
            case UInt8(ascii: "\\"):
                hasEscapes = true
                try scanEscape()
            case 0..<0x20:
                throw .malformed
            default:
                break
            }
        }
        throw .malformed
    }

    private mutating func scanEscape() throws(JSONFault) {
        guard let escape = next else { throw .malformed }
        position += 1
        guard escape == UInt8(ascii: "u") else {
            guard Self.escaped(escape) != nil else { throw .malformed }
            return
        }
        guard unit(at: position) != nil else { throw .malformed }
        position += 4
    }

    /// The four digits of `\u` at a place.
    private func unit(at place: Int) -> UInt16? {
        guard place + 4 <= bytes.count else { return nil }
        var unit: UInt16 = 0
        for character in bytes[place..<place + 4] {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = character - UInt8(ascii: "A") + 10
            default: return nil
            }
            unit = unit << 4 | UInt16(digit)
        }
        return unit
    }

    private static func escaped(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): character
        case UInt8(ascii: "b"): 0x08
        case UInt8(ascii: "f"): 0x0c
        case UInt8(ascii: "n"): 0x0a
        case UInt8(ascii: "r"): 0x0d
        case UInt8(ascii: "t"): 0x09
        default: nil
        }
    }

    /// The text of a string that was scanned, in UTF-8.
    private func unescaped(_ content: Range<Int>) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(content.count)
        var place = content.lowerBound
        while place < content.upperBound {
            let byte = bytes[place]
            place += 1
            guard byte == UInt8(ascii: "\\"), place < content.upperBound else {
                text.append(byte)
                continue
            }
            let escape = bytes[place]
            place += 1
            if let character = Self.escaped(escape) {
                text.append(character)
                continue
            }
            guard let high = unit(at: place) else { continue }
            place += 4
            var units = [high]
            if UTF16.isLeadSurrogate(high), place + 6 <= content.upperBound,
                bytes[place] == UInt8(ascii: "\\"), bytes[place + 1] == UInt8(ascii: "u"),
                let low = unit(at: place + 2), UTF16.isTrailSurrogate(low)
            {
                units.append(low)
                place += 6
            }
            text += Array(String(decoding: units, as: UTF16.self).utf8)
        }
        return text
    }
}
