internal import Base
package import MerkleDAG

// The store of DAG nodes: `dag_node` and `dag_reference` (Schema.swift). Blocks that are the same are
// there once, and a block goes with its last reference. Of a set of references only what differs from the set
// before is told to SQLite, so a large directory costs its changed nodes.

/// Who needs a DAG node: `kind` and `owner` of `dag_reference`.
package struct DAGOwner: Hashable, Sendable {
    /// The `kind` column of `dag_reference`.
    package enum Kind: Int64, Sendable {
        case object = 1
        case directory = 2
        /// What the tree has lost; `id` is the count of roots then.
        case lost = 3
        /// What the tree has lost and snapshots may need; `id` is the newest that can.
        case snapshot = 4
    }

    let kind: Kind
    let id: UInt64

    /// Names an owner by its kind and its number: of an object, of a directory's inode, or a count of roots.
    package init(kind: Kind, id: UInt64) {
        self.kind = kind
        self.id = id
    }
}

/// The DAG nodes of an object or a directory are lost to the tree, and a remote's root or a snapshot may have them.
struct LostNodes: Sendable {
    let owner: DAGOwner
    /// How many roots had been begun; nil where no root has them.
    let rootCount: UInt64?
    /// The newest snapshot, which may have them; 0 for none.
    let snapshot: UInt64
}

/// Writes the two tables, inside a transaction.
package struct DAGNodeTable {
    private var findOwned: BoundStatement
    private var putNode: BoundStatement
    private var putReference: BoundStatement
    private var dropReference: BoundStatement
    private var dropUnneeded: BoundStatement
    private var keepForSnapshot: BoundStatement

    /// Prepares the statements; the table is of use as long as the connection.
    package init(in db: some StatementSource) throws {
        findOwned = try db.statement(
            "SELECT multihash FROM dag_reference WHERE kind = ? AND owner = ?")
        // One that is damaged is made good. Who had it first may be told of last: born is the lowest.
        putNode = try db.statement(
            """
            INSERT INTO dag_node(multihash, bytes, born) VALUES (?,?,?) ON CONFLICT(multihash)
            DO UPDATE SET bytes = excluded.bytes, born = min(born, excluded.born)
            WHERE bytes <> excluded.bytes OR born > excluded.born
            """)
        keepForSnapshot = try db.statement(
            """
            INSERT OR IGNORE INTO dag_reference(kind, owner, multihash)
            SELECT \(DAGOwner.Kind.snapshot.rawValue), ?1, multihash FROM dag_node
            WHERE multihash = ?2 AND born < ?1
            """)
        putReference = try db.statement(
            "INSERT OR IGNORE INTO dag_reference(kind, owner, multihash) VALUES (?,?,?)")
        dropReference = try db.statement(
            "DELETE FROM dag_reference WHERE kind = ? AND owner = ? AND multihash = ?")
        dropUnneeded = try db.statement(
            """
            DELETE FROM dag_node WHERE multihash = ?1
            AND NOT EXISTS (SELECT 1 FROM dag_reference WHERE multihash = ?1)
            """)
    }

    private mutating func owned(by owner: DAGOwner) throws -> Set<[UInt8]> {
        findOwned.bind(owner.kind.rawValue)
        findOwned.bind(owner.id)
        defer { findOwned.reset() }
        var multihashes: Set<[UInt8]> = []
        while try findOwned.step() { multihashes.insert(findOwned.bytes(0)) }
        return multihashes
    }

    /// Has an owner need these blocks, and no others.
    ///
    /// - Parameters:
    ///   - born: the newest snapshot when they were made; a block that is there keeps its own where that is lower.
    ///   - isNew: it has none so far.
    package mutating func set(
        _ owner: DAGOwner, to nodes: [StoredNode], born: UInt64, isNew: Bool = false
    ) throws {
        var old = isNew ? [] : try owned(by: owner)
        for node in nodes {
            putNode.bind(node.multihash)
            putNode.bind(node.bytes)
            putNode.bind(born)
            try putNode.run()
            guard old.remove(node.multihash) == nil else { continue }
            putReference.bind(owner.kind.rawValue)
            putReference.bind(owner.id)
            putReference.bind(node.multihash)
            try putReference.run()
        }
        for multihash in old { try drop(multihash, of: owner) }
    }

    private mutating func drop(_ multihash: [UInt8], of owner: DAGOwner) throws {
        dropReference.bind(owner.kind.rawValue)
        dropReference.bind(owner.id)
        dropReference.bind(multihash)
        try dropReference.run()
        dropUnneeded.bind(multihash)
        try dropUnneeded.run()
    }

    /// Keeps the blocks that an owner has now, whatever becomes of it.
    mutating func keep(_ lost: LostNodes) throws {
        for multihash in try owned(by: lost.owner) {
            if let rootCount = lost.rootCount {
                putReference.bind(DAGOwner.Kind.lost.rawValue)
                putReference.bind(rootCount)
                putReference.bind(multihash)
                try putReference.run()
            }
            if lost.snapshot > 0 {
                keepForSnapshot.bind(lost.snapshot)
                keepForSnapshot.bind(multihash)
                try keepForSnapshot.run()
            }
        }
    }

    /// Keeps blocks that no row has for a snapshot.
    mutating func keep(_ kept: KeptNodes) throws {
        for node in kept.nodes {
            putNode.bind(node.multihash)
            putNode.bind(node.bytes)
            putNode.bind(kept.born)
            try putNode.run()
            putReference.bind(DAGOwner.Kind.snapshot.rawValue)
            putReference.bind(kept.snapshot)
            putReference.bind(node.multihash)
            try putReference.run()
        }
    }

    /// Lets go what no snapshot needs, of what was kept with a number of the range.
    mutating func sweep(_ range: ClosedRange<UInt64>, in db: some StatementSource) throws {
        var find = try db.statement(
            """
            SELECT owner, multihash FROM dag_reference JOIN dag_node USING (multihash)
            WHERE kind = \(DAGOwner.Kind.snapshot.rawValue) AND owner BETWEEN ? AND ?
            AND NOT EXISTS (SELECT 1 FROM snapshot WHERE id > born AND id <= owner)
            LIMIT \(Self.droppedAtOnce)
            """)
        while true {
            find.bind(range.lowerBound)
            find.bind(range.upperBound)
            guard try dropAll(found: &find, of: .snapshot) else { return }
        }
    }

    /// Drops the references that a statement finds; false where there were none.
    private mutating func dropAll(
        found find: inout BoundStatement, of kind: DAGOwner.Kind
    ) throws -> Bool {
        var found: [(UInt64, [UInt8])] = []
        while try find.step() { found.append((find.uint64(0), find.bytes(1))) }
        find.reset()
        for (owner, multihash) in found { try drop(multihash, of: DAGOwner(kind: kind, id: owner)) }
        return !found.isEmpty
    }

    /// Lets go what is kept of roots that were begun before one.
    mutating func letGo(before rootCount: UInt64, in db: some StatementSource) throws {
        var find = try db.statement(
            """
            SELECT owner, multihash FROM dag_reference
            WHERE kind = \(DAGOwner.Kind.lost.rawValue) AND owner < ? LIMIT \(Self.droppedAtOnce)
            """)
        while true {
            find.bind(rootCount)
            guard try dropAll(found: &find, of: .lost) else { return }
        }
    }

    /// References that are in memory at a time while they are dropped.
    private static let droppedAtOnce = 1_024
}

