public import Base
internal import Glibc
internal import InodeManifest
public import Logging
public import MerkleDAG
internal import ObjectStore

internal import struct SystemPackage.Errno

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
    // What the rooms know, each its own; all of it under the manifest's lock.
    let kernel = LockBound(KernelReferences())
    let opens = LockBound(OpenFiles())
    let filesAhead = LockBound(FilesAhead())
    let passthrough = LockBound(PassthroughState())
    let seals = LockBound(SealingState())
    let remoteFiles = LockBound(RemoteFiles())
    let publishing = LockBound(PublishingState())
    let handles = HandleTable()
    /// Inodes that wait to be sealed in the background, each from a point in time on.
    let sealQueue = WorkQueue<Inode>()
    let backings = BackingPool()
    /// Where the bytes come from that are not here; nil for nowhere.
    let fetcher: Fetcher?
    /// The node that the volume publishes to; nil without one.
    let connection: RemoteConnection?
    /// The user of this process.
    let ownUser = geteuid()
    /// Whether content may be elsewhere, so that a call may wait for it.
    public var hasRemote: Bool { fetcher != nil }
    /// Work that keeps processors busy beside the operations.
    public let background = BackgroundWork()
    /// Who is told of names that others change at the node.
    let names = Monitor<(any NamesObserver)?>(nil)
    /// Who is told of inodes that lost set-id bits.
    let privileges = Monitor<(@Sendable (Inode) -> Void)?>(nil)
    /// Operations that wait for it.
    let waits = RemoteWaits()
    /// Threads that may hash beside those that seal, all seals together. Measured on two processors:
    /// 1 GiB in 0.8 s with one of them, 1.1 s without.
    let hashHelpers = Monitor(max(0, Threads.processorCount - 1))
    /// Files that are being hashed, by inode number: each by one at a time.
    let hashing = Monitor<Set<UInt64>>([])
    /// Files whose content is being fetched because it is to be changed, by inode number.
    let arriving = Monitor<Set<UInt64>>([], rank: .arrivals)
    /// Expansions of what is here alone.
    let localExpansions = Expansions()
    /// How a tree that goes with a name stands to it.
    let following = Following()
    /// Who brings the figures of `status` up to date.
    let figures = FigureRefresh()
    /// One computation of tree CIDs at a time.
    let treeLock = Monitor<Void>((), rank: .tree)
    let log: Logger
    let threads = Monitor<[JoinableThread]>([])
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
            if let origin = options.origin { try volume.adoptOrigin(origin) }
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
    /// - Throws: `stateDirectory` alone.
    public static func openStateDirectory(
        _ path: String
    ) throws(VolumeError) -> OwnedDescriptor {
        do throws(StateDirectoryError) {
            return try StateDirectory.openUnlocked(path: path)
        } catch {
            throw .stateDirectory(error)
        }
    }

    private init(path: String, options: VolumeOptions, log: Logger) throws(VolumeError) {
        self.options = options
        self.log = log
        stateDirectoryPath = path
        do throws(StateDirectoryError) {
            stateDirectory = try StateDirectory.open(path: path)
        } catch {
            throw .stateDirectory(error)
        }
        // The manifest is opened by its path, in which a symlink may change its mind.
        let path = stateDirectory.path
        let wanted = options.profile?.name
        try Self.refuseLostManifest(path: path, stateDirectory.descriptor.raw)
        do throws(ManifestError) {
            manifest = try InodeManifest.open(
                directory: path, profileName: wanted ?? ImportProfile.unixfsV1_2025.name,
                background: background, log: log)
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
            throw .stateDirectory(
                .failed(path: path, operation: "the object store cannot be opened", error))
        }
        let uuid = manifest.uuid
        let fetcher = (options.remote?.fetch ?? options.sources).map { Fetcher($0, log: log) }
        self.fetcher = fetcher
        connection = options.remote.flatMap { remote in
            fetcher.map { RemoteConnection(options: remote, $0, volume: uuid, log: log) }
        }
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
            if let origin = options.origin, origin.follows {
                let follower = try startFollowing(origin)
                threads.withLock { $0.append(follower) }
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
        detachMappedAfterClose()
        syncAllFromBacking(passesBusy: true)
        synchronizeClosedFiles()
        do throws(Errno) {
            try manifest.checkpoint()
        } catch {
            log.warning("volume: changes are not durable yet: \(FailureCause.words(for: error))")
        }
        removeDeletedObjects()
        manifest.truncateWALIfDue()
        if let fetcher { trimCache(fetcher) }
        if manifest.withLock({ $0.cache.takeEviction() }) { Heap.trim() }
        manifest.keepReserve()
    }

    /// Wakes the background for a commit without waiting for it.
    func requestCommit() {
        ticker.withLock { $0.isCommitWanted = true }
        ticker.wakeAll()
    }

    /// Unlinks the flat files that a commit has made nameless.
    func removeDeletedObjects() {
        let ids = manifest.withLock { $0.files.takeDeletable() }
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
        manifest.withLock { $0.files.noteUnlinked(removed) }
    }

    /// Makes everything durable, ends the background threads and frees the state directory.
    /// Handles that are still open are released.
    public func close() throws(VolumeError) {
        waits.end()
        for handle in handles.all() { release(handle) }
        syncAllFromBacking()
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
        fetcher?.stop()
        following.stop()
        ticker.withLock { $0.isStopping = true }
        ticker.wakeAll()
        let ended = threads.withLock { threads in
            // Each is joined once, also where closing fails and is tried again.
            defer { threads = [] }
            return threads
        }
        for thread in ended { thread.join() }
        fetcher?.fetchPool.stop()
        fetcher?.searchPool.stop()
    }
}
