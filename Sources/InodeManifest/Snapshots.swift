package import Base
internal import GRDB
package import MerkleDAG
package import Multiformats

internal import struct SystemPackage.Errno

// Snapshots: roots that keep what they are made of, at the cost of what changed since.
//
// Snapshots are numbered in the order in which they are made. Each sealed object and each DAG node is *born*: it has the
// number of the newest snapshot of then, so the first that can have it is the next one. When the tree loses it, it is *kept*
// with the number of the newest snapshot of that moment, the last that can have it. So a snapshot costs one row, and
// a change what it takes away:
//
//      snapshot s needs what was born before it and lost after it:   born < s <= kept
//
// What no snapshot needs any more goes when one is deleted (`sweep`). An object that is kept counts one reference for all
// snapshots. What was born before the newest snapshot is shared with that one, and is not changed in place
// (`isShared`). Born may be too early (equal content is stored once), and then more is kept than is needed, never less.

/// A snapshot as the manifest has it: a row of `snapshot`.
package struct StoredSnapshot: Sendable, Equatable {
    /// Its number, which is given once.
    package let id: UInt64
    package let name: String
    /// The CID of the tree.
    package let root: CID
    /// The Tsize of the tree.
    package let treeSize: UInt64
    /// In nanoseconds since the epoch.
    package let time: Int64
    /// Inodes with lower numbers were there.
    package let nextInode: UInt64
    package let message: String
    package let isAutomatic: Bool
    /// The root block of the portable manifest; nil for none.
    package let manifest: CID?

    package init(
        id: UInt64, name: String, root: CID, treeSize: UInt64, time: Int64, nextInode: UInt64,
        message: String, isAutomatic: Bool, manifest: CID?
    ) {
        self.id = id
        self.name = name
        self.root = root
        self.treeSize = treeSize
        self.time = time
        self.nextInode = nextInode
        self.message = message
        self.isAutomatic = isAutomatic
        self.manifest = manifest
    }
}

/// A restoring that is under way, so that a crash does not leave half of it: the row of `restoration`.
package struct Restoration: Sendable, Equatable {
    /// What the tree comes from, for messages.
    package let name: String
    /// The root that it is brought to.
    package let root: CID
    /// The names down to what is restored.
    package let path: [FileName]

    package init(name: String, root: CID, path: [FileName]) {
        self.name = name
        self.root = root
        self.path = path
    }
}

extension ObjectRecord {
    /// How many inodes have it.
    package var holderCount: UInt32 { references - min(references, kept > 0 ? 1 : 0) }
}

/// DAG nodes whose bytes no row has, and that snapshots need.
struct KeptNodes: Sendable {
    /// The newest snapshot that can have them.
    let snapshot: UInt64
    let born: UInt64
    let nodes: [StoredNode]
}

/// Changes of `snapshot` and `restoration`. They are so rare that the redo log has no form for them: SQLite is told at once.
struct SnapshotChanges: Sendable {
    enum Change: Sendable {
        case put(StoredSnapshot)
        case delete(UInt64)
        case setManifest(UInt64, CID)
        case restoration(Restoration?)
        /// Lets go the DAG nodes that no snapshot needs, among those that were kept with a number of the range.
        case sweep(ClosedRange<UInt64>)
    }

    var changes: [Change] = []
    /// The number that was given last, where it changed.
    var last: UInt64?

    var isEmpty: Bool { changes.isEmpty && last == nil }

    /// Leaves the deletion of a snapshot out; false where it is not among them.
    mutating func takeBackRemoval(of id: UInt64) -> Bool {
        let count = changes.count
        changes.removeAll { change in
            if case .delete(id) = change { true } else { false }
        }
        return changes.count < count
    }

    mutating func add(_ later: SnapshotChanges) {
        changes += later.changes
        last = later.last ?? last
    }
}

