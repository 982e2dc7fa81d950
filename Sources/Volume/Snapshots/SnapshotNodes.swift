internal import Base
internal import MerkleDAG
internal import Multiformats

/// One name in one snapshot: an inode of the view.
final class SnapshotNode: Sendable {
    let inode: Inode
    /// The directory that it stands in.
    let parent: Inode
    let name: FileName
    let snapshot: Snapshot
    let cid: CID
    let treeSize: UInt64
    let entry: UnixFSEntry

    init(
        _ inode: Inode, _ name: FileName, in parent: Inode, of snapshot: Snapshot, cid: CID,
        treeSize: UInt64, _ entry: UnixFSEntry
    ) {
        self.inode = inode
        self.name = name
        self.parent = parent
        self.snapshot = snapshot
        self.cid = cid
        self.treeSize = treeSize
        self.entry = entry
    }

    /// The same by another number.
    func at(_ inode: Inode) -> SnapshotNode {
        inode == self.inode
            ? self
            : SnapshotNode(
                inode, name, in: parent, of: snapshot, cid: cid, treeSize: treeSize, entry)
    }

    var kind: FileKind { entry.fileKind }

    /// Bytes of a file, or of a symlink's target; 0 for a directory.
    var size: UInt64 {
        switch entry {
        case .file(let size, _): size
        case .symlink(let target, _): UInt64(target.count)
        case .directory: 0
        }
    }

    /// The number of what has a name in a directory of the view: the same whenever it is asked for, with other names' but
    /// by accident.
    ///
    /// - Parameter snapshot: that of a snapshot's own directory is made of it as well, because another may have its name
    ///   later.
    static func number(_ name: FileName, in parent: Inode, of snapshot: Snapshot) -> UInt64 {
        let seed = parent == SnapshotView.snapshots ? snapshot.number : parent.number
        var bytes = name.bytes
        withUnsafeBytes(of: seed.littleEndian) { bytes.append(contentsOf: $0) }
        bytes.append(parent == SnapshotView.snapshots ? 1 : 0)
        let hash = bytes.withUnsafeBytes { Murmur3.hash64($0) }
        return least + (hash & (1 << 61 - 1))
    }

    /// Below it are the directories that are always there.
    private static let least = SnapshotView.firstNumber + 16
}

extension UnixFSEntry {
    var fileKind: FileKind {
        switch self {
        case .file: .regular
        case .directory: .directory
        case .symlink: .symlink
        }
    }

    var metadata: UnixFSMetadata {
        switch self {
        case .file(_, let metadata), .directory(_, let metadata), .symlink(_, let metadata):
            metadata
        }
    }
}

/// The inodes of snapshots that somebody knows: those with references of the kernel's, their directories, and a few
/// that were asked for by their paths.
struct SnapshotNodes {
    private struct Row {
        let node: SnapshotNode
        /// Lookups that the kernel has not taken back.
        var references: UInt64 = 0
        /// Known inodes in it that count it as theirs.
        var children = 0
        /// Its directory counts it.
        let isCounted: Bool
        /// It was asked for by its path a short while ago.
        var isPassing = false
    }

    private var rows: [UInt64: Row] = [:]
    /// Those that are passing, the oldest first.
    private var passing: [Inode] = []

    /// How many are known for their paths alone.
    private static let passingMax = 256

    var isEmpty: Bool { rows.isEmpty }
    var count: Int { rows.count }

    func find(_ inode: Inode) -> SnapshotNode? { rows[inode.number]?.node }

    /// Gives the inode of a name, made where it is not known, with one reference more; without references for a while.
    mutating func enter(
        _ name: FileName, in parent: Inode, of snapshot: Snapshot, isReferenced: Bool = true,
        _ make: (Inode) -> SnapshotNode
    ) -> SnapshotNode {
        var number = SnapshotNode.number(name, in: parent, of: snapshot)
        // Another name may have the number.
        while let other = rows[number]?.node,
            other.name != name || other.parent != parent
                || other.snapshot.number != snapshot.number
        {
            number += 1
        }
        if rows[number] == nil {
            let isCounted = rows[parent.number] != nil
            if isCounted { rows[parent.number]?.children += 1 }
            rows[number] = Row(node: make(Inode(number)), isCounted: isCounted)
        }
        // It was there, or is since the line before.
        guard let node = rows[number]?.node else { preconditionFailure("no row \(number)") }
        if isReferenced {
            rows[number]?.references += 1
        } else if rows[number]?.isPassing == false {
            rows[number]?.isPassing = true
            passing.append(node.inode)
            if passing.count > Self.passingMax { endPassing() }
        }
        return node
    }

    private mutating func endPassing() {
        let inode = passing.removeFirst()
        rows[inode.number]?.isPassing = false
        dropIfUnused(inode)
    }

    /// Drops references; what has none, and nothing known in it, is not known any more.
    mutating func drop(_ inode: Inode, count: UInt64) {
        guard let references = rows[inode.number]?.references else { return }
        rows[inode.number]?.references = references - min(references, count)
        dropIfUnused(inode)
    }

    private mutating func dropIfUnused(_ inode: Inode) {
        var inode = inode
        // Its directory may have been known for its sake alone.
        while let row = rows[inode.number], row.references == 0, row.children == 0, !row.isPassing {
            rows[inode.number] = nil
            guard row.isCounted else { return }
            inode = row.node.parent
            rows[inode.number]?.children -= 1
        }
    }

    mutating func removeAll() {
        rows = [:]
        passing = []
    }
}
