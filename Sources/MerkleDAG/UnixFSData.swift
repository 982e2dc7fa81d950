// UnixFS: what a dag-pb node means in a file system, a protobuf message in the DAG node's data.
//
// Layout:   08 Type varint ‖ 12 Data ‖ 18 filesize ‖ 20 blocksizes, each with its own tag ‖
//           28 hashType ‖ 30 fanout ‖ 38 mode ‖ 42 mtime {08 Seconds, an int64 as varint;
//           15 nanoseconds, 32 bits little-endian, only if not 0}.
// Validity: Type obligatory; a field once, except blocksizes (which may also be packed into one
//           byte string, as protobuf demands of readers); fields in any order; unknown ones are
//           skipped.
// Source:   https://specs.ipfs.tech/unixfs

internal import Multiformats

/// A point in time as UnixFS stores it.
public struct UnixFSTime: Hashable, Sendable {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    public var seconds: Int64
    /// Nanoseconds after that, below 1,000,000,000.
    public var nanoseconds: UInt32

    /// Makes a time.
    ///
    /// - Precondition: `nanoseconds` is below 1,000,000,000.
    public init(seconds: Int64, nanoseconds: UInt32 = 0) {
        precondition(nanoseconds < 1_000_000_000, "nanoseconds are part of a second")
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }
}

/// The optional attributes of a file, directory or symlink; they stand in its root DAG node only.
public struct UnixFSMetadata: Hashable, Sendable {
    /// POSIX permissions with suid, sgid and sticky in the low 12 bits. The bits above are reserved.
    public var mode: UInt32?
    /// The time of the last modification.
    public var mtime: UnixFSTime?

    /// No attributes, as IPFS stores files by default.
    public static let none = UnixFSMetadata()

    /// Makes a set of attributes.
    public init(mode: UInt32? = nil, mtime: UnixFSTime? = nil) {
        self.mode = mode
        self.mtime = mtime
    }

    /// Whether there is nothing to store.
    public var isEmpty: Bool { mode == nil && mtime == nil }

    /// The bytes that the attributes add to a UnixFS message.
    var encodedLength: Int {
        var length = 0
        if let mode { length += varintFieldLength(UInt64(mode)) }
        if let mtime { length += bytesFieldLength(mtime.encodedLength) }
        return length
    }

    func append(to message: inout [UInt8]) {
        if let mode { message.appendVarintField(tag: 0x38, UInt64(mode)) }
        if let mtime {
            message.append(0x42)
            Varint.append(UInt64(mtime.encodedLength), to: &message)
            message.appendVarintField(tag: 0x08, UInt64(bitPattern: mtime.seconds))
            if mtime.nanoseconds > 0 {
                message.append(0x15)
                withUnsafeBytes(of: mtime.nanoseconds.littleEndian) {
                    message.append(contentsOf: $0)
                }
            }
        }
    }
}

extension UnixFSTime {
    fileprivate var encodedLength: Int {
        varintFieldLength(UInt64(bitPattern: seconds)) + (nanoseconds > 0 ? 5 : 0)
    }

    fileprivate init(
        decoding bytes: UnsafeRawBufferPointer, in range: Range<Int>
    ) throws(BlockFormatError) {
        var reader = ProtobufReader(bytes, in: range)
        var seconds: Int64?
        var nanoseconds: UInt32?
        while !reader.isAtEnd {
            let (field, wireType) = try reader.readTag()
            switch (field, wireType) {
            case (1, .varint):
                guard seconds == nil else { throw .duplicateField(1) }
                seconds = Int64(bitPattern: try reader.readVarint())
            case (2, .fixed32):
                guard nanoseconds == nil else { throw .duplicateField(2) }
                nanoseconds = try reader.readFixed32()
            case (1, _), (2, _):
                throw .wrongWireType(field: field)
            default:
                try reader.skip(wireType)
            }
        }
        guard let seconds else { throw .missingField(1) }
        let fraction = nanoseconds ?? 0
        guard fraction < 1_000_000_000 else { throw .badTime(nanoseconds: fraction) }
        self.init(seconds: seconds, nanoseconds: fraction)
    }
}

/// The UnixFS message of a DAG node.
public struct UnixFSData: Hashable, Sendable {
    /// What the DAG node is.
    public enum Kind: UInt64, Hashable, Sendable {
        /// A leaf of a file, in the trickle layout and from MFS.
        case raw = 0
        /// A directory whose entries are this DAG node's links.
        case directory = 1
        /// A file, or a part of one.
        case file = 2
        /// Superseded; no file and no directory.
        case metadata = 3
        /// A symbolic link; the data is its target.
        case symlink = 4
        /// A directory, or a part of one, that is spread over several DAG nodes by hash.
        case hamtShard = 5
    }

