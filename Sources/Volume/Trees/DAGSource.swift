internal import Base
internal import MerkleDAG
internal import Multiformats

/// Blocks that are here, in whatever form, and else those of others: for what is looked at once.
struct DAGSource: BlockSource {
    let volume: Volume
    var cancellation: Cancellation?

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        if let found = volume.localBlock(cid) { return found }
        guard let fetcher = volume.fetcher else {
            throw BlockUnavailable(cid, cause: NotHere())
        }
        return try VolumeBlocks(volume: volume, fetcher: fetcher, cancellation: cancellation)
            .block(cid)
    }
}

/// A block is elsewhere, and the volume was told of nobody who may have it.
struct NotHere: Error, CustomStringConvertible {
    var description: String {
        "it is not here: mount the volume with --kubo, --gateway or --car"
    }
}

extension Volume {
    /// The bytes of all blocks of a DAG, as its root's links say: what a link to it says in turn.
    static func treeSize(of cid: CID, _ block: [UInt8]) -> UInt64 {
        guard cid.codec == .dagPB, let links = try? DAGNode(decoding: block).links else {
            return UInt64(block.count)
        }
        return links.reduce(UInt64(block.count)) { (sum: UInt64, link) in
            let (next, isOverflow) = sum.addingReportingOverflow(link.treeSize)
            return isOverflow ? .max : next
        }
    }
}