/// Counts the roots that were begun, to stand at a remote; and tells what the tree loses meanwhile.
package struct RootCount {
    /// Those of processes before are counted.
    private var count: UInt64
    private var isUnderWay = false

    init(_ count: UInt64) {
        self.count = count
    }

    /// Begins a root, before the tree's CID is asked for. Until `end` the DAG nodes of what the tree loses are
    /// kept for it.
    ///
    /// - Returns: the count of it, for `PublishedState`.
    package mutating func begin() -> UInt64 {
        count += 1
        isUnderWay = true
        return count
    }

    /// Ends `begin`, whether the root stands at the remote now or not.
    package mutating func end() {
        isUnderWay = false
    }

    /// Notes that a directory or an object loses its DAG nodes: to a change of what it is, or with it.
    func lose(
        _ kind: DAGOwner.Kind, _ id: UInt64, _ placedEpoch: UInt64, snapshot: UInt64,
        _ pending: inout PendingChanges
    ) {
        // What no remote has is in no root of one.
        let isOfRoot = placedEpoch != 0 || isUnderWay
        guard isOfRoot || snapshot > 0 else { return }
        pending.lostNodes.append(
            LostNodes(
                owner: DAGOwner(kind: kind, id: id), rootCount: isOfRoot ? count : nil,
                snapshot: snapshot))
    }
}

extension ManifestState {
    /// Notes that a directory loses the DAG nodes of its CID.
    func loseTree(of record: InodeRecord) {
        let snapshot = record.treeBorn < snapshots.newest ? snapshots.newest : 0
        keepNodesForSnapshots(of: record)
        roots.lose(
            .directory, record.inode.number, record.placedEpoch, snapshot: snapshot, &pending)
    }

    /// Notes that an object loses its leaves and nodes.
    func loseBlocks(of record: ObjectRecord) {
        // What a snapshot may have of it is kept with it.
        roots.lose(.object, record.id, record.placedEpoch, snapshot: 0, &pending)
    }

    /// Takes a directory's CID away, because something below changed.
    package func clearTree(of record: InodeRecord) {
        guard record.cid != nil else { return }
        loseTree(of: record)
        record.cid = nil
        record.newNodes = nil
        record.place(in: 0, self)
        mark(record)
    }
}

extension CommitBatch {
    /// Keeps what a remote's root may have of the DAG nodes that are about to go, inside a transaction.
    func keepLostNodes(in table: inout DAGNodeTable) throws {
        for lost in lostNodes { try table.keep(lost) }
    }

    /// Drops the references of deleted rows.
    func deleteNodes(in table: inout DAGNodeTable) throws {
        for id in storedDeletedInodes {
            try table.set(DAGOwner(kind: .directory, id: id), to: [], born: 0)
        }
        for id in storedDeletedObjects {
            try table.set(DAGOwner(kind: .object, id: id), to: [], born: 0)
        }
    }
}
