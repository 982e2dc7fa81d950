internal import Base
internal import Multiformats

internal import struct SystemPackage.Errno

/// What changed in memory and is not committed yet, and what is committed and not told to SQLite.
struct PendingChanges {
    private var inodes: [InodeRecord] = []
    private var objects: [ObjectRecord] = []
    private var entryChanges: [EntryChange] = []
    var lostNodes: [LostNodes] = []
    var keptNodes: [KeptNodes] = []
    var snapshots = SnapshotChanges()
    var grafts = GraftChanges()
    /// Nil where it did not change.
    var published: PublishedState?
    /// Nil where it did not change.
    var origin: Origin?
    /// Uncommitted bytes of inline content, extended attributes and nodes.
    var contentByteCount = 0
    /// What was committed since the last checkpoint: records, and changes without one.
    private var notCheckpointedInodes: [InodeRecord] = []
    private var notCheckpointedObjects: [ObjectRecord] = []
    private var notCheckpointed = CommitBatch()
    /// What SQLite is being told of.
    private var beingCheckpointed: [InodeRecord] = []

    /// Changes that wait for a commit.
    var changeCount: Int { inodes.count + objects.count + entryChanges.count }

    /// Changes that are committed, and SQLite has not been told of.
    var notCheckpointedCount: Int {
        notCheckpointedInodes.count + notCheckpointedObjects.count
            + notCheckpointed.entryChanges.count
    }

    /// Notes that a record differs from what is committed.
    mutating func add(_ record: InodeRecord, generation: UInt64) {
        guard record.dirtyGeneration != generation else { return }
        record.dirtyGeneration = generation
        inodes.append(record)
    }

    mutating func add(_ record: ObjectRecord, generation: UInt64) {
        guard record.dirtyGeneration != generation else { return }
        record.dirtyGeneration = generation
        objects.append(record)
    }

    mutating func add(
        _ entry: DirectoryEntryRecord, _ name: FileName, in directory: InodeRecord
    ) {
        entryChanges.append(
            EntryChange(
                parent: directory.inode.number, name: name, inode: entry.inode.number,
                kind: entry.kind, cookie: entry.cookie))
    }

    /// Copies out all changes since the last commit. The caller opens the next generation.
    mutating func takeBatch(
        generation: UInt64, _ files: inout FlatFileChanges, nextObject: UInt64?
    ) -> CommitBatch {
        var batch = CommitBatch()
        batch.generation = generation
        for record in inodes {
            batch.add(record, parts: record.uncommitted, record.attributes?.takeUncommitted())
            record.notCheckpointed.formUnion(record.uncommitted)
            record.uncommitted = []
            keep(record)
        }
        for record in objects {
            batch.add(record, parts: record.uncommitted)
            record.notCheckpointed.formUnion(record.uncommitted)
            record.uncommitted = []
            keep(record)
        }
        batch.entryChanges = entryChanges
        batch.evictedFiles = files.evicted
        batch.unlinkedObjects = files.unlinked
        batch.lostNodes = lostNodes
        batch.keptNodes = keptNodes
        if !files.evicted.isEmpty {
            // They were fetched again since they were unlinked.
            let evicted = Set(files.evicted)
            batch.unlinkedObjects.removeAll { evicted.contains($0) }
            notCheckpointed.unlinkedObjects.removeAll { evicted.contains($0) }
        }
        batch.nextObject = nextObject
        batch.published = published
        batch.origin = origin
        batch.snapshots = snapshots
        batch.grafts = grafts
        inodes.removeAll(keepingCapacity: inodes.count < Self.capacityKeptMax)
        objects.removeAll(keepingCapacity: objects.count < Self.capacityKeptMax)
        entryChanges = []
        lostNodes = []
        keptNodes = []
        published = nil
        origin = nil
        snapshots = SnapshotChanges()
        grafts = GraftChanges()
        contentByteCount = 0
        files.evicted = []
        files.unlinked = []
        notCheckpointed.entryChanges += batch.entryChanges
        notCheckpointed.evictedFiles += batch.evictedFiles
        notCheckpointed.unlinkedObjects += batch.unlinkedObjects
        notCheckpointed.lostNodes += batch.lostNodes
        notCheckpointed.keptNodes += batch.keptNodes
        notCheckpointed.nextObject = batch.nextObject ?? notCheckpointed.nextObject
        notCheckpointed.published = batch.published ?? notCheckpointed.published
        notCheckpointed.origin = batch.origin ?? notCheckpointed.origin
        notCheckpointed.snapshots.add(batch.snapshots)
        notCheckpointed.grafts.changes += batch.grafts.changes
        return batch
    }

