internal import Base
internal import GRDB
internal import GRDBSQLite
internal import Multiformats

internal import struct SystemPackage.Errno

/// All changes of one generation, copied out of the records so that SQLite can be told about them
/// without the manifest's lock.
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
        let publishedEpoch: UInt64
        let isExpanded: Bool
        let target: [UInt8]?
        let hasAttributes: Bool
        /// All attributes, where they changed.
        let attributes: [FileName: [UInt8]]?
        let newNodes: [StoredNode]?
        let isDirectory: Bool
        let isStored: Bool
    }

    struct ObjectRow: Sendable {
        let id: UInt64
        let state: ObjectState
        let references: UInt32
        let size: UInt64
        let cid: [UInt8]?
        let treeSize: UInt64
        let publishedEpoch: UInt64
        /// Empty for a flat file; nil where the row's bytes are current.
        let inlineBytes: [UInt8]?
        let isInline: Bool
        let dropsBlocks: Bool
        let newBlocks: SealResult?
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

    /// Copies out all changes and opens the next generation.
    func takeBatch() -> CommitBatch {
        var batch = CommitBatch()
        batch.generation = generation
        generation += 1
        batch.inodes.reserveCapacity(dirtyInodes.count)
        for record in dirtyInodes {
            guard !record.isDeleted else {
                batch.deletedInodes.append(record.inode.number)
                if record.isStored { batch.storedDeletedInodes.append(record.inode.number) }
                continue
            }
            batch.inodes.append(
                CommitBatch.InodeRow(
                    id: record.inode.number, kind: record.kind, mode: record.mode,
                    uid: record.uid, gid: record.gid, linkCount: record.linkCount,
                    rdev: record.rdev, size: record.size, blocks: record.blocks,
                    accessed: record.accessed.nanoseconds, modified: record.modified.nanoseconds,
                    changed: record.changed.nanoseconds, created: record.created.nanoseconds,
                    parent: record.parent.number,
                    otherParents: encodeParents(record.otherParents), object: record.object,
                    cid: record.cid?.bytes, treeSize: record.treeSize,
                    publishedEpoch: record.publishedEpoch, isExpanded: record.isExpanded,
                    target: record.kind == .symlink ? record.target : nil,
                    hasAttributes: record.hasAttributes,
                    attributes: record.attributesDirty ? record.attributes : nil,
                    newNodes: record.newNodes, isDirectory: record.kind == .directory,
                    isStored: record.isStored))
            record.attributesDirty = false
            record.newNodes = nil
            record.isStored = true
        }
        for record in dirtyObjects {
            guard !record.isDeleted else {
                batch.deletedObjects.append(record.id)
                if record.isStored { batch.storedDeletedObjects.append(record.id) }
                if !record.isInline { batch.deletedFiles.append(record.id) }
                continue
            }
            batch.objects.append(
                CommitBatch.ObjectRow(
                    id: record.id, state: record.state, references: record.references,
                    size: record.size, cid: record.cid?.bytes, treeSize: record.treeSize,
                    publishedEpoch: record.publishedEpoch,
                    inlineBytes: record.inlineDirty ? record.inlineBytes : nil,
                    isInline: record.isInline, dropsBlocks: record.dropsBlocks,
                    newBlocks: record.newBlocks, isStored: record.isStored))
            if record.inlineDirty { noteCommittedInline(record.inlineBytes?.count ?? 0) }
            record.inlineDirty = false
            record.dropsBlocks = false
            record.newBlocks = nil
            record.isStored = true
        }
        batch.entryChanges = entryChanges
        batch.unlinkedObjects = unlinkedObjects
        batch.evictedFiles = evictedFiles
        evictedFiles = []
        batch.nextObject = nextObjectToStore()
        if isPublishedDirty { batch.published = published }
        isPublishedDirty = false
        dirtyInodes.removeAll(keepingCapacity: dirtyInodes.count < 1024)
        dirtyObjects.removeAll(keepingCapacity: dirtyObjects.count < 1024)
        entryChanges = []
        unlinkedObjects = []
        dirtyContentBytes = 0
        return batch
    }

    /// Takes the changes of a batch that could not be committed back.
    func restore(_ batch: CommitBatch) throws(Errno) {
        for row in batch.inodes {
            guard let record = try inode(Inode(row.id)) else { continue }
            if row.attributes != nil { record.attributesDirty = true }
            // Of another CID, or of none by now, they would be nodes of nothing.
            if record.newNodes == nil && record.cid?.bytes == row.cid {
                record.newNodes = row.newNodes
            }
            mark(record)
        }
        for row in batch.objects {
            guard let record = try object(row.id) else { continue }
            if row.inlineBytes != nil { record.inlineDirty = true }
            if row.dropsBlocks { record.dropsBlocks = true }
            if record.newBlocks == nil && record.cid?.bytes == row.cid {
                record.newBlocks = row.newBlocks
            }
            mark(record)
        }
        redelete(inodes: batch.deletedInodes, objects: batch.deletedObjects)
        // Older changes first: SQLite must see them in their order.
        entryChanges = batch.entryChanges + entryChanges
        unlinkedObjects += batch.unlinkedObjects
        evictedFiles += batch.evictedFiles
        if batch.published != nil { isPublishedDirty = true }
    }
}

