public import Multiformats

/// One block of a file, decoded: the content that it holds itself, and where the rest is.
public struct FileBlock: Sendable {
    /// A part of the file behind a link.
    public struct Child: Hashable, Sendable {
        public let cid: CID
        /// Its bytes, by the parent's word.
        public let size: UInt64
    }

    /// Where in the block the content lies that comes first.
    public let contentRange: Range<Int>
    /// The parts that follow, in order; those without bytes are left out.
    public let children: [Child]
    /// The bytes of all of it.
    public let size: UInt64

    /// Decodes a block.
    ///
    /// - Parameter bytes: what was compared with the CID's hash.
    public init(_ cid: CID, verified bytes: [UInt8]) throws(DAGReadError) {
        let node: FileNode
        switch cid.codec {
        case .raw:
            node = try FileNode(UnixFSBlock(cid: cid, bytes: bytes, links: [], fields: nil))
        case .dagPB:
            let block: UnixFSBlock
            do throws(BlockFormatError) {
                block = try UnixFSBlock(cid: cid, decoding: bytes)
            } catch {
                throw .malformed(cid, error)
            }
            node = try FileNode(block)
        default:
            throw .unsupportedCodec(cid)
        }
        contentRange = node.contentRange
        size = node.size
        children = node.children.indices.compactMap { index in
            let size = node.childEnds[index] - node.childStart(index)
            return size == 0 ? nil : Child(cid: node.children[index], size: size)
        }
    }
}
