internal import Base
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
/// durable in groups: `commit` tells SQLite about everything that was changed before it was called,
/// in one transaction, so that after a crash the manifest is a prefix of the operations. Callers
/// that commit at the same time share a transaction: one leads and the others wait for it.
package final class InodeManifest: Sendable {
    private let state: Monitor<ManifestState>
    private let writer: DatabaseQueue
    private let checkpointer: DatabaseQueue
    private let walPages = WALPages()
    private let path: String
    private let reservePath: String
    private let log: Logger

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
    /// - Parameter profileName: for a new volume; one that is there keeps its own.
    package static func open(
        directory: String, profileName: String, log: Logger
    ) throws(ManifestError) -> InodeManifest {
        let path = directory + "/manifest.sqlite"
        do {
            return try InodeManifest(path: path, profileName: profileName, log: log)
        } catch let error as ManifestError {
            throw error
        } catch let error as DatabaseError
            where error.resultCode == .SQLITE_NOTADB || error.resultCode == .SQLITE_CORRUPT
        {
            throw .damaged(path: path, reason: error.message ?? "\(error.resultCode)")
        } catch {
            throw .database(path: path, reason: "\(error)")
        }
    }

    private init(path: String, profileName: String, log: Logger) throws {
        self.path = path
        self.log = log
        reservePath = path + ".reserve"
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
        try Self.makeVolume(in: writer, profileName: profileName)

        let row = try writer.inDatabase { db in
            try Row.fetchOne(db, sql: "SELECT * FROM volume WHERE id = 1")
        }
        guard let row, try writer.inDatabase({ try $0.tableExists("inode") }) else {
            throw ManifestError.damaged(path: path, reason: "no volume row")
        }
        self.profileName = row["profile"]
        uuid = row["uuid"]
        wasClean = row["clean"]
        firstUnstoredObject = UInt64(bitPattern: row["next_object"] as Int64)
        // The column stands at the lowest number that may have a file without a row; rows with
        // higher numbers may have been committed while that file was being filled.
        let highest = try writer.inDatabase { db in
            try Int64.fetchOne(
                db,
                sql: """
                    SELECT max(ifnull((SELECT max(id) FROM object), 0),
                    ifnull((SELECT max(id) FROM deleted_object), 0))
                    """)
        }
        let nextObject = max(firstUnstoredObject, UInt64(bitPattern: highest ?? 0) + 1)
        let counters = try Self.counters(of: row, isCurrent: wasClean, in: writer, path: path)
        var readerConfiguration = Self.configuration(synchronous: "NORMAL", cacheKiB: 2048)
        readerConfiguration.readonly = true
        let reader = try DatabaseQueue(path: path, configuration: readerConfiguration)
        checkpointer = try DatabaseQueue(
            path: path, configuration: Self.configuration(synchronous: "FULL", cacheKiB: 256))
        state = Monitor(
            ManifestState(
                reader: reader, nextInode: counters.nextInode, nextCookie: counters.nextCookie,
                nextObject: nextObject, inodeCount: counters.inodeCount,
                published: try Self.published(in: writer)))
    }

    private static func published(in writer: DatabaseQueue) throws -> PublishedState? {
        try writer.inDatabase { db in
            var row = try BoundStatement(
                "SELECT peer, epoch, path, root, view, time FROM published", in: db)
            defer { row.reset() }
            guard try row.step() else { return nil }
            return PublishedState(
                peer: row.text(0), epoch: row.uint64(1), path: row.text(2),
                root: row.isNull(3) ? nil : try CID(bytes: row.bytes(3)),
                view: row.isNull(4) ? nil : try CID(bytes: row.bytes(4)),
                time: Timestamp(nanoseconds: row.int64(5)))
        }
    }

    private typealias Counters = (nextInode: UInt64, nextCookie: UInt64, inodeCount: UInt64)

    /// The counters of the volume's row, counted anew where it was not closed properly.
    private static func counters(
        of row: Row, isCurrent: Bool, in writer: DatabaseQueue, path: String
    ) throws -> Counters {
        for column in ["next_inode", "next_cookie", "next_object", "inode_count"] {
            guard (row[column] as Int64) >= 0 else {
                throw ManifestError.damaged(path: path, reason: "\(column) is negative")
            }
        }
        var stored: Counters = (
            UInt64(bitPattern: row["next_inode"] as Int64),
            UInt64(bitPattern: row["next_cookie"] as Int64),
            UInt64(bitPattern: row["inode_count"] as Int64)
        )
        guard !isCurrent else { return stored }
        let found = try writer.inDatabase { db in
            try Row.fetchOne(
                db,
                sql: """
                    SELECT (SELECT max(id) FROM inode) AS inode, (SELECT count(*) FROM inode) AS inodes,
                    ifnull((SELECT max(cookie) FROM entry), 0) AS cookie
                    """)
        }
        if let found {
            stored.nextInode = max(
                stored.nextInode, UInt64(bitPattern: found["inode"] as Int64) + 1)
            stored.nextCookie = max(
                stored.nextCookie, UInt64(bitPattern: found["cookie"] as Int64) + 1)
            stored.inodeCount = UInt64(bitPattern: found["inodes"] as Int64)
        }
        return stored
    }

    private static func configuration(synchronous: String, cacheKiB: Int) -> Configuration {
        var configuration = Configuration()
        // Readers and the checkpointer never block the writer in WAL mode; the time-out is for
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

    private static func makeVolume(in writer: DatabaseQueue, profileName: String) throws {
        try writer.inTransaction(.immediate) { db in
            guard try Int.fetchOne(db, sql: "SELECT count(*) FROM volume") == 0 else {
                return .rollback
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
    /// than SQLite's reads.
    package func withLock<Result, Failure: Error>(
        _ body: (ManifestState) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try state.withLock { (state) throws(Failure) in try body(state) }
    }

    /// Makes every change that was made before the call durable. Blocks for a flush of the disk
    /// where there is any such change, and not at all where there is none.
    ///
    /// - Throws: ENOSPC or EIO; the changes then stay in memory, and the next commit tries again.
    package func commit() throws(Errno) {
        guard let batch = try nextBatch() else { return }
        try finish(batch, write(batch))
    }

    /// Waits until everything is committed that was there at the call, or gives the caller the
    /// batch that it is to commit as the leader.
    private func nextBatch() throws(Errno) -> CommitBatch? {
        try state.withLock { (state) throws(Errno) in
            let goal = state.hasChanges ? state.generation : state.generation - 1
            while true {
                if state.committedGeneration >= goal { return nil }
                if !state.isCommitting {
                    state.isCommitting = true
                    return state.takeBatch()
                }
                self.state.wait(&state)
            }
        }
    }

    private func write(_ batch: CommitBatch) -> Errno? {
        do {
            try transact(batch)
            return nil
        } catch {
            guard Errno(database: error) == .noSpace, unlink(reservePath) == 0 else {
                log.error("manifest: commit failed: \(error)")
                return Errno(database: error)
            }
        }
        // The reserve was kept for this: the file's room lets deletions through on a full disk.
        state.withLock { $0.isReserveSpent = true }
        do {
            try transact(batch)
            return nil
        } catch {
            log.error("manifest: commit failed with the reserve given up: \(error)")
            return Errno(database: error)
        }
    }

    private func transact(_ batch: CommitBatch) throws {
        try Faults.check(.beginCommit)
        // Without GRDB's own transaction, whose bookkeeping costs as much as a small batch.
        try writer.unsafeReentrantWrite { db in
            var begin = try BoundStatement("BEGIN IMMEDIATE", in: db)
            try begin.run()
            do {
                try batch.write(to: db)
                var commit = try BoundStatement("COMMIT", in: db)
                try commit.run()
            } catch {
                var rollback = try BoundStatement("ROLLBACK", in: db)
                // SQLite may have rolled back by itself, on a full disk.
                try? rollback.run()
                throw error
            }
        }
        try Faults.check(.endCommit)
    }

    private func finish(_ batch: CommitBatch, _ failure: Errno?) throws(Errno) {
        try state.withLock { (state) throws(Errno) in
            state.isCommitting = false
            state.commitFailure = failure
            defer { self.state.wakeAll() }
            if let failure {
                // A failed batch's number never becomes committed by itself: its changes carry on
                // in the generation that is open now.
                try state.restore(batch)
                throw failure
            }
            state.committedGeneration = batch.generation
            state.deletableObjects += batch.deletedFiles + batch.evictedFiles
            state.settle(batch)
        }
    }

    /// Gives the WAL at once the length that it would grow to, so that a commit's flush has bytes to
    /// write and no file size. Measured: commits that write into a WAL of that length take two
    /// thirds of the time. SQLite ends its reading of a WAL at the first frame without the salt of
    /// its header, so zeros behind the last frame are nothing to it (sqlite.org/fileformat2.html,
    /// "The Write-Ahead Log"). Called before the first commit; where the disk is short of room,
    /// nothing is done.
    package func growWAL() {
        let goal = (ManifestBounds.walPagesPerCheckpoint / 4 * 5) * (4096 + 24) + 32
        var space = statvfs()
        guard statvfs(path, &space) == 0,
            UInt64(space.f_bavail) * UInt64(space.f_frsize) > UInt64(goal) * 64
        else { return }
        do throws(Errno) {
            let file = try Sys.open(path + "-wal", flags: O_RDWR)
            let zeros = OwnedBuffer(byteCount: 1 << 20)
            zeros.bytes.initializeMemory(as: UInt8.self, repeating: 0)
            var end = Int(try Sys.status(of: file.raw).size)
            while end < goal {
                let part = UnsafeRawBufferPointer(
                    rebasing: zeros.bytes[..<min(zeros.bytes.count, goal - end)])
                try Sys.write(file.raw, at: UInt64(end), part)
                end += part.count
            }
            try Sys.synchronizeData(file.raw)
        } catch {
            log.debug("manifest: the WAL keeps its length: \(error)")
        }
    }

    /// Keeps SQLite's WAL from growing: copies it into the database where it is long. Blocks for
    /// disk writes; commits go on meanwhile. Called from a background thread.
    package func checkpointIfDue() {
        let pages = walPages.count.load(ordering: .relaxed)
        guard pages > ManifestBounds.walPagesPerCheckpoint else { return }
        // RESTART waits for the moment without a writer, which PASSIVE may miss for ever.
        checkpoint(pages > ManifestBounds.walPagesMax ? "RESTART" : "PASSIVE")
    }

    private func checkpoint(_ mode: String) {
        do {
            try checkpointer.inDatabase { db in
                try db.execute(sql: "PRAGMA wal_checkpoint(\(mode))")
            }
        } catch {
            log.warning("manifest: checkpoint: \(error)")
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
            let file = try Sys.open(reservePath, flags: O_RDWR | O_CREAT)
            try Sys.allocate(file.raw, mode: 0, offset: 0, length: Self.reserveByteCount)
            state.withLock { $0.isReserveSpent = false }
        } catch {
            unlink(reservePath)
        }
    }

    private static let reserveByteCount: UInt64 = 8 << 20

    /// Commits, folds the WAL into the database and closes all connections.
    ///
    /// - Parameter marksClean: false where what a crash left behind was not put in order.
    package func close(marksClean: Bool) throws(Errno) {
        try commit()
        if marksClean { try setClean(true) }
        checkpoint("TRUNCATE")
        do {
            try state.withLock { try $0.reader.close() }
            try checkpointer.close()
            try writer.close()
        } catch {
            throw Errno(database: error)
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
