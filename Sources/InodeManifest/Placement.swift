package import Base
package import Multiformats

// Who holds what: the rows of `remote` and `placement` (Schema.swift).

/// What a placement is of: the `kind` column of `placement`.
package enum PlacedKind: Int64, Sendable {
    case object = 1
    case directory = 2
}

/// How far a remote has come with what a placement is of: the `state` column of `placement`.
package enum PlacementState: Int64, Sendable {
    /// It has acknowledged all blocks.
    case held = 1
    /// It was asked for them, and answers some time: `request` is its name for that. No remote of now
    /// works so; those that pin for others do.
    case requested = 2
}

/// What kind of a remote there is: the `kind` column of `remote`.
package enum RemoteKind: Int64, Sendable {
    case kubo = 1
}

/// A placement as it is to be told to SQLite.
package struct PlacementChange: Sendable, Equatable {
    /// The number of the remote of today, the Kubo node that the volume publishes to.
    package static let kuboRemote: UInt64 = 1

    let kind: PlacedKind
    /// The number of the object or of the directory's inode.
    let id: UInt64
    let remote: UInt64
    let state: PlacementState
    /// The remote's name for what was asked of it.
    let request: [UInt8]?
    /// The epoch of the remote that it holds in; 0 takes the placement away.
    let epoch: UInt64

    init(
        kind: PlacedKind, id: UInt64, remote: UInt64 = kuboRemote, state: PlacementState = .held,
        request: [UInt8]? = nil, epoch: UInt64
    ) {
        self.kind = kind
        self.id = id
        self.remote = remote
        self.state = state
        self.request = request
        self.epoch = epoch
    }
}

/// What stands at the node of a volume that publishes to one: its row of `remote`.
package struct PublishedState: Sendable, Equatable {
    /// The node's peer id.
    package var peer: String
    /// Counts the times, from 1 on, that nothing was known to be at the node; see Schema.
    package var epoch: UInt64
    /// The MFS path of the tree.
    package var path: String
    /// The root that is pinned; nil before the first.
    package var root: CID?
    /// The count of roots when `root` was begun (`RootCount.begin`).
    package var rootCount: UInt64
    /// The CID of the directory at `path`, the mirror, as it was left; nil before the first time.
    package var mirror: CID?
    /// When `root` was pinned.
    package var time: Timestamp

    package init(
        peer: String, epoch: UInt64, path: String, root: CID?, rootCount: UInt64 = 0, mirror: CID?,
        time: Timestamp
    ) {
        self.peer = peer
        self.epoch = epoch
        self.path = path
        self.root = root
        self.rootCount = rootCount
        self.mirror = mirror
        self.time = time
    }
}

/// A record of what can be placed: an object, or a directory.
package protocol PlacedRecord: AnyObject {
    var cid: CID? { get }
    /// The epoch in which the remote of today has told that it has all blocks of `cid`; 0 for never.
    var placedEpoch: UInt64 { get }
    /// Notes a placement, dirty; 0 where the CID goes, or is another.
    func place(in epoch: UInt64, _ state: ManifestState)
}

extension InodeRecord: PlacedRecord {
    package func place(in epoch: UInt64, _ state: ManifestState) {
        guard placedEpoch != epoch else { return }
        placedEpoch = epoch
        uncommitted.insert(.placement)
        state.mark(self)
    }
}

extension ObjectRecord: PlacedRecord {
    package func place(in epoch: UInt64, _ state: ManifestState) {
        guard placedEpoch != epoch else { return }
        placedEpoch = epoch
        uncommitted.insert(.placement)
        state.mark(self)
    }
}

extension ManifestState {
    /// Whether the node is known to have all blocks of an object's or a directory's CID.
    package func isPublished(_ record: some PlacedRecord) -> Bool {
        record.cid != nil && record.placedEpoch != 0 && record.placedEpoch == published?.epoch
    }

    /// Notes that the node has all blocks of an object's or a directory's CID.
    package func notePublished(_ record: some PlacedRecord) {
        guard let epoch = published?.epoch else { return }
        record.place(in: epoch, self)
    }
}

extension CommitBatch {
    /// Tells SQLite of placements and remotes, inside a transaction, after the rows that they are of.
    func writePlacements(to db: some StatementSource) throws {
        if !placements.isEmpty {
            var put = try db.statement(
                """
                INSERT OR REPLACE INTO placement(kind, id, remote, state, request, epoch)
                VALUES (?,?,?,?,?,?)
                """)
            var drop = try db.statement(
                "DELETE FROM placement WHERE kind = ? AND id = ? AND remote = ?")
            for change in placements {
                guard change.epoch != 0 else {
                    drop.bind(change.kind.rawValue)
                    drop.bind(change.id)
                    drop.bind(change.remote)
                    try drop.run()
                    continue
                }
                put.bind(change.kind.rawValue)
                put.bind(change.id)
                put.bind(change.remote)
                put.bind(change.state.rawValue)
                if let request = change.request {
                    put.bind(String(decoding: request, as: UTF8.self))
                } else {
                    put.bindNull()
                }
                put.bind(change.epoch)
                try put.run()
            }
        }
        guard let published else { return }
        var row = try db.statement(
            """
            INSERT OR REPLACE INTO remote(id, kind, identity, path, epoch, root, root_count, view,
            time) VALUES (?,?,?,?,?,?,?,?,?)
            """)
        row.bind(PlacementChange.kuboRemote)
        row.bind(RemoteKind.kubo.rawValue)
        row.bind(published.peer)
        row.bind(published.path)
        row.bind(published.epoch)
        row.bind(published.root?.bytes)
        row.bind(published.rootCount)
        row.bind(published.mirror?.bytes)
        row.bind(published.time.nanoseconds)
        try row.run()
    }

    /// Takes the placements of deleted rows away, inside a transaction. A volume without a remote has
    /// none, and does not look for any.
    func deletePlacements(in db: some StatementSource) throws {
        guard !storedDeletedInodes.isEmpty || !storedDeletedObjects.isEmpty else { return }
        var remotes = try db.statement("SELECT 1 FROM remote LIMIT 1")
        defer { remotes.reset() }
        guard try remotes.step() else { return }
        var drop = try db.statement("DELETE FROM placement WHERE kind = ? AND id = ?")
        for (kind, ids) in [
            (PlacedKind.object, storedDeletedObjects), (.directory, storedDeletedInodes),
        ] {
            for id in ids {
                drop.bind(kind.rawValue)
                drop.bind(id)
                try drop.run()
            }
        }
    }
}