/// The snapshots of a volume, in memory.
package struct Snapshots: Sendable {
    /// In the order of their numbers, those as well whose deletion is not durable yet: what they have stays until then.
    private var stored: [StoredSnapshot]
    /// The numbers of those.
    private var leaving: Set<UInt64> = []
    /// Those that are there for people, in the order of their numbers.
    package var all: [StoredSnapshot] {
        leaving.isEmpty ? stored : stored.filter { !leaving.contains($0.id) }
    }
    /// The number that was given last.
    package private(set) var last: UInt64
    /// The number of the newest there is; 0 without any.
    package var newest: UInt64 { stored.last?.id ?? 0 }
    /// A restoring that is not done; one that could not go on waits for the next opening.
    package internal(set) var restoration: Restoration?
    /// Somebody is at work on `restoration`.
    package internal(set) var isRestoring = false

    init(all: [StoredSnapshot], last: UInt64, restoration: Restoration?) {
        stored = all.sorted { $0.id < $1.id }
        self.last = max(last, all.map(\.id).max() ?? 0)
        self.restoration = restoration
    }

    /// The snapshot of a name.
    package func named(_ name: String) -> StoredSnapshot? { all.first { $0.name == name } }

    /// Whether a snapshot needs what was born and kept so.
    package func isNeeded(born: UInt64, kept: UInt64) -> Bool {
        stored.contains { born < $0.id && $0.id <= kept }
    }

    mutating func add(_ snapshot: StoredSnapshot) {
        stored.append(snapshot)
        last = snapshot.id
    }

    /// The newest snapshot that an inode is older than, and the newest that is older than the inode; nil where all are.
    package func thatHave(_ inode: Inode) -> (newest: UInt64, before: UInt64)? {
        guard let newest = stored.last, inode.number < newest.nextInode else { return nil }
        return (newest.id, stored.last { $0.nextInode <= inode.number }?.id ?? 0)
    }

    mutating func beginRemoval(_ id: UInt64) { leaving.insert(id) }

    mutating func endRemoval(_ id: UInt64, isDone: Bool) {
        leaving.remove(id)
        if isDone { stored.removeAll { $0.id == id } }
    }

    mutating func setManifest(_ id: UInt64, _ manifest: CID) {
        guard let index = stored.firstIndex(where: { $0.id == id }) else { return }
        let old = stored[index]
        stored[index] = StoredSnapshot(
            id: old.id, name: old.name, root: old.root, treeSize: old.treeSize, time: old.time,
            nextInode: old.nextInode, message: old.message, isAutomatic: old.isAutomatic,
            manifest: manifest)
    }
}

extension ManifestState {
    /// Makes a snapshot of the tree as it is at this moment.
    ///
    /// - Parameters:
    ///   - nodes: what it is made of beside the nodes of the tree's own directories.
    ///   - frozen: objects that it has and the tree has not.
    package func takeSnapshot(
        name: String, root: CID, treeSize: UInt64, time: Int64, message: String,
        isAutomatic: Bool, nodes: [StoredNode], frozen: [ObjectRecord]
    ) -> StoredSnapshot {
        let made = StoredSnapshot(
            id: snapshots.last + 1, name: name, root: root, treeSize: treeSize, time: time,
            nextInode: nextInode, message: message, isAutomatic: isAutomatic, manifest: nil)
        if !nodes.isEmpty {
            keep(KeptNodes(snapshot: made.id, born: snapshots.last, nodes: nodes))
            pending.contentByteCount += nodes.reduce(0) { $0 + $1.bytes.count }
        }
        snapshots.add(made)
        for object in frozen {
            object.kept = made.id
            mark(object)
        }
        pending.snapshots.changes.append(.put(made))
        pending.snapshots.last = made.id
        return made
    }

    /// Takes a snapshot away. What it has stays until `endRemoval`, and what it alone kept until that is swept.
    package func beginRemoval(of id: UInt64) {
        snapshots.beginRemoval(id)
        pending.snapshots.changes.append(.delete(id))
    }

    /// Ends `beginRemoval`, behind a commit.
    ///
    /// - Parameter isDurable: the commit succeeded.
    /// - Returns: false where the snapshot is there again, because SQLite could not be told.
    package func endRemoval(of id: UInt64, isDurable: Bool) -> Bool {
        let isDone = isDurable || !pending.takeBackRemoval(of: id)
        snapshots.endRemoval(id, isDone: isDone)
        return isDone
    }

    /// Notes the portable manifest of a snapshot, and keeps its blocks as long as that is there.
    package func setManifest(of id: UInt64, to manifest: CID, _ nodes: [StoredNode]) {
        // Deleted meanwhile, it would leave them behind.
        guard snapshots.all.contains(where: { $0.id == id }) else { return }
        snapshots.setManifest(id, manifest)
        keep(KeptNodes(snapshot: id, born: id - 1, nodes: nodes))
        pending.contentByteCount += nodes.reduce(0) { $0 + $1.bytes.count }
        pending.snapshots.changes.append(.setManifest(id, manifest))
    }

