// Values as bytes, in the one form that DAG-CBOR allows for each.
//
// Layout:   a head (three bits of kind, and a number in 0, 1, 2, 4 or 8 bytes), then the kind's
//           content: unsigned, negative (-1 - n), bytes, text, list, map, tag 42 with a link, and false,
//           true, null, a 64-bit float. A link is a byte string: 00 and the binary CID.
// Validity: numbers and lengths in their shortest form; lengths known before; keys of a map are texts,
//           the shorter first, those of one length by their bytes, none twice; texts are UTF-8; no tag but
//           42; no float but 64 bits wide, none that is not a number or infinite; nothing behind the value.
//           Depth and count of values are bounded before anything is allocated.
// Source:   https://ipld.io/specs/codecs/dag-cbor/spec, RFC 8949

public import Multiformats

/// Why bytes are not a value in DAG-CBOR.
public enum DAGCBORError: Error, Hashable, Sendable {
    /// The bytes end within a value.
    case truncated
    /// Another kind of value stands at the offset than there may.
    case unexpected(offset: Int)
    /// The number or length at the offset is not in its shortest form, or has no length.
    case notShortest(offset: Int)
    /// The text at the offset is not UTF-8.
    case badText(offset: Int)
    /// The key at the offset does not come behind the one before it, or is the same.
    case keyOutOfOrder(offset: Int)
    /// The tag is not 42.
    case badTag(UInt64)
    /// The float at the offset is shorter than 64 bits, not a number, or infinite.
    case badFloat(offset: Int)
    /// A link has no CID.
    case badLink(offset: Int)
    /// The CID of a link is malformed.
    case cid(CIDError)
    /// Lists and maps stand deeper in each other than `DAGCBOR.depthMax`.
    case tooDeep
    /// There are more values than the caller takes.
    case tooMany(limit: Int)
    /// Bytes follow the value.
    case trailingBytes(count: Int)
}

