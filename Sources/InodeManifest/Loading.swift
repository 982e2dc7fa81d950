internal import Base
internal import GRDB
package import Multiformats

package import struct SystemPackage.Errno

// What is not in memory comes from SQLite's committed rows, through a connection of its own.

extension ManifestState {
    private func read<Result>(
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
                parent, other_parents, object, cid, tree_size, target, has_xattrs, published,
                unexpanded
                FROM inode WHERE id = ?
                """, in: db)
            statement.bind(inode.number)
            guard try statement.step() else {
                statement.reset()
                return nil
            }
            defer { statement.reset() }
            guard let kind = FileKind(rawValue: UInt8(truncatingIfNeeded: statement.int64(0)))
            else { throw Errno.ioError }
            let record = InodeRecord(
                inode: inode, kind: kind, mode: statement.uint32(1), uid: statement.uint32(2),
                gid: statement.uint32(3), linkCount: statement.uint32(4),
                rdev: statement.uint64(5), parent: Inode(statement.uint64(12)),
                target: statement.bytes(17),
                accessed: Timestamp(nanoseconds: statement.int64(8)),
                modified: Timestamp(nanoseconds: statement.int64(9)),
                changed: Timestamp(nanoseconds: statement.int64(10)),
                created: Timestamp(nanoseconds: statement.int64(11)))
            record.isStored = true
            record.size = try Self.size(statement.int64(6))
            record.blocks = statement.uint64(7)
            record.otherParents = decodeParents(statement.bytes(13))
            record.object = statement.isNull(14) ? nil : statement.uint64(14)
            record.cid = statement.isNull(15) ? nil : try CID(bytes: statement.bytes(15))
            record.treeSize = statement.uint64(16)
            record.hasAttributes = statement.int64(18) != 0
            record.publishedEpoch = statement.uint64(19)
            record.isExpanded = statement.int64(20) == 0
            return record
        }
    }

    /// A size as a row has it; EIO for what no file can have, which only damage leaves there.
    private static func size(_ stored: Int64) throws(Errno) -> UInt64 {
        guard let size = UInt64(exactly: stored) else { throw .ioError }
        return size
    }

    func loadEntry(_ name: FileName, parent: Inode) throws(Errno) -> DirectoryEntryRecord? {
        try read { db in
            var statement = try BoundStatement(
                "SELECT inode, kind, cookie FROM entry WHERE parent = ? AND name = ?", in: db)
            statement.bind(parent.number)
            statement.bind(name.bytes)
            defer { statement.reset() }
            guard try statement.step() else { return nil }
            return try decodeEntry(statement, from: 0)
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
                rows.append(
                    (FileName(statement.bytes(0)), try decodeEntry(statement, from: 1)))
            }
            return rows
        }
    }

    func readAttributes(of inode: Inode) throws(Errno) -> [FileName: [UInt8]] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT name, value FROM xattr WHERE inode = ?", in: db)
            statement.bind(inode.number)
            defer { statement.reset() }
            var attributes: [FileName: [UInt8]] = [:]
            while try statement.step() {
                attributes[FileName(statement.bytes(0))] = statement.bytes(1)
            }
            return attributes
        }
    }

    func loadObject(_ id: UInt64) throws(Errno) -> ObjectRecord? {
        try read { db in
            var statement = try BoundStatement(
                """
                SELECT state, refs, size, cid, tree_size, inline IS NOT NULL, published
                FROM object WHERE id = ?
                """, in: db)
            statement.bind(id)
            defer { statement.reset() }
            guard try statement.step() else { return nil }
            guard let state = ObjectState(rawValue: statement.int64(0)) else {
                throw Errno.ioError
            }
            let record = ObjectRecord(
                id: id, state: state, references: statement.uint32(1),
                size: try Self.size(statement.int64(2)), isInline: statement.int64(5) != 0)
            record.isStored = true
            record.cid = statement.isNull(3) ? nil : try CID(bytes: statement.bytes(3))
            record.treeSize = statement.uint64(4)
            record.publishedEpoch = statement.uint64(6)
            return record
        }
    }

    func readInline(_ object: UInt64) throws(Errno) -> [UInt8] {
        try read { db in
            var statement = try BoundStatement("SELECT inline FROM object WHERE id = ?", in: db)
            statement.bind(object)
            defer { statement.reset() }
            guard try statement.step() else { throw Errno.ioError }
            return statement.bytes(0)
        }
    }

    // MARK: By CID

    /// Objects with a CID, to share content or to serve a block: the newest one that waits for its
    /// commit, and a few of the committed ones. All have the same bytes, so a few do; there can be
    /// many where equal files were sealed at the same time.
    package func objects(with cid: CID) throws(Errno) -> [UInt64] {
        let committed = try identifiers("SELECT id FROM object WHERE cid = ? LIMIT 4", cid.bytes)
        return (recentlySealed[cid].map { [$0.id] } ?? []) + committed
    }

    /// The committed directories and symlinks whose DAG has a CID.
    package func inodes(with cid: CID) throws(Errno) -> [UInt64] {
        try identifiers("SELECT id FROM inode WHERE cid = ?", cid.bytes)
    }

    /// Where leaves with a multihash lie: the object and the number of the leaf in it.
    package func leaves(
        with multihash: [UInt8]
    ) throws(Errno) -> [(object: UInt64, number: UInt64)] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT object, number FROM leaf WHERE multihash = ?", in: db)
            statement.bind(multihash)
            defer { statement.reset() }
            var places: [(object: UInt64, number: UInt64)] = []
            while try statement.step() { places.append((statement.uint64(0), statement.uint64(1))) }
            return places
        }
    }

    /// The multihashes of an object's leaves in order; empty for one of a single leaf.
    package func leafMultihashes(of object: UInt64, limit: UInt64) throws(Errno) -> [[UInt8]] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT multihash FROM leaf WHERE object = ? ORDER BY number LIMIT ?", in: db)
            statement.bind(object)
            statement.bind(limit)
            defer { statement.reset() }
            var multihashes: [[UInt8]] = []
            while try statement.step() { multihashes.append(statement.bytes(0)) }
            return multihashes
        }
    }

    /// A stored interior or directory node.
    package func node(with multihash: [UInt8]) throws(Errno) -> [UInt8]? {
        try read { db in
            for sql in [
                "SELECT bytes FROM node WHERE multihash = ? LIMIT 1",
                "SELECT bytes FROM directory_node WHERE multihash = ? LIMIT 1",
            ] {
                var statement = try BoundStatement(sql, in: db)
                statement.bind(multihash)
                defer { statement.reset() }
                if try statement.step() { return statement.bytes(0) }
            }
            return nil
        }
    }

    /// The committed sealed objects that the node is not known to have, with numbers above one, in
    /// order.
    package func unpublishedObjects(
        after id: UInt64, limit: Int
    ) throws(Errno) -> [UInt64] {
        // Before the first epoch, nothing is published.
        let epoch = published?.epoch ?? .max
        return try read { db in
            var statement = try BoundStatement(
                """
                SELECT id FROM object WHERE id > ? AND state = 2 AND published <> ?
                ORDER BY id LIMIT ?
                """, in: db)
            statement.bind(id)
            statement.bind(epoch)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var ids: [UInt64] = []
            while try statement.step() { ids.append(statement.uint64(0)) }
            return ids
        }
    }

    /// The committed objects with a flat file that the node is known to have, with numbers above one,
    /// in order.
    package func publishedFlatObjects(
        after id: UInt64, limit: Int
    ) throws(Errno) -> [(id: UInt64, size: UInt64)] {
        guard let epoch = published?.epoch else { return [] }
        return try read { db in
            var statement = try BoundStatement(
                """
                SELECT id, size FROM object
                WHERE id > ? AND state = 2 AND published = ? AND inline IS NULL
                ORDER BY id LIMIT ?
                """, in: db)
            statement.bind(id)
            statement.bind(epoch)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var found: [(id: UInt64, size: UInt64)] = []
            while try statement.step() { found.append((statement.uint64(0), statement.uint64(1))) }
            return found
        }
    }

    /// How many committed sealed objects the node is not known to have, and their bytes.
    package func unpublishedTotals() throws(Errno) -> (count: UInt64, bytes: UInt64) {
        // Before the first epoch, nothing is published.
        let epoch = published?.epoch ?? .max
        return try read { db in
            var statement = try BoundStatement(
                "SELECT count(*), total(size) FROM object WHERE state = 2 AND published <> ?",
                in: db)
            statement.bind(epoch)
            defer { statement.reset() }
            guard try statement.step() else { return (0, 0) }
            return (statement.uint64(0), statement.uint64(1))
        }
    }

    /// Whether the node is known to have a block that is a leaf of another object.
    package func isLeafPublished(_ multihash: [UInt8]) throws(Errno) -> Bool {
        guard let epoch = published?.epoch else { return false }
        return try read { db in
            var statement = try BoundStatement(
                """
                SELECT 1 FROM leaf JOIN object ON object.id = leaf.object
                WHERE multihash = ? AND published = ? LIMIT 1
                """, in: db)
            statement.bind(multihash)
            statement.bind(epoch)
            defer { statement.reset() }
            return try statement.step()
        }
    }

    /// The stored interior nodes of an object.
    package func nodes(of object: UInt64) throws(Errno) -> [StoredNode] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT multihash, bytes FROM node WHERE object = ?", in: db)
            statement.bind(object)
            defer { statement.reset() }
            var nodes: [StoredNode] = []
            while try statement.step() {
                nodes.append(
                    StoredNode(multihash: statement.bytes(0), bytes: statement.bytes(1)))
            }
            return nodes
        }
    }

    /// The committed staging objects with their references, lowest number first.
    package func stagingObjects() throws(Errno) -> [UInt64] {
        try identifiers("SELECT id FROM object WHERE state = 1 ORDER BY id", nil)
    }

    /// The committed regular files that hold an object.
    package func inodes(holding object: UInt64) throws(Errno) -> [UInt64] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT id FROM inode WHERE object = ?", in: db)
            statement.bind(object)
            defer { statement.reset() }
            var ids: [UInt64] = []
            while try statement.step() { ids.append(statement.uint64(0)) }
            return ids
        }
    }

    /// The committed inodes without a name, which a crash left behind open.
    package func unlinkedInodes() throws(Errno) -> [UInt64] {
        try identifiers("SELECT id FROM inode WHERE nlink = 0", nil)
    }

    /// Flat files that were to be unlinked when the program stopped.
    package func deletedObjects() throws(Errno) -> [UInt64] {
        try identifiers("SELECT id FROM deleted_object", nil)
    }

    private func identifiers(_ sql: String, _ key: [UInt8]?) throws(Errno) -> [UInt64] {
        try read { db in
            var statement = try BoundStatement(sql, in: db)
            if let key { statement.bind(key) }
            defer { statement.reset() }
            var ids: [UInt64] = []
            while try statement.step() { ids.append(statement.uint64(0)) }
            return ids
        }
    }

    /// Committed totals for a status report; reads every row of two tables.
    package func totals() throws(Errno) -> ManifestTotals {
        try read { db in
            var totals = ManifestTotals()
            var objects = try BoundStatement(
                """
                SELECT count(*), total(size), total(size * max(refs - 1, 0)),
                total(state = 1), total(inline IS NOT NULL), total(state = 3),
                total(CASE state WHEN 3 THEN size ELSE 0 END) FROM object
                """, in: db)
            if try objects.step() {
                totals.objects = objects.uint64(0)
                totals.remoteObjects = objects.uint64(5)
                totals.objectBytes = objects.uint64(1) &- objects.uint64(6)
                totals.sharedBytes = objects.uint64(2)
                totals.stagingObjects = objects.uint64(3)
                totals.inlineObjects = objects.uint64(4)
            }
            objects.reset()
            var inodes = try BoundStatement(
                "SELECT total(kind = 1), total(kind = 2), total(size) FROM inode", in: db)
            if try inodes.step() {
                totals.files = inodes.uint64(0)
                totals.directories = inodes.uint64(1)
                totals.bytes = inodes.uint64(2)
            }
            inodes.reset()
            // The row of a staging object does not follow its size; the inode's does.
            var staging = try BoundStatement(
                """
                SELECT total(size) FROM inode
                WHERE object IN (SELECT id FROM object WHERE state = 1)
                """, in: db)
            if try staging.step() { totals.stagingBytes = staging.uint64(0) }
            staging.reset()
            return totals
        }
    }
}

/// Counts over the committed manifest.
package struct ManifestTotals: Sendable {
    package var files: UInt64 = 0
    package var directories: UInt64 = 0
    /// Bytes of all files and symlinks as they read.
    package var bytes: UInt64 = 0
    package var objects: UInt64 = 0
    package var inlineObjects: UInt64 = 0
    /// Objects whose bytes are at the node.
    package var remoteObjects: UInt64 = 0
    /// Bytes of all objects that are here, each counted once.
    package var objectBytes: UInt64 = 0
    /// Bytes that sharing objects saved.
    package var sharedBytes: UInt64 = 0
    package var stagingObjects: UInt64 = 0
    package var stagingBytes: UInt64 = 0
}

private func decodeEntry(
    _ statement: BoundStatement, from column: Int32
) throws -> DirectoryEntryRecord {
    guard
        let kind = FileKind(rawValue: UInt8(truncatingIfNeeded: statement.int64(column + 1)))
    else { throw Errno.ioError }
    return DirectoryEntryRecord(
        inode: Inode(statement.uint64(column)), kind: kind,
        cookie: statement.uint64(column + 2), generation: 0)
}

// `other_parents` is a run of little-endian 64-bit inode numbers.

private func decodeParents(_ bytes: [UInt8]) -> [Inode] {
    stride(from: 0, to: bytes.count - bytes.count % 8, by: 8).map { start in
        Inode(bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) })
    }
}

func encodeParents(_ parents: [Inode]) -> [UInt8]? {
    guard !parents.isEmpty else { return nil }
    return parents.flatMap { parent in
        (0..<8).map { UInt8(truncatingIfNeeded: parent.number >> ($0 * 8)) }
    }
}
