// dag-pb: a node of the MerkleDAG, links and data, in protobuf.
//
// Layout:   PBNode = every link (field 2: 12 uv(length) PBLink), then the data (field 1: 0a …).
//           PBLink = Hash (0a, a binary CID), Name (12), Tsize (18 varint), in this order.
// Written:  links sorted by the bytes of their names, equal names in the order given; Name and
//           Tsize always, also when empty or 0; no data field if there is no data.
// Validity: the data may come before or after the links, but not among them, and once. Fields of a
//           link in order and once, Hash obligatory. No other fields, no other wire types, no
//           number that is not in its shortest form, nothing behind a CID.
// Source:   https://ipld.io/specs/codecs/dag-pb/spec

public import Multiformats

/// A named edge to another block.
public struct DAGLink: Hashable, Sendable {
    /// What the link leads to.
    public var cid: CID
    /// The name, any bytes; empty in files.
    public var name: [UInt8]
    /// What the writer said the whole DAG behind the link weighs, in bytes. A hint: nobody checks.
    public var treeSize: UInt64

    /// Makes a link.
    public init(cid: CID, name: [UInt8] = [], treeSize: UInt64) {
        self.cid = cid
        self.name = name
        self.treeSize = treeSize
    }
}

/// A node of the MerkleDAG: links to other blocks, and data.
public struct DAGNode: Hashable, Sendable {
    /// The largest block that is read or written, in bytes; what IPFS peers transfer.
    public static let blockSizeMax = 2 << 20
    /// The most links that a DAG node may have when it is read.
    public static let linkCountMax = 1 << 16

    /// The links, in the order of the block they were read from.
    public var links: [DAGLink]
    /// The data; nil and empty are different blocks.
    public var data: [UInt8]?

    /// Makes a DAG node.
    public init(links: [DAGLink] = [], data: [UInt8]? = nil) {
        self.links = links
        self.data = data
    }

    /// Reads a block.
    public init(decoding block: UnsafeRawBufferPointer) throws(BlockFormatError) {
        let layout = try DAGNodeLayout(decoding: block)
        self.init(links: layout.links, data: layout.dataRange.map { Array(block[$0]) })
    }

    /// Reads a block.
    public init(decoding block: [UInt8]) throws(BlockFormatError) {
        self = try block.withRawBytes { (raw) throws(BlockFormatError) in try DAGNode(decoding: raw)
        }
    }

    /// The block, with the links sorted by name as the format demands.
    public func encoded() -> [UInt8] {
        var writer = DAGNodeWriter()
        for link in sortedLinks() {
            writer.appendLink(link.cid, nameCount: link.name.count, treeSize: link.treeSize) {
                $0.append(contentsOf: link.name)
            }
        }
        return writer.finish(data: data)
    }

    private func sortedLinks() -> [DAGLink] {
        let isSorted = zip(links, links.dropFirst()).allSatisfy { left, right in
            !right.name.lexicographicallyPrecedes(left.name)
        }
        // The standard sort is stable, which the format asks for.
        return isSorted ? links : links.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }

    /// What this DAG node and all that it leads to weigh by the word of its links, in bytes.
    ///
    /// Wraps around, as every implementation does, when links lie that much.
    public func treeSize(blockSize: Int) -> UInt64 {
        links.reduce(UInt64(blockSize)) { $0 &+ $1.treeSize }
    }
}

/// A decoded DAG node whose data is left where it lies.
struct DAGNodeLayout {
    var links: [DAGLink] = []
    /// Where the data is in the block.
    var dataRange: Range<Int>?

    private static let dataField: UInt64 = 1
    private static let linksField: UInt64 = 2

