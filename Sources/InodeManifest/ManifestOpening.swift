internal import Base
internal import GRDB
internal import Glibc
internal import Logging

internal import struct SystemPackage.Errno

// What stands in a state directory is looked at and brought into the newest format here, before anybody
// has a manifest.

enum ManifestOpening {
    /// Makes the empty file of a new database: SQLite would follow a symlink, and let all users read it.
    static func makeFile(_ path: String) throws(ManifestError) {
        do throws(Errno) {
            _ = try Sys.openTrusted(path, in: AT_FDCWD, flags: O_RDWR | O_CREAT)
        } catch {
            throw .database(path: path, reason: "cannot be opened: \(error)")
        }
    }

    /// The row of the remote of today, and the highest count of roots.
    static func published(
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
                mirror: try stored.cid(4, "view"),
                time: Timestamp(nanoseconds: try stored.integer(5, "time")))
            return (published, max(kept, published.rootCount))
        }
    }

    /// The one row of `volume`.
    struct VolumeRow {
        let uuid, profile: String
        var nextInode, nextCookie, nextObject, inodeCount: UInt64
        let isClean: Bool
    }

    static func volumeRow(in writer: DatabaseQueue, path: String) throws -> VolumeRow {
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
    static func counters(of row: VolumeRow, in writer: DatabaseQueue) throws -> VolumeRow {
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
    static func checkRoot(in writer: DatabaseQueue) throws {
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

    static func configuration(synchronous: String, cacheKiB: Int) -> Configuration {
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

    static func refuseNewerFormat(_ database: DatabaseQueue, path: String) throws {
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

    static func makeVolume(
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

    /// Tells SQLite what the redo log has and it has not; gives the log's key, and the number of
    /// the newest commit.
    static func replay(
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
}
