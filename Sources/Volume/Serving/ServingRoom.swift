internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG

internal import struct SystemPackage.Errno

// The room of serving: what others read of the volume who are no programs on the mount: names, blocks, whole files, the
// newest root. Whoever serves maps it to what he speaks; this knows of no protocol.
//
// Owns: the files that are lent, with who reads them still; which directories are no uploads, as far as that was found
// out; what blocks from elsewhere have linked to lately; the root that was told last, and who computes the next one.
// Locks: the manifest's lock to find a block and to begin a lending, for a few statements and reads of SQLite; all others
// for a few statements, below it. Nothing is opened, read, hashed or asked of a remote under any of them, and nobody
// who serves ever holds a file's write lock but for a sync of what a small file has.
// Invariants: only sealed bytes are given, as a copy that was compared with its hash or by a descriptor of its own, open to
// read. While that is there the object is *lent*, and counts as shared: whoever writes to it gets a copy
// (`ManifestState.isShared`). An object that backs an open file is not lent, nor is one that is lent given to an open file as its
// backing file, because a writer of a backing file cannot be given another. Nothing at or below a name `_uploads` is given by its
// name, and in the scope of the tree nothing below it by its CID: the directory's own block is, because whoever has this tree by its CID
// looks at each name of the directory above. No access time moves, no reference of the kernel is counted.

/// Why something cannot be given to others.
public enum ServingFailure: Error, Sendable {
    /// It is not there, or is not for others.
    case notFound
    /// It may be there a moment later.
    case unavailable(reason: String)
    /// Whoever has it elsewhere took too long.
    case timedOut
    /// What there is of it has another hash.
    case damaged(reason: String)
    /// A bound was passed.
    case tooLarge(reason: String)
    case failed(reason: String)
}

/// Which content is given.
public enum ContentScope: Sendable {
    /// What the tree, a snapshot or a published root has, and not only uploads under way.
    case tree
    case any
}

/// Bytes for others, or the file in which they lie.
public enum LentBytes: Sendable {
    case bytes([UInt8])
    /// A range in bytes.
    case file(LentFile, offset: UInt64, count: UInt64)
}

/// Where in the uploads of a repository something is.
enum UploadsPlace: Sendable {
    /// It is their directory itself, of which the names are given.
    case directory
    /// It is below that, and not given.
    case below
}

/// What the room of serving has.
struct ServingRoom: Sendable {
    private let state = LockBound(ServingState())
    /// Multihashes of what blocks in scope have linked to lately, where that may be elsewhere.
    let linked = Monitor(Recent<[UInt8], Void>(countMax: linkedMax))
    /// Multihashes of the uploads of directories that were given lately, and of what is below them: where a snapshot has them nothing
    /// else tells what they are.
    let uploads = Monitor(Recent<[UInt8], UploadsPlace>(countMax: uploadsMax))
    /// DAG nodes of what is elsewhere, got for others lately.
    let fetched = Monitor(BlockMemory(bytesMax: fetchedBytesMax))
    let checkpoints = Monitor(ServingCheckpoints())
    let root = ServedRoot()
    /// Remote files that were lent and are not any more; their lock is not to be waited for by who lets go of them.
    let endedReads = Monitor<[RemoteFile]>([])

    private static let fetchedBytesMax = 8 << 20
    private static let linkedMax = 65_536
    private static let uploadsMax = 16_384

    func callAsFunction(_ lock: borrowing ManifestState) -> ServingState { state(lock) }

    /// Ends the reads of remote files that were lent.
    func endReads() {
        let ended = endedReads.withLock { ended in
            defer { ended = [] }
            return ended
        }
        for file in ended { file.endRead() }
    }
}

/// What serving knows under the manifest's lock.
final class ServingState {
    /// The files that are lent, by object; some of them may be let go by now.
    var lent = LentFiles()
    /// Whether a directory lies in the tree and below no uploads, by inode number, as of a count of changes of names.
    private var places: [UInt64: Bool] = [:]
    private var entryChangeCount: UInt64 = 0
    private static let placesMax = 65_536

    /// What is known of the place of a directory.
    func place(of inode: Inode, _ state: ManifestState) -> Bool? {
        if entryChangeCount != state.entryChangeCount {
            (places, entryChangeCount) = ([:], state.entryChangeCount)
        }
        return places[inode.number]
    }

    func note(_ inodes: [Inode], areServed: Bool) {
        if places.count + inodes.count > Self.placesMax { places = [:] }
        for inode in inodes { places[inode.number] = areServed }
    }
}

/// Which checkpoints were made for blocks that were found nowhere.
struct ServingCheckpoints {
    /// In milliseconds of `MonotonicClock`; nil for none.
    private var last: Int64?
    private(set) var count = 0
    /// Recent blocks are kept in memory.
    var hasBegun = false

    /// Between two of them, in milliseconds.
    private static let interval: Int64 = 1_000

    /// Whether one may be made now, which it is then.
    mutating func take() -> Bool {
        let now = MonotonicClock.milliseconds
        if let last, now - last < Self.interval { return false }
        last = now
        count += 1
        return true
    }
}

extension Volume {
    /// The name below which uploads under way lie in a registry's tree.
    static let uploadsName = FileName("_uploads")

    /// Checkpoints that were made because somebody asked for a block that was found nowhere.
    package var servingCheckpointCount: Int { serving.checkpoints.withLock { $0.count } }

    /// The objects of which somebody has a flat file that he was lent.
    package var lentObjectCount: Int { manifest.withLock { $0.lent.count } }

    /// Does an operation for others.
    func serve<Result>(
        _ what: @autoclosure () -> String, _ body: () throws(Errno) -> Result
    ) throws(ServingFailure) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            let reason = "\(what()): \(FailureCause.words(for: error))"
            switch error {
            // The volume closes.
            case .interrupted: throw .unavailable(reason: reason)
            case .resourceTemporarilyUnavailable: throw .unavailable(reason: reason)
            default: throw .failed(reason: reason)
            }
        }
    }
}
