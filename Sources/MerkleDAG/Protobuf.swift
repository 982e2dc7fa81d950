// The little of protobuf that dag-pb, UnixFS, IPNS records and keys need: varints, byte strings and fixed
// 32-bit words.
// Source: https://protobuf.dev/programming-guides/encoding

internal import Multiformats

package enum WireType: UInt64 {
    case varint = 0
    case fixed64 = 1
    case bytes = 2
    case fixed32 = 5
}

/// Reads the fields of one message where it lies.
package struct ProtobufReader {
    package let bytes: UnsafeRawBufferPointer
    package private(set) var offset: Int
    package let end: Int

    /// - Parameter range: the message, as offsets into `bytes`.
    package init(_ bytes: UnsafeRawBufferPointer, in range: Range<Int>) {
        self.bytes = bytes
        offset = range.lowerBound
        end = range.upperBound
    }

    package var isAtEnd: Bool { offset == end }

    package mutating func readVarint() throws(BlockFormatError) -> UInt64 {
        do throws(VarintError) {
            let (value, length) = try Varint.decode(
                UnsafeRawBufferPointer(rebasing: bytes[offset..<end]),
                lengthMax: Varint.protobufLengthMax)
            offset += length
            return value
        } catch {
            throw .varint(error)
        }
    }

    /// The number and the wire type of the next field.
    package mutating func readTag() throws(BlockFormatError) -> (field: UInt64, wireType: WireType)
    {
        let tag = try readVarint()
        let field = tag >> 3
        // Protobuf numbers fields from 1 to 2^29 - 1.
        guard field > 0, field < 1 << 29 else { throw .unknownField(field) }
        guard let wireType = WireType(rawValue: tag & 7) else {
            throw .wrongWireType(field: field)
        }
        return (field, wireType)
    }

    /// Where the next byte string or message lies, as offsets into `bytes`.
    package mutating func readRange() throws(BlockFormatError) -> Range<Int> {
        let length = try readVarint()
        guard length <= UInt64(end - offset) else { throw .truncated }
        let start = offset
        offset += Int(length)
        return start..<offset
    }

    mutating func readFixed32() throws(BlockFormatError) -> UInt32 {
        guard end - offset >= 4 else { throw .truncated }
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
        offset += 4
        return UInt32(littleEndian: value)
    }

    package mutating func skip(_ wireType: WireType) throws(BlockFormatError) {
        switch wireType {
        case .varint:
            _ = try readVarint()
        case .bytes:
            _ = try readRange()
        case .fixed32, .fixed64:
            let length = wireType == .fixed32 ? 4 : 8
            guard end - offset >= length else { throw .truncated }
            offset += length
        }
    }
}

extension [UInt8] {
    package mutating func appendVarintField(tag: UInt8, _ value: UInt64) {
        append(tag)
        Varint.append(value, to: &self)
    }

    package mutating func appendBytesField(tag: UInt8, _ value: some Collection<UInt8>) {
        append(tag)
        Varint.append(UInt64(value.count), to: &self)
        append(contentsOf: value)
    }
}

/// The bytes that a varint field with a one-byte tag takes.
func varintFieldLength(_ value: UInt64) -> Int {
    1 + Varint.length(of: value)
}

/// The bytes that a byte string field with a one-byte tag takes.
func bytesFieldLength(_ count: Int) -> Int {
    1 + Varint.length(of: UInt64(count)) + count
}
