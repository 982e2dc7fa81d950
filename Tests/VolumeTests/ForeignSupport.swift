import Base
import KuboStand
import MerkleDAG
import Multiformats
import Remotes
import Volume

/// Blocks that no writer of ours makes, for a node to give.
final class ForeignBlocks {
    private var blocks: [(cid: CID, bytes: [UInt8])] = []

    @discardableResult
    func add(_ node: DAGNode) -> CID {
        let bytes = node.encoded()
        let cid = CID.dagPB(sha256: bytes, version: 1)
        blocks.append((cid, bytes))
        return cid
    }

    @discardableResult
    func raw(_ bytes: [UInt8]) -> CID {
        let cid = CID.raw(sha256: bytes)
        blocks.append((cid, bytes))
        return cid
    }

    func symlink(_ target: [UInt8]) -> CID {
        add(DAGNode(data: UnixFSData(kind: .symlink, data: target).encoded()))
    }

    func directory(_ links: [DAGLink], mode: UInt32? = nil) -> CID {
        let message = UnixFSData(kind: .directory, metadata: UnixFSMetadata(mode: mode))
        return add(DAGNode(links: links, data: message.encoded()))
    }

    /// A file of parts, each of which is said to have so many bytes.
    func file(_ parts: [(cid: CID, size: UInt64)], mode: UInt32? = nil) -> CID {
        let message = UnixFSData(
            kind: .file, fileSize: parts.reduce(0) { $0 + $1.size }, blockSizes: parts.map(\.size),
            metadata: UnixFSMetadata(mode: mode))
        return add(
            DAGNode(
                links: parts.map { DAGLink(cid: $0.cid, treeSize: $0.size) },
                data: message.encoded()))
    }

    /// A file of these bytes in leaves of one byte, in nodes of so many links.
    func bytewise(_ bytes: [UInt8], width: Int) -> CID {
        let leaves = (0...255).map { raw([UInt8($0)]) }
        var nodes: [(cid: CID, size: UInt64)] = []
        for start in stride(from: 0, to: bytes.count, by: width) {
            let part = bytes[start..<min(bytes.count, start + width)]
            nodes.append((file(part.map { (leaves[Int($0)], 1) }), UInt64(part.count)))
        }
        return file(nodes)
    }

    /// Directories of two links each to the next, above something.
    func doubled(_ depth: Int, above bottom: CID) -> CID {
        (0..<depth).reduce(bottom) { below, _ in
            directory(["a", "b"].map { link($0, below, 100) })
        }
    }

    /// Gives all out, as somebody who has them.
    func take() -> BlockTable {
        defer { blocks = [] }
        return BlockTable(blocks)
    }

    /// Sends all to the node.
    func send(to stand: NodeStand) throws {
        try stand.kubo.send(blocks)
        blocks = []
    }

    /// Sends all to the node, and has a directory stand at the MFS path.
    func show(_ root: CID, at stand: NodeStand) throws {
        try send(to: stand)
        try stand.kubo.remove(stand.path, isRecursive: true, force: true)
        try stand.kubo.copy(root, to: stand.path, makesParents: true)
    }
}

/// Somebody who has some blocks, and gives other bytes for one where he is told to.
final class BlockTable: RemoteBlocks {
    private let blocks: [CID: [UInt8]]
    private let damaged: CID?

    init(_ blocks: [(cid: CID, bytes: [UInt8])], damaged: CID? = nil) {
        self.blocks = Dictionary(blocks, uniquingKeysWith: { $1 })
        self.damaged = damaged
    }

    /// The same blocks but for one, which is not there or damaged.
    func without(_ cid: CID, isDamaged: Bool) -> BlockTable {
        let left = blocks.filter { $0.key != cid || isDamaged }
        return BlockTable(left.map { ($0.key, $0.value) }, damaged: isDamaged ? cid : nil)
    }

    var address: String { "the table" }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        guard request.cid != damaged else {
            throw RemoteError(.wrongBytes, "\(address): at byte 9: not the block \(request.cid)")
        }
        guard let found = blocks[request.cid] else {
            throw RemoteError(.notFound, "\(address): there is no block \(request.cid)")
        }
        return found
    }
}

func link(_ name: String, _ cid: CID, _ treeSize: UInt64) -> DAGLink {
    DAGLink(cid: cid, name: Array(name.utf8), treeSize: treeSize)
}

extension Volume {
    /// The names in a directory.
    func names(in inode: Inode = .root) throws -> [String] {
        try entries(of: inode).map { "\($0.name)" }.sorted()
    }
}
