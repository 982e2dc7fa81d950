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
    let log: Logger
    let clock = VolumeClock()

    // The rooms: `room(state)` is what one knows under the manifest's lock, its fields have locks of their own.

    /// `Names`: what the kernel holds of inodes, and who tells it of changes.
    let kernel = NamesRoom()
    /// `Bytes`: open files.
    let opens = BytesRoom()
    /// `Passthrough`: backing files.
    let passthrough = PassthroughRoom()
    /// `Sealing`.
    let seals = SealingRoom()
    /// `Remote`: what is elsewhere.
    let remotes: RemoteRoom
    /// `Publishing`.
    let publishing = LockBound(PublishingState())
    /// `Trees`: how a tree that goes with a name stands to it.
    let following = Following()
    /// `Domains`: repositories of others.
    let domains = DomainsRoom()
    /// `Snapshots`: what is shown of them.
    let view = SnapshotView()
    /// `Serving`: what others read without programs.
    let serving = ServingRoom()

    /// Where the bytes come from that are not here; nil for nowhere.
    var fetcher: Fetcher? { remotes.fetcher.hasSources ? remotes.fetcher : nil }
    /// The remote that the volume publishes to; nil without one.
    var connection: RemoteConnection? { remotes.connection }
    /// Whether content may be elsewhere, so that a call may wait for it.
    public var hasRemote: Bool { options.remote != nil || options.sources != nil }
    /// Work that keeps processors busy beside the operations.
    public var background: BackgroundWork { clock.work }

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
            try volume.resumeRestoration()
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
                background: clock.work, log: log)
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
        let fetcher = Fetcher(options.remote?.fetch ?? options.sources, log: log)
        let connection = options.remote.map {
            RemoteConnection(options: $0, fetcher, volume: uuid, log: log)
        }
        remotes = RemoteRoom(fetcher: fetcher, connection: connection)
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
            clock.add([commits])
            for _ in 0..<options.sealThreads {
                let sealing = try Threads.start(name: "rfs-seal") {
                    [weak self, queue = seals.queue] in
                    Threads.lowerPriority()
                    while let inode = queue.take() { self?.sealInBackground(inode) }
                }
                clock.add([sealing])
            }
            if let origin = options.origin, origin.follows {
                clock.add([try startFollowing(origin)])
            }
            if let domains = options.domains, !options.isReadOnly {
                clock.add([try startRefreshing(domains)])
            }
            guard let connection, !options.isReadOnly else { return }
            clock.add(try startPublishing(connection))
        } catch {
            throw .operation("starting threads", error)
        }
    }

    /// One round of the background: commits what waits, and tidies up.
    private func tick() -> Bool {
        let goesOn = clock.waitForRound(milliseconds: options.commitIntervalMilliseconds)
        background.run(tidyUp)
        return goesOn
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
        serving.endReads()
        if let fetcher { trimCache(fetcher) }
        if manifest.withLock({ $0.cache.takeEviction() }) { Heap.trim() }
        manifest.keepReserve()
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
        remotes.waits.end()
        for handle in opens.handles.all() + view.files.withLock({ $0.all }) { release(handle) }
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
        seals.queue.stop()
        clock.figures.stop()
        connection?.stop()
        remotes.fetcher.stop()
        following.stop()
        domains.stop()
        serving.root.stop()
        clock.stop()
        clock.join()
        domains.pool.stop()
        remotes.fetcher.fetchPool.stop()
        remotes.fetcher.searchPool.stop()
    }
}
