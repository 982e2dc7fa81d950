public import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import Synchronization

internal import struct SystemPackage.Errno

// The view of snapshots: `.registryfs/snapshots/NAME/…` below the root, there to read.
//
// Owns: the inodes of the view that the kernel knows, with its references; what directories of snapshots hold, those
// that were looked into lately; the files of the view that are open. All of it is in memory: no row of the manifest
// knows the view, so nothing that walks the tree, counts its inodes or computes its CIDs meets it. The directory
// `.registryfs` is in no listing, and is found by its name where the root has no entry of that name; one that it has,
// from a tree of others, hides the view.
// Locks: its own, each for a few statements and below all others; the manifest's for the objects of open files. Blocks
// are asked for without any lock: here first, then elsewhere, as an operation that waits.
// Invariants: an inode of the view has a number of its own range, so each operation on one branches off at its top;
// what gets through to `record(_:_:)` nevertheless would change something, and is EROFS. An inode is one name of one
// snapshot: its number is made of these, so it is the same when it is asked for again, and never another one's that
// the kernel knows. What an inode of a snapshot holds never changes; which snapshots there are is never remembered by
// the kernel. Bytes of an object are read only while the object is sealed with the file's CID, before and after.

/// What the view of snapshots has.
final class SnapshotView: Sendable {
    /// The least inode number of the view. Those of stored inodes go up to 2^62.
    static let firstNumber: UInt64 = (1 << 62) + 1
    /// The least handle of a file of the view.
    static let firstHandle: UInt64 = 1 << 62
    /// `.registryfs`.
    static let top = Inode(firstNumber)
    /// `.registryfs/snapshots`.
    static let snapshots = Inode(firstNumber + 1)
    /// The name of the view in the root directory.
    static let topName = FileName(".registryfs")
    static let snapshotsName = FileName("snapshots")

    let nodes = Monitor(SnapshotNodes())
    let directories = Monitor(SnapshotDirectories())
    let files = Monitor(SnapshotFiles())
    /// The flat files that open files are read from.
    let flatFiles = LockBound(SnapshotFlatFiles())
    /// In place of the volume's snapshots.
    private let injected = Monitor<(@Sendable () -> [Snapshot])?>(nil)
    /// When the newest change of the snapshots came that was told of; nanoseconds since the epoch.
    private let changedAt = Atomic<Int64>(.min)
    /// What SQLite was told last for the view's sake.
    private let checkpoint = Monitor<(snapshot: UInt64, at: Int64)>(
        (0, -SnapshotView.checkpointMilliseconds))

    /// Whether a name of a directory stands for the view, unless there is an entry.
    static func isTopName(_ name: FileName, in directory: Inode) -> Bool {
        directory == .root && name == topName
    }

    func inject(_ list: @escaping @Sendable () -> [Snapshot]) {
        injected.withLock { $0 = list }
    }

    /// The snapshots, the oldest first.
    func list(of volume: Volume) -> [Snapshot] {
        injected.withLock { $0 }?() ?? volume.snapshots()
    }

    func snapshot(_ name: FileName, of volume: Volume) -> Snapshot? {
        list(of: volume).first { $0.name.utf8.elementsEqual(name.bytes) }
    }

    /// When a snapshot was made or deleted last, as far as it is known.
    func modified(of volume: Volume) -> Timestamp? {
        let told = changedAt.load(ordering: .relaxed)
        let made = list(of: volume).last?.createdAt ?? .min
        return max(told, made) == .min ? nil : Timestamp(nanoseconds: max(told, made))
    }

    func noteChange() {
        changedAt.store(Timestamp.now().nanoseconds, ordering: .relaxed)
    }

    /// Whether blocks that are not found may be found once SQLite has been told of all that changed: those of a
    /// snapshot that was made just now, and of content that came here since.
    func takesCheckpoint(for snapshot: UInt64) -> Bool {
        checkpoint.withLock { last in
            let now = MonotonicClock.milliseconds
            guard snapshot > last.snapshot || now - last.at >= Self.checkpointMilliseconds else {
                return false
            }
            last = (max(snapshot, last.snapshot), now)
            return true
        }
    }

    private static let checkpointMilliseconds: Int64 = 1_000

    /// What an inode of the view is.
    enum Place {
        case top
        case snapshots
        case node(SnapshotNode)
    }

    /// - Throws: ESTALE for one that is not known any more.
    func place(of inode: Inode) throws(Errno) -> Place {
        if inode == Self.top { return .top }
        if inode == Self.snapshots { return .snapshots }
        guard let node = nodes.withLock({ $0.find(inode) }) else {
            throw Volume.stale.because("\(inode) of a snapshot is not known any more")
        }
        return .node(node)
    }

    /// Drops references of the kernel.
    func forget(_ inode: Inode, count: UInt64) {
        let isUnused = nodes.withLock { nodes in
            nodes.drop(inode, count: count)
            return nodes.isEmpty
        }
        if isUnused { directories.withLock { $0.removeAll() } }
    }

    func forgetAll() {
        nodes.withLock { $0.removeAll() }
        directories.withLock { $0.removeAll() }
    }
}

extension Inode {
    /// It is one of the view of snapshots, and no row of the manifest's.
    var isOfView: Bool { number >= SnapshotView.firstNumber }
}

extension HandleID {
    /// It is of a file of the view of snapshots.
    var isOfView: Bool { number >= SnapshotView.firstHandle }
}

extension Volume {
    /// Must be called after a snapshot was made, deleted or named otherwise, without any lock: the kernel is told what the
    /// name stands for now.
    package func snapshotsChanged(_ name: String) {
        view.noteChange()
        nameChanged(FileName(name), in: SnapshotView.snapshots)
    }

    /// Has the view show other snapshots than the volume's, for tests.
    package func showSnapshots(_ list: @escaping @Sendable () -> [Snapshot]) {
        view.inject(list)
    }

    /// How many inodes of snapshots are known, for tests.
    package var shownSnapshotInodes: Int { view.nodes.withLock { $0.count } }

    /// Whether the entries of a directory may come and go, or stand for others, without the kernel being told in time: those
    /// of the directory of snapshots, a name that somebody else may turn out to have (`Domains`), and without a name those of a
    /// directory of a graft that lists nothing because they are not to be had. Nothing of what is there may be remembered.
    public func namesChangeUnseen(in directory: Inode, _ name: FileName? = nil) -> Bool {
        if directory == SnapshotView.snapshots { return true }
        guard let name else { return !directory.isOfView && isOfGraftAndNotLoaded(directory) }
        return mayBePulled(name, in: directory)
    }
}
