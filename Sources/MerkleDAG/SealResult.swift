package import Multiformats

/// A dag-pb block that is kept with what it is a part of.
package struct StoredNode: Sendable {
    /// The hash of `bytes`; a CID's other parts do not matter to who looks a block up.
    package let multihash: [UInt8]
    package let bytes: [UInt8]

    package init(multihash: [UInt8], bytes: [UInt8]) {
        self.multihash = multihash
        self.bytes = bytes
    }
}

/// What sealing found: the CID of an object and the blocks that it is made of.
package struct SealResult: Sendable {
    package let cid: CID
    /// The Tsize of a link to `cid`, in bytes.
    package let treeSize: UInt64
    /// The multihash of every leaf in order; empty where the only leaf is the root.
    package let leaves: [[UInt8]]
    /// The interior dag-pb blocks.
    package let nodes: [StoredNode]

    package init(cid: CID, treeSize: UInt64, leaves: [[UInt8]], nodes: [StoredNode]) {
        self.cid = cid
        self.treeSize = treeSize
        self.leaves = leaves
        self.nodes = nodes
    }
}