/// A value of the IPLD data model.
///
/// For small values; what is large is read and written piece by piece (`DAGCBORReader`, `DAGCBORWriter`).
public indirect enum DAGCBOR: Hashable, Sendable {
    case null
    case bool(Bool)
    case unsigned(UInt64)
    /// -1 - n, for n from 0 to 2^64 - 1.
    case negative(UInt64)
    case float(Double)
    case bytes([UInt8])
    case text(String)
    case list([DAGCBOR])
    /// In any order: they are sorted when they are written, and sorted when they were read.
    case map([Entry])
    case link(CID)

    /// A key and its value.
    public struct Entry: Hashable, Sendable {
        public var key: String
        public var value: DAGCBOR

        public init(_ key: String, _ value: DAGCBOR) {
            self.key = key
            self.value = value
        }

        // Swift takes texts for equal that are written differently (canonical equivalence).
        public static func == (left: Entry, right: Entry) -> Bool {
            left.key.utf8.elementsEqual(right.key.utf8) && left.value == right.value
        }
    }

    /// How many lists and maps may stand in each other.
    public static let depthMax = 64
    /// The most values that are read where the caller names no other number.
    public static let valueCountMax = 1 << 18

    /// Reads a value that is all of the bytes.
    ///
    /// - Parameter valueCountMax: throws `tooMany` beyond, the values within lists and maps counted.
    public init(
        decoding bytes: UnsafeRawBufferPointer, valueCountMax: Int = DAGCBOR.valueCountMax
    ) throws(DAGCBORError) {
        var reader = DAGCBORReader(bytes)
        var left = valueCountMax
        self = try Self.read(&reader, depth: 0, left: &left, limit: valueCountMax)
        try reader.finish()
    }

    /// Reads a value that is all of the bytes.
    public init(
        decoding bytes: [UInt8], valueCountMax: Int = DAGCBOR.valueCountMax
    ) throws(DAGCBORError) {
        self = try bytes.withRawBytes { (raw) throws(DAGCBORError) in
            try DAGCBOR(decoding: raw, valueCountMax: valueCountMax)
        }
    }

    /// The value as bytes.
    ///
    /// - Precondition: no map has a key twice, and no float is infinite or not a number.
    public var encoded: [UInt8] {
        var writer = DAGCBORWriter()
        Self.write(self, to: &writer)
        return writer.bytes
    }

    /// The value of a key; nil where this is no map, or has no such key.
    public subscript(key: String) -> DAGCBOR? {
        guard case .map(let entries) = self else { return nil }
        return entries.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
    }

    private static func read(
        _ reader: inout DAGCBORReader, depth: Int, left: inout Int, limit: Int
    ) throws(DAGCBORError) -> DAGCBOR {
        guard depth <= depthMax else { throw .tooDeep }
        guard left > 0 else { throw .tooMany(limit: limit) }
        left -= 1
        switch try reader.nextKind() {
        case .unsigned: return .unsigned(try reader.readUnsigned())
        case .negative: return .negative(try reader.readNegative())
        case .bytes: return .bytes(Array(try reader.readBytes()))
        case .text: return .text(try reader.readText())
        case .link: return .link(try reader.readLink())
        case .null:
            try reader.readNull()
            return .null
        case .bool: return .bool(try reader.readBool())
        case .float: return .float(try reader.readFloat())
        case .list:
            let count = try reader.readListHead()
            var values: [DAGCBOR] = []
            // A value takes a byte at least, so a wrong count ends with the bytes.
            for _ in 0..<count {
                values.append(try read(&reader, depth: depth + 1, left: &left, limit: limit))
            }
            return .list(values)
        case .map:
            var keys = try reader.readMapHead()
            var entries: [Entry] = []
            while let key = try reader.readKey(&keys) {
                let value = try read(&reader, depth: depth + 1, left: &left, limit: limit)
                entries.append(Entry(key, value))
            }
            return .map(entries)
        }
    }

    private static func write(_ value: DAGCBOR, to writer: inout DAGCBORWriter) {
        switch value {
        case .null: writer.appendNull()
        case .bool(let value): writer.append(value)
        case .unsigned(let value): writer.append(value)
        case .negative(let value): writer.append(negative: value)
        case .float(let value): writer.append(value)
        case .bytes(let value): writer.append(bytes: value)
        case .text(let value): writer.append(text: value)
        case .link(let value): writer.append(value)
        case .list(let values):
            writer.appendListHead(count: values.count)
            for value in values { write(value, to: &writer) }
        case .map(let entries):
            writer.appendMapHead(count: entries.count)
            let sorted = entries.sorted { keysAscend($0.key.utf8, $1.key.utf8) }
            for (before, entry) in zip(sorted, sorted.dropFirst()) {
                precondition(
                    !before.key.utf8.elementsEqual(entry.key.utf8), "a key stands twice in a map")
            }
            for entry in sorted {
                writer.append(text: entry.key)
                write(entry.value, to: &writer)
            }
        }
    }

    /// Whether a key stands before another one: the shorter first, then by the bytes.
    static func keysAscend(
        _ left: some Collection<UInt8>, _ right: some Collection<UInt8>
    ) -> Bool {
        left.count == right.count ? left.lexicographicallyPrecedes(right) : left.count < right.count
    }
}

/// The kinds of heads; the number is CBOR's major type.
enum CBORMajor: UInt8 {
    case unsigned = 0
    case negative = 1
    case bytes = 2
    case text = 3
    case list = 4
    case map = 5
    case tag = 6
    case simple = 7

    static let falseValue: UInt8 = 0xf4
    static let trueValue: UInt8 = 0xf5
    static let nullValue: UInt8 = 0xf6
    static let double: UInt8 = 0xfb
    /// Tag 42, "this is a CID".
    static let linkTag: UInt64 = 42
}

extension DAGCBOR {
    /// All links in it, in the order in which they stand.
    public var links: [CID] {
        switch self {
        case .link(let cid): [cid]
        case .list(let elements): elements.flatMap(\.links)
        case .map(let pairs): pairs.flatMap(\.value.links)
        default: []
        }
    }
}

extension CID {
    /// What a block of this CID links to: of dag-pb and dag-cbor; none of what is no such block.
    public func links(of block: [UInt8]) -> [CID] {
        switch codec {
        case .dagPB: ((try? DAGNode(decoding: block))?.links ?? []).map(\.cid)
        case .dagCBOR: (try? DAGCBOR(decoding: block))?.links ?? []
        default: []
        }
    }
}
