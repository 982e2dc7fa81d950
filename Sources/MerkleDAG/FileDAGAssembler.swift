package import Multiformats

/// Makes the DAG of a file of its leaves, which come in order, and keeps what is stored of it: the leaves'
/// hashes and the nodes above them. Not thread safe.
package struct FileDAGAssembler {
    private var builder: BalancedDAGBuilder
    private var leaves: [[UInt8]] = []
    private var nodes: [StoredNode] = []

    package init(profile: ImportProfile) {
        builder = BalancedDAGBuilder(profile: profile)
    }

    /// Adds the next leaf.
    package mutating func add(_ leaf: Leaf) {
        leaves.append(leaf.cid.multihash.bytes)
        builder.append(leaf) { cid, block in
            nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: block))
        }
    }

    /// Ends the file. One without bytes has one leaf, which has none.
    package mutating func finish() -> SealResult {
        let root = builder.finish { cid, block in
            nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: block))
        }
        // The only leaf is the root, and is found by the object's CID.
        return SealResult(
            cid: root.cid, treeSize: root.treeSize, leaves: leaves.count > 1 ? leaves : [],
            nodes: nodes)
    }
}

extension SealResult {
    /// Computes the DAG of content that lies in memory.
    package static func sealing(_ bytes: [UInt8], profile: ImportProfile) -> SealResult {
        var assembler = FileDAGAssembler(profile: profile)
        for leaf in bytes.withUnsafeBytes(profile.leaves) { assembler.add(leaf) }
        return assembler.finish()
    }
}

extension ImportProfile {
    /// The CID of a leaf of a file of several leaves.
    package func leafCID(_ multihash: Multihash) -> CID {
        rawLeaves
            ? CID(codec: .raw, multihash: multihash)
            : CID.dagPB(multihash, version: cidVersion)
    }

    /// What a builder has to know of a leaf whose CID is known and whose bytes are not at hand.
    ///
    /// - Parameter length: the bytes of the file in it.
    package func leaf(_ cid: CID, length: UInt64) -> Leaf {
        let framing = leafFraming(length: Int(length))
        return Leaf(
            cid: cid, fileSize: length,
            treeSize: UInt64(framing.prefix.count + framing.suffix.count) + length)
    }
}
