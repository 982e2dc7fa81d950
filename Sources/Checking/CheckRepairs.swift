internal import Base
internal import InodeManifest
internal import MerkleDAG

// Repairs never lose what they do not understand: an inode that no entry names, and an object that
// no inode holds, get a name in /lost+found.

/// Makes the changes that mend findings, inside the check's transaction.
final class CheckRepairs {
    private let database: CheckDatabase
    /// Entries can be found by their inodes: an index made for the repair, gone at its end.
    private var hasEntryIndex = false

    init(_ database: CheckDatabase) {
        self.database = database
    }

    /// Takes away what was made for the repairs alone.
    func end() throws(CheckFailure) {
        if hasEntryIndex { try database.execute("DROP INDEX check_entry_inode") }
        hasEntryIndex = false
    }

    /// Makes a list of changes.
    func apply(_ actions: [CheckAction]) throws(CheckFailure) {
        var touched: Set<Int64> = []
        for action in actions { try apply(action, &touched) }
        // After all entries: the links of an inode are what its entries are then.
        for inode in touched.sorted() { try relink(inode) }
        try recount()
    }

    private func apply(
        _ action: CheckAction, _ touched: inout Set<Int64>
    ) throws(CheckFailure) {
        switch action {
        case .rebuildIndexes:
            try database.execute("REINDEX")
        case .passLog(let number):
            try database.run(
                "UPDATE redo_log SET applied = ?", CheckValue(Int64(bitPattern: number)))
        case .renewLog:
            // The number goes on where it can, so that no backup is newer than what follows.
            try database.execute(
                """
                INSERT OR REPLACE INTO redo_log(id, applied, key) VALUES (1, coalesce(
                    (SELECT applied FROM redo_log WHERE applied BETWEEN 0 AND \(Schema.numberMax)), 0
                ), randomblob(32))
                """)
        case .forgetRemote(let remote):
            try database.run("DELETE FROM remote WHERE id = ?", CheckValue(remote))
            try database.run("DELETE FROM placement WHERE remote = ?", CheckValue(remote))
        case .forgetOrigin:
            try database.execute("DELETE FROM origin")
        case .forgetSnapshot(let id):
            try database.run("DELETE FROM snapshot WHERE id = ?", CheckValue(id))
            // The next mount looks then for what no snapshot needs.
            try database.execute("UPDATE volume SET clean = 0")
        case .countSnapshots:
            try database.execute(
                "UPDATE volume SET last_snapshot = (SELECT max(id) FROM snapshot)")
        case .forgetRestoration:
            try database.execute("DELETE FROM restoration")
        case .forgetGraft(let name):
            try database.run("DELETE FROM graft WHERE CAST(name AS BLOB) = ?", .blob(name))
        case .distrustGraftObject(let object):
            try database.run(
                """
                UPDATE graft_object SET digest = zeroblob(32), graft = '', is_verified = 0
                WHERE object = ?
                """, CheckValue(object))
        case .makeRoot:
            try makeDirectoryRow(1, parent: 1, mode: 0o755)
            touched.insert(1)
        case .removeEntry(let parent, let name):
            try removeEntry(parent: parent, name: name, &touched)
        case .keepOneEntry(let inode):
            try keepOneEntry(of: inode, &touched)
        case .setEntryKind(let parent, let name, let kind):
            try database.run(
                "UPDATE entry SET kind = ?3 WHERE parent = ?1 AND name = ?2",
                CheckValue(parent), .blob(name), CheckValue(kind))
            touched.insert(parent)
        case .renumberCookie(let parent, let name):
            try database.run(
                "UPDATE entry SET cookie = ?3 WHERE parent = ?1 AND name = ?2",
                CheckValue(parent), .blob(name), CheckValue(try takeCookie()))
        case .relink(let inode):
            touched.insert(inode)
        case .moveToLostAndFound(let inode):
            for (parent, name) in try entries(of: inode) {
                try removeEntry(parent: parent, name: name, &touched)
            }
            touched.insert(inode)
        case .recount:
            break
        case .nameObject(let object):
            try nameObject(object)
        case .clearTree(let directory):
            try clearTree(directory)
        default:
            try applySimple(action)
        }
    }