    init(decoding block: UnsafeRawBufferPointer) throws(BlockFormatError) {
        guard block.count <= DAGNode.blockSizeMax else {
            throw .blockTooLarge(byteCount: block.count)
        }
        var reader = ProtobufReader(block, in: 0..<block.count)
        var areLinksOver = false
        while !reader.isAtEnd {
            let (field, wireType) = try reader.readTag()
            guard field == Self.dataField || field == Self.linksField else {
                throw .unknownField(field)
            }
            guard wireType == .bytes else { throw .wrongWireType(field: field) }
            let range = try reader.readRange()
            if field == Self.dataField {
                guard dataRange == nil else { throw .duplicateField(field) }
                dataRange = range
                areLinksOver = !links.isEmpty
            } else {
                guard !areLinksOver else { throw .fieldOutOfOrder(field) }
                guard links.count < DAGNode.linkCountMax else { throw .tooManyLinks }
                links.append(try DAGLink(decoding: block, in: range))
            }
        }
    }
}

extension DAGLink {
    fileprivate init(
        decoding block: UnsafeRawBufferPointer, in range: Range<Int>
    ) throws(BlockFormatError) {
        var reader = ProtobufReader(block, in: range)
        var cid: CID?
        var name: [UInt8] = []
        var treeSize: UInt64 = 0
        var lastField: UInt64 = 0
        while !reader.isAtEnd {
            let (field, wireType) = try reader.readTag()
            guard (1...3).contains(field) else { throw .unknownField(field) }
            guard field != lastField else { throw .duplicateField(field) }
            guard field > lastField else { throw .fieldOutOfOrder(field) }
            guard wireType == (field == 3 ? .varint : .bytes) else {
                throw .wrongWireType(field: field)
            }
            lastField = field
            switch field {
            case 1:
                let bytes = UnsafeRawBufferPointer(rebasing: block[try reader.readRange()])
                do throws(CIDError) {
                    cid = try CID(bytes: bytes)
                } catch {
                    throw BlockFormatError.cid(error)
                }
            case 2:
                name = Array(block[try reader.readRange()])
            default:
                treeSize = try reader.readVarint()
            }
        }
        guard let cid else { throw .missingField(1) }
        self.init(cid: cid, name: name, treeSize: treeSize)
    }

    /// The bytes that a link takes in its DAG node, with the tag and the length in front of it.
    static func encodedLength(cidLength: Int, nameLength: Int, treeSize: UInt64) -> Int {
        bytesFieldLength(
            bytesFieldLength(cidLength) + bytesFieldLength(nameLength)
                + varintFieldLength(treeSize))
    }
}

/// Writes a DAG node link by link; the caller gives the links in order.
struct DAGNodeWriter {
    private var block: [UInt8] = []
    private var linkTreeSize: UInt64 = 0

    mutating func reserveCapacity(_ byteCount: Int) {
        block.reserveCapacity(byteCount)
    }

    /// - Parameter appendName: appends exactly `nameCount` bytes.
    mutating func appendLink(
        _ cid: CID, nameCount: Int, treeSize: UInt64, appendName: (inout [UInt8]) -> Void
    ) {
        let cidLength = cid.byteCount
        block.append(0x12)
        Varint.append(
            UInt64(
                bytesFieldLength(cidLength) + bytesFieldLength(nameCount)
                    + varintFieldLength(treeSize)), to: &block)
        block.append(0x0a)
        Varint.append(UInt64(cidLength), to: &block)
        cid.append(to: &block)
        block.append(0x12)
        Varint.append(UInt64(nameCount), to: &block)
        appendName(&block)
        block.appendVarintField(tag: 0x18, treeSize)
        linkTreeSize &+= treeSize
    }

    mutating func appendLink(_ cid: CID, treeSize: UInt64) {
        appendLink(cid, nameCount: 0, treeSize: treeSize) { _ in }
    }

    /// The size of the whole DAG below the DAG node, in bytes, once `finish` gave the block.
    func treeSize(of block: [UInt8]) -> UInt64 {
        linkTreeSize &+ UInt64(block.count)
    }

    /// The block. The writer is used up.
    mutating func finish(data: [UInt8]?) -> [UInt8] {
        if let data {
            block.appendBytesField(tag: 0x0a, data)
        }
        let finished = block
        block = []
        return finished
    }
}
