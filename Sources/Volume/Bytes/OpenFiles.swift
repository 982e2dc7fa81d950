internal import Base
internal import InodeManifest
internal import ObjectStore

// The room of bytes: open and close, read, write, resize, copy and allocate, fsync.
//
// Owns: the open files, with their handles; the flat files whose bytes may not be durable; the reads under way of
// flat files that several inodes share.
// Locks: a file's write lock, held by whoever changes its bytes, size or object, of one file at a time; below it the
// manifest's lock, for records alone. Bytes are read and written without the manifest's lock. What turns out to
// be elsewhere fails with an error of our own before anything was changed, and is fetched without any lock.
// Invariants: a flat file that several inodes name, or that is sealed, is never written: it is copied or unsealed
// first, the latter durably. What was written and not flushed stands in `unsynchronized` until a flush of all of
// it has succeeded. A file whose flush failed fails all later ones.

/// What the room of bytes has.
struct BytesRoom: Sendable {
    private let files = LockBound(OpenFiles())
    /// What an operation was given open.
    let filesAhead = LockBound(FilesAhead())
    let handles = HandleTable()

    func callAsFunction(_ lock: borrowing ManifestState) -> OpenFiles { files(lock) }
}

/// The open files, and what of their flat files may not be durable yet.
final class OpenFiles {
    /// By inode number.
    var files: [UInt64: OpenFile] = [:]
    /// Flat files with bytes that may not be durable, by inode number; they outlive their handles.
    private(set) var unsynchronized: [UInt64: UnsynchronizedFile] = [:]
    /// The bound of `unsynchronized`: each holds a descriptor.
    static let unsynchronizedMax = 512
    /// Reads under way of flat files that several inodes share, by object.
    private(set) var sharedReads: [UInt64: Int] = [:]
    /// Large files that an fsync flushes for the first time, by inode number.
    var flushing: Set<UInt64> = []

    /// Notes that bytes of a flat file changed.
    func noteUnsynchronized(_ file: ObjectFile, of inode: Inode) {
        let changes = unsynchronized[inode.number]?.changes ?? 0
        unsynchronized[inode.number] = UnsynchronizedFile(file: file, changes: changes + 1)
    }

    /// Notes that the bytes are durable as they were at a number of changes.
    func noteSynchronized(_ inode: Inode, _ done: UnsynchronizedFile) {
        guard let now = unsynchronized[inode.number], now.file === done.file,
            now.changes == done.changes
        else { return }
        unsynchronized.removeValue(forKey: inode.number)
    }

    /// Forgets a flat file that is the inode's no longer.
    func forgetUnsynchronized(_ inode: Inode) {
        unsynchronized.removeValue(forKey: inode.number)
    }

    func beginSharedRead(_ object: UInt64) {
        sharedReads[object, default: 0] += 1
    }

    func endSharedRead(_ object: UInt64) {
        let left = sharedReads[object, default: 1] - 1
        sharedReads[object] = left == 0 ? nil : left
    }
}

/// A flat file with bytes that may not be durable.
struct UnsynchronizedFile: Sendable {
    let file: ObjectFile
    /// Counts the changes, so that one that comes during a flush is not taken for flushed.
    let changes: UInt64
}
