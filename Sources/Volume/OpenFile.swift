internal import Base
internal import ObjectStore

/// What all open file descriptions of one inode share.
///
/// Sendable although unchecked: the mutable fields are touched only under the manifest's lock.
final class OpenFile: @unchecked Sendable {
    let inode: Inode
    /// Held by whoever changes the bytes, the size or the object of the inode, so that such
    /// changes come one after another. Taken before the manifest's lock, never after it.
    let writeLock = Monitor<Void>(())

    /// The flat file of `object`, once it was opened.
    var file: ObjectFile?
    /// Whether `file` was opened for writing.
    var isFileWritable = false
    /// Open handles, and operations under way.
    var users = 0
    /// Handles that can write.
    var writers = 0

    init(inode: Inode) {
        self.inode = inode
    }
}

/// One open file description.
final class FileHandle: Sendable {
    let file: OpenFile
    let flags: OpenFlags

    init(file: OpenFile, flags: OpenFlags) {
        self.file = file
        self.flags = flags
    }

    var inode: Inode { file.inode }
}

/// Tables of the running volume that stand beside the manifest's records.
///
/// Sendable although unchecked: touched only under the manifest's lock.
final class RunningState: @unchecked Sendable {
    /// The references that the kernel holds to an inode, by inode number.
    var kernelReferences: [UInt64: UInt64] = [:]
    var openFiles: [UInt64: OpenFile] = [:]
    /// Flat files with bytes that may not be durable, by inode number; they outlive their handles.
    private(set) var unsynchronized: [UInt64: UnsynchronizedFile] = [:]
    /// The bound of `unsynchronized`: each holds a descriptor.
    static let unsynchronizedMax = 512

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
}

/// A flat file with bytes that may not be durable.
struct UnsynchronizedFile: Sendable {
    let file: ObjectFile
    /// Counts the changes, so that one that comes during a flush is not taken for flushed.
    let changes: UInt64
}
