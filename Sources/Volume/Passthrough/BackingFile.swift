public import Base
internal import ObjectStore
internal import Synchronization

public import struct SystemPackage.Errno

/// The number under which a backing file is registered.
public struct BackingID: Hashable, Sendable {
    public let number: Int32

    public init(_ number: Int32) {
        self.number = number
    }
}

/// Where backing files are registered: with somebody (the kernel) who reads and writes the bytes of
/// an open file in a flat file of the volume, and does not ask the volume for each read and write.
public protocol BackingRegistry: Sendable {
    /// Registers an open regular file.
    ///
    /// - Throws: why it is refused; the file is then served by `read` and `write`.
    func register(_ descriptor: Int32) throws(Errno) -> BackingID

    /// From now on the size and the times of an inode change without anybody being told, so that
    /// what is remembered of them must be asked for again.
    func attributesMayChange(of inode: Inode)

    /// Ends a registration. Files that were opened with it stay usable.
    func unregister(_ id: BackingID)
}

/// The flat file that an open inode's bytes are read and written in behind the volume's back.
///
/// Sendable although unchecked: the mutable fields are touched only under the manifest's lock.
final class Backing: @unchecked Sendable {
    /// The inode's object, or a file of the pool that may become it.
    var file: ObjectFile
    /// Nil while a registration that ended is not needed again.
    var id: BackingID?
    /// Whether the file came from the pool.
    let isPooled: Bool
    /// Somebody can write. It stays true until the backing file is taken away, because a shared
    /// mapping may outlive its file descriptor.
    var isWritable = false
    /// Somebody could map it to be written, which takes a handle to read and write (mmap(2), EACCES).
    /// Of what is written by write(2) alone, the kernel knows.
    var isMappable = false

    /// Its hashing was begun before its close.
    var wasHashedAhead = false
    /// The size and modification time at which the manifest took the bytes over; nil where they may
    /// be newer.
    var synced: (size: UInt64, modified: Timestamp)?
    /// The size and modification time when the manifest last took over; the bytes may be newer.
    var taken: (size: UInt64, modified: Timestamp)?
    /// The file's own times, as the inode's times last took notice of them.
    var modifiedSeen: Timestamp
    var accessedSeen: Timestamp
    /// It is taken away, and its file may be emptied from now on; read without the lock. What was asked of the
    /// file while this is false yet was the inode's.
    let isDetached = Atomic<Bool>(false)

    /// Has the bytes taken over again where they may have changed without the file's time telling:
    /// by a store to a page that is mapped and dirty already. A seal that is under way begins again then.
    func doubtSynced() {
        if isMappable { synced = nil }
    }

    init(file: ObjectFile, id: BackingID, isPooled: Bool, _ status: FileStatus) {
        self.file = file
        self.id = id
        self.isPooled = isPooled
        modifiedSeen = status.modified
        accessedSeen = status.accessed
    }
}

/// Empty flat files that are registered and ready, so that making a file costs neither.
///
/// Most new files of a registry are tiny: their content moves into the manifest, and the flat file
/// comes back here. Their numbers are reserved, so a crash leaves nothing but strays.
final class BackingPool: Sendable {
    struct Ready: Sendable {
        let file: ObjectFile
        let id: BackingID
    }

    private struct State {
        var registry: (any BackingRegistry)?
        var isStopped = false
        var ready: [Ready] = []
        /// More are wanted, and nobody has begun to make them.
        var isLow = false
    }

    /// The bound of what lies ready: each holds a descriptor.
    private static let readyMax = 64
    /// Where fewer lie ready and one is kept, more are made in the background: so many at a time, with
    /// one flush for the names of all.
    private static let readyMin = 8
    static let refillCount = 16
    /// How far a number may fall behind the newest. After a crash all numbers from the lowest
    /// reserved one on are looked for.
    static let numberAgeMax: UInt64 = 65_536

    private let state = Monitor(State())

    /// Nil where nothing is registered any more.
    var registry: (any BackingRegistry)? {
        state.withLock { $0.isStopped ? nil : $0.registry }
    }

    func start(_ registry: any BackingRegistry) {
        state.withLock { $0.registry = registry }
    }

    /// Ends the registering; gives what lay ready.
    func stop() -> [Ready] {
        defer { state.wakeAll() }
        return state.withLock { state in
            defer { state.ready = [] }
            state.isStopped = true
            return state.ready
        }
    }

    /// Waits until more should be made; nil where nothing is registered any more.
    func waitUntilLow() -> (any BackingRegistry)? {
        state.withLock { state in
            while !state.isStopped {
                // Since it was noted, the last round may have made enough.
                if state.isLow, state.ready.count < Self.readyMin {
                    state.isLow = false
                    return state.registry
                }
                state.isLow = false
                self.state.wait(&state)
            }
            return nil
        }
    }

    /// Ends a registration, also one that outlived the registering.
    func unregister(_ id: BackingID) {
        state.withLock { $0.registry }?.unregister(id)
    }

    func take() -> Ready? { state.withLock { $0.ready.popLast() } }

    /// Notes that a file that was taken has become an object, and will not come back.
    func noteKept() {
        let isLow = state.withLock { state in
            if state.ready.count < Self.readyMin { state.isLow = true }
            return state.isLow
        }
        if isLow { state.wakeAll() }
    }

    /// Puts an empty file back; false where there are enough.
    func put(_ file: Ready) -> Bool {
        state.withLock { state in
            guard state.registry != nil, !state.isStopped, state.ready.count < Self.readyMax else {
                return false
            }
            state.ready.append(file)
            return true
        }
    }
}
