internal import Base
internal import GRDB
internal import GRDBSQLite
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

/// Changes copied out of the records, so that the redo log and SQLite can be told about them without
/// the manifest's lock.
struct CommitBatch: Sendable {
    struct InodeRow: Sendable {
        let id: UInt64
        let kind: FileKind
        let mode, uid, gid, linkCount: UInt32
        let rdev, size, blocks: UInt64
        let accessed, modified, changed, created: Int64
        let parent: UInt64
        let otherParents: [UInt8]?
        let object: UInt64?
        let cid: [UInt8]?
        let treeSize: UInt64
        /// In a log of before alone; of now, `placements` tells it.
        var placedEpoch: UInt64 = 0
        let isLoaded: Bool
        let target: [UInt8]?
        let hasAttributes: Bool
        /// The attributes that changed.
        var attributes: [AttributeChange] = []
        /// There are no attributes but those; in logs of before.
        var replacesAttributes = false
        var newNodes: [StoredNode]?
        var parts: InodeRecord.Parts = []
        let isStored: Bool
    }

    struct ObjectRow: Sendable {
        let id: UInt64
        let state: ObjectState
        let references: UInt32
        let size: UInt64
        let cid: [UInt8]?
        let treeSize: UInt64
        /// In a log of before alone; of now, `placements` tells it.
        var placedEpoch: UInt64 = 0
        /// Empty for a flat file; nil where the row's bytes are current.
        let inlineBytes: [UInt8]?
        let isInline: Bool
        let dropsBlocks: Bool
        let newBlocks: StoredBlocks?
        var parts: ObjectRecord.Parts = []
        let isStored: Bool
    }

    var generation: UInt64 = 0
    var inodes: [InodeRow] = []
    var objects: [ObjectRow] = []
    var entryChanges: [EntryChange] = []
    /// Inodes gone, their rows with them.
    var deletedInodes: [UInt64] = []
    var storedDeletedInodes: [UInt64] = []
    var deletedObjects: [UInt64] = []
    var storedDeletedObjects: [UInt64] = []
    /// Flat files among the deleted objects.
    var deletedFiles: [UInt64] = []
    /// Flat files of evicted objects.
    var evictedFiles: [UInt64] = []
    var unlinkedObjects: [UInt64] = []
    /// Of rows that are here, and of no others.
    var placements: [PlacementChange] = []
    var lostNodes: [LostNodes] = []
    /// Nil while the stored one is near enough.
    var nextObject: UInt64?
    /// Nil where it did not change.
    var published: PublishedState?
}

extension ManifestState {
    /// Whether anything waits for a commit.
    var hasChanges: Bool {
        changeCount > 0 || !unlinkedObjects.isEmpty || isPublishedDirty
    }

    /// Changes that are committed, and SQLite has not been told of.
    var notCheckpointedCount: Int {
        notCheckpointedInodes.count + notCheckpointedObjects.count
            + notCheckpointed.entryChanges.count
    }

    /// Copies out all changes since the last commit and opens the next generation.
    func takeBatch() -> CommitBatch {
        var batch = CommitBatch()
        batch.generation = generation
        generation += 1
        for record in dirtyInodes {
            batch.add(record, parts: record.uncommitted, record.attributes?.takeUncommitted())
            record.notCheckpointed.formUnion(record.uncommitted)
            record.uncommitted = []
            keepNotCheckpointed(record)
        }
        for record in dirtyObjects {
            batch.add(record, parts: record.uncommitted)
            record.notCheckpointed.formUnion(record.uncommitted)
            record.uncommitted = []
            keepNotCheckpointed(record)
        }
        batch.entryChanges = entryChanges
        batch.evictedFiles = evictedFiles
        batch.unlinkedObjects = unlinkedObjects
        batch.lostNodes = lostNodes
        lostNodes = []
        if !evictedFiles.isEmpty {
            // They were fetched again since they were unlinked.
            let evicted = Set(evictedFiles)
            batch.unlinkedObjects.removeAll { evicted.contains($0) }
            notCheckpointed.unlinkedObjects.removeAll { evicted.contains($0) }
        }
        evictedFiles = []
        batch.nextObject = nextObjectToStore()
        if isPublishedDirty { batch.published = published }
        isPublishedDirty = false
        dirtyInodes.removeAll(keepingCapacity: dirtyInodes.count < 1024)
        dirtyObjects.removeAll(keepingCapacity: dirtyObjects.count < 1024)
        entryChanges = []
        unlinkedObjects = []
        dirtyContentBytes = 0
        notCheckpointed.entryChanges += batch.entryChanges
        notCheckpointed.evictedFiles += batch.evictedFiles
        notCheckpointed.unlinkedObjects += batch.unlinkedObjects
        notCheckpointed.lostNodes += batch.lostNodes
        notCheckpointed.nextObject = batch.nextObject ?? notCheckpointed.nextObject
        notCheckpointed.published = batch.published ?? notCheckpointed.published
        return batch
    }

