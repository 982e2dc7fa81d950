internal import Base
internal import MerkleDAG
internal import Multiformats

/// A change of one directory entry, as it will be told to SQLite.
struct EntryChange: Sendable {
    let parent: UInt64
    let name: FileName
    /// Inode 0: the entry is deleted.
    let inode: UInt64
    let kind: FileKind
    let cookie: UInt64
}

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
        /// The newest snapshot when the nodes were made.
        var treeBorn: UInt64 = 0
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
        var born: UInt64 = 0
        var kept: UInt64 = 0
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
    var keptNodes: [KeptNodes] = []
    /// Nil while the stored one is near enough.
    var nextObject: UInt64?
    /// Nil where it did not change.
    var published: PublishedState?
    /// Nil where it did not change. It changes so rarely that the redo log has no form for it: SQLite is told at once.
    var origin: Origin?
    /// As `origin`.
    var snapshots = SnapshotChanges()
    /// As `origin`.
    var grafts = GraftChanges()
}

extension CommitBatch {
    /// Whether there is nothing to tell.
    var isEmpty: Bool {
        inodes.isEmpty && objects.isEmpty && entryChanges.isEmpty && deletedInodes.isEmpty
            && deletedObjects.isEmpty && evictedFiles.isEmpty && unlinkedObjects.isEmpty
            && lostNodes.isEmpty && keptNodes.isEmpty && nextObject == nil && published == nil
            && origin == nil && snapshots.isEmpty && grafts.isEmpty
    }

    mutating func add(
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
                newNodes: parts.contains(.nodes) ? record.newNodes : nil,
                treeBorn: record.treeBorn, parts: parts, isStored: record.isStored))
    }

    mutating func add(_ record: ObjectRecord, parts: ObjectRecord.Parts) {
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
                newBlocks: parts.contains(.newBlocks) ? record.newBlocks : nil, born: record.born,
                kept: record.kept, parts: parts, isStored: record.isStored))
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
