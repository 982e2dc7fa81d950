package import Base
internal import GRDB

package import struct SystemPackage.Errno

/// The names and attributes of one moment, read at leisure while the manifest goes on.
///
/// That is a transaction of SQLite's that only reads: it sees what was committed when it began. Used by one thread.
package final class ManifestReading {
    /// A name with what stands in its inode's row.
    package struct Entry: Sendable {
        package let name: [UInt8]
        package let inode: Inode
        package let kind: FileKind
        package let mode, uid, gid, linkCount: UInt32
        package let rdev: UInt64
        package let modified: Timestamp
        package let hasAttributes: Bool
    }

    private let queue: DatabaseQueue

    fileprivate init(path: String) throws {
        var configuration = ManifestOpening.configuration(synchronous: "NORMAL", cacheKiB: 2048)
        configuration.readonly = true
        // The transaction lasts longer than one call.
        configuration.allowsUnsafeTransactions = true
        queue = try DatabaseQueue(path: path, configuration: configuration)
    }

    deinit { try? queue.close() }

    /// Takes the moment: what SQLite has now. Under the manifest's lock, so that it is known what that is.
    package func begin() throws(Errno) {
        try read { db in
            var statement = try BoundStatement("BEGIN", in: db)
            try statement.run()
            // The snapshot is taken by the first read.
            var first = try BoundStatement("SELECT count(*) FROM volume", in: db)
            _ = try first.step()
            first.reset()
        }
    }

    /// The entries of a directory in byte order of their names.
    package func entries(of directory: Inode) throws(Errno) -> [Entry] {
        try read { db in
            var rows = try BoundStatement(
                """
                SELECT entry.name, \(Self.columns) FROM entry JOIN inode ON inode.id = entry.inode
                WHERE entry.parent = ? ORDER BY entry.name
                """, in: db)
            rows.bind(directory.number)
            defer { rows.reset() }
            var entries: [Entry] = []
            while try rows.step() { entries.append(try entry(rows)) }
            return entries
        }
    }

    /// The row of an inode, without a name; nil where there is none.
    package func inode(_ inode: Inode) throws(Errno) -> Entry? {
        try read { db in
            var row = try BoundStatement(
                "SELECT x'', \(Self.columns) FROM inode WHERE id = ?", in: db)
            row.bind(inode.number)
            defer { row.reset() }
            return try row.step() ? try entry(row) : nil
        }
    }

    /// The extended attributes of an inode, in byte order of their names.
    package func attributes(of inode: Inode) throws(Errno) -> [(name: [UInt8], value: [UInt8])] {
        try read { db in
            var rows = try BoundStatement(
                "SELECT name, value FROM xattr WHERE inode = ? ORDER BY name", in: db)
            rows.bind(inode.number)
            defer { rows.reset() }
            var found: [(name: [UInt8], value: [UInt8])] = []
            while try rows.step() { found.append((rows.bytes(0), rows.bytes(1))) }
            return found
        }
    }

    private static let columns =
        "inode.id, inode.kind, mode, uid, gid, nlink, rdev, mtime, has_xattrs"

    private func entry(_ statement: BoundStatement) throws(DamagedRow) -> Entry {
        let id = statement.int64(1)
        let row = StoredRow(statement, table: "inode", key: .number("id", id))
        return Entry(
            name: try row.bytes(0, "name"),
            inode: Inode(try row.number(1, "id", in: 1...StoredRow.numberMax)),
            kind: try row.kind(2, "kind"), mode: try row.number32(3, "mode", max: 0o7777),
            uid: try row.number32(4, "uid"), gid: try row.number32(5, "gid"),
            linkCount: try row.number32(6, "nlink"), rdev: try row.bits(7, "rdev"),
            modified: Timestamp(nanoseconds: try row.integer(8, "mtime")),
            hasAttributes: try row.integer(9, "has_xattrs") != 0)
    }

    private func read<Result>(_ body: (Database) throws -> Result) throws(Errno) -> Result {
        do {
            return try queue.unsafeRead(body)
        } catch {
            throw Errno(database: error)
        }
    }
}

extension InodeManifest {
    /// Opens the database for one reading of a moment, which begins later. Blocks for the disk.
    package func openReading() throws(Errno) -> ManifestReading {
        do {
            return try ManifestReading(path: path)
        } catch {
            throw Errno(database: error)
        }
    }
}

extension CommittedRows {
    /// Directories whose entries are elsewhere; a few of them.
    package func notLoaded(limit: Int) throws(Errno) -> [UInt64] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT id FROM inode WHERE not_loaded <> 0 AND nlink > 0 LIMIT ?", in: db)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var ids: [UInt64] = []
            while try statement.step() { ids.append(statement.uint64(0)) }
            return ids
        }
    }
}
