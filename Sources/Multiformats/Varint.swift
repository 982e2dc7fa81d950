// Unsigned LEB128, as the multiformats and protobuf write their numbers.
//
// Layout:   seven bits a byte, least significant group first; the top bit says "more follows".
// Validity: the form is minimal (the last byte is not 0, unless it is the only one). The
//           multiformats bound a number to 9 bytes, that is 63 bits; protobuf to 10 bytes, 64 bits.
// Source:   https://github.com/multiformats/unsigned-varint

/// Why bytes are not a varint.
public enum VarintError: Error, Hashable, Sendable {
    /// The bytes end before the number does.
    case truncated
    /// The number has a needless zero byte at its end.
    case notMinimal
    /// The number is longer than the format allows.
    case tooLarge
}

/// Encodes and decodes unsigned LEB128 numbers.
public enum Varint {
    /// The most bytes that a multiformats varint may have (63 bits).
    public static let lengthMax = 9
    /// The most bytes that a protobuf varint may have (64 bits).
    public static let protobufLengthMax = 10

    /// The number of bytes that `value` takes, 1 to 10.
    public static func length(of value: UInt64) -> Int {
        let bits = 64 - value.leadingZeroBitCount
        return max(1, (bits + 6) / 7)
    }

    /// Appends `value` in its minimal form.
    ///
    /// Values of 2^63 and above take 10 bytes, which only protobuf reads.
    public static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// Reads the number that `bytes` begin with.
    ///
    /// - Parameter lengthMax: `Varint.lengthMax` or `Varint.protobufLengthMax`.
    /// - Returns: the number, and how many bytes it took.
    public static func decode(
        _ bytes: UnsafeRawBufferPointer, lengthMax: Int = Varint.lengthMax
    ) throws(VarintError) -> (value: UInt64, length: Int) {
        var value: UInt64 = 0
        var index = 0
        while index < bytes.count {
            // Reaching the bound here means that the byte before it asked for more.
            guard index < lengthMax else { throw .tooLarge }
            let byte = bytes[index]
            // The tenth byte has room for bit 63 only.
            guard index < 9 || byte <= 1 else { throw .tooLarge }
            value |= UInt64(byte & 0x7f) << UInt64(7 * index)
            index += 1
            if byte < 0x80 {
                guard byte != 0 || index == 1 else { throw .notMinimal }
                return (value, index)
            }
        }
        throw index < lengthMax ? .truncated : .tooLarge
    }
}
