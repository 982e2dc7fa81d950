// Binary data as text that says how it was written: one character, then the digits.
//
// Validity: one case only in a text; no padding; bits that the last digit has too many are zero,
//           and no digit is superfluous. So every value has one text in each base.
// Source:   https://github.com/multiformats/multibase, RFC 4648

/// Why a text is not a multibase text.
public enum MultibaseError: Error, Hashable, Sendable {
    /// The text is empty.
    case empty
    /// The first character names no base that is known here.
    case unknownBase(Unicode.Scalar)
    /// The byte at `offset` of the UTF-8 text is no digit of the base.
    case badDigit(offset: Int)
    /// No value has a text of this length, or its last digit has bits too many.
    case badEnding
    /// The text is longer than is accepted, in bytes of UTF-8.
    case tooLong(count: Int)
}

/// A way to write binary data as text.
public enum Multibase: UInt8, Hashable, Sendable, CaseIterable {
    /// Hexadecimal, lower case.
    case base16 = 0x66  // f
    /// Hexadecimal, upper case.
    case base16Upper = 0x46  // F
    /// RFC 4648 without padding, lower case: how a CIDv1 is usually written.
    case base32 = 0x62  // b
    /// RFC 4648 without padding, upper case.
    case base32Upper = 0x42  // B
    /// One large number with digits 0-9 and a-z: how IPNS names are written.
    case base36 = 0x6b  // k
    /// One large number with digits 0-9 and A-Z.
    case base36Upper = 0x4b  // K
    /// One large number with the Bitcoin digits: how a CIDv0 is written (there without a prefix).
    case base58btc = 0x7a  // z
    /// RFC 4648 section 5 without padding.
    case base64url = 0x75  // u

    /// The longest text that is decoded, in digits. Large numbers take quadratic time, so this
    /// bounds the work too.
    public static let digitCountMax = 4096

    /// The character in front of the digits.
    public var prefix: Unicode.Scalar { Unicode.Scalar(rawValue) }

    // MARK: Encoding

