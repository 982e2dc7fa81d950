internal import Base
internal import InodeManifest
internal import ObjectStore
internal import Synchronization

/// An inode that is open: what all its open file descriptions share.
///
/// What changes of it is had with the manifest's state, as `file(state)`; here is what needs no lock.
final class OpenFile: Sendable {
    let inode: Inode
    /// Held by whoever changes the bytes, the size or the object of the inode, so that such
    /// changes come one after another. Taken before the manifest's lock, never after it.
    let writeLock = Monitor<Void>((), rank: .file)
    /// The mode has lost bits that the kernel may not know of; read without the lock.
    let hasLostPrivileges = Atomic<Bool>(false)
    private let state = LockBound(OpenFileState())

    init(inode: Inode) {
        self.inode = inode
    }

    func callAsFunction(_ lock: borrowing ManifestState) -> OpenFileState { state(lock) }
}

/// What changes of an open file; under the manifest's lock.
final class OpenFileState {
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
    /// How the handles get at its bytes.
    var passthrough = FilePassthrough()
    /// The remote object that was read through it.
    var remoteObject: UInt64?
    /// The thread that removed `security.capability` last, and has asked for nothing since.
    var capabilityRemover: Int32?

    /// Where the handles read and write without asking; nil while they ask, or there are none.
    var backing: Backing? { passthrough.backing }

    /// Whether the bytes may be changed by somebody who has the file open.
    var hasWriters: Bool { writers > 0 || passthrough.state.isWritable }
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
