package import Base
internal import GRDB
internal import GRDBSQLite
internal import Glibc
package import Logging
internal import Synchronization

package import struct SystemPackage.Errno

/// The durable names and inodes of a volume.
///
/// All access to the records goes through `withLock`. Changes are collected in memory and become
/// durable in groups: `commit` writes everything that was changed before it was called into the redo
/// log, in one record, so that after a crash the manifest is a prefix of the operations. Callers
/// that commit at the same time share a record: one leads and the others wait for it. SQLite is told
/// in the background, or by `checkpoint`.
package final class InodeManifest: Sendable {
    let state: Monitor<ManifestState>
    let writer: DatabaseQueue
    /// Nil until `startLog`, and where the disk has no room for it. Its lock is held while the disk
    /// works, so only who commits takes it.
    let redo = Monitor<RedoLog?>(nil, rank: .redoLog)
    /// Whether there is a log, for those who only ask.
    let hasLog = Atomic<Bool>(false)
    let checkpointSignal = CheckpointSignal()
    /// What the process does beside requests; checkpoints are a part of it.
    let background: BackgroundWork
    let reservePath: String
    let log: Logger
    private let reader: DatabaseQueue
    private let walConnection: DatabaseQueue
    private let walPages = WALPages()
    private let directory: String
    let path: String
    private let logKey: [UInt8]
    private let logNumber: UInt64
    private let checkpoints = Monitor<JoinableThread?>(nil)

    /// The name of the profile that the volume was made with.
    package let profileName: String
    /// 32 hexadecimal digits that name the volume.
    package let uuid: String
    /// Whether the volume was closed properly the last time.
    package let wasClean: Bool
    /// Numbers below it may have flat files that SQLite has rows for; at it and above, none.
    package let firstUnstoredObject: UInt64
    /// Objects below it are those of processes of before. After a crash it is above `firstUnstoredObject`, for that is written now
    /// and then only.
    package let firstNewObject: UInt64

    /// Opens the database in a state directory, or makes it.
    ///
    /// - Parameters:
    ///   - profileName: for a new volume; one that is there keeps its own.
    ///   - background: told of checkpoints while they are made.
    package static func open(
        directory: String, profileName: String, background: BackgroundWork = BackgroundWork(),
        log: Logger
    ) throws(ManifestError) -> InodeManifest {
        let path = directory + "/manifest.sqlite"
        do {
            return try InodeManifest(
                directory: directory, profileName: profileName, background: background, log: log)
        } catch let error as ManifestError {
            throw error
        } catch let error as DamagedRow {
            throw .damaged(path: path, reason: error.description)
        } catch let error as DatabaseError
            where error.resultCode == .SQLITE_NOTADB || error.resultCode == .SQLITE_CORRUPT
        {
            throw .damaged(path: path, reason: error.message ?? "\(error.resultCode)")
        } catch {
            throw .database(path: path, reason: "\(error)")
        }
    }

    private init(
        directory: String, profileName: String, background: BackgroundWork, log: Logger
    ) throws {
        let path = directory + "/manifest.sqlite"
        self.directory = directory
        self.path = path
        self.background = background
        self.log = log
        reservePath = path + ".reserve"
        try ManifestOpening.makeFile(path)
        writer = try DatabaseQueue(
            path: path,
            configuration: ManifestOpening.configuration(synchronous: "FULL", cacheKiB: 4096))
        try ManifestOpening.refuseNewerFormat(writer, path: path)
        let pages = walPages
        writer.inDatabase { db in
            // The hook replaces SQLite's own checkpoints, which would run inside a commit.
            _ = sqlite3_wal_hook(
                db.sqliteConnection, noteWALPages, Unmanaged.passUnretained(pages).toOpaque())
        }
        try Schema.migrator().migrate(writer)
        try ManifestOpening.makeVolume(in: writer, path: path, profileName: profileName)
        (logKey, logNumber) = try ManifestOpening.replay(
            directory: directory, in: writer, reservePath: reservePath, log: log)

        let row = try ManifestOpening.volumeRow(in: writer, path: path)
        self.profileName = row.profile
        uuid = row.uuid
        wasClean = row.isClean
        firstUnstoredObject = row.nextObject
        let counters = try ManifestOpening.counters(of: row, in: writer)
        firstNewObject = counters.nextObject
        try ManifestOpening.checkRoot(in: writer)
        var readerConfiguration = ManifestOpening.configuration(
            synchronous: "NORMAL", cacheKiB: 2048)
        readerConfiguration.readonly = true
        reader = try DatabaseQueue(path: path, configuration: readerConfiguration)
        walConnection = try DatabaseQueue(
            path: path,
            configuration: ManifestOpening.configuration(synchronous: "FULL", cacheKiB: 256))
        let remote = try ManifestOpening.published(in: writer)
        state = Monitor(
            ManifestState(
                reader: reader, nextInode: counters.nextInode, nextCookie: counters.nextCookie,
                nextObject: counters.nextObject, inodeCount: counters.inodeCount,
                published: remote.published, rootCount: remote.rootCount,
                origin: try Origin.read(in: writer),
                snapshots: try Snapshots.read(in: writer), grafts: try Grafts.read(in: writer)),
            rank: .manifest)
    }

    /// Runs a body with the manifest's state, alone. The body must not block on anything else
    /// than SQLite's reads. A record stays in memory beyond it only while it is pinned or has changes
    /// that SQLite has not got.
    package func withLock<Result, Failure: Error>(
        _ body: (ManifestState) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try state.withLock { (state) throws(Failure) in
            defer { state.cache.evictIfCrowded() }
            return try body(state)
        }
    }

    /// Begins to commit into the redo log, and to tell SQLite in the background. Called before
    /// several threads commit. Without room on the disk, each commit is a transaction of SQLite.
    ///
    /// - Parameter segmentByteCount: the length of each of the log's two segments; 0 for no log.
    package func startLog(segmentByteCount: Int) throws(Errno) {
        guard segmentByteCount > 0 else { return }
        do throws(Errno) {
            try redo.withLock { (log) throws(Errno) in
                log = try RedoLog.open(
                    directory: directory, segmentByteCount: segmentByteCount, key: logKey,
                    number: logNumber)
                hasLog.store(log != nil, ordering: .releasing)
            }
        } catch {
            log.warning("manifest: no redo log: \(error)")
            return
        }
        let thread = try Threads.start(name: "rfs-checkpoint") { [weak self, checkpointSignal] in
            while checkpointSignal.wait() {
                // A failure is told by the next commit that finds no room in the log.
                try? self?.checkpoint()
            }
        }
        checkpoints.withLock { $0 = thread }
    }

    /// Keeps SQLite's WAL from growing: copies it into the database where it is long. Blocks for
    /// disk writes; commits go on meanwhile. Called from a background thread.
    package func truncateWALIfDue() {
        let pages = walPages.count.load(ordering: .relaxed)
        guard pages > ManifestBounds.walPagesPerCopy else { return }
        // RESTART waits for the moment without a writer, which PASSIVE may miss for ever.
        copyWAL(pages > ManifestBounds.walPagesMax ? "RESTART" : "PASSIVE")
    }

    private func copyWAL(_ mode: String) {
        do {
            try walConnection.inDatabase { db in
                try db.execute(sql: "PRAGMA wal_checkpoint(\(mode))")
            }
        } catch {
            log.warning("manifest: the WAL cannot be copied: \(error)")
        }
    }

    /// Notes durably that the volume is in use, or closed properly.
    package func setClean(_ isClean: Bool) throws(Errno) {
        // Numbers that were reserved at the last commit may have been given back since.
        let counters = state.withLock { state in
            [state.nextInode, state.nextCookie, state.numbers.nextDurable, state.inodeCount]
        }
        do {
            try writer.inTransaction(.immediate) { db in
                try db.execute(
                    sql: """
                        UPDATE volume SET next_inode = ?, next_cookie = ?, next_object = ?,
                        inode_count = ?, clean = ?
                        """,
                    arguments: StatementArguments(
                        counters.map { Int64(bitPattern: $0) } + [isClean ? 1 : 0]))
                return .commit
            }
        } catch {
            throw Errno(database: error)
        }
    }

    /// Makes the file whose room is given up when the disk is full, where there is space enough.
    package func keepReserve() {
        var status = statvfs()
        guard access(reservePath, F_OK) != 0, statvfs(path, &status) == 0 else { return }
        let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
        // A small disk is left alone; one that had a reserve gets it back once it can be held.
        let isWanted = state.withLock { $0.isReserveSpent }
        guard free > (isWanted ? 2 : 8) * Self.reserveByteCount else { return }
        do {
            let file = try Sys.openTrusted(
                reservePath, in: AT_FDCWD, flags: O_RDWR | O_CREAT | O_EXCL)
            try Sys.allocate(file.raw, mode: 0, offset: 0, length: Self.reserveByteCount)
            state.withLock { $0.isReserveSpent = false }
        } catch {
            unlink(reservePath)
        }
    }

    private static let reserveByteCount: UInt64 = 8 << 20

    /// Makes a checkpoint, folds the WAL into the database and closes all
    /// connections.
    ///
    /// - Parameter marksClean: false where what a crash left behind was not put in order.
    package func close(marksClean: Bool) throws(Errno) {
        stopCheckpoints()
        try checkpoint()
        if marksClean { try setClean(true) }
        copyWAL("TRUNCATE")
        hasLog.store(false, ordering: .releasing)
        redo.withLock { $0 = nil }
        try closeConnections()
    }

    /// Closes all connections, and commits nothing: the next opening finds what a crash leaves.
    package func abandon() {
        stopCheckpoints()
        hasLog.store(false, ordering: .releasing)
        redo.withLock { $0 = nil }
        try? closeConnections()
    }

    private func stopCheckpoints() {
        checkpointSignal.stop()
        checkpoints.withLock { thread in
            thread?.join()
            thread = nil
        }
    }

    private func closeConnections() throws(Errno) {
        do {
            try reader.close()
            try walConnection.close()
            try writer.close()
        } catch {
            throw Errno(database: error)
        }
    }
}
