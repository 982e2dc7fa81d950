// The balanced layout: all leaves at one depth, every DAG node full but those at the right edge.
//
// DAG nodes are grouped level by level from below, `fileLinksMax` at a time, which gives exactly the
// tree that the usual description (grow a new root above the old one, fill it) gives.

public import Multiformats

/// The root of a finished DAG.
public struct DAGRoot: Hashable, Sendable {
    /// The CID of the root's block.
    public var cid: CID
    /// The bytes of the file; 0 for a directory or a symlink.
    public var fileSize: UInt64
    /// The bytes of all blocks together, each counted as often as it is linked: the Tsize.
    public var treeSize: UInt64

    /// Makes a root of what somebody computed.
    public init(cid: CID, fileSize: UInt64, treeSize: UInt64) {
        self.cid = cid
        self.fileSize = fileSize
        self.treeSize = treeSize
    }
}

/// Builds the DAG nodes above the leaves of a file while the leaves come in.
///
/// Keeps at most `fileLinksMax` links a level, whatever the size of the file.
public struct BalancedDAGBuilder: Sendable {
    private let profile: ImportProfile
    private let metadata: UnixFSMetadata
    /// The DAG nodes of each level that have no parent yet, the leaves first.
    private var levels: [[Leaf]] = []
    /// The leaves that came in.
    public private(set) var leafCount = 0
    /// The bytes of the file that came in.
    public private(set) var fileSize: UInt64 = 0

    /// Begins a file.
    ///
    /// - Parameter metadata: the attributes for the root. A file of one chunk has its only leaf as
    ///   root: the caller makes that leaf with the same metadata.
    /// - Precondition: there is no metadata if leaves are raw (see `ImportProfile.forMetadata`).
    public init(profile: ImportProfile, metadata: UnixFSMetadata = .none) {
        precondition(metadata.isEmpty || !profile.rawLeaves, "a raw leaf cannot hold attributes")
        self.profile = profile
        self.metadata = metadata
    }

    /// Takes the next leaf in the order of the file.
    ///
    /// - Parameter emit: gets each DAG node above the leaves once it is full, children first.
    public mutating func append<Failure: Error>(
        _ leaf: Leaf, emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        leafCount += 1
        fileSize &+= leaf.fileSize
        try append(leaf, atLevel: 0, emit: emit)
    }

    private mutating func append<Failure: Error>(
        _ node: Leaf, atLevel level: Int, emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        if level == levels.count {
            levels.append([])
        } else if levels[level].count == profile.fileLinksMax {
            // A full DAG node waits for the next one, because the last of all would be the root.
            try closeNode(atLevel: level, emit: emit)
        }
        levels[level].append(node)
    }

    private mutating func closeNode<Failure: Error>(
        atLevel level: Int, emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        let (node, block) = makeNode(levels[level], metadata: .none)
        levels[level].removeAll(keepingCapacity: true)
        try emit(node.cid, block)
        try append(node, atLevel: level + 1, emit: emit)
    }

    /// Ends the file and gives its root.
    ///
    /// - Parameter emit: gets the DAG nodes that are left, children first; for an empty file, its
    ///   only leaf.
    public mutating func finish<Failure: Error>(
        emit: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(Failure) -> DAGRoot {
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        if leafCount == 0 {
            let leaf = profile.leaf(nothing, metadata: metadata)
            try emit(leaf.cid, profile.leafBlock(nothing, metadata: metadata))
            return DAGRoot(cid: leaf.cid, fileSize: 0, treeSize: leaf.treeSize)
        }
        if leafCount == 1 {
            let leaf = levels[0][0]
            return DAGRoot(cid: leaf.cid, fileSize: leaf.fileSize, treeSize: leaf.treeSize)
        }
        // Every level has at least one DAG node, and the last one at least two: its first came from a
        // full DAG node below, which was closed because another one followed.
        var level = 0
        while level < levels.count - 1 {
            // May add a level, when the one above is full too.
            try closeNode(atLevel: level, emit: emit)
            level += 1
        }
        let (root, block) = makeNode(levels[level], metadata: metadata)
        try emit(root.cid, block)
        return DAGRoot(cid: root.cid, fileSize: root.fileSize, treeSize: root.treeSize)
    }

    private func makeNode(_ children: [Leaf], metadata: UnixFSMetadata) -> (Leaf, [UInt8]) {
        var writer = DAGNodeWriter()
        writer.reserveCapacity(children.count * 64 + 64)
        var fileSize: UInt64 = 0
        for child in children {
            writer.appendLink(child.cid, treeSize: child.treeSize)
            fileSize &+= child.fileSize
        }
        let message = UnixFSData(
            kind: .file, fileSize: fileSize, blockSizes: children.map(\.fileSize),
            metadata: metadata)
        let block = writer.finish(data: message.encoded())
        let node = Leaf(
            cid: profile.nodeCID(.sha256(of: block)), fileSize: fileSize,
            treeSize: writer.treeSize(of: block))
        return (node, block)
    }
}