    /// Lets go the DAG nodes that no snapshot needs, among those that were kept with a number of the range.
    package func sweepNodes(_ range: ClosedRange<UInt64>) {
        pending.snapshots.changes.append(.sweep(range))
    }

    /// Notes what is being restored; nil once that is done.
    ///
    /// - Parameter isUnderWay: somebody is at work on it from now on.
    package func setRestoration(_ restoration: Restoration?, isUnderWay: Bool = false) {
        snapshots.isRestoring = isUnderWay
        guard restoration != snapshots.restoration else { return }
        snapshots.restoration = restoration
        pending.snapshots.changes.append(.restoration(restoration))
    }

    /// Whether an object is somebody else's too: of other inodes, of a snapshot, or of whoever it is lent to. Its bytes must not
    /// be changed in place.
    package func isShared(_ record: ObjectRecord) -> Bool {
        record.references > 1 || isInSnapshot(record) || lent.contains(record.id)
    }

    /// Whether no snapshot can have an object.
    package func isInNoSnapshot(_ record: ObjectRecord) -> Bool {
        record.kept == 0 && record.born >= snapshots.newest
    }

    /// Whether the newest snapshot may have an object.
    package func isInSnapshot(_ record: ObjectRecord) -> Bool {
        record.state == .sealed && record.born < snapshots.newest
    }

    /// Keeps an object that an inode lets go for the snapshots.
    ///
    /// Also where another inode has it: that one may be without a name by now, and then says nothing when it lets go.
    ///
    /// - Returns: whether the inode's reference went over to the snapshots. Else they have one, or cannot have the object.
    func keepForSnapshots(_ record: ObjectRecord) -> Bool {
        guard isInSnapshot(record) else { return false }
        let hadReference = record.kept > 0
        record.kept = snapshots.newest
        mark(record)
        return !hadReference
    }

    /// Keeps an object for the snapshots of now, because the tree loses an inode that goes on having it.
    package func noteLoss(_ record: ObjectRecord) {
        guard isInSnapshot(record) else { return }
        if record.kept == 0 { retain(record) }
        record.kept = snapshots.newest
        mark(record)
    }

    /// Ends what `keepForSnapshots` did, where no snapshot needs the object any more.
    package func letGoIfUnneeded(_ record: ObjectRecord) {
        guard record.kept > 0, !snapshots.isNeeded(born: record.born, kept: record.kept) else {
            return
        }
        // Not by `release`: that would keep it for snapshots which were made after it had gone.
        record.kept = 0
        if record.references > 0 { record.references -= 1 }
        mark(record)
        deleteIfUnused(record)
    }

    /// Keeps the DAG nodes that a directory loses for the snapshots.
    func keepNodesForSnapshots(of record: InodeRecord) {
        guard let nodes = record.newNodes, record.treeBorn < snapshots.newest else { return }
        keep(KeptNodes(snapshot: snapshots.newest, born: record.treeBorn, nodes: nodes))
    }

    private func keep(_ kept: KeptNodes) {
        pending.keptNodes.append(kept)
        blocks.note(
            kept.nodes, of: .snapshot(born: kept.born, kept: kept.snapshot),
            generation: turns.generation)
    }

    /// Keeps the block of a symlink that is deleted for the snapshots.
    package func keepSymlink(_ record: InodeRecord, _ node: StoredNode) {
        guard let (newest, before) = snapshots.thatHave(record.inode) else { return }
        keep(KeptNodes(snapshot: newest, born: before, nodes: [node]))
    }
}

extension Snapshots {
    /// What stands in the database.
    static func read(in writer: DatabaseQueue) throws -> Snapshots {
        try writer.inDatabase { db in
            var all: [StoredSnapshot] = []
            var rows = try BoundStatement(
                """
                SELECT id, name, root, tree_size, time, next_inode, message, is_automatic, manifest
                FROM snapshot ORDER BY id
                """, in: db)
            defer { rows.reset() }
            while try rows.step() { all.append(try StoredSnapshot(rows)) }
            var last = try BoundStatement("SELECT last_snapshot FROM volume WHERE id = 1", in: db)
            defer { last.reset() }
            let number =
                try last.step()
                ? try StoredRow(last, table: "volume", key: .number("id", 1)).number(
                    0, "last_snapshot", in: 0...StoredRow.numberMax) : 0
            return Snapshots(all: all, last: number, restoration: try restoration(in: db))
        }
    }