    /// Copies out all that was committed since the last checkpoint. What was changed
    /// several times is there once.
    func takeNotCheckpointed() -> CommitBatch {
        var batch = notCheckpointed
        notCheckpointed = CommitBatch()
        batch.inodes.reserveCapacity(notCheckpointedInodes.count)
        for record in notCheckpointedInodes {
            let attributes = record.attributes?.takeNotCheckpointed()
            noteCleanAttributes(attributes?.reduce(0) { $0 + ($1.value?.count ?? 0) } ?? 0)
            batch.add(record, parts: record.notCheckpointed, attributes)
            record.notCheckpointed = []
            record.newNodes = nil
            record.isStored = true
            record.isNotCheckpointed = false
        }
        for record in notCheckpointedObjects {
            batch.add(record, parts: record.notCheckpointed)
            if record.notCheckpointed.contains(.inline) {
                noteCommittedInline(record.inlineBytes?.count ?? 0)
            }
            record.notCheckpointed = []
            record.isStored = true
            record.isNotCheckpointed = false
        }
        notCheckpointedInodes.removeAll(keepingCapacity: notCheckpointedInodes.count < 1024)
        notCheckpointedObjects.removeAll(keepingCapacity: notCheckpointedObjects.count < 1024)
        return batch
    }

    private func keepNotCheckpointed(_ record: InodeRecord) {
        guard !record.isNotCheckpointed else { return }
        record.isNotCheckpointed = true
        notCheckpointedInodes.append(record)
    }

    private func keepNotCheckpointed(_ record: ObjectRecord) {
        guard !record.isNotCheckpointed else { return }
        record.isNotCheckpointed = true
        notCheckpointedObjects.append(record)
    }

    /// Takes the changes of the batch that was taken last back, because it could not be committed.
    func restore(_ batch: CommitBatch) {
        for row in batch.inodes {
            guard let record = loadedInode(row.id) else { continue }
            record.uncommitted.formUnion(row.parts)
            record.attributes?.restore(row.attributes, isCommit: true)
            mark(record)
        }
        for row in batch.objects {
            guard let record = loadedObject(row.id) else { continue }
            record.uncommitted.formUnion(row.parts)
            mark(record)
        }
        for id in batch.deletedInodes { if let record = loadedInode(id) { mark(record) } }
        for id in batch.deletedObjects { if let record = loadedObject(id) { mark(record) } }
        // Older changes first: SQLite must see them in their order.
        entryChanges = batch.entryChanges + entryChanges
        evictedFiles = batch.evictedFiles + evictedFiles
        unlinkedObjects = batch.unlinkedObjects + unlinkedObjects
        lostNodes = batch.lostNodes + lostNodes
        notCheckpointed.entryChanges.removeLast(batch.entryChanges.count)
        notCheckpointed.unlinkedObjects.removeLast(batch.unlinkedObjects.count)
        notCheckpointed.lostNodes.removeLast(batch.lostNodes.count)
        if batch.published != nil { isPublishedDirty = true }
    }

    /// Takes the changes of a batch back that SQLite could not be told of.
    func restoreNotCheckpointed(_ batch: CommitBatch) {
        for row in batch.inodes {
            guard let record = loadedInode(row.id) else { continue }
            record.notCheckpointed.formUnion(row.parts)
            record.attributes?.restore(row.attributes, isCommit: false)
            // Of another CID, or of none by now, they would be nodes of nothing.
            if record.newNodes == nil && record.cid?.bytes == row.cid {
                record.newNodes = row.newNodes
            }
            keepNotCheckpointed(record)
        }
        for row in batch.objects {
            guard let record = loadedObject(row.id) else { continue }
            record.notCheckpointed.formUnion(row.parts)
            keepNotCheckpointed(record)
        }
        for id in batch.deletedInodes {
            if let record = loadedInode(id) { keepNotCheckpointed(record) }
        }
        for id in batch.deletedObjects {
            if let record = loadedObject(id) { keepNotCheckpointed(record) }
        }
        notCheckpointed.entryChanges = batch.entryChanges + notCheckpointed.entryChanges
        notCheckpointed.evictedFiles = batch.evictedFiles + notCheckpointed.evictedFiles
        notCheckpointed.unlinkedObjects = batch.unlinkedObjects + notCheckpointed.unlinkedObjects
        notCheckpointed.lostNodes = batch.lostNodes + notCheckpointed.lostNodes
        notCheckpointed.nextObject = notCheckpointed.nextObject ?? batch.nextObject
        notCheckpointed.published = notCheckpointed.published ?? batch.published
    }
}

