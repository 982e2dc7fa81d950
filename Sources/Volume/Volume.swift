public import Base
internal import Glibc
internal import InodeManifest
public import Logging
public import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

/// How a volume is to be opened.
public struct VolumeOptions: Sendable {
    /// How content becomes DAGs; nil takes the volume's own, and unixfs-v1-2025 for a new one.
    public var profile: ImportProfile?
    /// Every change is refused with EROFS.
    public var isReadOnly = false
    /// The largest content that is kept in the manifest instead of a flat file, in bytes.
    public var inlineSizeMax = 16 << 10
    /// How long changes wait for a commit that nobody asked for, in milliseconds.
    public var commitIntervalMilliseconds = 1000
    /// How long a file rests after its last writer closed it until it is sealed, in milliseconds.
    public var sealDelayMilliseconds = 200
    /// The length of each of the redo log's two segments, in bytes; 0 for no log.
    public var logSegmentByteCount = ManifestBounds.logSegmentByteCount
    /// Threads that seal files in the background; 0 seals only when asked.
    public var sealThreads = Threads.processorCount
    /// The Kubo node that the content goes to; nil for none.
    public var remote: RemoteOptions?
    /// Whom the attribute `ipfs.cid` of a directory is for. It tells of all that is below.
    public var directoryCIDs = DirectoryCIDs.owner

    public init() {}
}

/// Whom the CID of a directory is told to; root and the user of this process always are. That of a file or
/// symlink is told to everyone who may read it.
public enum DirectoryCIDs: String, Sendable, CaseIterable {
    /// Everyone who may read the directory, whatever is below it.
    case readers
    /// Its owner.
    case owner
    /// Nobody else.
    case root
}

/// What POSIX means, on an inode manifest and an object store; runs without a kernel.
///
/// Every operation is synchronous and may be called from any thread. An operation that fails has
/// changed nothing. Changes are visible to every later operation at once, and durable after
/// `synchronize`, `synchronizeDirectory` or `synchronizeAll` returned, or about a second later.
///
/// Locks, in the order in which they are taken: the write lock of one open file; the manifest's
/// lock. Data is read and written without the manifest's lock. Nothing is asked of a node under any
/// lock, nor while something is noted that others wait for the end of.
public final class Volume: Sendable {
    /// The longest name of a directory entry, in bytes (NAME_MAX of linux/limits.h).
    public static let nameLengthMax = 255
    /// The largest file, in bytes: what off_t can say.
    public static let fileSizeMax = UInt64(Int64.max)

    public let options: VolumeOptions
    /// How content becomes DAGs.
    public let profile: ImportProfile
    /// The state directory's path as it was given.
    public let stateDirectoryPath: String

    let stateDirectory: StateDirectory
    let manifest: InodeManifest
    let store: ObjectStore
    let running = RunningState()
    let handles = HandleTable()
    /// Inodes that wait to be sealed in the background, each from a point in time on.
    let sealQueue = WorkQueue<Inode>()
    let backings = BackingPool()
    /// The node that the volume publishes to; nil without one.
    let connection: RemoteConnection?
    /// The user of this process.
    let ownUser = geteuid()
    /// Whether content may be at a node, so that a call may wait for it.
    public var hasRemote: Bool { connection != nil }
    /// Work that keeps processors busy beside the operations.
    public var background: BackgroundWork { manifest.background }
    /// Who is told of names that others change at the node.
    let names = Guarded<(any NamesObserver)?>(nil)
    /// Who is told of inodes that lost set-id bits.
    let privileges = Guarded<(@Sendable (Inode) -> Void)?>(nil)
    /// Operations that wait for it.
    let waits = RemoteWaits()
    /// Threads that may hash beside those that seal, all seals together. Measured on two processors:
    /// 1 GiB in 0.8 s with one of them, 1.1 s without.
    let hashHelpers = Guarded(max(0, Threads.processorCount - 1))
    /// Files that are being hashed, by inode number: each by one at a time.
    let hashing = Monitor<Set<UInt64>>([])
    /// Files whose content is being fetched because it is to be changed, by inode number.
    let arriving = Monitor<Set<UInt64>>([])
    /// Who brings the figures of `status` up to date.
    let figures = FigureRefresh()
    /// One computation of tree CIDs at a time.
    let treeLock = Monitor<Void>(())
    let log: Logger
    let threads = Guarded<[JoinableThread]>([])
    private let ticker = Monitor<TickerState>(TickerState())