    /// The changes of one row.
    private func applySimple(_ action: CheckAction) throws(CheckFailure) {
        switch action {
        case .setRootKind:
            try database.execute("UPDATE inode SET kind = 2 WHERE id = 1")
        case .setMode(let inode, let mode):
            try database.run(
                "UPDATE inode SET mode = ?2 WHERE id = ?1", CheckValue(inode), CheckValue(mode))
        case .setSize(let inode, let size):
            try database.run(
                "UPDATE inode SET size = ?2 WHERE id = ?1", CheckValue(inode), CheckValue(size))
        case .setAttributeFlag(let inode, let isSet):
            try database.run(
                "UPDATE inode SET has_xattrs = ?2 WHERE id = ?1", CheckValue(inode),
                CheckValue(isSet ? 1 : 0))
        case .removeAttributes(let inode):
            try database.run("DELETE FROM xattr WHERE inode = ?", CheckValue(inode))
        case .removeAttribute(let inode, let name):
            try database.run(
                "DELETE FROM xattr WHERE inode = ? AND name = ?", CheckValue(inode), .blob(name))
        case .clearObject(let inode):
            try database.run("UPDATE inode SET object = NULL WHERE id = ?", CheckValue(inode))
        case .clearTarget(let inode):
            try database.run("UPDATE inode SET target = NULL WHERE id = ?", CheckValue(inode))
        case .setInodeCID(let inode, let cid, let treeSize):
            try database.run(
                "UPDATE inode SET cid = ?2, tree_size = ?3 WHERE id = ?1", CheckValue(inode),
                cid.map { .blob($0) } ?? .null, CheckValue(treeSize))
        case .removeDirectoryNodes(let inode):
            try setNodes(of: .directory, inode, to: [])
        case .setReferences(let object, let count):
            try database.run(
                "UPDATE object SET refs = ?2 WHERE id = ?1", CheckValue(object), CheckValue(count))
        case .setObjectSize(let object, let size):
            try database.run(
                "UPDATE object SET size = ?2 WHERE id = ?1", CheckValue(object), CheckValue(size))
        case .setObjectTreeSize(let object, let treeSize):
            try database.run(
                "UPDATE object SET tree_size = ?2 WHERE id = ?1", CheckValue(object),
                CheckValue(treeSize))
        case .clearObjectCID(let object):
            try database.run(
                "UPDATE object SET cid = NULL, tree_size = 0 WHERE id = ?", CheckValue(object))
        case .removeBlocks(let object):
            try removeBlocks(object)
        case .setBlocks(let object, let blocks):
            try setBlocks(object, blocks)
        case .forgetDeletion(let object):
            try database.run("DELETE FROM deleted_object WHERE id = ?", CheckValue(object))
        case .removePlacement(let kind, let id, let remote):
            try database.run(
                "DELETE FROM placement WHERE kind = ? AND id = ? AND remote = ?", CheckValue(kind),
                CheckValue(id), CheckValue(remote))
        case .removeReference(let kind, let owner, let multihash):
            try database.run(
                "DELETE FROM dag_reference WHERE kind = ? AND owner = ? AND multihash = ?",
                CheckValue(kind), CheckValue(owner), .blob(multihash))
            try removeUnreferencedNode(multihash)
        case .removeUnreferencedNode(let multihash):
            try removeUnreferencedNode(multihash)
        case .rebuildIndexes, .passLog, .renewLog, .forgetRemote, .forgetOrigin, .forgetSnapshot,
            .countSnapshots, .forgetRestoration, .forgetGraft, .distrustGraftObject, .makeRoot,
            .removeEntry,
            .keepOneEntry, .setEntryKind, .renumberCookie, .relink, .moveToLostAndFound, .recount,
            .nameObject, .clearTree:
            preconditionFailure("a change of more than one row")
        }
    }

