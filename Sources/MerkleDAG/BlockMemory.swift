public import Multiformats

/// Blocks of lately by CID, bounded by their bytes. In two generations: what is kept goes into the newer one; once that has half of the
/// bytes, it becomes the older one, and what was in that is gone. Not thread safe.
public struct BlockMemory: Sendable {
    /// What all blocks take at most, in bytes; what is larger than half of it is not kept.
    public let bytesMax: Int
    private var newer: [CID: [UInt8]] = [:]
    private var older: [CID: [UInt8]] = [:]
    private var newerBytes = 0

    public init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    /// A block, whatever the version of its CID; nil where it is not kept.
    public subscript(cid: CID) -> [UInt8]? { newer[cid.asV1] ?? older[cid.asV1] }

    /// Keeps a block, which was compared with its CID.
    public mutating func keep(_ block: [UInt8], _ cid: CID) {
        guard newer[cid.asV1] == nil, block.count <= bytesMax / 2 else { return }
        if newerBytes + block.count > bytesMax / 2 {
            (older, newer, newerBytes) = (newer, [:], 0)
        }
        newer[cid.asV1] = block
        newerBytes += block.count
    }
}
