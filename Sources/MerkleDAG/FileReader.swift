public import Multiformats

/// The content of a file that one block holds.
public struct FileLeaf: Sendable {
    /// The block.
    public var cid: CID
    /// The bytes of the block, checked against its CID.
    public var block: [UInt8]
    /// Where the content lies in `block`.
    public var contentRange: Range<Int>
    /// Which bytes of the file they are.
    public var fileRange: Range<UInt64>
}

/// A DAG node of a file, with what is needed to find the way to an offset.
struct FileNode {
    var cid: CID
    /// Empty for a DAG node that has only links, so that open DAG nodes cost little.
    var bytes: [UInt8]
    /// The content that the DAG node itself holds; it comes before that of the links.
    var contentRange: Range<Int>
    var children: [CID]
    /// Where the content below each link ends, counted from the beginning of this DAG node's content.
    var childEnds: [UInt64]
    var size: UInt64

    init(_ block: UnixFSBlock) throws(DAGReadError) {
        guard block.isFilePart else { throw .notFile(block.cid) }
        let blockSizes = block.fields?.blockSizes ?? []
        guard blockSizes.count == block.links.count else {
            throw .malformed(block.cid, .inconsistentSizes)
        }
        cid = block.cid
        contentRange = block.contentRange
        bytes = contentRange.isEmpty ? [] : block.bytes
        children = block.links.map(\.cid)
        childEnds = []
        childEnds.reserveCapacity(blockSizes.count)
        var end = UInt64(contentRange.count)
        for size in blockSizes {
            let (sum, isOverflow) = end.addingReportingOverflow(size)
            // POSIX has no file beyond 2^63 - 1 bytes.
            guard !isOverflow, sum <= UInt64(Int64.max) else {
                throw .malformed(block.cid, .inconsistentSizes)
            }
            end = sum
            childEnds.append(end)
        }
        guard block.fields?.fileSize ?? end == end else {
            throw .malformed(block.cid, .inconsistentSizes)
        }
        size = end
    }

    /// The link that holds the byte at `offset`, which must lie behind the DAG node's own content.
    func childIndex(at offset: UInt64) -> Int {
        // The first end above the offset; links without content are never it.
        var low = 0
        var high = childEnds.count
        while low < high {
            let middle = (low + high) / 2
            if childEnds[middle] > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Where the content below a link begins, counted like `childEnds`.
    func childStart(_ index: Int) -> UInt64 {
        index == 0 ? UInt64(contentRange.count) : childEnds[index - 1]
    }
}

/// Reads a file of any layout, at any offset.
///
/// Keeps the DAG nodes on the way to the last leaf and that leaf, so that reading on costs no block
/// twice; going to another offset costs one block for each level. Memory is bounded by
/// `pathLinksMax` links and one block. Not safe for use by several threads at once.
public struct FileReader<Source: BlockSource> {
    /// The deepest file that is read.
    public static var depthMax: Int { 64 }
    /// The most links that the DAG nodes on the way to one leaf may have together.
    public static var pathLinksMax: Int { 1 << 18 }

    private let source: Source
    /// From the root down to the DAG node used last.
    private var path: [(node: FileNode, start: UInt64)]

    /// The root of the file.
    public let root: CID
    /// The length of the file in bytes.
    public let size: UInt64
    /// The attributes in the root.
    public let metadata: UnixFSMetadata

    /// Opens a file: reads and checks its root.
    public init(root: CID, source: Source) throws(DAGReadError) {
        let block = try source.unixfsBlock(root)
        let node = try FileNode(block)
        self.source = source
        self.root = root
        size = node.size
        metadata = block.fields?.metadata ?? .none
        path = [(node, 0)]
    }

    /// Reads from `offset` on until the buffer is full or the file ends.
    ///
    /// Blocks for as long as the source does.
    ///
    /// - Returns: how many bytes were read; 0 at the end of the file and behind it.
    public mutating func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DAGReadError) -> Int {
        var count = 0
        while count < buffer.count {
            let (position, isOverflow) = offset.addingReportingOverflow(UInt64(count))
            guard !isOverflow, position < size else { break }
            let start = try seek(to: position)
            // Nothing is copied but the bytes asked for.
            let node = path[path.count - 1].node
            // Fits, for it is an offset into one block.
            let skipped = Int(position - start)
            let copied = min(buffer.count - count, node.contentRange.count - skipped)
            let from = node.contentRange.lowerBound + skipped
            node.bytes.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(rebasing: buffer[count..<(count + copied)])
                    .copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: bytes[from..<(from + copied)]))
            }
            count += copied
        }
        return count
    }

    /// Gives the block that holds the byte at `offset`, or nil at the end of the file and behind.
    public mutating func leaf(at offset: UInt64) throws(DAGReadError) -> FileLeaf? {
        guard offset < size else { return nil }
        let start = try seek(to: offset)
        let node = path[path.count - 1].node
        return FileLeaf(
            cid: node.cid, block: node.bytes, contentRange: node.contentRange,
            fileRange: start..<(start + UInt64(node.contentRange.count)))
    }

    /// Makes the last DAG node of the path the one whose own content has the byte at `offset`.
    ///
    /// - Precondition: `offset` is below `size`.
    /// - Returns: the offset in the file where that content begins.
    private mutating func seek(to offset: UInt64) throws(DAGReadError) -> UInt64 {
        while path.count > 1 {
            let (node, start) = path[path.count - 1]
            if offset >= start, offset - start < node.size { break }
            path.removeLast()
        }
        while true {
            let (node, start) = path[path.count - 1]
            if offset - start < UInt64(node.contentRange.count) { return start }
            let index = node.childIndex(at: offset - start)
            let child = node.children[index]
            let childStart = node.childStart(index)
            let linkCount = path.reduce(0) { $0 + $1.node.children.count }
            guard path.count < Self.depthMax, linkCount <= Self.pathLinksMax else {
                throw .tooDeep(child)
            }
            let childNode = try FileNode(try source.unixfsBlock(child))
            // The parent's word was relied on to come here.
            guard childNode.size == node.childEnds[index] - childStart else {
                throw .malformed(child, .inconsistentSizes)
            }
            path.append((childNode, start + childStart))
        }
    }
}