    struct TickerState {
        var isStopping = false
        var isCommitWanted = false
    }

    /// Opens the volume in a state directory, which is made where it is missing, and mends what a
    /// crash left behind. Blocks for disk reads.
    public static func open(
        stateDirectory path: String, options: VolumeOptions, log: Logger
    ) throws(VolumeError) -> Volume {
        let volume = try Volume(path: path, options: options, log: log)
        do throws(VolumeError) {
            try volume.recover()
            if let connection = volume.connection, connection.options.adoptsTree {
                try volume.adoptTree(connection)
            }
            try volume.startThreads()
        } catch {
            volume.abandon()
            throw error
        }
        return volume
    }

    /// Opens a state directory, which is made where it is missing, for what somebody keeps there beside
    /// the volume. It is not locked.
    ///
    /// - Throws: `stateDirectory`, and `untrusted` where it may be another user's to change.
    public static func openStateDirectory(
        _ path: String
    ) throws(VolumeError) -> OwnedDescriptor {
        try StateDirectory.openUnlocked(path: path)
    }

    private init(path: String, options: VolumeOptions, log: Logger) throws(VolumeError) {
        self.options = options
        self.log = log
        stateDirectoryPath = path
        stateDirectory = try StateDirectory.open(path: path)
        // The manifest is opened by its path, in which a symlink may change its mind.
        let path = stateDirectory.path
        let wanted = options.profile?.name
        try Self.refuseLostManifest(path: path, stateDirectory.descriptor.raw)
        do throws(ManifestError) {
            manifest = try InodeManifest.open(
                directory: path, profileName: wanted ?? ImportProfile.unixfsV1_2025.name, log: log)
        } catch {
            throw .manifest(error)
        }
        if let wanted, wanted != manifest.profileName {
            throw .otherProfile(path: path, found: manifest.profileName, wanted: wanted)
        }
        guard let profile = ImportProfile(name: manifest.profileName) else {
            throw .manifest(
                .damaged(
                    path: path, reason: "unknown profile \(manifest.profileName)"))
        }
        self.profile = profile
        do throws(Errno) {
            store = try ObjectStore(stateDirectory: stateDirectory.descriptor.raw)
        } catch {
            throw .stateDirectory(path: path, operation: "the object store cannot be opened", error)
        }
        let uuid = manifest.uuid
        connection = options.remote.map { RemoteConnection(options: $0, volume: uuid, log: log) }
    }

    /// Refuses objects without a manifest: a new one in its place would make all of them nameless.
    private static func refuseLostManifest(
        path: String, _ directory: Int32
    ) throws(VolumeError) {
        let size = (try? Sys.status(of: "manifest.sqlite", in: directory))?.size ?? 0
        let buckets = (try? Sys.names(in: directory, path: "objects")) ?? []
        guard size == 0, !buckets.isEmpty else { return }
        throw .manifest(
            .damaged(path: path + "/manifest.sqlite", reason: "lost, but its objects are there"))
    }

