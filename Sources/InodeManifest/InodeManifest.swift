package import Base
internal import GRDB
internal import GRDBSQLite
internal import Glibc
package import Logging
internal import Multiformats
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
    private let walConnection: DatabaseQueue
    private let walPages = WALPages()
    private let directory: String
    private let path: String
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
        try Self.makeFile(path)
        writer = try DatabaseQueue(
            path: path, configuration: Self.configuration(synchronous: "FULL", cacheKiB: 4096))
        try Self.refuseNewerFormat(writer, path: path)
        let pages = walPages
        writer.inDatabase { db in
            // The hook replaces SQLite's own checkpoints, which would run inside a commit.
            _ = sqlite3_wal_hook(
                db.sqliteConnection, noteWALPages, Unmanaged.passUnretained(pages).toOpaque())
        }
        try Schema.migrator().migrate(writer)
        try Self.makeVolume(in: writer, path: path, profileName: profileName)
        (logKey, logNumber) = try Self.replay(
            directory: directory, in: writer, reservePath: reservePath, log: log)

        let row = try Self.volumeRow(in: writer, path: path)
        self.profileName = row.profile
        uuid = row.uuid
        wasClean = row.isClean
        firstUnstoredObject = row.nextObject
        let counters = try Self.counters(of: row, in: writer)
        try Self.checkRoot(in: writer)
        var readerConfiguration = Self.configuration(synchronous: "NORMAL", cacheKiB: 2048)
        readerConfiguration.readonly = true
        let reader = try DatabaseQueue(path: path, configuration: readerConfiguration)
        walConnection = try DatabaseQueue(
            path: path, configuration: Self.configuration(synchronous: "FULL", cacheKiB: 256))
        let remote = try Self.published(in: writer)
        state = Monitor(
            ManifestState(
                reader: reader, nextInode: counters.nextInode, nextCookie: counters.nextCookie,
                nextObject: counters.nextObject, inodeCount: counters.inodeCount,
                published: remote.published, rootCount: remote.rootCount), rank: .manifest)
    }

    /// Makes the empty file of a new database: SQLite would follow a symlink, and let all users read it.
    private static func makeFile(_ path: String) throws(ManifestError) {
        do throws(Errno) {
            _ = try Sys.openTrusted(path, in: AT_FDCWD, flags: O_RDWR | O_CREAT)
        } catch {
            throw .database(path: path, reason: "cannot be opened: \(error)")
        }
    }

    /// The row of the remote of today, and the highest count of roots.
    private static func published(
        in writer: DatabaseQueue
    ) throws -> (published: PublishedState?, rootCount: UInt64) {
        try writer.inDatabase { db in
            var highest = try BoundStatement(
                """
                SELECT max(owner) FROM dag_reference
                WHERE kind = \(DAGOwner.Kind.lost.rawValue) AND owner < \(Schema.numberMax)
                """, in: db)
            defer { highest.reset() }
            // Without a row, NULL, which reads as 0.
            let kept = try highest.step() ? UInt64(clamping: highest.int64(0)) : 0
            var row = try BoundStatement(
                """
                SELECT identity, epoch, path, root, view, time, root_count FROM remote WHERE id = ?
                """, in: db)
            row.bind(PlacementChange.kuboRemote)
            defer { row.reset() }
            guard try row.step() else { return (nil, kept) }
            let stored = StoredRow(
                row, table: "remote", key: .number("id", Int64(PlacementChange.kuboRemote)))
            let published = PublishedState(
                peer: try stored.text(0, "identity"),
                epoch: try stored.number(1, "epoch", in: 0...StoredRow.numberMax),
                path: try stored.text(2, "path"), root: try stored.cid(3, "root"),
                rootCount: try stored.number(6, "root_count", in: 0...StoredRow.numberMax),
                view: try stored.cid(4, "view"),
                time: Timestamp(nanoseconds: try stored.integer(5, "time")))
            return (published, max(kept, published.rootCount))
        }
    }

    /// The one row of `volume`.
    private struct VolumeRow {
        let uuid, profile: String
        var nextInode, nextCookie, nextObject, inodeCount: UInt64
        let isClean: Bool
    }

    private static func volumeRow(in writer: DatabaseQueue, path: String) throws -> VolumeRow {
        try writer.inDatabase { db in
            var statement = try BoundStatement(
                """
                SELECT uuid, profile, next_inode, next_cookie, next_object, inode_count, clean
                FROM volume WHERE id = 1
                """, in: db)
            defer { statement.reset() }
            guard try statement.step() else {
                throw ManifestError.damaged(path: path, reason: "no volume row")
            }
            let row = StoredRow(statement, table: "volume", key: .number("id", 1))
            let numbers = 0...StoredRow.numberMax
            return VolumeRow(
                uuid: try row.text(0, "uuid"), profile: try row.text(1, "profile"),
                nextInode: try row.number(2, "next_inode", in: numbers),
                nextCookie: try row.number(3, "next_cookie", in: numbers),
                nextObject: try row.number(4, "next_object", in: numbers),
                inodeCount: try row.number(5, "inode_count", in: numbers),
                isClean: try row.integer(6, "clean") != 0)
        }
    }

    /// The counters of the volume's row. What is counted anew where it was not closed properly leaves
    /// numbers out that no counter reaches: their rows are of no use to anybody, and a check tells of
    /// them.
    private static func counters(of row: VolumeRow, in writer: DatabaseQueue) throws -> VolumeRow {
        try writer.inDatabase { db in
            func highest(_ column: String, _ table: String) throws -> UInt64 {
                var statement = try BoundStatement(
                    "SELECT max(\(column)) FROM \(table) WHERE \(column) < ?", in: db)
                statement.bind(Schema.numberMax)
                defer { statement.reset() }
                // Without a row, NULL, which reads as 0.
                return try statement.step() ? UInt64(clamping: statement.int64(0)) : 0
            }
            var counters = row
            // The column stands at the lowest number that may have a file without a row; rows with
            // higher numbers may have been committed while that file was being filled.
            counters.nextObject = max(
                row.nextObject, try highest("id", "object") + 1,
                try highest("id", "deleted_object") + 1)
            guard !row.isClean else { return counters }
            counters.nextInode = max(row.nextInode, try highest("id", "inode") + 1)
            counters.nextCookie = max(row.nextCookie, try highest("cookie", "entry") + 1)
            var count = try BoundStatement("SELECT count(*) FROM inode", in: db)
            defer { count.reset() }
            if try count.step() { counters.inodeCount = count.uint64(0) }
            return counters
        }
    }

    /// Refuses a manifest without its root: in its place a new one would be begun above what is there.
    private static func checkRoot(in writer: DatabaseQueue) throws {
        try writer.inDatabase { db in
            var statement = try BoundStatement("SELECT kind, nlink FROM inode WHERE id = 1", in: db)
            defer { statement.reset() }
            let row = StoredRow(statement, table: "inode", key: .number("id", 1))
            guard try statement.step() else {
                throw row.damage("id", "the root directory is missing")
            }
            guard try row.kind(0, "kind") == .directory else {
                throw row.damage("kind", "the root is no directory")
            }
            guard try row.number32(1, "nlink") > 0 else {
                throw row.damage("nlink", "the root has no link")
            }
        }
    }

    private static func configuration(synchronous: String, cacheKiB: Int) -> Configuration {
        var configuration = Configuration()
        // Readers and the copying of the WAL never block the writer in WAL mode; the time-out is for
        // another process that looks at the file, a sqlite3 shell for example.
        configuration.busyMode = .timeout(30)
        configuration.prepareDatabase { db in
            try db.execute(
                sql: """
                    PRAGMA synchronous = \(synchronous);
                    PRAGMA cache_size = -\(cacheKiB);
                    PRAGMA temp_store = MEMORY;
                    PRAGMA wal_autocheckpoint = 0;
                    PRAGMA journal_size_limit = -1;
                    """)
            if !db.configuration.readonly {
                try db.execute(sql: "PRAGMA journal_mode = WAL")
            }
        }
        return configuration
    }

    private static func refuseNewerFormat(_ database: DatabaseQueue, path: String) throws {
        let (version, application, tables) = try database.inDatabase { db in
            (
                try Int32.fetchOne(db, sql: "PRAGMA user_version") ?? 0,
                try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0,
                // The migrator makes its own table before the first migration.
                try Int.fetchOne(
                    db,
                    sql: """
                        SELECT count(*) FROM sqlite_master
                        WHERE type = 'table' AND name <> 'grdb_migrations'
                        """) ?? 0
            )
        }
        let isNew = version == 0 && application == 0 && tables == 0
        guard isNew || application == Schema.applicationID else {
            throw ManifestError.damaged(path: path, reason: "another program's database")
        }
        guard version <= Schema.version else {
            throw ManifestError.newerFormat(
                path: path, found: Int(version), known: Int(Schema.version))
        }
    }

    private static func makeVolume(
        in writer: DatabaseQueue, path: String, profileName: String
    ) throws {
        try writer.inTransaction(.immediate) { db in
            guard try Int.fetchOne(db, sql: "SELECT count(*) FROM volume") == 0 else {
                return .rollback
            }
            let rows = try Int.fetchOne(
                db, sql: "SELECT (SELECT count(*) FROM inode) + (SELECT count(*) FROM object)")
            guard rows == 0 else {
                // A new one would give numbers out that are in use.
                throw ManifestError.damaged(
                    path: path, reason: "table volume: its row is missing, and inodes are there")
            }
            var generator = SystemRandomNumberGenerator()
            let digits = Array("0123456789abcdef")
            let uuid = String(
                (0..<32).map { _ in digits[Int.random(in: 0..<16, using: &generator)] })
            let now = Timestamp.now().nanoseconds
            try db.execute(
                sql: """
                    INSERT INTO volume(id, uuid, profile, next_inode, next_cookie, next_object,
                    inode_count, clean) VALUES (1, ?, ?, 2, 16, 1, 1, 1)
                    """, arguments: [uuid, profileName])
            try db.execute(
                sql: """
                    INSERT INTO inode(id, kind, mode, uid, gid, nlink, rdev, size, blocks, atime,
                    mtime, ctime, btime, parent, tree_size, has_xattrs)
                    VALUES (1, 2, 493, ?, ?, 2, 0, 0, 0, ?, ?, ?, ?, 1, 0, 0)
                    """, arguments: [Int64(geteuid()), Int64(getegid()), now, now, now, now])
            return .commit
        }
    }

    /// Runs a body with the manifest's state, alone. The body must not block on anything else
    /// than SQLite's reads. A record stays in memory beyond it only while it is pinned or has changes
    /// that SQLite has not got.
    package func withLock<Result, Failure: Error>(
        _ body: (ManifestState) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try state.withLock { (state) throws(Failure) in
            defer { state.evictIfCrowded() }
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

    /// Tells SQLite what the redo log has and it has not; gives the log's key, and the number of
    /// the newest commit.
    private static func replay(
        directory: String, in writer: DatabaseQueue, reservePath: String, log: Logger
    ) throws -> (key: [UInt8], number: UInt64) {
        let path = directory + "/" + RedoLog.name
        guard let (key, applied) = try writer.inDatabase({ try RedoTail.position(in: $0) }) else {
            throw ManifestError.damaged(path: path, reason: "its key is lost")
        }
        let tail: RedoTail
        do throws(Errno) {
            tail = try RedoTail(directory: directory, key: key, applied: applied)
        } catch {
            throw ManifestError.database(path: path, reason: FailureCause.words(for: error))
        }
        if let damage = tail.damage { throw ManifestError.damaged(path: path, reason: damage) }
        guard !tail.batches.isEmpty else { return (key, tail.number) }
        log.notice("manifest: \(tail.batches.count) commits taken over from the redo log")
        do {
            try writer.inTransaction(.immediate) { db in
                try tail.write(to: db)
                return .commit
            }
        } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL {
            guard unlink(reservePath) == 0 else { throw error }
            try writer.inTransaction(.immediate) { db in
                try tail.write(to: db)
                return .commit
            }
        }
        return (key, tail.number)
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
            [state.nextInode, state.nextCookie, state.nextObjectDurable, state.inodeCount]
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
            try state.withLock { try $0.reader.close() }
            try walConnection.close()
            try writer.close()
        } catch {
            throw Errno(database: error)
        }
    }
}

/// Wakes the thread that makes checkpoints.
final class CheckpointSignal: Sendable {
    private struct State {
        var isRaised = false
        var isStopped = false
    }

    private let state = Monitor(State())

    func raise() {
        state.withLock { $0.isRaised = true }
        state.wakeAll()
    }

    func stop() {
        state.withLock { $0.isStopped = true }
        state.wakeAll()
    }

    /// Waits for `raise`; false after `stop`.
    func wait() -> Bool {
        state.withLock { state in
            while !state.isRaised && !state.isStopped { self.state.wait(&state) }
            state.isRaised = false
            return !state.isStopped
        }
    }
}

/// The length of the WAL in pages, told by SQLite after each commit.
private final class WALPages: Sendable {
    let count = Atomic<Int>(0)
}

private func noteWALPages(
    context: UnsafeMutableRawPointer?, database: OpaquePointer?, name: UnsafePointer<CChar>?,
    pages: Int32
) -> Int32 {
    guard let context else { return SQLITE_OK }
    Unmanaged<WALPages>.fromOpaque(context).takeUnretainedValue()
        .count.store(Int(pages), ordering: .relaxed)
    return SQLITE_OK
}
