internal import Base

/// The records in memory, within named bounds. Those that SQLite has not been told of, and pinned ones, stay
/// whatever the bounds say.
package struct RecordCache {
    var inodes: [UInt64: InodeRecord] = [:]
    var objects: [UInt64: ObjectRecord] = [:]
    /// Directory entries in the records, tombstones among them.
    var entryCount = 0
    /// Bytes of clean inline content.
    var inlineByteCount = 0
    /// Bytes of clean extended attributes, about.
    private(set) var attributeByteCount = 0
    /// SQLite has all batches up to this one, durably.
    private var checkpointed: UInt64 = 0
    /// Records went out of memory since `takeEviction`; what they took is free in pieces.
    private var hasEvicted = false
    /// The counts of inodes, objects and entries from which on they are looked through.
    private var crowded = (
        inodes: ManifestBounds.inodesCachedMax, objects: ManifestBounds.objectsCachedMax,
        entries: ManifestBounds.entriesCachedMax
    )

    init() {}

    private func isClean(_ generation: UInt64) -> Bool { generation <= checkpointed }

    /// Counts bytes of extended attributes that stay in memory while SQLite has them.
    mutating func noteCleanAttributes(_ byteCount: Int) { attributeByteCount += byteCount }

    /// Whether records went out of memory since the last call.
    package mutating func takeEviction() -> Bool {
        defer { hasEvicted = false }
        return hasEvicted
    }

    /// Ends the life in memory of what SQLite has deleted, and of tombstones.
    mutating func retire(_ batch: CommitBatch) {
        checkpointed = batch.generation
        for id in batch.deletedInodes {
            if let record = inodes.removeValue(forKey: id) {
                entryCount -= record.children.entries.count
            }
        }
        for id in batch.deletedObjects { objects.removeValue(forKey: id) }
        for row in batch.objects where row.newBlocks != nil {
            guard let record = objects[row.id],
                !record.uncommitted.union(record.notCheckpointed).contains(.newBlocks)
            else { continue }
            record.newBlocks = nil
        }
        for change in batch.entryChanges where change.inode == 0 {
            guard let directory = inodes[change.parent],
                let entry = directory.children.entries[change.name],
                entry.isTombstone, isClean(entry.generation)
            else { continue }
            directory.children.entries.removeValue(forKey: change.name)
            entryCount -= 1
        }
        evict()
    }

    /// Drops what was loaded beyond the bounds: of a tree that is only read, no commit does. The
    /// caller holds no record that is not pinned.
    mutating func evictIfCrowded() {
        if inodes.count > crowded.inodes || objects.count > crowded.objects
            || entryCount > crowded.entries
        {
            evict()
        } else {
            // Alone: many files that are read would else have the directory that is listed meanwhile
            // dropped, and read again.
            dropInlineBytes()
            dropAttributes()
        }
    }

    /// Drops clean records beyond the bounds, those not used since the last time first.
    private mutating func evict() {
        if entryCount > ManifestBounds.entriesCachedMax { dropEntries() }
        // The goal is below the bound, so that this pass over everything is rare.
        sweepInodes()
        sweepObjects()
        dropInlineBytes()
        dropAttributes()
        // What has to stay is not looked through again before a share of the bound has come to it.
        func next(_ count: Int, _ bound: Int) -> Int { max(bound, count + bound / 4) }
        crowded = (
            next(inodes.count, ManifestBounds.inodesCachedMax),
            next(objects.count, ManifestBounds.objectsCachedMax),
            next(entryCount, ManifestBounds.entriesCachedMax)
        )
    }

    private mutating func dropEntries() {
        for record in inodes.values where record.kind == .directory {
            guard !record.children.entries.isEmpty else { continue }
            // A listing under way would read the whole directory again for its next portion.
            if record.children.wasListed {
                record.children.wasListed = false
                continue
            }
            entryCount -= record.children.entries.count
            record.children.entries = record.children.entries.filter {
                !isClean($0.value.generation)
            }
            entryCount += record.children.entries.count
            record.children.setComplete(false)
        }
    }

    private mutating func sweepInodes() {
        let clean = checkpointed
        let dropped = Self.sweep(
            &inodes, above: ManifestBounds.inodesCachedMax,
            isEvictable: { record in
                record.pins == 0 && record.dirtyGeneration <= clean
                    && record.children.entries.allSatisfy { $0.value.generation <= clean }
            },
            takeRecent: { record in
                defer { record.isRecent = false }
                return record.isRecent
            })
        guard let dropped else { return }
        hasEvicted = true
        for record in dropped { entryCount -= record.children.entries.count }
    }

    private mutating func sweepObjects() {
        let clean = checkpointed
        let dropped = Self.sweep(
            &objects, above: ManifestBounds.objectsCachedMax,
            isEvictable: { $0.pins == 0 && $0.dirtyGeneration <= clean },
            takeRecent: { record in
                defer { record.isRecent = false }
                return record.isRecent
            })
        if dropped != nil { hasEvicted = true }
    }

    /// Takes records out of a table that is beyond its bound; nil where it is not.
    private static func sweep<Record>(
        _ table: inout [UInt64: Record], above bound: Int, isEvictable: (Record) -> Bool,
        takeRecent: (Record) -> Bool
    ) -> [Record]? {
        guard table.count > bound else { return nil }
        let goal = bound / 4 * 3
        var dropped: [Record] = []
        for sparesRecent in [true, false] where table.count > goal {
            var excess = table.count - goal
            table = table.filter { _, record in
                guard excess > 0, isEvictable(record) else { return true }
                if sparesRecent && takeRecent(record) { return true }
                dropped.append(record)
                excess -= 1
                return false
            }
        }
        return dropped
    }

    private mutating func dropInlineBytes() {
        guard inlineByteCount > ManifestBounds.inlineBytesCachedMax else { return }
        inlineByteCount = 0
        for record in objects.values
        where record.isInline && record.pins == 0 && isClean(record.dirtyGeneration) {
            record.inlineBytes = nil
        }
    }

    private mutating func dropAttributes() {
        guard attributeByteCount > ManifestBounds.attributeBytesCachedMax else { return }
        attributeByteCount = 0
        for record in inodes.values
        where record.attributes != nil && isClean(record.dirtyGeneration) {
            record.attributes = nil
        }
    }
}