    private func startThreads() throws(VolumeError) {
        manifest.keepReserve()
        do throws(Errno) {
            if !options.isReadOnly {
                try manifest.startLog(segmentByteCount: options.logSegmentByteCount)
            }
            let commits = try Threads.start(name: "rfs-commit") { [weak self] in
                while let volume = self, volume.tick() {}
            }
            threads.withLock { $0.append(commits) }
            for _ in 0..<options.sealThreads {
                let seals = try Threads.start(name: "rfs-seal") { [weak self, sealQueue] in
                    Threads.lowerPriority()
                    while let inode = sealQueue.take() { self?.sealInBackground(inode) }
                }
                threads.withLock { $0.append(seals) }
            }
            guard let connection, !options.isReadOnly else { return }
            let publishers = try startPublishing(connection)
            threads.withLock { $0 += publishers }
        } catch {
            throw .operation("starting threads", error)
        }
    }

    /// One round of the background: commits what waits, and tidies up.
    private func tick() -> Bool {
        let isStopping = ticker.withLock { state in
            if !state.isStopping && !state.isCommitWanted {
                ticker.wait(&state, milliseconds: options.commitIntervalMilliseconds)
            }
            state.isCommitWanted = false
            return state.isStopping
        }
        background.run(tidyUp)
        return !isStopping
    }

    private func tidyUp() {
        detachLingering()
        settleAll(passesBusy: true)
        synchronizeClosedFiles()
        do throws(Errno) {
            try manifest.bringUpToDate()
        } catch {
            log.warning("volume: changes are not durable yet: \(FailureCause.words(for: error))")
        }
        removeDeletedObjects()
        manifest.checkpointIfDue()
        if let connection { trimCache(connection) }
        if manifest.withLock({ $0.takeEviction() }) { Heap.trim() }
        manifest.keepReserve()
    }

    /// Wakes the background for a commit without waiting for it.
    func requestCommit() {
        ticker.withLock { $0.isCommitWanted = true }
        ticker.wakeAll()
    }

    /// Unlinks the flat files that a commit has made nameless.
    func removeDeletedObjects() {
        let ids = manifest.withLock { $0.takeDeletableObjects() }
        guard !ids.isEmpty else { return }
        var removed: [UInt64] = []
        for id in ids {
            do throws(Errno) {
                try store.remove(id)
                removed.append(id)
            } catch {
                // The row in deleted_object stays, so the next opening tries again.
                log.warning("object \(id): cannot be removed: \(error)")
            }
        }
        manifest.withLock { $0.noteUnlinked(removed) }
    }

    /// Makes everything durable, ends the background threads and frees the state directory.
    /// Handles that are still open are released.
    public func close() throws(VolumeError) {
        waits.end()
        for handle in handles.all() { release(handle) }
        settleAll()
        stopBackingFiles()
        endThreads()
        do throws(Errno) {
            dropKernelReferences()
            try manifest.commit()
            removeDeletedObjects()
            // A volume that is only read was not recovered either.
            try manifest.close(marksClean: !options.isReadOnly || manifest.wasClean)
        } catch {
            throw .operation(failed: "closing the volume", error)
        }
        stateDirectory.unlock()
    }

    /// Frees the state directory of a volume whose opening failed, and leaves it as it is. Without this
    /// the lock would last as long as a child that is just being started has a copy of the descriptor.
    private func abandon() {
        endThreads()
        manifest.abandon()
        stateDirectory.unlock()
    }

    private func endThreads() {
        sealQueue.stop()
        figures.stop()
        connection?.stop()
        ticker.withLock { $0.isStopping = true }
        ticker.wakeAll()
        let ended = threads.withLock { threads in
            // Each is joined once, also where closing fails and is tried again.
            defer { threads = [] }
            return threads
        }
        for thread in ended { thread.join() }
        connection?.fetchPool.stop()
        connection?.searchPool.stop()
    }

    // MARK: Helpers of all operations

    /// Runs an operation that only reads records.
    func reading<Result>(
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        try expanding { (unknown) throws(Errno) in
            try manifest.withLock { (state) throws(Errno) in
                do throws(Errno) {
                    return try body(state)
                } catch {
                    unknown = state.takeUnexpanded()
                    throw error
                }
            }
        }
    }