extension CommitBatch {
    /// Whether there is nothing to tell.
    var isEmpty: Bool {
        inodes.isEmpty && objects.isEmpty && entryChanges.isEmpty && deletedInodes.isEmpty
            && deletedObjects.isEmpty && evictedFiles.isEmpty && unlinkedObjects.isEmpty
            && lostNodes.isEmpty && nextObject == nil && published == nil
    }

    fileprivate mutating func add(
        _ record: InodeRecord, parts: InodeRecord.Parts, _ attributes: [AttributeChange]?
    ) {
        guard !record.isDeleted else {
            deletedInodes.append(record.inode.number)
            if record.isStored { storedDeletedInodes.append(record.inode.number) }
            return
        }
        if parts.contains(.placement) {
            placements.append(
                PlacementChange(
                    kind: .directory, id: record.inode.number, epoch: record.placedEpoch))
        }
        inodes.append(
            InodeRow(
                id: record.inode.number, kind: record.kind, mode: record.mode,
                uid: record.uid, gid: record.gid, linkCount: record.linkCount,
                rdev: record.rdev, size: record.size, blocks: record.blocks,
                accessed: record.accessed.nanoseconds, modified: record.modified.nanoseconds,
                changed: record.changed.nanoseconds, created: record.created.nanoseconds,
                parent: record.parent.number,
                otherParents: encodeParents(record.otherParents), object: record.object,
                cid: record.cid?.bytes, treeSize: record.treeSize,
                isLoaded: record.isLoaded,
                target: record.kind == .symlink ? record.target : nil,
                hasAttributes: record.hasAttributes,
                attributes: attributes ?? [],
                newNodes: parts.contains(.nodes) ? record.newNodes : nil, parts: parts,
                isStored: record.isStored))
    }

    fileprivate mutating func add(_ record: ObjectRecord, parts: ObjectRecord.Parts) {
        guard !record.isDeleted else {
            deletedObjects.append(record.id)
            if record.isStored { storedDeletedObjects.append(record.id) }
            if !record.isInline { deletedFiles.append(record.id) }
            return
        }
        if parts.contains(.placement) {
            placements.append(
                PlacementChange(kind: .object, id: record.id, epoch: record.placedEpoch))
        }
        objects.append(
            ObjectRow(
                id: record.id, state: record.state, references: record.references,
                size: record.size, cid: record.cid?.bytes, treeSize: record.treeSize,
                inlineBytes: parts.contains(.inline) ? record.inlineBytes : nil,
                isInline: record.isInline, dropsBlocks: parts.contains(.oldBlocks),
                newBlocks: parts.contains(.newBlocks) ? record.newBlocks : nil, parts: parts,
                isStored: record.isStored))
    }

    /// Keeps only the last change of each name, and no file that is unlinked already.
    mutating func simplify() {
        var last: [EntryPlace: Int] = [:]
        last.reserveCapacity(entryChanges.count)
        for (index, change) in entryChanges.enumerated() {
            last[EntryPlace(parent: change.parent, name: change.name)] = index
        }
        entryChanges = last.values.sorted().map { entryChanges[$0] }
        let unlinked = Set(unlinkedObjects)
        deletedFiles.removeAll { unlinked.contains($0) }
        evictedFiles.removeAll { unlinked.contains($0) }
    }

    private struct EntryPlace: Hashable {
        let parent: UInt64
        let name: FileName
    }
}

extension CommitBatch {
    /// Tells SQLite, inside a transaction.
    func write(to db: some StatementSource) throws {
        var nodes = try DAGNodeTable(in: db)
        try keepLostNodes(in: &nodes)
        try deleteRows(in: db)
        try deleteNodes(in: &nodes)
        try deletePlacements(in: db)
        try writeInodes(to: db, &nodes)
        try writeObjects(to: db, &nodes)
        try writePlacements(to: db)
        var put = try db.statement(
            "INSERT OR REPLACE INTO entry(parent, name, inode, kind, cookie) VALUES (?,?,?,?,?)")
        var remove = try db.statement(
            "DELETE FROM entry WHERE parent = ? AND name = ?")
        for change in entryChanges {
            if change.inode == 0 {
                remove.bind(change.parent)
                remove.bind(change.name.bytes)
                try remove.run()
            } else {
                put.bind(change.parent)
                put.bind(change.name.bytes)
                put.bind(change.inode)
                put.bind(UInt64(change.kind.rawValue))
                put.bind(change.cookie)
                try put.run()
            }
        }
        // The other counters of the row are written when the volume is closed, and counted anew
        // after a crash: a row more in each commit is a page more for fsync to wait for.
        if let nextObject {
            var volume = try db.statement("UPDATE volume SET next_object = ?")
            volume.bind(nextObject)
            try volume.run()
        }
        // What the roots before had, and the tree has not.
        if let published { try nodes.letGo(before: published.rootCount, in: db) }
    }

