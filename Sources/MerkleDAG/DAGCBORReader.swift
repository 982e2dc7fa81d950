public import Multiformats

/// Reads values in DAG-CBOR one after the other, where they lie.
///
/// Whoever reads lists and maps in each other bounds their depth himself (`DAGCBOR.depthMax`). Nothing is
/// allocated by a count or length that lies: lengths are compared with the bytes that are there.
public struct DAGCBORReader {
    /// What stands next.
    public enum Kind: Hashable, Sendable {
        case unsigned, negative, bytes, text, list, map, link, null, bool, float
    }

    /// Where a map is: how many keys come, and the one before.
    public struct Keys {
        /// How many keys are still to come.
        public fileprivate(set) var left: Int
        fileprivate var previous: Range<Int>?
    }

    private let bytes: UnsafeRawBufferPointer
    /// Where the next value begins.
    public private(set) var offset = 0

    /// Begins at the first byte; the bytes must outlive the reader.
    public init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    /// Checks that nothing is left.
    public func finish() throws(DAGCBORError) {
        guard offset == bytes.count else { throw .trailingBytes(count: bytes.count - offset) }
    }

    /// The kind of the next value, which stays unread.
    public func nextKind() throws(DAGCBORError) -> Kind {
        guard offset < bytes.count else { throw .truncated }
        let byte = bytes[offset]
        switch byte >> 5 {
        case CBORMajor.unsigned.rawValue: return .unsigned
        case CBORMajor.negative.rawValue: return .negative
        case CBORMajor.bytes.rawValue: return .bytes
        case CBORMajor.text.rawValue: return .text
        case CBORMajor.list.rawValue: return .list
        case CBORMajor.map.rawValue: return .map
        case CBORMajor.tag.rawValue: return .link
        default: break
        }
        switch byte {
        case CBORMajor.falseValue, CBORMajor.trueValue: return .bool
        case CBORMajor.nullValue: return .null
        case CBORMajor.double: return .float
        // Floats of 16 and 32 bits.
        case 0xf9, 0xfa: throw .badFloat(offset: offset)
        default: throw .unexpected(offset: offset)
        }
    }

    /// Reads a number that is not negative.
    public mutating func readUnsigned() throws(DAGCBORError) -> UInt64 {
        try readHead(.unsigned)
    }

    /// Reads the n of a negative number -1 - n.
    public mutating func readNegative() throws(DAGCBORError) -> UInt64 {
        try readHead(.negative)
    }

    /// Reads a number of either sign.
    ///
    /// - Throws: `unexpected` also where it does not fit.
    public mutating func readInteger() throws(DAGCBORError) -> Int64 {
        let start = offset
        let isNegative = try nextKind() == .negative
        guard let value = Int64(exactly: try readHead(isNegative ? .negative : .unsigned)) else {
            throw .unexpected(offset: start)
        }
        return isNegative ? -1 - value : value
    }

    /// Reads a byte string, which lies in the reader's bytes.
    public mutating func readBytes() throws(DAGCBORError) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[try readRange(.bytes)])
    }

    /// Reads a text.
    public mutating func readText() throws(DAGCBORError) -> String {
        let start = offset
        return try text(in: try readRange(.text), from: start)
    }

    /// Reads false or true.
    public mutating func readBool() throws(DAGCBORError) -> Bool {
        guard try nextKind() == .bool else { throw .unexpected(offset: offset) }
        defer { offset += 1 }
        return bytes[offset] == CBORMajor.trueValue
    }

    /// Reads a null.
    public mutating func readNull() throws(DAGCBORError) {
        guard try nextKind() == .null else { throw .unexpected(offset: offset) }
        offset += 1
    }

    /// Reads a float of 64 bits, which is finite.
    public mutating func readFloat() throws(DAGCBORError) -> Double {
        let start = offset
        guard try nextKind() == .float else { throw .unexpected(offset: start) }
        guard bytes.count - offset >= 9 else { throw .truncated }
        let bits = bytes.loadUnaligned(fromByteOffset: offset + 1, as: UInt64.self)
        let value = Double(bitPattern: UInt64(bigEndian: bits))
        guard value.isFinite else { throw .badFloat(offset: start) }
        offset += 9
        return value
    }

    /// Reads a link.
    public mutating func readLink() throws(DAGCBORError) -> CID {
        let start = offset
        let tag = try readHead(.tag)
        guard tag == CBORMajor.linkTag else { throw .badTag(tag) }
        let link = try readBytes()
        // The binary CID as a multibase "identity" text.
        guard link.first == 0 else { throw .badLink(offset: start) }
        do throws(CIDError) {
            return try CID(bytes: UnsafeRawBufferPointer(rebasing: link.dropFirst()))
        } catch {
            throw .cid(error)
        }
    }

    /// Reads the head of a list, whose values follow.
    ///
    /// - Returns: their count, never more than there are bytes.
    public mutating func readListHead() throws(DAGCBORError) -> Int {
        let count = try readHead(.list)
        guard count <= UInt64(bytes.count - offset) else { throw .truncated }
        return Int(count)
    }

    /// Reads the head of a map, whose keys and values follow in turns.
    public mutating func readMapHead() throws(DAGCBORError) -> Keys {
        let count = try readHead(.map)
        guard count <= UInt64(bytes.count - offset) / 2 else { throw .truncated }
        return Keys(left: Int(count))
    }

    /// Reads the next key of a map, whose value follows; nil at its end.
    public mutating func readKey(_ keys: inout Keys) throws(DAGCBORError) -> String? {
        guard keys.left > 0 else { return nil }
        let start = offset
        let range = try readRange(.text)
        if let previous = keys.previous {
            guard DAGCBOR.keysAscend(bytes[previous], bytes[range]) else {
                throw .keyOutOfOrder(offset: start)
            }
        }
        keys.previous = range
        keys.left -= 1
        return try text(in: range, from: start)
    }

    private func text(in range: Range<Int>, from start: Int) throws(DAGCBORError) -> String {
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
            throw .badText(offset: start)
        }
        return text
    }

    private mutating func readRange(_ major: CBORMajor) throws(DAGCBORError) -> Range<Int> {
        let length = try readHead(major)
        guard length <= UInt64(bytes.count - offset) else { throw .truncated }
        let start = offset
        offset += Int(length)
        return start..<offset
    }

    /// The number in the head of a value, which must be of this kind and in its shortest form.
    private mutating func readHead(_ major: CBORMajor) throws(DAGCBORError) -> UInt64 {
        guard offset < bytes.count else { throw .truncated }
        guard bytes[offset] >> 5 == major.rawValue else { throw .unexpected(offset: offset) }
        let short = bytes[offset] & 0x1f
        guard short >= 24 else {
            offset += 1
            return UInt64(short)
        }
        guard short <= 27 else { throw .notShortest(offset: offset) }
        let width = 1 << Int(short - 24)
        guard bytes.count - offset > width else { throw .truncated }
        let digits = bytes[(offset + 1)...(offset + width)]
        let value = digits.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let least: UInt64 = width == 1 ? 24 : 1 << UInt64(4 * width)
        guard value >= least else { throw .notShortest(offset: offset) }
        offset += 1 + width
        return value
    }
}