extension CommitBatch {
    /// Tells SQLite, inside a transaction.
    func write(to db: Database) throws {
        try deleteRows(in: db)
        try writeInodes(to: db)
        try writeObjects(to: db)
        var put = try BoundStatement(
            "INSERT OR REPLACE INTO entry(parent, name, inode, kind, cookie) VALUES (?,?,?,?,?)",
            in: db)
        var remove = try BoundStatement(
            "DELETE FROM entry WHERE parent = ? AND name = ?", in: db)
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
            var volume = try BoundStatement("UPDATE volume SET next_object = ?", in: db)
            volume.bind(nextObject)
            try volume.run()
        }
        if let published {
            var row = try BoundStatement(
                """
                INSERT OR REPLACE INTO published(id, peer, epoch, path, root, view, time)
                VALUES (1,?,?,?,?,?,?)
                """, in: db)
            row.bind(published.peer)
            row.bind(published.epoch)
            row.bind(published.path)
            row.bind(published.root?.bytes)
            row.bind(published.view?.bytes)
            row.bind(published.time.nanoseconds)
            try row.run()
        }
    }

    private func deleteRows(in db: Database) throws {
        try run("DELETE FROM inode WHERE id = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM xattr WHERE inode = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM directory_node WHERE inode = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM object WHERE id = ?", for: storedDeletedObjects, in: db)
        try run("DELETE FROM leaf WHERE object = ?", for: storedDeletedObjects, in: db)
        try run("DELETE FROM node WHERE object = ?", for: storedDeletedObjects, in: db)
        try run(
            "INSERT OR IGNORE INTO deleted_object(id) VALUES (?)", for: deletedFiles + evictedFiles,
            in: db)
        try run("DELETE FROM deleted_object WHERE id = ?", for: unlinkedObjects, in: db)
    }

    private func run(_ sql: String, for ids: [UInt64], in db: Database) throws {
        guard !ids.isEmpty else { return }
        var statement = try BoundStatement(sql, in: db)
        for id in ids {
            statement.bind(id)
            try statement.run()
        }
    }

    private func writeInodes(to db: Database) throws {
        var put = try BoundStatement(
            """
            INSERT OR REPLACE INTO inode(id, kind, mode, uid, gid, nlink, rdev, size, blocks,
            atime, mtime, ctime, btime, parent, other_parents, object, cid, tree_size, target,
            has_xattrs, published, unexpanded)
            VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
            """, in: db)
        var dropAttributes = try BoundStatement("DELETE FROM xattr WHERE inode = ?", in: db)
        var putAttribute = try BoundStatement(
            "INSERT INTO xattr(inode, name, value) VALUES (?,?,?)", in: db)
        var dropNodes = try BoundStatement("DELETE FROM directory_node WHERE inode = ?", in: db)
        var putNode = try BoundStatement(
            "INSERT OR REPLACE INTO directory_node(inode, multihash, bytes) VALUES (?,?,?)", in: db)
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
            put.bind(row.publishedEpoch)
            put.bind(!row.isExpanded)
            try put.run()
            if let attributes = row.attributes {
                dropAttributes.bind(row.id)
                try dropAttributes.run()
                for (name, value) in attributes {
                    putAttribute.bind(row.id)
                    putAttribute.bind(name.bytes)
                    putAttribute.bind(value)
                    try putAttribute.run()
                }
            }
            // Nodes hold only as long as the directory's CID does.
            if row.isDirectory, row.newNodes != nil || (row.cid == nil && row.isStored) {
                dropNodes.bind(row.id)
                try dropNodes.run()
            }
            for node in row.newNodes ?? [] {
                putNode.bind(row.id)
                putNode.bind(node.multihash)
                putNode.bind(node.bytes)
                try putNode.run()
            }
        }
    }

    private func writeObjects(to db: Database) throws {
        var put = try BoundStatement(
            """
            INSERT INTO object(id, state, refs, size, cid, tree_size, inline, published)
            VALUES (?1,?2,?3,?4,?5,?6,?7,?9) ON CONFLICT(id) DO UPDATE SET state = ?2, refs = ?3,
            size = ?4, cid = ?5, tree_size = ?6, inline = CASE ?8 WHEN 1 THEN inline ELSE ?7 END,
            published = ?9
            """, in: db)
        var dropLeaves = try BoundStatement("DELETE FROM leaf WHERE object = ?", in: db)
        var dropNodes = try BoundStatement("DELETE FROM node WHERE object = ?", in: db)
        var putLeaf = try BoundStatement(
            "INSERT INTO leaf(object, number, multihash) VALUES (?,?,?)", in: db)
        var putNode = try BoundStatement(
            "INSERT OR REPLACE INTO node(object, multihash, bytes) VALUES (?,?,?)", in: db)
        for row in objects {
            put.bind(row.id)
            put.bind(row.state.rawValue)
            put.bind(row.references)
            put.bind(row.size)
            put.bind(row.cid)
            put.bind(row.treeSize)
            put.bind(row.inlineBytes)
            put.bind(row.isInline && row.inlineBytes == nil)
            put.bind(row.publishedEpoch)
            try put.run()
            if row.isStored && (row.dropsBlocks || row.newBlocks != nil) {
                dropLeaves.bind(row.id)
                try dropLeaves.run()
                dropNodes.bind(row.id)
                try dropNodes.run()
            }
            guard let blocks = row.newBlocks else { continue }
            for (number, multihash) in blocks.leaves.enumerated() {
                putLeaf.bind(row.id)
                putLeaf.bind(UInt64(number))
                putLeaf.bind(multihash)
                try putLeaf.run()
            }
            for node in blocks.nodes {
                putNode.bind(row.id)
                putNode.bind(node.multihash)
                putNode.bind(node.bytes)
                try putNode.run()
            }
        }
    }
}