    private func deleteRows(in db: some StatementSource) throws {
        try run("DELETE FROM inode WHERE id = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM xattr WHERE inode = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM object WHERE id = ?", for: storedDeletedObjects, in: db)
        try run("DELETE FROM leaf WHERE object = ?", for: storedDeletedObjects, in: db)
        try run(
            "INSERT OR IGNORE INTO deleted_object(id) VALUES (?)", for: deletedFiles + evictedFiles,
            in: db)
        try run("DELETE FROM deleted_object WHERE id = ?", for: unlinkedObjects, in: db)
    }

    private func run(_ sql: String, for ids: [UInt64], in db: some StatementSource) throws {
        guard !ids.isEmpty else { return }
        var statement = try db.statement(sql)
        for id in ids {
            statement.bind(id)
            try statement.run()
        }
    }

    private func writeInodes(to db: some StatementSource, _ nodes: inout DAGNodeTable) throws {
        var put = try db.statement(
            """
            INSERT OR REPLACE INTO inode(id, kind, mode, uid, gid, nlink, rdev, size, blocks,
            atime, mtime, ctime, btime, parent, other_parents, object, cid, tree_size, target,
            has_xattrs, not_loaded)
            VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
            """)
        var dropAttributes = try db.statement("DELETE FROM xattr WHERE inode = ?")
        var dropAttribute = try db.statement("DELETE FROM xattr WHERE inode = ? AND name = ?")
        var putAttribute = try db.statement(
            "INSERT OR REPLACE INTO xattr(inode, name, value) VALUES (?,?,?)")
        for row in inodes {
            put.bind(row.id)
            put.bind(UInt64(row.kind.rawValue))
            put.bind(row.mode)
            put.bind(row.uid)
            put.bind(row.gid)
            put.bind(row.linkCount)
            put.bind(row.rdev)
            put.bind(row.size)
            put.bind(row.blocks)
            put.bind(row.accessed)
            put.bind(row.modified)
            put.bind(row.changed)
            put.bind(row.created)
            put.bind(row.parent)
            put.bind(row.otherParents)
            put.bind(row.object)
            put.bind(row.cid)
            put.bind(row.treeSize)
            put.bind(row.target)
            put.bind(row.hasAttributes)
            put.bind(!row.isLoaded)
            try put.run()
            if row.replacesAttributes {
                dropAttributes.bind(row.id)
                try dropAttributes.run()
            }
            for change in row.attributes {
                if let value = change.value {
                    putAttribute.bind(row.id)
                    putAttribute.bind(change.name.bytes)
                    putAttribute.bind(value)
                    try putAttribute.run()
                } else {
                    dropAttribute.bind(row.id)
                    dropAttribute.bind(change.name.bytes)
                    try dropAttribute.run()
                }
            }
            // Nodes hold only as long as the directory's CID does.
            guard row.kind == .directory, row.newNodes != nil || (row.cid == nil && row.isStored)
            else { continue }
            try nodes.set(
                DAGOwner(kind: .directory, id: row.id), to: row.newNodes ?? [],
                isNew: !row.isStored)
        }
    }

    private func writeObjects(to db: some StatementSource, _ nodes: inout DAGNodeTable) throws {
        var put = try db.statement(
            """
            INSERT INTO object(id, state, refs, size, cid, tree_size, inline)
            VALUES (?1,?2,?3,?4,?5,?6,?7) ON CONFLICT(id) DO UPDATE SET state = ?2, refs = ?3,
            size = ?4, cid = ?5, tree_size = ?6, inline = CASE ?8 WHEN 1 THEN inline ELSE ?7 END
            """)
        var dropLeaves = try db.statement("DELETE FROM leaf WHERE object = ?")
        var putLeaf = try db.statement(
            "INSERT INTO leaf(object, number, multihash) VALUES (?,?,?)")
        for row in objects {
            put.bind(row.id)
            put.bind(row.state.rawValue)
            put.bind(row.references)
            put.bind(row.size)
            put.bind(row.cid)
            put.bind(row.treeSize)
            put.bind(row.inlineBytes)
            put.bind(row.isInline && row.inlineBytes == nil)
            try put.run()
            if row.isStored && (row.dropsBlocks || row.newBlocks != nil) {
                dropLeaves.bind(row.id)
                try dropLeaves.run()
                try nodes.set(
                    DAGOwner(kind: .object, id: row.id), to: row.newBlocks?.nodes ?? [])
            }
            guard let blocks = row.newBlocks else { continue }
            for (number, multihash) in blocks.leaves.enumerated() {
                putLeaf.bind(row.id)
                putLeaf.bind(UInt64(number))
                putLeaf.bind(multihash)
                try putLeaf.run()
            }
            if !row.isStored {
                try nodes.set(
                    DAGOwner(kind: .object, id: row.id), to: blocks.nodes, isNew: true)
            }
        }
    }
}
