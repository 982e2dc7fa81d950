package import Base
internal import GRDB
package import MerkleDAG
package import Multiformats

package import struct SystemPackage.Errno

/// The bounds of the manifest's memory and of its work between two commits.
package enum ManifestBounds {
    /// Inode records kept in memory; open and uncommitted ones may go beyond it.
    package static let inodesCachedMax = 32_768
    /// Object records kept in memory.
    package static let objectsCachedMax = 32_768
    /// Directory entries kept in memory.
    package static let entriesCachedMax = 49_152
    /// Numbers of objects given out until the volume's row is told.
    package static let objectsUnlistedMax: UInt64 = 4_096
    /// Changes after which a commit is started although nobody asked for one, and committed ones
    /// after which a checkpoint is made.
    package static let changesPerCommit = 4_096
    /// Changes after which mutations wait for a commit, and committed ones after which commits wait
    /// for SQLite.
    package static let changesUncommittedMax = 12_288
    /// Uncommitted bytes of inline content, extended attributes and nodes after which a commit is started.
    package static let contentBytesPerCommit = 4 << 20
    /// Bytes of clean inline content kept in memory.
    package static let inlineBytesCachedMax = 4 << 20
    /// Bytes of clean extended attributes kept in memory.
    package static let attributeBytesCachedMax = 4 << 20
    /// Sealed objects that wait to be told to whoever sends them to the node.
    package static let sealedObjectsMax = 65_536
    /// The length of each of the redo log's two segments, in bytes.
    package static let logSegmentByteCount = 4 << 20
    /// Pages of the WAL after which it is copied into the database.
    static let walPagesPerCopy = 4_096
    /// Pages of the WAL after which commits wait for that.
    static let walPagesMax = 32_768
}

/// A change of one directory entry, as it will be told to SQLite.
struct EntryChange: Sendable {
    let parent: UInt64
    let name: FileName
    /// Inode 0: the entry is deleted.
    let inode: UInt64
    let kind: FileKind
    let cookie: UInt64
}