    // MARK: Entries

    private func entries(
        of inode: Int64
    ) throws(CheckFailure) -> [(parent: Int64, name: [UInt8])] {
        try makeEntryIndex()
        let rows = try database.prepare(
            "SELECT parent, name FROM entry WHERE inode = ? ORDER BY parent, name")
        rows.restart(CheckValue(inode))
        var entries: [(parent: Int64, name: [UInt8])] = []
        while try rows.step() { entries.append((rows.integer(0), rows.bytes(1))) }
        return entries
    }

    /// Entries are not found by their inodes otherwise than by reading all of them.
    private func makeEntryIndex() throws(CheckFailure) {
        guard !hasEntryIndex else { return }
        try database.execute("CREATE INDEX IF NOT EXISTS check_entry_inode ON entry(inode)")
        hasEntryIndex = true
    }

    private func removeEntry(
        parent: Int64, name: [UInt8], _ touched: inout Set<Int64>
    ) throws(CheckFailure) {
        let row = try database.prepare(
            "DELETE FROM entry WHERE parent = ? AND name = ? RETURNING inode")
        row.restart(CheckValue(parent), .blob(name))
        guard try row.step() else { return }
        touched.insert(row.integer(0))
        touched.insert(parent)
        while try row.step() {}
        try clearTree(parent)
    }

    private func keepOneEntry(
        of inode: Int64, _ touched: inout Set<Int64>
    ) throws(CheckFailure) {
        let entries = try entries(of: inode)
        let own = try database.integer("SELECT parent FROM inode WHERE id = ?", CheckValue(inode))
        let kept = entries.firstIndex { $0.parent == own } ?? 0
        for (index, entry) in entries.enumerated() where index != kept {
            try removeEntry(parent: entry.parent, name: entry.name, &touched)
        }
        touched.insert(inode)
    }

    // MARK: Links

    /// Brings the links of an inode in line with its entries.
    private func relink(_ inode: Int64) throws(CheckFailure) {
        let row = try database.prepare("SELECT kind, parent FROM inode WHERE id = ?")
        row.restart(CheckValue(inode))
        guard try row.step() else { return }
        let (kind, parent) = (row.integer(0), row.integer(1))
        row.reset()
        let parents = try entries(of: inode).map(\.parent)
        if parents.isEmpty, inode != 1 { return try attach(inode, kind: kind) }
        if kind == 2 {
            let own = inode == 1 ? 1 : parents.contains(parent) ? parent : parents[0]
            try database.run(
                """
                UPDATE inode SET parent = ?2, other_parents = NULL, nlink = 2 + (
                    SELECT count(*) FROM entry WHERE parent = ?1 AND kind = 2
                ) WHERE id = ?1
                """, CheckValue(inode), CheckValue(own))
        } else {
            let first = parents.firstIndex(of: parent) ?? 0
            var others = parents
            others.remove(at: first)
            let encoded = encodeParents(others.map { Inode(UInt64(bitPattern: $0)) })
            try database.run(
                "UPDATE inode SET parent = ?2, other_parents = ?3, nlink = ?4 WHERE id = ?1",
                CheckValue(inode), CheckValue(parents[first]),
                encoded.map { .blob($0) } ?? .null, CheckValue(Int64(parents.count)))
        }
    }

    /// Gives an inode that no entry names one in lost+found, under its number.
    private func attach(_ inode: Int64, kind: Int64) throws(CheckFailure) {
        let place = try lostAndFound()
        try insertEntry(
            try freeName("\(inode)", in: place), in: place, inode: inode, kind: kind)
        try relink(inode)
        if kind == 2 { try relink(place) }
    }