    /// What the DAG node is.
    public var kind: Kind
    /// A leaf's content, a symlink's target or a shard's bitfield; nil and empty are different.
    public var data: [UInt8]?
    /// The content's bytes in this DAG node and below it; files only.
    public var fileSize: UInt64?
    /// The content's bytes below each link; files only.
    public var blockSizes: [UInt64]
    /// The multicodec of the hash function of a shard.
    public var hashType: UInt64?
    /// How many links a shard has at most.
    public var fanout: UInt64?
    /// The attributes, in the root DAG node of a file, directory or symlink.
    public var metadata: UnixFSMetadata

    /// Makes a message.
    public init(
        kind: Kind, data: [UInt8]? = nil, fileSize: UInt64? = nil, blockSizes: [UInt64] = [],
        hashType: UInt64? = nil, fanout: UInt64? = nil, metadata: UnixFSMetadata = .none
    ) {
        self.kind = kind
        self.data = data
        self.fileSize = fileSize
        self.blockSizes = blockSizes
        self.hashType = hashType
        self.fanout = fanout
        self.metadata = metadata
    }

    /// Reads a message, the data of a dag-pb node.
    public init(decoding message: [UInt8]) throws(BlockFormatError) {
        self = try message.withRawBytes { (raw) throws(BlockFormatError) in
            let fields = try UnixFSFields(decoding: raw, in: 0..<raw.count)
            return UnixFSData(
                kind: fields.kind, data: fields.dataRange.map { Array(raw[$0]) },
                fileSize: fields.fileSize, blockSizes: fields.blockSizes,
                hashType: fields.hashType, fanout: fields.fanout, metadata: fields.metadata)
        }
    }

    /// The message in its canonical form.
    public func encoded() -> [UInt8] {
        var message: [UInt8] = []
        message.appendVarintField(tag: 0x08, kind.rawValue)
        if let data { message.appendBytesField(tag: 0x12, data) }
        if let fileSize { message.appendVarintField(tag: 0x18, fileSize) }
        for size in blockSizes { message.appendVarintField(tag: 0x20, size) }
        if let hashType { message.appendVarintField(tag: 0x28, hashType) }
        if let fanout { message.appendVarintField(tag: 0x30, fanout) }
        metadata.append(to: &message)
        return message
    }
}

/// A decoded message whose data is left where it lies.
struct UnixFSFields {
    var kind: UnixFSData.Kind
    var dataRange: Range<Int>?
    var fileSize: UInt64?
    var blockSizes: [UInt64] = []
    var hashType: UInt64?
    var fanout: UInt64?
    var metadata = UnixFSMetadata.none

    /// - Parameter range: the message, as offsets into `bytes`; `dataRange` counts from there too.
    init(
        decoding bytes: UnsafeRawBufferPointer, in range: Range<Int>
    ) throws(BlockFormatError) {
        var reader = ProtobufReader(bytes, in: range)
        var type: UInt64?
        var mode: UInt64?
        kind = .raw
        while !reader.isAtEnd {
            let (field, wireType) = try reader.readTag()
            switch (field, wireType) {
            case (1, .varint): try Self.readOnce(&reader, field, into: &type)
            case (2, .bytes):
                guard dataRange == nil else { throw .duplicateField(field) }
                dataRange = try reader.readRange()
            case (3, .varint): try Self.readOnce(&reader, field, into: &fileSize)
            case (4, .varint):
                try appendBlockSize(try reader.readVarint())
            case (4, .bytes):
                var packed = ProtobufReader(bytes, in: try reader.readRange())
                while !packed.isAtEnd {
                    try appendBlockSize(try packed.readVarint())
                }
            case (5, .varint): try Self.readOnce(&reader, field, into: &hashType)
            case (6, .varint): try Self.readOnce(&reader, field, into: &fanout)
            case (7, .varint): try Self.readOnce(&reader, field, into: &mode)
            case (8, .bytes):
                guard metadata.mtime == nil else { throw .duplicateField(field) }
                metadata.mtime = try UnixFSTime(decoding: bytes, in: try reader.readRange())
            case (1...8, _): throw .wrongWireType(field: field)
            default: try reader.skip(wireType)
            }
        }
        guard let type else { throw .missingField(1) }
        guard let known = UnixFSData.Kind(rawValue: type) else { throw .unknownType(type) }
        kind = known
        if let mode {
            guard let bits = UInt32(exactly: mode) else { throw .badMode(mode) }
            metadata.mode = bits
        }
    }

    private static func readOnce(
        _ reader: inout ProtobufReader, _ field: UInt64, into value: inout UInt64?
    ) throws(BlockFormatError) {
        guard value == nil else { throw .duplicateField(field) }
        value = try reader.readVarint()
    }

    private mutating func appendBlockSize(_ size: UInt64) throws(BlockFormatError) {
        guard blockSizes.count < DAGNode.linkCountMax else { throw .tooManyLinks }
        blockSizes.append(size)
    }
}
