// Content-addressed archives: blocks one behind the other, version 1, and a wrapper with an index
// around that, version 2.
//
// CARv1:    uv(length) ‖ header ‖ sections. Header = DAG-CBOR {"roots": [CID …], "version": 1}.
//           Section = uv(length) ‖ CID ‖ block.
// CARv2:    the pragma 0a a1 67 "version" 02 ‖ header of 40 bytes ‖ CARv1 ‖ index. Header =
//           characteristics (16 bytes; the top bit of the first: the index has every section) ‖
//           data offset ‖ data size ‖ index offset (0: no index), each 64 bits little-endian.
// Validity: lengths minimal and bounded before anything is allocated; header in canonical form
//           (keys in order, shortest lengths); data not before byte 51, index not before its end.
// Source:   https://ipld.io/specs/transport/car/carv1 and carv2

public import Multiformats

/// Why bytes are not an archive.
public enum CARError: Error {
    /// The bytes cannot be read at all.
    case readFailed(any Error)
    /// The bytes end within a header, a section or the index.
    case truncated
    /// The bytes end within the block of a section.
    case cutOff(CID)
    /// A length is malformed.
    case varint(VarintError)
    /// The header is not the DAG-CBOR map that it should be.
    case badHeader
    /// The header is longer than `CAR.headerLengthMax`.
    case headerTooLong(length: UInt64)
    /// The version is neither 1 nor 2.
    case unsupportedVersion(UInt64)
    /// The offsets in the header of a CARv2 contradict each other.
    case badOffsets
    /// A section is too short to have a CID.
    case sectionTooShort(length: UInt64)
    /// A section is longer than a CID and the largest block that is accepted.
    case sectionTooLong(length: UInt64)
    /// A CID is malformed.
    case cid(CIDError)
    /// A block has another hash than its CID says.
    case wrongBytes(CID)
    /// The hash function of a CID is not known here, so its block cannot be checked.
    case unsupportedHash(CID)
    /// The index is malformed, or leads to another block than it says.
    case badIndex
    /// The index is in a format that is not known here.
    case unsupportedIndex(Multicodec)
    /// There are more sections or index entries than the caller wants to have.
    case tooMany(limit: Int)
}

/// What both versions of archives have in common.
public enum CAR {
    /// The longest CARv1 header that is read, in bytes; room for some 25,000 roots.
    public static let headerLengthMax = 1 << 20
    /// The longest CID in a section, in bytes.
    static let cidLengthMax = 1 + 9 + 9 + 9 + Multihash.digestLengthMax

    /// The bytes that a CARv2 begins with; as a CARv1 header they are `{"version": 2}`.
    static let pragma: [UInt8] = [0x0a, 0xa1, 0x67] + Array("version".utf8) + [0x02]
    /// The bytes of the header behind the pragma.
    static let version2HeaderLength = 40
    /// Where the CARv1 in a CARv2 begins at the earliest.
    static let dataOffsetMin = pragma.count + version2HeaderLength

    /// The header of a CARv1 with its length in front.
    package static func encodedHeader(roots: [CID]) -> [UInt8] {
        var header = DAGCBORWriter()
        header.appendMapHead(count: 2)
        header.append(text: "roots")
        header.appendListHead(count: roots.count)
        for root in roots { header.append(root) }
        header.append(text: "version")
        header.append(UInt64(1))

        var bytes: [UInt8] = []
        Varint.append(UInt64(header.bytes.count), to: &bytes)
        return bytes + header.bytes
    }

    /// What stands before a block in a section: the length and the CID.
    package static func encodedSectionHead(_ cid: CID, blockByteCount: Int) -> [UInt8] {
        var head: [UInt8] = []
        Varint.append(UInt64(cid.byteCount + blockByteCount), to: &head)
        cid.append(to: &head)
        return head
    }
}

/// Reads the header of a CARv1, and the pragma of a CARv2, which has the same form.
struct CARHeader {
    var version: UInt64
    /// Nil if the header has none, as the pragma.
    var roots: [CID]?

    init(decoding bytes: UnsafeRawBufferPointer) throws(CARError) {
        do throws(DAGCBORError) {
            var reader = DAGCBORReader(bytes)
            (version, roots) = try Self.read(&reader)
            try reader.finish()
        } catch {
            guard case .cid(let error) = error else { throw .badHeader }
            throw .cid(error)
        }
    }

    /// The keys are these and no others, in the order that DAG-CBOR gives them.
    private static func read(
        _ reader: inout DAGCBORReader
    ) throws(DAGCBORError) -> (UInt64, [CID]?) {
        var keys = try reader.readMapHead()
        var roots: [CID]?
        if keys.left == 2 {
            try expect("roots", &reader, &keys)
            // Each root takes bytes, so a wrong count ends at the end of the header.
            roots = []
            for _ in 0..<(try reader.readListHead()) { roots?.append(try reader.readLink()) }
        }
        try expect("version", &reader, &keys)
        guard keys.left == 0 else { throw .unexpected(offset: reader.offset) }
        return (try reader.readUnsigned(), roots)
    }

    private static func expect(
        _ key: String, _ reader: inout DAGCBORReader, _ keys: inout DAGCBORReader.Keys
    ) throws(DAGCBORError) {
        let offset = reader.offset
        guard try reader.readKey(&keys) == key else { throw .unexpected(offset: offset) }
    }
}

/// The 40 bytes behind the pragma of a CARv2.
struct CARv2Header: Equatable {
    var isFullyIndexed: Bool
    var dataOffset: UInt64
    var dataSize: UInt64
    /// 0 if there is no index.
    var indexOffset: UInt64

    init(isFullyIndexed: Bool, dataOffset: UInt64, dataSize: UInt64, indexOffset: UInt64) {
        self.isFullyIndexed = isFullyIndexed
        self.dataOffset = dataOffset
        self.dataSize = dataSize
        self.indexOffset = indexOffset
    }

    init(decoding bytes: UnsafeRawBufferPointer) throws(CARError) {
        precondition(bytes.count == CAR.version2HeaderLength)
        isFullyIndexed = bytes[0] & 0x80 != 0
        dataOffset = bytes.littleEndian64(at: 16)
        dataSize = bytes.littleEndian64(at: 24)
        indexOffset = bytes.littleEndian64(at: 32)
        let (dataEnd, isOverflow) = dataOffset.addingReportingOverflow(dataSize)
        guard dataOffset >= UInt64(CAR.dataOffsetMin), !isOverflow, dataEnd <= UInt64(Int64.max),
            indexOffset == 0 || (dataEnd...UInt64(Int64.max)).contains(indexOffset)
        else { throw .badOffsets }
    }

    var encoded: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 16)
        if isFullyIndexed { bytes[0] = 0x80 }
        bytes.appendLittleEndian(dataOffset)
        bytes.appendLittleEndian(dataSize)
        bytes.appendLittleEndian(indexOffset)
        return bytes
    }
}

extension UnsafeRawBufferPointer {
    func littleEndian64(at offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
}

extension [UInt8] {
    mutating func appendLittleEndian(_ value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}