    /// Runs an operation again and again until all directories that it looks into are known. It tells
    /// the one that it needs: nobody may wait for one that another needs.
    private func expanding<Result>(
        _ body: (_ unknown: inout Inode?) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        while true {
            var unknown: Inode?
            do throws(Errno) {
                return try body(&unknown)
            } catch {
                guard error == ManifestState.unexpanded, let unknown else { throw error }
                try expand(unknown)
            }
        }
    }

    /// Runs an operation that changes records. Blocks while too many changes are uncommitted.
    func changing<Result>(
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        guard !options.isReadOnly else { throw .readOnlyFileSystem }
        var isForRoom = false
        do throws(Errno) {
            return try expanding { (unknown) throws(Errno) in
                try changeOnce(&isForRoom, &unknown, body)
            }
        } catch {
            guard isForRoom else { throw error }
            // The disk may have room again since it was refused.
            try manifest.bringUpToDate()
            manifest.keepReserve()
            return try expanding { (unknown) throws(Errno) in
                try changeOnce(&isForRoom, &unknown, body)
            }
        }
    }

    /// - Parameters:
    ///   - isForRoom: set where the body failed because a commit had (`checkRoom`). Asked for later,
    ///     the commit may have been made up for by another thread.
    ///   - unknown: set to the directory for whose entries it failed.
    private func changeOnce<Result>(
        _ isForRoom: inout Bool, _ unknown: inout Inode?,
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var (count, wantsCommit) = (0, false)
        let result = try manifest.withLock { (state) throws(Errno) in
            defer { (count, wantsCommit) = (state.changeCount, state.wantsCommit) }
            running.changes &+= 1
            do throws(Errno) {
                return try body(state)
            } catch {
                isForRoom =
                    state.commitFailure == error || state.isReserveSpent && error == .noSpace
                unknown = state.takeUnexpanded()
                throw error
            }
        }
        afterChange(count: count, wantsCommit: wantsCommit)
        return result
    }

    /// Starts a commit where the changes that work of our own left behind make it due, or waits for
    /// it where they are too many.
    func keepChangesBounded() {
        let (count, wantsCommit) = manifest.withLock { ($0.changeCount, $0.wantsCommit) }
        afterChange(count: count, wantsCommit: wantsCommit)
    }

    private func afterChange(count: Int, wantsCommit: Bool) {
        if count > ManifestBounds.changesUncommittedMax {
            // A failure is told by the next fsync, and by ENOSPC to whoever needs room.
            try? manifest.commit()
        } else if wantsCommit {
            requestCommit()
        }
    }

    /// The record of an inode that the kernel names; ESTALE where it is gone.
    func record(_ inode: Inode, _ state: ManifestState) throws(Errno) -> InodeRecord {
        guard let record = try state.inode(inode) else {
            throw Self.stale.because("\(inode) is gone")
        }
        return record
    }

    /// ESTALE of errno(3), for which swift-system's Errno has no name on every platform.
    static let stale = Errno(rawValue: 116)

    /// The record of a directory; ENOTDIR where it is something else.
    func directory(_ inode: Inode, _ state: ManifestState) throws(Errno) -> InodeRecord {
        let record = try record(inode, state)
        guard record.kind == .directory else { throw .notDirectory }
        return record
    }

    /// Checks the name of a new entry.
    func checkName(_ name: FileName) throws(Errno) {
        guard name.bytes.count <= Self.nameLengthMax else { throw .fileNameTooLong }
        guard Self.isUsable(name.bytes) else { throw .invalidArgument }
    }

    /// Whether an entry can have a name.
    static func isUsable(_ name: [UInt8]) -> Bool {
        (1...nameLengthMax).contains(name.count) && !name.contains(0x2f) && !name.contains(0)
            && name != [0x2e] && name != [0x2e, 0x2e]
    }

