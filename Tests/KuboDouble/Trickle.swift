internal import MerkleDAG
internal import Multiformats

/// The layout of files that `files/write` made: leaves in front, then subtrees that grow deeper.
///
/// Source: boxo `ipld/unixfs/importer/trickle`; the facts are in the UnixFS specification.
struct TrickleBuilder {
    /// Direct leaves of a node.
    private static let width = 174
    /// Subtrees of each depth.
    private static let layerRepeat = 4

    let cidVersion: Int
    let rawLeaves: Bool
    let metadata: UnixFSMetadata
    let store: (CID, [UInt8]) throws(Halt) -> Void

    /// - Parameter chunks: the file's content, leaf by leaf.
    func build(_ chunks: [ArraySlice<UInt8>]) throws(Halt) -> MFSLink {
        var leaves: [Leaf] = []
        for chunk in chunks {
            leaves.append(try leaf(chunk))
        }
        var rest = leaves[...]
        // Stored also where it is not needed in the end, as a node does.
        let root = try node(&rest, depth: nil)
        // A raw leaf alone is the file, unless something has to be said about it.
        let link = rawLeaves && leaves.count == 1 && metadata.isEmpty ? leaves[0] : root
        return MFSLink(cid: link.cid, treeSize: link.treeSize)
    }

    private func leaf(_ chunk: ArraySlice<UInt8>) throws(Halt) -> Leaf {
        let size = UInt64(chunk.count)
        if rawLeaves {
            let block = Array(chunk)
            let cid = CID.raw(sha256: block)
            try store(cid, block)
            return Leaf(cid: cid, fileSize: size, treeSize: size)
        }
        let data = UnixFSData(kind: .raw, data: Array(chunk), fileSize: size)
        return try store(DAGNode(data: data.encoded()), fileSize: size)
    }

    /// - Parameter depth: nil for the root, which has as many layers as there are leaves for.
    private func node(_ leaves: inout ArraySlice<Leaf>, depth: Int?) throws(Halt) -> Leaf {
        var children = Array(leaves.prefix(Self.width))
        leaves = leaves.dropFirst(Self.width)
        var layer = 1
        while !leaves.isEmpty, depth.map({ layer < $0 }) ?? true {
            for _ in 0..<Self.layerRepeat where !leaves.isEmpty {
                children.append(try node(&leaves, depth: layer))
            }
            layer += 1
        }
        let size = children.reduce(0) { $0 + $1.fileSize }
        let data = UnixFSData(
            kind: .file, fileSize: size, blockSizes: children.map(\.fileSize),
            metadata: depth == nil ? metadata : .none)
        return try store(
            DAGNode(
                links: children.map { DAGLink(cid: $0.cid, treeSize: $0.treeSize) },
                data: data.encoded()), fileSize: size)
    }

    private func store(_ node: DAGNode, fileSize: UInt64) throws(Halt) -> Leaf {
        let block = node.encoded()
        let cid = CID.dagPB(sha256: block, version: cidVersion)
        try store(cid, block)
        return Leaf(cid: cid, fileSize: fileSize, treeSize: node.treeSize(blockSize: block.count))
    }
}