    private static func restoration(in db: Database) throws -> Restoration? {
        var row = try BoundStatement(
            "SELECT name, root, path FROM restoration WHERE id = 1", in: db)
        defer { row.reset() }
        guard try row.step() else { return nil }
        return try Restoration(StoredRow(row, table: "restoration", key: .number("id", 1)))
    }
}

extension StoredSnapshot {
    /// The row on which a statement of all columns stands.
    package init(_ statement: BoundStatement) throws(DamagedRow) {
        let row = StoredRow(
            statement, table: "snapshot", key: .number("id", statement.int64(0)))
        guard let root = try row.cid(2, "root") else { throw row.damage("root", "there is none") }
        self.init(
            id: try row.number(0, "id", in: 1...StoredRow.numberMax), name: try row.text(1, "name"),
            root: root, treeSize: try row.bits(3, "tree_size"), time: try row.integer(4, "time"),
            nextInode: try row.number(5, "next_inode", in: 0...StoredRow.numberMax),
            message: try row.text(6, "message"),
            isAutomatic: try row.integer(7, "is_automatic") != 0,
            manifest: try row.cid(8, "manifest"))
    }
}

extension Restoration {
    /// A row of name, root and path.
    package init(_ row: StoredRow) throws(DamagedRow) {
        guard let root = try row.cid(1, "root") else { throw row.damage("root", "there is none") }
        let bytes = try row.bytes(2, "path")
        let path =
            bytes.isEmpty ? [] : bytes.split(separator: 0x2f, omittingEmptySubsequences: false)
        let names = path.map { FileName(Array($0)) }
        for name in names {
            if let fault = name.fault { throw row.damage("path", fault) }
        }
        self.init(name: try row.text(0, "name"), root: root, path: names)
    }
}

extension SnapshotChanges {
    /// Tells SQLite, inside a transaction.
    func write(to db: some StatementSource, _ nodes: inout DAGNodeTable) throws {
        if let last {
            var volume = try db.statement("UPDATE volume SET last_snapshot = ?")
            volume.bind(last)
            try volume.run()
        }
        for change in changes {
            switch change {
            case .put(let snapshot): try put(snapshot, in: db)
            case .delete(let id):
                var row = try db.statement("DELETE FROM snapshot WHERE id = ?")
                row.bind(id)
                try row.run()
            case .setManifest(let id, let manifest):
                var row = try db.statement("UPDATE snapshot SET manifest = ? WHERE id = ?")
                row.bind(manifest.bytes)
                row.bind(id)
                try row.run()
            case .restoration(let restoration): try put(restoration, in: db)
            case .sweep(let range): try nodes.sweep(range, in: db)
            }
        }
    }

    private func put(_ snapshot: StoredSnapshot, in db: some StatementSource) throws {
        var row = try db.statement(
            """
            INSERT OR REPLACE INTO snapshot(id, name, root, tree_size, time, next_inode, message,
            is_automatic, manifest) VALUES (?,?,?,?,?,?,?,?,?)
            """)
        row.bind(snapshot.id)
        row.bind(snapshot.name)
        row.bind(snapshot.root.bytes)
        row.bind(snapshot.treeSize)
        row.bind(snapshot.time)
        row.bind(snapshot.nextInode)
        row.bind(snapshot.message)
        row.bind(snapshot.isAutomatic)
        row.bind(snapshot.manifest?.bytes)
        try row.run()
    }

    private func put(_ restoration: Restoration?, in db: some StatementSource) throws {
        guard let restoration else {
            var row = try db.statement("DELETE FROM restoration")
            return try row.run()
        }
        var row = try db.statement(
            "INSERT OR REPLACE INTO restoration(id, name, root, path) VALUES (1,?,?,?)")
        row.bind(restoration.name)
        row.bind(restoration.root.bytes)
        row.bind(Array(restoration.path.map(\.bytes).joined(separator: [0x2f])))
        try row.run()
    }
}
