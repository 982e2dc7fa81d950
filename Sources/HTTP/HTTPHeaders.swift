/// The header fields of a request or a reply, or the trailers of one, in their order.
///
/// Those of a reply are what the other side sent, and not trusted: names are tokens, but values may
/// hold anything but the end of a line. Bytes that are not UTF-8 are shown as U+FFFD.
public struct HTTPHeaders: Sendable, Hashable, ExpressibleByDictionaryLiteral {
    public struct Field: Sendable, Hashable {
        public var name: String
        /// Without the white space around it.
        public var value: String
    }

    public private(set) var fields: [Field] = []

    public init() {}

    public init(dictionaryLiteral elements: (String, String)...) {
        fields = elements.map { Field(name: $0.0, value: $0.1) }
    }

    /// Adds a field behind the others, also to one of the same name. What cannot stand in a header is
    /// found when the request is sent.
    public mutating func append(_ name: String, _ value: String) {
        fields.append(Field(name: name, value: value))
    }

    /// Removes all fields of a name.
    public mutating func remove(_ name: String) {
        fields.removeAll { Self.isSame($0.name, name) }
    }

    /// The value of the first field of a name, whose case does not matter; nil where there is none.
    public subscript(name: String) -> String? {
        fields.first { Self.isSame($0.name, name) }?.value
    }

    /// The values of all fields of a name.
    public func values(of name: String) -> [String] {
        fields.filter { Self.isSame($0.name, name) }.map(\.value)
    }

    /// Takes a line as it came; passes over one that is no field.
    mutating func append(line: UnsafeRawBufferPointer) -> Field? {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")),
            colon > 0, line[..<colon].allSatisfy(Self.isTokenByte)
        else { return nil }
        var value = line[(colon + 1)...]
        while let last = value.last, Self.isSpace(last) { value = value.dropLast() }
        while let first = value.first, Self.isSpace(first) { value = value.dropFirst() }
        let field = Field(
            name: String(decoding: line[..<colon], as: UTF8.self),
            value: String(decoding: value, as: UTF8.self))
        fields.append(field)
        return field
    }

    /// Whether two names are the same but for their case.
    static func isSame(_ name: String, _ other: String) -> Bool {
        name.utf8.count == other.utf8.count
            && zip(name.utf8, other.utf8).allSatisfy { lowered($0) == lowered($1) }
    }

    /// Whether a text can be the name of a field (RFC 9110, section 5.1).
    static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.allSatisfy(isTokenByte)
    }

    /// Whether a text can be the value of a field and ends no line (RFC 9110, section 5.5).
    static func isValue(_ value: String) -> Bool {
        value.utf8.allSatisfy { ($0 >= 0x20 && $0 != 0x7f) || $0 == UInt8(ascii: "\t") }
    }

    private static func lowered(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }

    /// RFC 9110, section 5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: "!#$%&'*+.^`|~".utf8.contains(byte)
        }
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || (0x09...0x0d).contains(byte)
    }
}
