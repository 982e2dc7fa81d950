/// Bytes of a path or an argument, carried through Swift's strings without loss.
///
/// Linux names are bytes, and `CommandLine.arguments` repairs what is not UTF-8. Here a byte that
/// is not part of valid UTF-8 becomes the scalar U+10FF00 + byte, a private-use scalar; where a
/// text has such scalars itself, their bytes are carried the same way, so the mapping is exact.
enum RawText {
    private static let carriers: ClosedRange<UInt32> = 0x10_ff80...0x10_ffff

    /// The text that carries the bytes.
    static func text(of bytes: [UInt8]) -> String {
        if let plain = String(validating: bytes, as: UTF8.self),
            !plain.unicodeScalars.contains(where: { carriers.contains($0.value) })
        {
            return plain
        }
        var text = String.UnicodeScalarView()
        var position = 0
        while position < bytes.count {
            if let (scalar, length) = validScalar(in: bytes[position...]) {
                text.append(scalar)
                position += length
            } else {
                let carrier = Unicode.Scalar(0x10_ff00 + UInt32(bytes[position]))
                text.append(carrier ?? "\u{fffd}")
                position += 1
            }
        }
        return String(text)
    }

    private static func validScalar(in bytes: ArraySlice<UInt8>) -> (Unicode.Scalar, Int)? {
        for length in 1...4 where bytes.count >= length {
            if let text = String(validating: bytes.prefix(length), as: UTF8.self),
                let scalar = text.unicodeScalars.first, text.unicodeScalars.count == 1,
                !carriers.contains(scalar.value)
            {
                return (scalar, length)
            }
        }
        return nil
    }

    /// The bytes that a text carries.
    static func bytes(of text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            if carriers.contains(scalar.value) {
                bytes.append(UInt8(truncatingIfNeeded: scalar.value))
            } else {
                bytes.append(contentsOf: UTF8.encode(scalar) ?? .init())
            }
        }
        return bytes
    }

    /// Whether a text stands for bytes that are not its own UTF-8.
    static func carriesBytes(_ text: String) -> Bool {
        text.unicodeScalars.contains { carriers.contains($0.value) }
    }

    /// Whether a scalar can change what a person sees of others: control characters, among them the
    /// C1 ones that begin escape sequences, the ends of lines and paragraphs, and what turns the
    /// direction of text (UAX #9).
    static func isDeceptive(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7f..<0xa0, 0x61c, 0x200e...0x200f, 0x2028...0x202e, 0x2066...0x2069: true
        default: false
        }
    }

    /// The bytes for a person to read: on one line, what is not printable as `\xNN` or `\u{N}`.
    static func shown(_ bytes: [UInt8]) -> String {
        shown(text(of: bytes))
    }

    /// A carried text for a person to read: on one line, what is not printable as `\xNN` or `\u{N}`.
    static func shown(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            let isDeceptive = isDeceptive(scalar)
            if isDeceptive, scalar.value > 0xff {
                let digits = String(scalar.value, radix: 16)
                result.append(contentsOf: "\\u{\(digits)}".unicodeScalars)
            } else if isDeceptive || carriers.contains(scalar.value) {
                let digits = String(scalar.value & 0xff, radix: 16)
                let padded = digits.count == 1 ? "0" + digits : digits
                result.append(contentsOf: "\\x\(padded)".unicodeScalars)
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }
}
