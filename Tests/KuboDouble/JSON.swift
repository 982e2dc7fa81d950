/// JSON as a Kubo node writes it (Go's `encoding/json`): no blanks, keys in the order given, `<`, `>`
/// and `&` escaped, bytes that are no UTF-8 as U+FFFD.
enum JSON: Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case unsigned(UInt64)
    case bytes([UInt8])
    case array([JSON])
    case members([Member])
    /// JSON that is ready.
    case verbatim(String)

    struct Member: Sendable {
        var key: String
        var value: JSON
    }

    static func object(_ members: [(String, JSON)]) -> JSON {
        .members(members.map { Member(key: $0.0, value: $0.1) })
    }

    static func string(_ text: String) -> JSON { .bytes(Array(text.utf8)) }

    /// `{"/": "CID"}`.
    static func link(_ text: String) -> JSON { .object([("/", .string(text))]) }

    /// The text, and the newline that Go's encoder ends every value with.
    var line: [UInt8] {
        var bytes: [UInt8] = []
        append(to: &bytes)
        bytes.append(0x0a)
        return bytes
    }

    func append(to output: inout [UInt8]) {
        switch self {
        case .null: output += "null".utf8
        case .bool(let value): output += (value ? "true" : "false").utf8
        case .integer(let value): output += String(value).utf8
        case .unsigned(let value): output += String(value).utf8
        case .bytes(let bytes): Self.appendText(bytes, to: &output)
        case .verbatim(let text): output += text.utf8
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                element.append(to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .members(let members):
            output.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                Self.appendText(Array(member.key.utf8), to: &output)
                output.append(UInt8(ascii: ":"))
                member.value.append(to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }

    private static func appendText(_ bytes: [UInt8], to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            switch byte {
            case UInt8(ascii: "\""): output += "\\\"".utf8
            case UInt8(ascii: "\\"): output += "\\\\".utf8
            case 0x08: output += "\\b".utf8
            case 0x0c: output += "\\f".utf8
            case 0x0a: output += "\\n".utf8
            case 0x0d: output += "\\r".utf8
            case 0x09: output += "\\t".utf8
            case ..<0x20, UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "&"):
                let digits = String(byte, radix: 16)
                output += "\\u00".utf8
                if digits.utf8.count == 1 { output += "0".utf8 }
                output += digits.utf8
            case ..<0x80: output.append(byte)
            default:
                let length = scalarLength(bytes, at: index)
                if length == 0 {
                    output += "\\ufffd".utf8
                } else {
                    output += bytes[index..<(index + length)]
                    index += length - 1
                }
            }
            index += 1
        }
        output.append(UInt8(ascii: "\""))
    }

    /// The length of the UTF-8 sequence at `index`, or 0 if there is none.
    private static func scalarLength(_ bytes: [UInt8], at index: Int) -> Int {
        let length: Int
        switch bytes[index] {
        case 0xc2...0xdf: length = 2
        case 0xe0...0xef: length = 3
        case 0xf0...0xf4: length = 4
        default: return 0
        }
        guard index + length <= bytes.count else { return 0 }
        let sequence = bytes[index..<(index + length)]
        return String(validating: sequence, as: UTF8.self) == nil ? 0 : length
    }
}
