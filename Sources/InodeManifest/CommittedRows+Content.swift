internal import GRDB
package import MerkleDAG
package import Multiformats

package import struct SystemPackage.Errno

// Objects, leaves and DAG nodes by what they are, and who holds them.

extension CommittedRows {
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

    /// The objects with numbers above ?1 that the remote of today does not hold in the epoch ?2. Both
    /// tables are read in the order of their keys, side by side.
    private static let unplacedObjects = """
        SELECT id FROM object WHERE id > ?1 AND state = 2 EXCEPT SELECT id FROM placement
        WHERE kind = \(PlacedKind.object.rawValue) AND id > ?1
        AND remote = \(PlacementChange.kuboRemote)
        AND state = \(PlacementState.held.rawValue) AND epoch = ?2 ORDER BY 1
        """

    /// The committed sealed objects that the node is not known to have, with numbers above one, in
    /// order.
    package func unpublishedObjects(
        after id: UInt64, limit: Int
    ) throws(Errno) -> [UInt64] {
        // Before the first epoch, nothing is published.
        let epoch = self.epoch ?? .max
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
        guard let epoch else { return [] }
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
        let epoch = self.epoch ?? .max
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
        guard let epoch else { return false }
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

    /// The committed objects that no inode holds: something was reading them when their last inode let go, and
    /// the program stopped before that ended. Reads all rows of objects.
    package func unheldObjects() throws(Errno) -> [UInt64] {
        try identifiers("SELECT id FROM object WHERE refs = 0", nil)
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
                SELECT count(*), total(size), total(size * max(refs - (kept > 0) - 1, 0)),
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