    private func insertEntry(
        _ name: [UInt8], in parent: Int64, inode: Int64, kind: Int64
    ) throws(CheckFailure) {
        try database.run(
            "INSERT INTO entry(parent, name, inode, kind, cookie) VALUES (?,?,?,?,?)",
            CheckValue(parent), .blob(name), CheckValue(inode), CheckValue(kind),
            CheckValue(try takeCookie()))
        try clearTree(parent)
    }

    private func freeName(_ wanted: String, in parent: Int64) throws(CheckFailure) -> [UInt8] {
        var name = Array(wanted.utf8)
        var number = 1
        while try child(name, of: parent) != nil {
            name = Array("\(wanted)-\(number)".utf8)
            number += 1
        }
        return name
    }

    private func child(
        _ name: [UInt8], of parent: Int64
    ) throws(CheckFailure) -> (inode: Int64, kind: Int64)? {
        let row = try database.prepare(
            """
            SELECT entry.inode, inode.kind FROM entry JOIN inode ON inode.id = entry.inode
            WHERE entry.parent = ? AND entry.name = ?
            """)
        row.restart(CheckValue(parent), .blob(name))
        return try row.step() ? (row.integer(0), row.integer(1)) : nil
    }

    /// The directory /lost+found, made where there is none.
    private func lostAndFound() throws(CheckFailure) -> Int64 {
        let wanted = Array("lost+found".utf8)
        if let known = try child(wanted, of: 1), known.kind == 2 { return known.inode }
        if try database.integer("SELECT 1 FROM inode WHERE id = 1") == nil {
            try makeDirectoryRow(1, parent: 1, mode: 0o755)
        }
        try recount()
        let inode = try database.integer("SELECT next_inode FROM volume") ?? 2
        // As mklost+found(8): what lands there is for nobody else to see.
        try makeDirectoryRow(inode, parent: 1, mode: 0o700)
        try recount()
        // Something else may have the name.
        try insertEntry(try freeName("lost+found", in: 1), in: 1, inode: inode, kind: 2)
        try relink(1)
        return inode
    }

    private func makeDirectoryRow(
        _ inode: Int64, parent: Int64, mode: Int64
    ) throws(CheckFailure) {
        let now = CheckValue(Timestamp.now().nanoseconds)
        try database.run(
            """
            INSERT INTO inode(id, kind, mode, uid, gid, nlink, rdev, size, blocks, atime, mtime,
            ctime, btime, parent, tree_size, has_xattrs)
            VALUES (?1, 2, ?2, coalesce((SELECT uid FROM inode WHERE id = 1), 0),
            coalesce((SELECT gid FROM inode WHERE id = 1), 0), 2, 0, 0, 0, ?4, ?4, ?4, ?4, ?3, 0, 0)
            """, CheckValue(inode), CheckValue(mode), CheckValue(parent), now)
    }

    // MARK: Counters

    private func takeCookie() throws(CheckFailure) -> Int64 {
        let cookie =
            try database.integer(
                """
                SELECT max(16, iif(next_cookie < \(Schema.numberMax), next_cookie, 0), coalesce(
                    (SELECT max(cookie) FROM entry WHERE cookie < \(Schema.numberMax)), 0) + 1)
                FROM volume
                """) ?? 16
        try database.run("UPDATE volume SET next_cookie = ? + 1", CheckValue(cookie))
        return cookie
    }

    private func recount() throws(CheckFailure) {
        try database.execute(
            """
            UPDATE volume SET
                inode_count = (SELECT count(*) FROM inode),
                next_inode = \(next("next_inode", above: "id", of: "inode")),
                next_cookie = \(next("next_cookie", above: "cookie", of: "entry")),
                next_object = \(next("next_object", above: "id", of: "object"))
            """)
    }

