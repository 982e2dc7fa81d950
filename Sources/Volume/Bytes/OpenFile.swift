internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import ObjectStore
internal import Synchronization

/// What all open file descriptions of one inode share.
///
/// Sendable although unchecked: the mutable fields are touched only under the manifest's lock.
final class OpenFile: @unchecked Sendable {
    let inode: Inode
    /// Held by whoever changes the bytes, the size or the object of the inode, so that such
    /// changes come one after another. Taken before the manifest's lock, never after it.
    let writeLock = Monitor<Void>((), rank: .file)

    /// The flat file of `object`, once it was opened.
    var file: ObjectFile?
    /// Whether `file` was opened for writing.
    var isFileWritable = false
    /// Open handles, and operations under way.
    var users = 0
    /// Open handles.
    var opens = 0
    /// Handles that can write.
    var writers = 0
    /// What its name was when it was made, as far as it tells of its size; nil where nobody saw.
    var nameClass: SmallFilePredictor.NameClass?
    /// Where the handles read and write without asking; nil while they ask, or there are none.
    var backing: Backing?
    /// The remote object that was read through it.
    var remoteObject: UInt64?
    /// The first of the open handles was told to ask, and so must all others be.
    var isServedByRequest = false
    /// The thread that removed `security.capability` last, and has asked for nothing since.
    var capabilityRemover: Int32?
    /// The mode has lost bits that the kernel may not know of; read without the lock.
    let hasLostPrivileges = Atomic<Bool>(false)

    /// Whether the bytes may be changed by somebody who has the file open.
    var hasWriters: Bool { writers > 0 || backing?.isWritable == true }

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
    /// What the kernel holds of an inode, by inode number.
    var kernelReferences: [UInt64: KernelReference] = [:]
    /// The inode whose backing file an object's flat file is, by object.
    var backed: [UInt64: Inode] = [:]
    /// Inodes whose backing file was still mapped after the last close.
    var mappedAfterClose: Set<UInt64> = []
    /// Sealed files whose content another object has, too, found while they had a backing file.
    var missedDuplicates: Set<UInt64> = []
    /// Reads under way of flat files that several inodes share, by object.
    private(set) var sharedReads: [UInt64: Int] = [:]
    var openFiles: [UInt64: OpenFile] = [:]
    var smallFiles = SmallFilePredictor()
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

    /// Remote objects of which some bytes are here, or were asked for, by object.
    var remoteFiles: [UInt64: RemoteFile] = [:]
    /// How many open files have read a remote object, by object.
    private var remoteUsers: [UInt64: Int] = [:]
    /// Remote objects that nobody has open.
    var closedRemotes = ClosedRemotes()

    /// Notes that an open file reads a remote object.
    func noteRemote(_ object: UInt64, of file: OpenFile) {
        guard file.remoteObject != object else { return }
        endRemote(of: file)
        file.remoteObject = object
        remoteUsers[object, default: 0] += 1
        closedRemotes.remove(object)
        remoteFiles[object]?.note(isOpen: true)
    }

    /// Ends the use of the remote object that a file has read.
    func endRemote(of file: OpenFile) {
        guard let object = file.remoteObject else { return }
        file.remoteObject = nil
        let left = remoteUsers[object, default: 1] - 1
        remoteUsers[object] = left == 0 ? nil : left
        guard left == 0, let remote = remoteFiles[object] else { return }
        remote.note(isOpen: false)
        closedRemotes.add(object, extentCount: remote.extentCount)
    }

    func hasRemoteOpen(_ object: UInt64) -> Bool { remoteUsers[object] != nil }

    /// Counts changes of names, attributes and content that came by requests.
    var changes: UInt64 = 0
    /// When the tree is to be published.
    var publication = Publication()

    /// Large files that an fsync flushes for the first time, by inode.
    var flushing: Set<UInt64> = []
    /// How many seals of an inode are under way.
    var sealing: [UInt64: Int] = [:]
    /// What was hashed of files that had a writer, by inode.
    var hashed: [UInt64: HashedFile] = [:]
    private static let hashedMax = 32

    /// Keeps what was found of a file that cannot be sealed yet.
    func noteHashed(_ inode: Inode, _ file: HashedFile) {
        // Any other one goes: its file is then hashed again, and nothing worse.
        if hashed.count >= Self.hashedMax, let other = hashed.keys.first { hashed[other] = nil }
        hashed[inode.number] = file
    }

    func beginSharedRead(_ object: UInt64) {
        sharedReads[object, default: 0] += 1
    }

    func endSharedRead(_ object: UInt64) {
        let left = sharedReads[object, default: 1] - 1
        sharedReads[object] = left == 0 ? nil : left
    }

    /// Notes whether the pages that the kernel has of a file hold; gives what was so before.
    @discardableResult
    func notePages(of inode: Inode, hold: Bool) -> Bool {
        guard let index = kernelReferences.index(forKey: inode.number) else { return false }
        defer { kernelReferences.values[index].pagesHold = hold }
        return kernelReferences.values[index].pagesHold
    }

    /// Forgets a flat file that is the inode's no longer.
    func forgetUnsynchronized(_ inode: Inode) {
        unsynchronized.removeValue(forKey: inode.number)
    }
}

/// The DAG of a flat file as it was at a modification time.
struct HashedFile: Sendable {
    let object: UInt64
    let size: UInt64
    let modified: Timestamp
    let result: SealResult
}

/// What the kernel holds of an inode. There is one for each that it knows, so it has 8 bytes.
struct KernelReference {
    /// The count, and `pagesHold` in the lowest bit.
    private var bits: UInt64 = 0

    /// Lookups that it has not taken back, below 2^63.
    var count: UInt64 {
        get { bits >> 1 }
        set { bits = newValue << 1 | bits & 1 }
    }

    /// Its cached pages of the file, if it has any, hold the file's bytes.
    var pagesHold: Bool {
        get { bits & 1 != 0 }
        set { bits = bits & ~1 | (newValue ? 1 : 0) }
    }
}

/// A flat file with bytes that may not be durable.
struct UnsynchronizedFile: Sendable {
    let file: ObjectFile
    /// Counts the changes, so that one that comes during a flush is not taken for flushed.
    let changes: UInt64
}
