package import Base
internal import GRDB

internal import struct SystemPackage.Errno

// What is not in memory comes from SQLite's committed rows, through a connection of its own.

/// What SQLite has, through a connection of its own that only reads.
package struct CommittedRows {
    private let reader: DatabaseQueue
    /// The epoch of the remote of today; nil without one.
    let epoch: UInt64?

    init(_ reader: DatabaseQueue, epoch: UInt64?) {
        self.reader = reader
        self.epoch = epoch
    }

    func read<Result>(
        _ body: (Database) throws -> Result
    ) throws(Errno) -> Result {
        do {
            return try reader.inDatabase(body)
        } catch {
            throw Errno(database: error)
        }
    }

    func loadInode(_ inode: Inode) throws(Errno) -> InodeRecord? {
        try read { db in
            var statement = try BoundStatement(
                """
                SELECT kind, mode, uid, gid, nlink, rdev, size, blocks, atime, mtime, ctime, btime,
                parent, other_parents, object, cid, tree_size, target, has_xattrs,
                iif(kind = 2, \(Self.epoch(of: .directory, "inode.id")), NULL), not_loaded
                FROM inode WHERE id = ?
                """, in: db)
            statement.bind(inode.number)
            guard try statement.step() else {
                statement.reset()
                return nil
            }
            defer { statement.reset() }
            let row = StoredRow(
                statement, table: "inode", key: .number("id", Int64(bitPattern: inode.number)))
            return try decodeInode(row, inode)
        }
    }

    /// The epoch in which the remote of today holds what a row is of; NULL where it does not.
    private static func epoch(of kind: PlacedKind, _ id: String) -> String {
        """
        (SELECT epoch FROM placement WHERE placement.kind = \(kind.rawValue)
        AND placement.id = \(id) AND remote = \(PlacementChange.kuboRemote)
        AND placement.state = \(PlacementState.held.rawValue))
        """
    }

    func loadEntry(_ name: FileName, parent: Inode) throws(Errno) -> DirectoryEntryRecord? {
        try read { db in
            var statement = try BoundStatement(
                "SELECT inode, kind, cookie FROM entry WHERE parent = ? AND name = ?", in: db)
            statement.bind(parent.number)
            statement.bind(name.bytes)
            defer { statement.reset() }
            guard try statement.step() else { return nil }
            return try decodeEntry(statement, name, parent, from: 0)
        }
    }

    func readEntries(
        of directory: Inode
    ) throws(Errno) -> [(FileName, DirectoryEntryRecord)] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT name, inode, kind, cookie FROM entry WHERE parent = ?", in: db)
            statement.bind(directory.number)
            defer { statement.reset() }
            var rows: [(FileName, DirectoryEntryRecord)] = []
            while try statement.step() {
                let name = FileName(statement.bytes(0))
                rows.append((name, try decodeEntry(statement, name, directory, from: 1)))
            }
            return rows
        }
    }

    /// A name that an inode has in a directory, for a message: looked for among the first few thousand.
    package func nameForMessage(of inode: Inode, in directory: InodeRecord) -> FileName? {
        let known = directory.children.entries
        for (name, entry) in known.prefix(Self.namesLookedAtMax) where entry.inode == inode {
            return name
        }
        let stored = try? read { db -> FileName? in
            var statement = try BoundStatement(
                """
                SELECT name FROM (SELECT name, inode FROM entry WHERE parent = ? LIMIT ?)
                WHERE inode = ? LIMIT 1
                """, in: db)
            statement.bind(directory.inode.number)
            statement.bind(UInt64(Self.namesLookedAtMax))
            statement.bind(inode.number)
            defer { statement.reset() }
            return try statement.step() ? FileName(statement.bytes(0)) : nil
        }
        // What is in memory is newer.
        guard let name = stored ?? nil, known[name] == nil else { return nil }
        return name
    }

    private static let namesLookedAtMax = 4096

    func readAttributes(of inode: Inode) throws(Errno) -> [FileName: [UInt8]] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT name, value FROM xattr WHERE inode = ?", in: db)
            statement.bind(inode.number)
            defer { statement.reset() }
            var attributes: [FileName: [UInt8]] = [:]
            while try statement.step() {
                let row = StoredRow(
                    statement, table: "xattr",
                    key: .number("inode", Int64(bitPattern: inode.number)))
                let name = FileName(try row.bytes(0, "name"))
                let value = try row.bytes(1, "value")
                // XATTR_NAME_MAX and XATTR_SIZE_MAX of linux/limits.h.
                guard (1...255).contains(name.bytes.count), !name.bytes.contains(0) else {
                    throw row.damage("name", "\"\(shown(name.bytes))\" is no name")
                }
                guard value.count <= 65_536 else {
                    throw row.damage("value", "\(value.count) bytes are out of range")
                }
                attributes[name] = value
            }
            return attributes
        }
    }

    func loadObject(_ id: UInt64) throws(Errno) -> ObjectRecord? {
        try read { db in
            var statement = try BoundStatement(
                """
                SELECT state, refs, size, cid, tree_size, inline IS NOT NULL,
                \(Self.epoch(of: .object, "object.id")), born, kept FROM object WHERE id = ?
                """, in: db)
            statement.bind(id)
            defer { statement.reset() }
            guard try statement.step() else { return nil }
            let row = StoredRow(
                statement, table: "object", key: .number("id", Int64(bitPattern: id)))
            return try decodeObject(row, id)
        }
    }

    func readInline(_ object: UInt64) throws(Errno) -> [UInt8] {
        try read { db in
            var statement = try BoundStatement("SELECT inline FROM object WHERE id = ?", in: db)
            statement.bind(object)
            defer { statement.reset() }
            let row = StoredRow(
                statement, table: "object", key: .number("id", Int64(bitPattern: object)))
            guard try statement.step() else { throw row.damage("id", "there is no such row") }
            return try row.bytes(0, "inline")
        }
    }
}