    /// A counter that is above all numbers in use. One that is out of range, and a row with such a
    /// number, does not count: the sum would not be a number of SQLite's any more.
    private func next(_ counter: String, above column: String, of table: String) -> String {
        """
        max(iif(\(counter) BETWEEN 0 AND \(Schema.numberMax), \(counter), 0), coalesce(
            (SELECT max(\(column)) FROM \(table) WHERE \(column) < \(Schema.numberMax)), 0) + 1)
        """
    }

    // MARK: Objects and CIDs

    private func nameObject(_ object: Int64) throws(CheckFailure) {
        guard
            let size = try database.integer(
                "SELECT size FROM object WHERE id = ?", CheckValue(object))
        else { return }
        let place = try lostAndFound()
        try recount()
        let inode = try database.integer("SELECT next_inode FROM volume") ?? 2
        let now = CheckValue(Timestamp.now().nanoseconds)
        try database.run(
            """
            INSERT INTO inode(id, kind, mode, uid, gid, nlink, rdev, size, blocks, atime, mtime,
            ctime, btime, parent, object, tree_size, has_xattrs)
            SELECT ?1, 1, 384, uid, gid, 1, 0, ?2, (?2 + 511) / 512, ?5, ?5, ?5, ?5, ?3, ?4, 0, 0
            FROM inode WHERE id = 1
            """, CheckValue(inode), CheckValue(size), CheckValue(place), CheckValue(object), now)
        try database.run("UPDATE object SET refs = 1 WHERE id = ?", CheckValue(object))
        try insertEntry(
            try freeName("object-\(object)", in: place), in: place, inode: inode, kind: 1)
    }

    /// Takes the CID of a directory, and of those above it, away; the next question for it
    /// computes it anew.
    private func clearTree(_ directory: Int64) throws(CheckFailure) {
        let row = try database.prepare(
            """
            UPDATE inode SET cid = NULL, tree_size = 0
            WHERE id = ? AND kind = 2 AND not_loaded = 0
            RETURNING parent
            """)
        var seen: Set<Int64> = []
        var directory = directory
        // In a damaged tree there may be a CID above a directory that has none.
        while seen.insert(directory).inserted {
            try setNodes(of: .directory, directory, to: [])
            row.restart(CheckValue(directory))
            guard try row.step() else { return }
            let parent = row.integer(0)
            row.reset()
            try database.run(
                "DELETE FROM placement WHERE kind = \(PlacedKind.directory.rawValue) AND id = ?",
                CheckValue(directory))
            directory = parent
        }
    }

    private func removeBlocks(_ object: Int64) throws(CheckFailure) {
        try database.run("DELETE FROM leaf WHERE object = ?", CheckValue(object))
        try setNodes(of: .object, object, to: [])
    }

    private func setNodes(
        of kind: DAGOwner.Kind, _ id: Int64, to nodes: [StoredNode]
    ) throws(CheckFailure) {
        do {
            var table = try DAGNodeTable(in: database)
            try table.set(DAGOwner(kind: kind, id: UInt64(bitPattern: id)), to: nodes, born: 0)
        } catch {
            throw CheckFailure(error)
        }
    }

    private func removeUnreferencedNode(_ multihash: [UInt8]) throws(CheckFailure) {
        try database.run(
            """
            DELETE FROM dag_node WHERE multihash = ?1
            AND NOT EXISTS (SELECT 1 FROM dag_reference WHERE multihash = ?1)
            """, .blob(multihash))
    }

    private func setBlocks(_ object: Int64, _ blocks: SealResult) throws(CheckFailure) {
        try removeBlocks(object)
        let leaf = try database.prepare(
            "INSERT INTO leaf(object, number, multihash) VALUES (?,?,?)")
        for (number, multihash) in blocks.leaves.enumerated() {
            leaf.restart(CheckValue(object), CheckValue(Int64(number)), .blob(multihash))
            while try leaf.step() {}
        }
        try setNodes(of: .object, object, to: blocks.nodes)
    }
}