    /// Writes `bytes` with the prefix of this base.
    ///
    /// Takes quadratic time in `base36` and `base58btc`.
    public func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = [rawValue]
        appendDigits(of: bytes, to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    /// Writes `bytes` without the prefix.
    public func encodeWithoutPrefix(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        appendDigits(of: bytes, to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    private func appendDigits(of bytes: [UInt8], to text: inout [UInt8]) {
        let alphabet = Alphabet.of(self)
        if let bits = alphabet.bitsPerDigit {
            Self.appendBitDigits(of: bytes, bits: bits, digits: alphabet.digits, to: &text)
        } else {
            Self.appendNumberDigits(of: bytes, digits: alphabet.digits, to: &text)
        }
    }

    private static func appendBitDigits(
        of bytes: [UInt8], bits: Int, digits: [UInt8], to text: inout [UInt8]
    ) {
        text.reserveCapacity(text.count + (bytes.count * 8 + bits - 1) / bits)
        let mask = (1 << bits) - 1
        var pending = 0
        var pendingBits = 0
        for byte in bytes {
            // Never more than 5 + 8 bits are of interest.
            pending = (pending & mask) << 8 | Int(byte)
            pendingBits += 8
            while pendingBits >= bits {
                pendingBits -= bits
                text.append(digits[(pending >> pendingBits) & mask])
            }
        }
        if pendingBits > 0 {
            text.append(digits[(pending << (bits - pendingBits)) & mask])
        }
    }

    /// Each leading zero byte becomes one zero digit; the rest is one big-endian number.
    private static func appendNumberDigits(
        of bytes: [UInt8], digits: [UInt8], to text: inout [UInt8]
    ) {
        let base = digits.count
        let zeroCount = bytes.prefix { $0 == 0 }.count
        // The digits of the number so far, least significant first.
        var number: [UInt8] = []
        number.reserveCapacity(bytes.count * 2)
        for byte in bytes.dropFirst(zeroCount) {
            var carry = Int(byte)
            for index in number.indices {
                carry += Int(number[index]) << 8
                number[index] = UInt8(carry % base)
                carry /= base
            }
            while carry > 0 {
                number.append(UInt8(carry % base))
                carry /= base
            }
        }
        text.append(contentsOf: repeatElement(digits[0], count: zeroCount))
        for digit in number.reversed() {
            text.append(digits[Int(digit)])
        }
    }

    // MARK: Decoding

    /// Reads a text with its prefix.
    ///
    /// - Returns: the base that the prefix names, and the bytes.
    public static func decode(
        _ text: String
    ) throws(MultibaseError) -> (base: Multibase, bytes: [UInt8]) {
        guard let scalar = text.unicodeScalars.first else { throw .empty }
        guard let code = UInt8(exactly: scalar.value), let base = Multibase(rawValue: code) else {
            throw .unknownBase(scalar)
        }
        return (base, try base.decode(digits: Array(text.utf8), from: 1))
    }

    /// Reads a text that has no prefix.
    public func decodeWithoutPrefix(_ text: String) throws(MultibaseError) -> [UInt8] {
        try decode(digits: Array(text.utf8), from: 0)
    }

    private func decode(digits text: [UInt8], from start: Int) throws(MultibaseError) -> [UInt8] {
        guard text.count - start <= Self.digitCountMax else { throw .tooLong(count: text.count) }
        let alphabet = Alphabet.of(self)
        var values: [UInt8] = []
        values.reserveCapacity(text.count - start)
        for offset in start..<text.count {
            let value = alphabet.values[Int(text[offset])]
            guard value != Alphabet.noDigit else { throw .badDigit(offset: offset) }
            values.append(value)
        }
        if let bits = alphabet.bitsPerDigit {
            return try Self.bytes(ofBitDigits: values, bits: bits)
        }
        return Self.bytes(ofNumberDigits: values, base: alphabet.digits.count)
    }

    private static func bytes(
        ofBitDigits values: [UInt8], bits: Int
    ) throws(MultibaseError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(values.count * bits / 8)
        var pending = 0
        var pendingBits = 0
        for value in values {
            pending = (pending & 0xff) << bits | Int(value)
            pendingBits += bits
            if pendingBits >= 8 {
                pendingBits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> pendingBits))
            }
        }
        // A whole digit left over, or bits that no encoder writes, would be a second text.
        guard pendingBits < bits, pending & ((1 << pendingBits) - 1) == 0 else { throw .badEnding }
        return bytes
    }

    private static func bytes(ofNumberDigits values: [UInt8], base: Int) -> [UInt8] {
        let zeroCount = values.prefix { $0 == 0 }.count
        // The bytes of the number so far, least significant first.
        var number: [UInt8] = []
        number.reserveCapacity(values.count)
        for value in values.dropFirst(zeroCount) {
            var carry = Int(value)
            for index in number.indices {
                carry += Int(number[index]) * base
                number[index] = UInt8(truncatingIfNeeded: carry)
                carry >>= 8
            }
            while carry > 0 {
                number.append(UInt8(truncatingIfNeeded: carry))
                carry >>= 8
            }
        }
        return [UInt8](repeating: 0, count: zeroCount) + number.reversed()
    }
}

/// The digits of one base, and the way back.
private struct Alphabet: Sendable {
    static let noDigit: UInt8 = 0xff

    let digits: [UInt8]
    /// The value of each possible byte of a text.
    let values: [UInt8]
    /// Set when the digits are groups of bits; nil when the text is one large number.
    let bitsPerDigit: Int?

    init(_ digits: String, bitsPerDigit: Int?) {
        self.digits = Array(digits.utf8)
        self.bitsPerDigit = bitsPerDigit
        var values = [UInt8](repeating: Self.noDigit, count: 256)
        for (value, digit) in self.digits.enumerated() {
            values[Int(digit)] = UInt8(value)
        }
        self.values = values
    }

    static func of(_ base: Multibase) -> Alphabet {
        switch base {
        case .base16: base16
        case .base16Upper: base16Upper
        case .base32: base32
        case .base32Upper: base32Upper
        case .base36: base36
        case .base36Upper: base36Upper
        case .base58btc: base58btc
        case .base64url: base64url
        }
    }

    private static let base16 = Alphabet("0123456789abcdef", bitsPerDigit: 4)
    private static let base16Upper = Alphabet("0123456789ABCDEF", bitsPerDigit: 4)
    private static let base32 = Alphabet("abcdefghijklmnopqrstuvwxyz234567", bitsPerDigit: 5)
    private static let base32Upper = Alphabet("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", bitsPerDigit: 5)
    private static let base36 = Alphabet(
        "0123456789abcdefghijklmnopqrstuvwxyz", bitsPerDigit: nil)
    private static let base36Upper = Alphabet(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", bitsPerDigit: nil)
    private static let base58btc = Alphabet(
        "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", bitsPerDigit: nil)
    private static let base64url = Alphabet(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", bitsPerDigit: 6)
}