    /// Records for which memory stays reserved.
    private static let capacityKeptMax = 1024

    /// Copies out all that was committed since the last checkpoint. What was changed
    /// several times is there once.
    mutating func takeNotCheckpointed(_ cache: inout RecordCache) -> CommitBatch {
        var batch = notCheckpointed
        notCheckpointed = CommitBatch()
        beingCheckpointed = notCheckpointedInodes
        batch.inodes.reserveCapacity(notCheckpointedInodes.count)
        for record in notCheckpointedInodes {
            let attributes = record.attributes?.takeNotCheckpointed()
            cache.noteCleanAttributes(
                attributes?.reduce(0) { $0 + ($1.value?.count ?? 0) } ?? 0)
            batch.add(record, parts: record.notCheckpointed, attributes)
            record.notCheckpointed = []
            record.newNodes = nil
            record.isStored = true
            record.isNotCheckpointed = false
        }
        for record in notCheckpointedObjects {
            batch.add(record, parts: record.notCheckpointed)
            if record.notCheckpointed.contains(.inline) {
                cache.inlineByteCount += record.inlineBytes?.count ?? 0
            }
            record.notCheckpointed = []
            record.isStored = true
            record.isNotCheckpointed = false
        }
        notCheckpointedInodes.removeAll(
            keepingCapacity: notCheckpointedInodes.count < Self.capacityKeptMax)
        notCheckpointedObjects.removeAll(
            keepingCapacity: notCheckpointedObjects.count < Self.capacityKeptMax)
        return batch
    }

    /// Notes that SQLite has what `takeNotCheckpointed` gave.
    mutating func endCheckpoint() { beingCheckpointed = [] }

    /// Whether a body says so of an inode that SQLite does not have as it is.
    func hasInode(
        where body: (InodeRecord) throws(Errno) -> Bool
    ) throws(Errno) -> Bool {
        for records in [inodes, notCheckpointedInodes, beingCheckpointed] {
            for record in records where try body(record) { return true }
        }
        return false
    }

    private mutating func keep(_ record: InodeRecord) {
        guard !record.isNotCheckpointed else { return }
        record.isNotCheckpointed = true
        notCheckpointedInodes.append(record)
    }

    private mutating func keep(_ record: ObjectRecord) {
        guard !record.isNotCheckpointed else { return }
        record.isNotCheckpointed = true
        notCheckpointedObjects.append(record)
    }