    /// Refuses to take more room while the disk is known to be full.
    func checkRoom(_ state: ManifestState) throws(Errno) {
        if let failure = state.commitFailure {
            throw failure.because(
                "changes cannot be made durable: \(state.commitFailureCause ?? "\(failure)")")
        }
        if state.isReserveSpent {
            throw .noSpace.because("the disk of the state directory is full: \(stateDirectoryPath)")
        }
    }

    /// Notes that the entries of a directory changed.
    func touchDirectory(_ directory: InodeRecord, _ state: ManifestState) throws(Errno) {
        let now = Timestamp.now()
        directory.modified = now
        directory.changed = now
        state.mark(directory)
        try outdateTree(of: directory, state)
    }

    func attributes(of record: InodeRecord, _ state: ManifestState) -> Attributes {
        var size = record.kind == .directory ? Self.directorySize : record.size
        var times = (record.modified, record.changed, record.accessed)
        var mayChangeUnseen = false
        if record.kind == .regular {
            let file = running.openFiles[record.inode.number]
            if let backing = file?.backing, let status = try? Sys.status(of: backing.file.raw) {
                times = self.times(of: record, backing, status)
                if backing.isWritable {
                    (size, record.blocks) = (status.size, status.blocks)
                    mayChangeUnseen = backing.isMappable
                }
            } else if let flat = running.unsynchronized[record.inode.number]?.file,
                // Bytes may have come and gone as holes; the file itself knows.
                let status = try? Sys.status(of: flat.raw)
            {
                record.blocks = status.blocks
            }
        }
        return Attributes(
            inode: record.inode, kind: record.kind, mode: record.mode,
            // Where nobody knows the subdirectories yet, 1: what filesystems that do not count them
            // tell, and what keeps find(1) from concluding that there are none.
            linkCount: record.isExpanded ? record.linkCount : min(record.linkCount, 1),
            uid: record.uid, gid: record.gid, rdev: record.rdev,
            size: size,
            blocks: record.kind == .directory ? Self.directorySize / 512 : record.blocks,
            accessed: times.2, modified: times.0, changed: times.1, created: record.created,
            mayChangeUnseen: mayChangeUnseen)
    }

    /// What stat tells as the size of a directory; ext4 has one block for a small one too.
    private static let directorySize: UInt64 = 4096

    // MARK: The kernel's references

    /// Counts one reference of the kernel, and gives the attributes that go with it.
    func referenced(_ record: InodeRecord, _ state: ManifestState) -> Attributes {
        running.kernelReferences[record.inode.number, default: KernelReference()].count += 1
        return attributes(of: record, state)
    }

    /// Drops references of the kernel (FUSE_FORGET). An inode without a name, handle or reference
    /// is deleted.
    public func forget(_ inode: Inode, count: UInt64) {
        manifest.withLock { state in
            let left = running.kernelReferences[inode.number]?.count ?? 0
            guard left > count else {
                running.kernelReferences.removeValue(forKey: inode.number)
                if let record = try? state.inode(inode) { reapIfUnused(record, state) }
                return
            }
            running.kernelReferences[inode.number]?.count = left - count
        }
    }

    /// Deletes an inode that nobody can reach any more.
    func reapIfUnused(_ record: InodeRecord, _ state: ManifestState) {
        guard record.linkCount == 0, !record.isDeleted,
            running.openFiles[record.inode.number] == nil,
            running.kernelReferences[record.inode.number] == nil
        else { return }
        do throws(Errno) {
            if let object = try state.object(of: record) { state.release(object) }
        } catch {
            log.error("\(record.inode): its object cannot be read, so it stays: \(error)")
            return
        }
        running.forgetUnsynchronized(record.inode)
        running.hashed[record.inode.number] = nil
        running.missedTwins.remove(record.inode.number)
        state.delete(record)
    }

    private func dropKernelReferences() {
        manifest.withLock { state in
            let inodes = running.kernelReferences.keys.map { Inode($0) }
            running.kernelReferences = [:]
            for inode in inodes {
                if let record = try? state.inode(inode) { reapIfUnused(record, state) }
            }
        }
    }
}
