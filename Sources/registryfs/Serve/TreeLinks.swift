import Base
import MerkleDAG
package import Multiformats

/// What the blocks that were given of a tree link to: what belongs to it, as far as anybody has come down to it. Keys are CIDs of
/// version 1. Not thread safe.
///
/// Uploads under way are no part of it, as of a volume: the block of a directory `_uploads` is, because whoever has the tree by its
/// CID looks at each name of the directory above; what that block links to is not, but where something else links to it as well. So much
/// is known of what somebody has come down to; what only its CID tells of is not known to lie there.
package struct TreeLinks {
    private enum UploadsPlace {
        case directory
        case below
    }

    private var linked = Recent<CID, Void>(countMax: 1 << 17)
    private var uploads = Recent<CID, UploadsPlace>(countMax: 1 << 14)
    /// Counts the generations of `linked`, and in which of them the links of a block were noted last.
    private var generation = 0
    private var notedIn: [CID: Int] = [:]
    private static let notedMax = 1 << 14

    private static let uploadsName = Array("_uploads".utf8)

    package init() {}

    package func contains(_ key: CID) -> Bool { linked.contains(key) }

    /// Whether it is known to lie in uploads, below their directory, and nowhere else.
    package func isBelowUploads(_ key: CID) -> Bool {
        uploads[key] == .below && !linked.contains(key)
    }

    /// Whether all links of a block are of the newest generation, and so known for long.
    package func areLinksNoted(of key: CID) -> Bool { notedIn[key] == generation }

    /// Notes what a block of the tree links to.
    package mutating func note(_ block: [UInt8], of key: CID) {
        guard key.codec != .raw else { return }
        let hasUploads = key.codec == .dagPB && Self.contains(Self.uploadsName, block)
        let isOfUploads = uploads[key] == .directory || isBelowUploads(key)
        guard !isOfUploads else {
            for link in key.linksOfBlock(block) { uploads.note(link.asV1, .below) }
            return
        }
        guard hasUploads, let node = try? DAGNode(decoding: block) else {
            if notedIn.count >= Self.notedMax { notedIn = [:] }
            notedIn[key] = generation
            for link in key.linksOfBlock(block) { insert(link.asV1) }
            return
        }
        // Such a block is looked at each time, so that its uploads are never forgotten before what is below them.
        let isShard = node.data.flatMap { try? UnixFSData(decoding: $0) }?.kind == .hamtShard
        for link in node.links {
            let link = (link.cid.asV1, isShard ? Array(link.name.dropFirst(2)) : link.name)
            insert(link.0)
            if link.1 == Self.uploadsName { uploads.note(link.0, .directory) }
        }
    }

    /// Notes that a walk of the tree comes to a block.
    package mutating func expect(_ key: CID) {
        if uploads[key] != .below, !linked.contains(key) { insert(key) }
    }

    private mutating func insert(_ key: CID) {
        if linked.isFull { generation += 1 }
        linked.insert(key)
    }

    /// Whether a block has some bytes in it, anywhere.
    private static func contains(_ name: [UInt8], _ block: [UInt8]) -> Bool {
        guard let first = name.first, block.count >= name.count else { return false }
        for start in 0...block.count - name.count where block[start] == first {
            if block[start..<start + name.count].elementsEqual(name) { return true }
        }
        return false
    }
}