    /// Takes the changes of the batch that was taken last back, because it could not be committed.
    mutating func restore(
        _ batch: CommitBatch, _ files: inout FlatFileChanges, in cache: RecordCache,
        generation: UInt64
    ) {
        for row in batch.inodes {
            guard let record = cache.inodes[row.id] else { continue }
            record.uncommitted.formUnion(row.parts)
            record.attributes?.restore(row.attributes, isCommit: true)
            add(record, generation: generation)
        }
        for row in batch.objects {
            guard let record = cache.objects[row.id] else { continue }
            record.uncommitted.formUnion(row.parts)
            add(record, generation: generation)
        }
        for id in batch.deletedInodes {
            if let record = cache.inodes[id] { add(record, generation: generation) }
        }
        for id in batch.deletedObjects {
            if let record = cache.objects[id] { add(record, generation: generation) }
        }
        // Older changes first: SQLite must see them in their order.
        entryChanges = batch.entryChanges + entryChanges
        lostNodes = batch.lostNodes + lostNodes
        keptNodes = batch.keptNodes + keptNodes
        files.evicted = batch.evictedFiles + files.evicted
        files.unlinked = batch.unlinkedObjects + files.unlinked
        notCheckpointed.entryChanges.removeLast(batch.entryChanges.count)
        notCheckpointed.unlinkedObjects.removeLast(batch.unlinkedObjects.count)
        notCheckpointed.lostNodes.removeLast(batch.lostNodes.count)
        notCheckpointed.keptNodes.removeLast(batch.keptNodes.count)
        let changes = notCheckpointed.snapshots.changes.count - batch.snapshots.changes.count
        notCheckpointed.snapshots.changes.removeLast(
            notCheckpointed.snapshots.changes.count - changes)
        snapshots = SnapshotChanges(
            changes: batch.snapshots.changes + snapshots.changes,
            last: snapshots.last ?? batch.snapshots.last)
        notCheckpointed.grafts.changes.removeLast(batch.grafts.changes.count)
        grafts.changes = batch.grafts.changes + grafts.changes
        published = published ?? batch.published
        origin = origin ?? batch.origin
    }

    /// Leaves the deletion of a snapshot out, wherever it waits.
    mutating func takeBackRemoval(of snapshot: UInt64) -> Bool {
        let isPending = snapshots.takeBackRemoval(of: snapshot)
        return notCheckpointed.snapshots.takeBackRemoval(of: snapshot) || isPending
    }

    /// Takes the changes of a batch back that SQLite could not be told of.
    mutating func restoreNotCheckpointed(
        _ batch: CommitBatch, in cache: RecordCache, newestSnapshot: UInt64
    ) {
        var kept: [KeptNodes] = []
        beingCheckpointed = []
        for row in batch.inodes {
            guard let record = cache.inodes[row.id] else { continue }
            record.notCheckpointed.formUnion(row.parts)
            record.attributes?.restore(row.attributes, isCommit: false)
            // Of another CID, or of none by now, or of a deleted row, they would be nodes of nothing.
            if !record.isDeleted && record.newNodes == nil && record.cid?.bytes == row.cid {
                record.newNodes = row.newNodes
            } else if let nodes = row.newNodes, row.treeBorn < newestSnapshot {
                kept.append(
                    KeptNodes(snapshot: newestSnapshot, born: row.treeBorn, nodes: nodes))
            }
            keep(record)
        }
        for row in batch.objects {
            guard let record = cache.objects[row.id] else { continue }
            record.notCheckpointed.formUnion(row.parts)
            keep(record)
        }
        for id in batch.deletedInodes { if let record = cache.inodes[id] { keep(record) } }
        for id in batch.deletedObjects { if let record = cache.objects[id] { keep(record) } }
        notCheckpointed.entryChanges = batch.entryChanges + notCheckpointed.entryChanges
        notCheckpointed.evictedFiles = batch.evictedFiles + notCheckpointed.evictedFiles
        notCheckpointed.unlinkedObjects = batch.unlinkedObjects + notCheckpointed.unlinkedObjects
        notCheckpointed.lostNodes = batch.lostNodes + notCheckpointed.lostNodes
        // In front: `restore` takes those of the batch that was taken last from the end.
        notCheckpointed.keptNodes = kept + batch.keptNodes + notCheckpointed.keptNodes
        notCheckpointed.nextObject = notCheckpointed.nextObject ?? batch.nextObject
        notCheckpointed.published = notCheckpointed.published ?? batch.published
        notCheckpointed.origin = notCheckpointed.origin ?? batch.origin
        var changes = batch.snapshots
        changes.add(notCheckpointed.snapshots)
        notCheckpointed.snapshots = changes
        notCheckpointed.grafts.changes = batch.grafts.changes + notCheckpointed.grafts.changes
    }
}