/// The manifest in memory: a cache of SQLite's rows, and all changes that are not committed yet.
///
/// Not thread safe: it is reached only through `InodeManifest.withLock`. A record that is not in
/// memory is clean, so SQLite's row is the truth for it; a record that SQLite has not been told of
/// never leaves memory. A change is a call of a `mark…` or of `insert`, `remove`; what is changed between two
/// releases of the lock is committed together or not at all.
package final class ManifestState {
    let reader: DatabaseQueue
    private var inodes: [UInt64: InodeRecord] = [:]
    private var objects: [UInt64: ObjectRecord] = [:]

    /// The number of the batch that collects changes now.
    var generation: UInt64 = 1
    /// All batches up to this one are on stable storage.
    var committedGeneration: UInt64 = 0
    /// SQLite has all batches up to this one, durably.
    var checkpointedGeneration: UInt64 = 0
    /// Somebody has a batch that is not committed yet.
    var isCommitting = false
    /// Somebody has a batch for SQLite.
    var isCheckpointing = false
    /// Those that wait for one of the two.
    var commitQueue: [CommitPlace] = []
    /// Why changes are not durable, or SQLite could not be told of them; nil once that succeeded.
    package var commitFailure: Errno? { checkpointFailure ?? logFailure }
    /// The newest reason of that in words.
    package var commitFailureCause: String?
    var logFailure: Errno?
    var checkpointFailure: Errno?

    /// The room that is kept for deletions on a full disk was given up, and is not back yet: what
    /// takes room is refused meanwhile.
    package var isReserveSpent = false

    var dirtyInodes: [InodeRecord] = []
    var dirtyObjects: [ObjectRecord] = []
    var entryChanges: [EntryChange] = []
    var dirtyContentBytes = 0
    /// What was committed since the last checkpoint: records, and changes without one.
    var notCheckpointedInodes: [InodeRecord] = []
    var notCheckpointedObjects: [ObjectRecord] = []
    var notCheckpointed = CommitBatch()
    private var entriesCached = 0
    private var inlineBytesCached = 0
    private var attributeBytesCached = 0
    /// The counts of inodes, objects and entries in memory from which on they are looked through.
    private var crowded = (
        inodes: ManifestBounds.inodesCachedMax, objects: ManifestBounds.objectsCachedMax,
        entries: ManifestBounds.entriesCachedMax
    )

    var nextInode: UInt64
    var nextCookie: UInt64
    var nextObject: UInt64
    /// The volume's row says it, or will with the batch that is being committed.
    private var nextObjectStored: UInt64 = 0
    /// Objects by their CID that SQLite cannot find yet.
    private(set) var recentlySealed: [CID: SealedObject] = [:]

    struct SealedObject {
        let id: UInt64
        let generation: UInt64
    }
    /// See `keepSealed`.
    private var sealedObjects: [UInt64]?
    /// See `takeGone`.
    private var goneObjects: [UInt64]?
    private var hasLostSealed = false
    /// Flat files that exist, or may, before their row does.
    private var reservedObjects: Set<UInt64> = []
    /// Records went out of memory since `takeEviction`; what they took is free in pieces.
    private var hasEvicted = false
    /// Inodes in the volume, the root among them.
    package private(set) var inodeCount: UInt64
    /// Flat files that a commit has made nameless; the owner of the store unlinks them.
    var deletableObjects: [UInt64] = []
    /// Flat files of objects that were evicted since the last commit.
    var evictedFiles: [UInt64] = []
    private var evicting: Set<UInt64> = []
    /// Flat files that were unlinked; their `deleted_object` rows go with the next commit.
    var unlinkedObjects: [UInt64] = []
    /// What stands at the node; nil while the volume has never had one.
    package var published: PublishedState? {
        didSet { isPublishedDirty = isPublishedDirty || published != oldValue }
    }
    var isPublishedDirty = false
    /// The roots that were begun, those of processes before among them; see `beginRoot`.
    var rootCount: UInt64
    var isRootUnderWay = false
    /// What the next commit has to tell of.
    var lostNodes: [LostNodes] = []
    /// The directory for whose entries an operation failed with `ManifestState.notLoaded`.
    private var notLoadedDirectory: Inode?

    init(
        reader: DatabaseQueue, nextInode: UInt64, nextCookie: UInt64, nextObject: UInt64,
        inodeCount: UInt64, published: PublishedState?, rootCount: UInt64
    ) {
        self.reader = reader
        self.published = published
        self.rootCount = rootCount
        self.nextInode = nextInode
        self.nextCookie = nextCookie
        self.nextObject = nextObject
        self.inodeCount = inodeCount
    }

    // MARK: Inodes

    /// The record of an inode; nil where there is none. Reads SQLite where it is not in memory.
    package func inode(_ inode: Inode) throws(Errno) -> InodeRecord? {
        if let record = inodes[inode.number] {
            record.isRecent = true
            return record.isDeleted ? nil : record
        }
        guard let record = try loadInode(inode) else { return nil }
        inodes[inode.number] = record
        return record
    }

    /// Makes an inode without any entry, dirty.
    package func makeInode(
        kind: FileKind, mode: UInt32, uid: UInt32, gid: UInt32, rdev: UInt64 = 0, parent: Inode,
        target: [UInt8] = []
    ) -> InodeRecord {
        let now = Timestamp.now()
        let record = InodeRecord(
            inode: Inode(nextInode), kind: kind, mode: mode, uid: uid, gid: gid,
            linkCount: kind == .directory ? 2 : 1, rdev: rdev, parent: parent, target: target,
            accessed: now, modified: now, changed: now, created: now)
        nextInode += 1
        inodeCount += 1
        record.size = UInt64(target.count)
        record.children.isComplete = true
        inodes[record.inode.number] = record
        mark(record)
        return record
    }

    /// Notes that a record differs from its row.
    package func mark(_ record: InodeRecord) {
        guard record.dirtyGeneration != generation else { return }
        record.dirtyGeneration = generation
        dirtyInodes.append(record)
    }

    /// Takes an inode out of the volume. Its object's reference is the caller's to drop.
    package func delete(_ record: InodeRecord) {
        precondition(!record.isDeleted)
        if record.kind == .directory, record.cid != nil {
            lose(.directory, record.inode.number, placedEpoch: record.placedEpoch)
        }
        record.isDeleted = true
        // In a damaged manifest the count may be too low.
        if inodeCount > 0 { inodeCount -= 1 }
        mark(record)
    }

    // MARK: Entries

    /// The entry of a name; nil where there is none.
    package func entry(
        _ name: FileName, in directory: InodeRecord
    ) throws(Errno) -> DirectoryEntryRecord? {
        if let entry = directory.children.entries[name] {
            return entry.isTombstone ? nil : entry
        }
        try requireEntries(of: directory)
        guard !directory.children.isComplete else { return nil }
        guard let entry = try loadEntry(name, parent: directory.inode) else { return nil }
        directory.children.entries[name] = entry
        entriesCached += 1
        return entry
    }

    /// Adds an entry; the name must be free.
    package func insert(
        _ name: FileName, in directory: InodeRecord, inode: Inode, kind: FileKind
    ) {
        let entry = DirectoryEntryRecord(
            inode: inode, kind: kind, cookie: nextCookie, generation: generation)
        nextCookie += 1
        if directory.children.entries.updateValue(entry, forKey: name) == nil { entriesCached += 1 }
        directory.children.order?.append((entry.cookie, name))
        log(name, in: directory, entry)
    }

    /// Makes a name stand for another inode. It keeps its place in a listing that is under way, as
    /// on ext4, so that a name replaced by rename is seen once.
    package func replace(
        _ name: FileName, in directory: InodeRecord, _ old: DirectoryEntryRecord, inode: Inode,
        kind: FileKind
    ) {
        let entry = DirectoryEntryRecord(
            inode: inode, kind: kind, cookie: old.cookie, generation: generation)
        if directory.children.entries.updateValue(entry, forKey: name) == nil { entriesCached += 1 }
        log(name, in: directory, entry)
    }

    /// Takes an entry away.
    package func remove(_ name: FileName, in directory: InodeRecord) {
        // The tombstone hides SQLite's row until that is deleted.
        let tombstone = DirectoryEntryRecord(
            inode: Inode(0), kind: .regular, cookie: 0, generation: generation)
        if directory.children.entries.updateValue(tombstone, forKey: name) == nil {
            entriesCached += 1
        }
        directory.children.staleInOrder += 1
        log(name, in: directory, tombstone)
    }

    private func log(
        _ name: FileName, in directory: InodeRecord, _ entry: DirectoryEntryRecord
    ) {
        entryChanges.append(
            EntryChange(
                parent: directory.inode.number, name: name, inode: entry.inode.number,
                kind: entry.kind, cookie: entry.cookie))
    }

    /// Whether a directory has no entry.
    package func isEmpty(_ directory: InodeRecord) throws(Errno) -> Bool {
        if directory.children.entries.contains(where: { !$0.value.isTombstone }) { return false }
        try loadChildren(of: directory)
        return !directory.children.entries.contains { !$0.value.isTombstone }
    }

    /// Calls the body with the entries after a cookie, in the order of their cookies, until it
    /// answers false. Loads the whole directory into memory.
    package func forEachEntry(
        of directory: InodeRecord, after cookie: UInt64,
        _ body: (FileName, DirectoryEntryRecord) throws(Errno) -> Bool
    ) throws(Errno) {
        try loadChildren(of: directory)
        directory.children.wasListed = true
        if directory.children.order == nil
            || directory.children.staleInOrder > directory.children.entries.count
        {
            directory.children.order = directory.children.entries
                .filter { !$0.value.isTombstone }
                .map { ($0.value.cookie, $0.key) }
                .sorted { $0.cookie < $1.cookie }
            directory.children.staleInOrder = 0
        }
        guard let order = directory.children.order else { return }
        var low = 0
        var high = order.count
        while low < high {
            let middle = (low + high) / 2
            if order[middle].cookie <= cookie { low = middle + 1 } else { high = middle }
        }
        while low < order.count {
            let place = order[low]
            // A name that went, or came back with a newer cookie, has its place no longer.
            if let entry = directory.children.entries[place.name], entry.cookie == place.cookie {
                guard try body(place.name, entry) else { return }
            }
            low += 1
        }
    }

    /// Fails for a directory whose entries are not here. Its `isEmpty`, `entry` and `forEachEntry`
    /// do the same, before they or their caller have changed anything: whoever catches the error
    /// finds the entries out, without the lock, and begins again.
    package func requireEntries(of directory: InodeRecord) throws(Errno) {
        guard !directory.isLoaded else { return }
        notLoadedDirectory = directory.inode
        throw Self.notLoaded
    }

    /// Tells that the entries of `notLoadedDirectory` are needed; no error of the system's.
    package static let notLoaded = Errno(rawValue: 1_000_001)

    /// The directory for whose entries an operation failed just now; nil where it failed otherwise.
    /// Asked for before the lock is released, so that it is no other operation's.
    package func takeNotLoaded() -> Inode? {
        defer { notLoadedDirectory = nil }
        return notLoadedDirectory
    }

    private func loadChildren(of directory: InodeRecord) throws(Errno) {
        try requireEntries(of: directory)
        guard !directory.children.isComplete else { return }
        let rows = try readEntries(of: directory.inode)
        directory.children.entries.reserveCapacity(rows.count)
        for (name, entry) in rows where directory.children.entries[name] == nil {
            directory.children.entries[name] = entry
            entriesCached += 1
        }
        directory.children.isComplete = true
        directory.children.order = nil
    }

    // MARK: Extended attributes

    /// The attributes of an inode, loaded where needed.
    package func attributes(of record: InodeRecord) throws(Errno) -> AttributeTable {
        if let table = record.attributes { return table }
        let table = AttributeTable(
            record.hasAttributes ? try readAttributes(of: record.inode) : [:])
        record.attributes = table
        noteCleanAttributes(table.nameByteCount + table.valueByteCount)
        return table
    }

    /// Sets an attribute of an inode, or removes it with nil.
    package func setAttribute(
        _ name: FileName, of record: InodeRecord, to value: [UInt8]?
    ) throws(Errno) {
        let table = try attributes(of: record)
        table.set(name, to: value)
        record.hasAttributes = !table.values.isEmpty
        dirtyContentBytes += name.bytes.count + (value?.count ?? 0)
        mark(record)
    }

    // MARK: Objects

    /// The record of an object; nil where there is none.
    package func object(_ id: UInt64) throws(Errno) -> ObjectRecord? {
        if let record = objects[id] {
            record.isRecent = true
            return record.isDeleted ? nil : record
        }
        guard let record = try loadObject(id) else { return nil }
        objects[id] = record
        return record
    }

    /// The object that holds a regular file's bytes; nil for an empty file.
    package func object(of record: InodeRecord) throws(Errno) -> ObjectRecord? {
        guard let id = record.object else { return nil }
        guard let object = try object(id) else {
            throw .ioError.because(
                "manifest.sqlite: table inode, row id \(record.inode.number), column object: "
                    + "\(id) does not exist: run registryfs check")
        }
        return object
    }

    /// Takes a number for a flat file that is about to be made. If the program stops before
    /// `makeObject`, the next opening finds the file and removes it.
    package func reserveObject() -> UInt64 {
        let id = nextObject
        nextObject += 1
        reservedObjects.insert(id)
        return id
    }

    /// Gives a reserved number back unused; the flat file must be gone.
    package func releaseReservation(_ id: UInt64) {
        reservedObjects.remove(id)
    }

    /// Whether more than a count of numbers were given out since a reserved one.
    package func isReservationOld(_ id: UInt64, by count: UInt64) -> Bool {
        nextObject - id > count
    }

    /// Makes the record of an object, dirty, with one reference.
    ///
    /// - Parameter id: a reserved number for a flat file; nil for an inline object.
    package func makeObject(id: UInt64?, size: UInt64, inlineBytes: [UInt8]? = nil) -> ObjectRecord
    {
        let number: UInt64
        if let id {
            number = id
            reservedObjects.remove(id)
        } else {
            number = nextObject
            nextObject += 1
        }
        let record = ObjectRecord(
            id: number, state: .staging, references: 1, size: size, isInline: id == nil)
        if let inlineBytes {
            record.inlineBytes = inlineBytes
            record.uncommitted.insert(.inline)
            dirtyContentBytes += inlineBytes.count
        }
        objects[number] = record
        mark(record)
        return record
    }

    /// Makes the record of an object whose bytes are at the node, dirty, with one reference.
    package func makeRemoteObject(size: UInt64, cid: CID, treeSize: UInt64) -> ObjectRecord {
        let record = ObjectRecord(
            id: nextObject, state: .remote, references: 1, size: size, isInline: false)
        nextObject += 1
        record.cid = cid
        record.treeSize = treeSize
        objects[record.id] = record
        recentlySealed[cid] = SealedObject(id: record.id, generation: generation)
        notePublished(record)
        mark(record)
        return record
    }

    /// Leaves a sealed object's bytes to the node; its flat file goes after the next commit.
    package func evict(_ record: ObjectRecord) {
        precondition(record.state == .sealed && !record.isInline)
        record.state = .remote
        evicting.insert(record.id)
        evictedFiles.append(record.id)
        mark(record)
    }

    /// Whether flat files of evicted objects wait for a commit.
    package var hasEvictedFiles: Bool { !evictedFiles.isEmpty }

    /// The names of an inode in a directory. Loads the directory.
    package func names(of inode: Inode, in parent: Inode) throws(Errno) -> [[UInt8]] {
        guard let directory = try self.inode(parent) else { return [] }
        var names: [[UInt8]] = []
        try forEachEntry(of: directory, after: 0) { name, entry in
            if entry.inode == inode { names.append(name.bytes) }
            return true
        }
        return names
    }

    /// Whether the flat file of an evicted object is still to be removed.
    package func isEvicting(_ id: UInt64) -> Bool { evicting.contains(id) }

    /// Notes that all bytes of a remote object are here again: in its flat file, durably, or inline.
    ///
    /// - Parameter blocks: its leaves and nodes.
    package func keepLocally(_ record: ObjectRecord, _ blocks: SealResult, inlineBytes: [UInt8]?) {
        precondition(record.state == .remote)
        record.state = .sealed
        record.newBlocks = blocks.blocks
        record.uncommitted.insert(.newBlocks)
        if let inlineBytes {
            record.isInline = true
            record.inlineBytes = inlineBytes
            record.uncommitted.insert(.inline)
            dirtyContentBytes += inlineBytes.count
        }
        mark(record)
    }

    /// Notes that a record differs from its row.
    package func mark(_ record: ObjectRecord) {
        guard record.dirtyGeneration != generation else { return }
        record.dirtyGeneration = generation
        dirtyObjects.append(record)
    }

    /// Notes that the bytes of an inline object changed.
    package func markInline(_ record: ObjectRecord) {
        record.uncommitted.insert(.inline)
        record.size = UInt64(record.inlineBytes?.count ?? 0)
        dirtyContentBytes += record.inlineBytes?.count ?? 0
        mark(record)
    }

    /// The bytes of an inline object.
    package func inlineBytes(of record: ObjectRecord) throws(Errno) -> [UInt8] {
        if let bytes = record.inlineBytes { return bytes }
        let bytes = try readInline(record.id)
        guard UInt64(bytes.count) == record.size else {
            throw .ioError.because(
                "manifest.sqlite: table object, row id \(record.id), column size: it is "
                    + "\(record.size), but there are \(bytes.count) bytes: run registryfs check")
        }
        record.inlineBytes = bytes
        inlineBytesCached += bytes.count
        return bytes
    }

    /// Keeps the CID of a directory's DAG, with the nodes that it is made of.
    package func setTree(
        of record: InodeRecord, cid: CID, treeSize: UInt64, nodes: [StoredNode]
    ) {
        if record.cid != nil {
            lose(.directory, record.inode.number, placedEpoch: record.placedEpoch)
        }
        record.cid = cid
        record.treeSize = treeSize
        place(record, 0)
        record.newNodes = nodes
        record.uncommitted.insert(.nodes)
        dirtyContentBytes += nodes.reduce(0) { $0 + $1.bytes.count }
        mark(record)
    }

    /// Has the numbers of the objects kept that are sealed from now on, for `takeSealed`.
    package func keepSealed() {
        if sealedObjects == nil { sealedObjects = [] }
        if goneObjects == nil { goneObjects = [] }
    }

    /// The objects that were unsealed or deleted since the last call, once `keepSealed` was called.
    package func takeGone() -> [UInt64] {
        guard let gone = goneObjects, !gone.isEmpty else { return [] }
        goneObjects = []
        return gone
    }

    /// The objects that were sealed since the last call, in order; nil where they were too many, so
    /// that `unpublishedObjects` must be asked.
    package func takeSealed() -> [UInt64]? {
        defer {
            sealedObjects = []
            hasLostSealed = false
        }
        return hasLostSealed ? nil : sealedObjects ?? []
    }

    /// Makes an object immutable, with the CID and the blocks that sealing found.
    package func seal(_ record: ObjectRecord, as result: SealResult, size: UInt64) {
        record.state = .sealed
        record.size = size
        record.cid = result.cid
        record.treeSize = result.treeSize
        place(record, 0)
        record.newBlocks = result.blocks
        record.uncommitted.insert(.newBlocks)
        recentlySealed[result.cid] = SealedObject(id: record.id, generation: generation)
        if let count = sealedObjects?.count {
            if count < ManifestBounds.sealedObjectsMax {
                sealedObjects?.append(record.id)
            } else {
                hasLostSealed = true
            }
        }
        mark(record)
    }

    /// Takes a seal back, because the content is about to change; false where there was none.
    @discardableResult
    package func unseal(_ record: ObjectRecord) -> Bool {
        guard record.state == .sealed else { return false }
        goneObjects?.append(record.id)
        if !record.isInline { lose(.object, record.id, placedEpoch: record.placedEpoch) }
        record.state = .staging
        record.cid = nil
        place(record, 0)
        record.uncommitted.insert(.oldBlocks)
        record.newBlocks = nil
        mark(record)
        return true
    }

    /// Adds an inode's reference.
    package func retain(_ record: ObjectRecord) {
        // A count that is too high in a damaged manifest stays there: the object then outlives its users.
        if record.references < .max { record.references += 1 }
        mark(record)
    }

    /// Drops an inode's reference; an object without any is deleted once it has no pins.
    package func release(_ record: ObjectRecord) {
        // In a damaged manifest a count may be too low; such an object is left for `check` to find.
        guard record.references > 0 else { return }
        record.references -= 1
        mark(record)
        deleteIfUnused(record)
    }

    /// Keeps an object from being deleted or evicted.
    package func pin(_ record: ObjectRecord) {
        record.pins += 1
    }

    /// Ends a `pin`.
    package func unpin(_ record: ObjectRecord) {
        precondition(record.pins > 0)
        record.pins -= 1
        deleteIfUnused(record)
    }

    private func deleteIfUnused(_ record: ObjectRecord) {
        guard record.references == 0, record.pins == 0, !record.isDeleted else { return }
        goneObjects?.append(record.id)
        if !record.isInline, record.cid != nil {
            lose(.object, record.id, placedEpoch: record.placedEpoch)
        }
        record.isDeleted = true
        record.inlineBytes = nil
        record.newBlocks = nil
        mark(record)
    }

    /// Takes the flat files that may be unlinked now.
    package func takeDeletableObjects() -> [UInt64] {
        defer { deletableObjects = [] }
        return deletableObjects
    }

    /// Whether records went out of memory since the last call.
    package func takeEviction() -> Bool {
        defer { hasEvicted = false }
        return hasEvicted
    }

    /// Notes that flat files are unlinked.
    package func noteUnlinked(_ ids: [UInt64]) {
        evicting.subtract(ids)
        unlinkedObjects += ids
    }

    // MARK: Bounds

    /// Changes that wait for a commit.
    package var changeCount: Int { dirtyInodes.count + dirtyObjects.count + entryChanges.count }

    /// Whether a commit is due although nobody waits for one.
    package var wantsCommit: Bool {
        changeCount > ManifestBounds.changesPerCommit
            || dirtyContentBytes > ManifestBounds.contentBytesPerCommit
    }

    /// The lowest number that a flat file without a row can have.
    var nextObjectDurable: UInt64 { reservedObjects.min() ?? nextObject }

    /// The number for the volume's row, where it went so far that a crash would leave many flat
    /// files to look through.
    func nextObjectToStore() -> UInt64? {
        let next = nextObjectDurable
        guard next > nextObjectStored + ManifestBounds.objectsUnlistedMax else { return nil }
        nextObjectStored = next
        return next
    }

    private func isClean(_ generation: UInt64) -> Bool { generation <= checkpointedGeneration }

    /// The record of an inode, deleted or not; nil where it is not in memory.
    func loadedInode(_ id: UInt64) -> InodeRecord? { inodes[id] }

    /// The record of an object, deleted or not; nil where it is not in memory.
    func loadedObject(_ id: UInt64) -> ObjectRecord? { objects[id] }

    /// Ends the life in memory of what SQLite has deleted, and of tombstones.
    func settle(_ batch: CommitBatch) {
        recentlySealed = recentlySealed.filter { !isClean($0.value.generation) }
        for id in batch.deletedInodes {
            if let record = inodes.removeValue(forKey: id) {
                entriesCached -= record.children.entries.count
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
            entriesCached -= 1
        }
        evict()
    }

    /// How many inodes and objects are in memory, and how many bytes of clean inline content.
    package var memoryCounts: (inodes: Int, objects: Int, inlineBytes: Int) {
        (inodes.count, objects.count, inlineBytesCached)
    }

    /// Bytes of clean extended attributes in memory, about.
    package var cleanAttributeByteCount: Int { attributeBytesCached }

    /// Drops what was loaded beyond the bounds: of a tree that is only read, no commit does. The
    /// caller holds no record that is not pinned.
    func evictIfCrowded() {
        if inodes.count > crowded.inodes || objects.count > crowded.objects
            || entriesCached > crowded.entries
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
    private func evict() {
        defer {
            // What has to stay is not looked through again before a share of the bound has come to it.
            func next(_ count: Int, _ bound: Int) -> Int { max(bound, count + bound / 4) }
            crowded = (
                next(inodes.count, ManifestBounds.inodesCachedMax),
                next(objects.count, ManifestBounds.objectsCachedMax),
                next(entriesCached, ManifestBounds.entriesCachedMax)
            )
        }
        if entriesCached > ManifestBounds.entriesCachedMax {
            for record in inodes.values where record.kind == .directory {
                guard !record.children.entries.isEmpty else { continue }
                // A listing under way would read the whole directory again for its next portion.
                if record.children.wasListed {
                    record.children.wasListed = false
                    continue
                }
                entriesCached -= record.children.entries.count
                record.children.entries = record.children.entries.filter {
                    !isClean($0.value.generation)
                }
                entriesCached += record.children.entries.count
                record.children.isComplete = false
                record.children.order = nil
            }
        }
        // The goal is below the bound, so that this pass over everything is rare.
        sweep(
            &inodes, above: ManifestBounds.inodesCachedMax,
            isEvictable: { record in
                record.pins == 0 && self.isClean(record.dirtyGeneration)
                    && record.children.entries.allSatisfy { self.isClean($0.value.generation) }
            },
            takeRecent: { record in
                defer { record.isRecent = false }
                return record.isRecent
            },
            dropped: { self.entriesCached -= $0.children.entries.count })
        sweep(
            &objects, above: ManifestBounds.objectsCachedMax,
            isEvictable: { $0.pins == 0 && self.isClean($0.dirtyGeneration) },
            takeRecent: { record in
                defer { record.isRecent = false }
                return record.isRecent
            },
            dropped: { _ in })
        dropInlineBytes()
        dropAttributes()
    }

    private func sweep<Record>(
        _ table: inout [UInt64: Record], above bound: Int, isEvictable: (Record) -> Bool,
        takeRecent: (Record) -> Bool, dropped: (Record) -> Void
    ) {
        guard table.count > bound else { return }
        hasEvicted = true
        let goal = bound / 4 * 3
        for sparesRecent in [true, false] where table.count > goal {
            var excess = table.count - goal
            table = table.filter { _, record in
                guard excess > 0, isEvictable(record) else { return true }
                if sparesRecent && takeRecent(record) { return true }
                dropped(record)
                excess -= 1
                return false
            }
        }
    }

    private func dropInlineBytes() {
        guard inlineBytesCached > ManifestBounds.inlineBytesCachedMax else { return }
        inlineBytesCached = 0
        for record in objects.values
        where record.isInline && record.pins == 0 && isClean(record.dirtyGeneration) {
            record.inlineBytes = nil
        }
    }

    private func dropAttributes() {
        guard attributeBytesCached > ManifestBounds.attributeBytesCachedMax else { return }
        attributeBytesCached = 0
        for record in inodes.values
        where record.attributes != nil && isClean(record.dirtyGeneration) {
            record.attributes = nil
        }
    }

    /// Counts bytes of extended attributes that stay in memory while SQLite has them.
    func noteCleanAttributes(_ byteCount: Int) {
        attributeBytesCached += byteCount
    }

    /// Counts bytes of inline content that stay in memory once SQLite has them.
    func noteCommittedInline(_ byteCount: Int) {
        inlineBytesCached += byteCount
    }
}
