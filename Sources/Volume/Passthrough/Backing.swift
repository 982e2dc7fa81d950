internal import Base
internal import InodeManifest
internal import ObjectStore
internal import Synchronization

/// The flat file that an open inode's bytes are read and written in behind the volume's back, as it was under the
/// manifest's lock. Its `file` stays the same while the write lock is held.
struct Backing: Sendable {
    /// The inode's object, or a file of the pool that may become it.
    fileprivate(set) var file: ObjectFile
    /// Nil while a registration that ended is not needed again.
    fileprivate(set) var id: BackingID?
    /// Whether the file came from the pool.
    let isPooled: Bool
    /// Somebody can write, as the state tells.
    fileprivate(set) var isWritable = false
    /// Somebody could map it to be written, which takes a handle to read and write (mmap(2), EACCES).
    /// Of what is written by write(2) alone, the kernel knows.
    fileprivate(set) var isMappable = false

    /// Its hashing was begun before its close.
    fileprivate(set) var wasHashedAhead = false
    /// The size and modification time when the manifest last took the bytes over; they may be newer.
    fileprivate var taken: (size: UInt64, modified: Timestamp)?
    /// The file's own times, as the inode's times last took notice of them.
    fileprivate var modifiedSeen: Timestamp
    fileprivate var accessedSeen: Timestamp
    /// How long it is the inode's.
    let attachment = BackingAttachment()

    init(file: ObjectFile, id: BackingID, isPooled: Bool, _ status: FileStatus) {
        self.file = file
        self.id = id
        self.isPooled = isPooled
        modifiedSeen = status.modified
        accessedSeen = status.accessed
    }

    /// The times of its inode, with what the file knows and the inode does not yet.
    func times(
        of known: (modified: Timestamp, changed: Timestamp, accessed: Timestamp),
        _ status: FileStatus
    ) -> (modified: Timestamp, changed: Timestamp, accessed: Timestamp) {
        var times = known
        if isWritable, status.modified != modifiedSeen {
            times.modified = status.modified
            times.changed = max(known.changed, status.modified)
        }
        if status.accessed != accessedSeen {
            times.accessed = max(known.accessed, status.accessed)
        }
        return times
    }
}

/// For how long a backing file is an inode's; asked without the manifest's lock.
final class BackingAttachment: Sendable {
    private let hasEnded = Atomic<Bool>(false)

    /// It was taken away, and the file may be emptied from now on. What was asked of the file while this is false yet
    /// was the inode's.
    var isOver: Bool { hasEnded.load(ordering: .sequentiallyConsistent) }

    fileprivate func end() { hasEnded.store(true, ordering: .sequentiallyConsistent) }
}

/// What the room of backing files knows of one open file: its state, and the backing file in the states that
/// have one. Each change of it is an event of the state.
struct FilePassthrough {
    private(set) var state = BackingState.undecided
    /// Where the handles read and write without asking; nil while they ask, or there are none.
    private(set) var backing: Backing?

    private mutating func move(_ event: BackingState.Event) -> Bool {
        guard state.move(event) else { return false }
        backing?.isWritable = state.isWritable
        return true
    }

    // MARK: Opening

    /// All handles are to ask, until the last close.
    mutating func refuse() { _ = move(.refuse) }

    /// Gives the file a backing file, which nobody can write so far.
    mutating func attach(_ backing: Backing) {
        guard move(.attach) else { return }
        self.backing = backing
    }

    /// Gives a handle the backing file.
    mutating func use(isMappable: Bool) {
        guard move(.use) else { return }
        if isMappable { backing?.isMappable = true }
    }

    /// Notes that the backing file is registered again.
    mutating func register(_ id: BackingID) {
        guard move(.register) else { return }
        backing?.id = id
    }

    /// Lets somebody write.
    ///
    /// - Parameter flat: the same file open to be written; nil where it is.
    mutating func makeWritable(_ flat: ObjectFile? = nil) {
        guard move(.makeWritable) else { return }
        if let flat { backing?.file = flat }
    }

    /// Notes that its hashing is begun before its close.
    mutating func noteHashedAhead() { backing?.wasHashedAhead = true }

    // MARK: What is written

    /// Notes that the bytes may be newer than the manifest's.
    mutating func noteChange() { _ = move(.change) }

    /// Has the bytes taken over again where they may have changed without the file's time telling:
    /// by a store to a page that is mapped and dirty already. A seal that is under way begins again then.
    mutating func doubtSynced() {
        if let backing, backing.isMappable, state.isWritable { _ = move(.change) }
    }

    /// Notes that the manifest took the bytes over.
    ///
    /// - Parameter isSettled: each later write will move the file's time.
    mutating func noteSynced(_ status: FileStatus, isSettled: Bool) {
        guard move(isSettled ? .sync : .syncTooSoon) else { return }
        backing?.taken = (status.size, status.modified)
    }

    /// Whether the manifest has all bytes of a file that is as its status tells.
    func isSynced(_ status: FileStatus) -> Bool {
        state.bytes == .synced && hasTaken(status)
    }

    /// Whether the manifest took the bytes over last when the file was as its status tells.
    func hasTaken(_ status: FileStatus) -> Bool {
        guard let taken = backing?.taken else { return false }
        return taken.size == status.size && taken.modified == status.modified
    }

    // MARK: Times

    /// The times of its inode, with what the backing file knows and it does not yet.
    func times(
        of record: InodeRecord, _ status: FileStatus
    ) -> (modified: Timestamp, changed: Timestamp, accessed: Timestamp) {
        let known = (record.modified, record.changed, record.accessed)
        return backing?.times(of: known, status) ?? known
    }

    /// Notes that the inode's times follow the backing file's.
    mutating func noteTimes(_ status: FileStatus) {
        backing?.modifiedSeen = status.modified
        backing?.accessedSeen = status.accessed
    }

    /// Notes a time of a change by the volume itself, which the inode's own time tells of already.
    mutating func noteModified(_ status: FileStatus) { backing?.modifiedSeen = status.modified }

    // MARK: Closing

    /// Notes that the last handle ended.
    mutating func noteClosed() { _ = move(.close) }

    /// Notes that the registration ends; gives it, where there is one.
    mutating func endRegistration() -> BackingID? {
        guard move(.unregister) else { return nil }
        defer { backing?.id = nil }
        return backing?.id
    }

    /// Notes that somebody has the file mapped after its last close.
    mutating func keepMapped() { _ = move(.keepMapped) }

    /// Takes the backing file away.
    mutating func takeAway() {
        guard move(.takeAway) else { return }
        backing?.attachment.end()
        backing = nil
    }
}
