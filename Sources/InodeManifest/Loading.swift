package import Base
internal import GRDB
package import MerkleDAG
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

    /// The objects with numbers above ?1 that the remote of today does not hold in the epoch ?2. Both
    /// tables are read in the order of their keys, side by side.
    private static let unplacedObjects = """
        SELECT id FROM object WHERE id > ?1 AND state = 2 EXCEPT SELECT id FROM placement
        WHERE kind = \(PlacedKind.object.rawValue) AND id > ?1
        AND remote = \(PlacementChange.kuboRemote)
        AND state = \(PlacementState.held.rawValue) AND epoch = ?2 ORDER BY 1
        """

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
                \(Self.epoch(of: .object, "object.id")) FROM object WHERE id = ?
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

    /// The leaves and interior nodes of a sealed object, as they wait for SQLite or as they stand in it; none
    /// of one that is a single leaf.
    package func blocks(of record: ObjectRecord) throws(Errno) -> StoredBlocks {
        if let blocks = record.newBlocks { return blocks }
        return StoredBlocks(
            leaves: try leafMultihashes(of: record.id, limit: UInt64(Int64.max)),
            nodes: try nodes(of: record.id))
    }

    /// A stored interior or directory node.
    package func node(with multihash: [UInt8]) throws(Errno) -> [UInt8]? {
        try read { db in
            var statement = try BoundStatement(
                "SELECT bytes FROM dag_node WHERE multihash = ?", in: db)
            statement.bind(multihash)
            defer { statement.reset() }
            return try statement.step() ? statement.bytes(0) : nil
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
                "\(Self.unplacedObjects) LIMIT ?3", in: db)
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
                SELECT object.id, object.size FROM placement
                CROSS JOIN object ON object.id = placement.id
                WHERE placement.kind = \(PlacedKind.object.rawValue) AND placement.id > ?
                AND remote = \(PlacementChange.kuboRemote)
                AND placement.state = \(PlacementState.held.rawValue) AND epoch = ?
                AND object.state = 2 AND inline IS NULL AND size >= 0
                ORDER BY placement.id LIMIT ?
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
                """
                SELECT count(*), total(object.size) FROM (\(Self.unplacedObjects)) AS waiting
                CROSS JOIN object ON object.id = waiting.id
                """, in: db)
            statement.bind(Int64.min)
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
                SELECT 1 FROM leaf CROSS JOIN placement
                ON kind = \(PlacedKind.object.rawValue) AND id = leaf.object
                AND remote = \(PlacementChange.kuboRemote)
                AND state = \(PlacementState.held.rawValue)
                WHERE multihash = ? AND epoch = ? LIMIT 1
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
                """
                SELECT dag_node.multihash, bytes FROM dag_reference
                CROSS JOIN dag_node ON dag_node.multihash = dag_reference.multihash
                WHERE kind = ? AND owner = ?
                """, in: db)
            statement.bind(DAGOwner.Kind.object.rawValue)
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
            while try statement.step() {
                // One below is nobody's: nothing leads to it, and a check tells of it.
                if statement.int64(0) > 0 { ids.append(statement.uint64(0)) }
            }
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

/// The record of a row with the columns that `loadInode` asks for.
private func decodeInode(_ row: StoredRow, _ inode: Inode) throws(DamagedRow) -> InodeRecord {
    let kind = try row.kind(0, "kind")
    var target: [UInt8] = []
    if kind == .symlink {
        target = try row.bytes(17, "target")
        guard (1..<4096).contains(target.count), !target.contains(0) else {
            throw row.damage("target", "\(target.count) bytes that are no path")
        }
    }
    let record = InodeRecord(
        inode: inode, kind: kind, mode: try row.number32(1, "mode", max: 0o7777),
        uid: try row.number32(2, "uid"), gid: try row.number32(3, "gid"),
        linkCount: try row.number32(4, "nlink"), rdev: try row.bits(5, "rdev"),
        parent: Inode(try row.number(12, "parent", in: 0...StoredRow.numberMax)),
        target: target,
        accessed: Timestamp(nanoseconds: try row.integer(8, "atime")),
        modified: Timestamp(nanoseconds: try row.integer(9, "mtime")),
        changed: Timestamp(nanoseconds: try row.integer(10, "ctime")),
        created: Timestamp(nanoseconds: try row.integer(11, "btime")))
    record.isStored = true
    record.size = try row.number(6, "size")
    // A figure for people, no more.
    record.blocks = UInt64(clamping: try row.integer(7, "blocks"))
    record.otherParents = try row.parents(13, "other_parents")
    if !row.isNull(14) { record.object = try row.number(14, "object", in: 1...StoredRow.numberMax) }
    record.cid = try row.cid(15, "cid")
    record.treeSize = try row.bits(16, "tree_size")
    record.hasAttributes = try row.integer(18, "has_xattrs") != 0
    if !row.isNull(19) { record.placedEpoch = try row.bits(19, "epoch of placement") }
    record.isLoaded = try row.integer(20, "not_loaded") == 0
    guard record.isLoaded || kind == .directory && record.cid != nil else {
        throw row.damage("not_loaded", "there is no CID of a directory to find the entries by")
    }
    return record
}

/// The record of a row with the columns that `loadObject` asks for.
private func decodeObject(_ row: StoredRow, _ id: UInt64) throws(DamagedRow) -> ObjectRecord {
    let number = try row.integer(0, "state")
    guard let state = ObjectState(rawValue: number) else {
        throw row.damage("state", "\(number) is no state of an object")
    }
    let record = ObjectRecord(
        id: id, state: state, references: try row.number32(1, "refs"),
        size: try row.number(2, "size"), isInline: try row.integer(5, "inline") != 0)
    record.isStored = true
    record.cid = try row.cid(3, "cid")
    record.treeSize = try row.bits(4, "tree_size")
    if !row.isNull(6) { record.placedEpoch = try row.bits(6, "epoch of placement") }
    if state == .remote {
        guard !record.isInline else {
            throw row.damage("inline", "bytes of an object that is at the node")
        }
        guard record.cid != nil else {
            throw row.damage("cid", "there is none to have its bytes by from the node")
        }
    }
    return record
}

/// The entry of a row whose columns `inode`, `kind` and `cookie` begin at one.
private func decodeEntry(
    _ statement: BoundStatement, _ name: FileName, _ parent: Inode, from column: Int32
) throws(DamagedRow) -> DirectoryEntryRecord {
    let row = StoredRow(statement, table: "entry", key: .name(name, parent: parent.number))
    if let fault = name.fault { throw row.damage("name", fault) }
    return DirectoryEntryRecord(
        inode: Inode(try row.number(column, "inode", in: 1...StoredRow.numberMax)),
        kind: try row.kind(column + 1, "kind"),
        cookie: try row.number(
            column + 2, "cookie", in: UInt64(Schema.cookieMin)...StoredRow.numberMax),
        generation: 0)
}

// `other_parents` is a run of little-endian 64-bit inode numbers.

func encodeParents(_ parents: [Inode]) -> [UInt8]? {
    guard !parents.isEmpty else { return nil }
    let byteCount = parents.count * MemoryLayout<UInt64>.size
    return [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initialized in
        let bytes = UnsafeMutableRawBufferPointer(buffer)
        for (index, parent) in parents.enumerated() {
            bytes.storeBytes(
                of: parent.number.littleEndian, toByteOffset: index * MemoryLayout<UInt64>.size,
                as: UInt64.self)
        }
        initialized = byteCount
    }
}
