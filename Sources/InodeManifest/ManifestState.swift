package import Base
internal import GRDB

package import struct SystemPackage.Errno

/// The manifest in memory: a cache of SQLite's rows, and all changes that are not committed yet.
///
/// Not thread safe: it is reached only through `InodeManifest.withLock`. A record that is not in
/// memory is clean, so SQLite's row is the truth for it; a record that SQLite has not been told of
/// never leaves memory. A change is a call of a `mark…` or of `insert`, `remove`; what is changed between two
/// releases of the lock is committed together or not at all.
package final class ManifestState {
    private let reader: DatabaseQueue
    /// The records in memory.
    package var cache = RecordCache()
    /// What SQLite has, as of the last checkpoint.
    package var rows: CommittedRows { CommittedRows(reader, epoch: published?.epoch) }
    var turns = CommitTurns()
    var pending = PendingChanges()
    /// The numbers of objects.
    package var numbers: ObjectNumbers
    /// Objects that were sealed lately, and that are sealed no longer.
    package var sealed = SealedObjects()
    /// Blocks that SQLite cannot find yet.
    package var blocks = RecentBlocks()
    /// Objects whose flat files others read.
    package let lent = LentObjects()
    /// Counts the changes of entries: what was found out by names holds while it stands still.
    package private(set) var entryChangeCount: UInt64 = 0
    /// Flat files that are to go.
    package var files = FlatFileChanges()
    /// Roots that are to stand at a remote, and what is kept for those that do.
    package var roots: RootCount

    /// Why changes are not durable, or SQLite could not be told of them; nil once that succeeded.
    package var commitFailure: Errno? { checkpointFailure ?? logFailure }
    /// The newest reason of that in words.
    package var commitFailureCause: String?
    var logFailure: Errno?
    var checkpointFailure: Errno?
    /// The room that is kept for deletions on a full disk was given up, and is not back yet: what
    /// takes room is refused meanwhile.
    package var isReserveSpent = false

    private(set) var nextInode: UInt64
    private(set) var nextCookie: UInt64
    /// Inodes in the volume, the root among them.
    package private(set) var inodeCount: UInt64
    /// What stands at the node; nil while the volume has never had one.
    package var published: PublishedState? {
        didSet { if published != oldValue { pending.published = published } }
    }
    /// Where the tree came from; nil for a volume that began empty.
    package var origin: Origin? {
        didSet { if origin != oldValue { pending.origin = origin } }
    }
    /// What is kept for moments of the tree that have a name.
    package internal(set) var snapshots: Snapshots
    /// Trees of others that repositories come from.
    package internal(set) var grafts: Grafts
    /// The directory for whose entries an operation failed with `ManifestState.notLoaded`.
    private var notLoadedDirectory: Inode?

    init(
        reader: DatabaseQueue, nextInode: UInt64, nextCookie: UInt64, nextObject: UInt64,
        inodeCount: UInt64, published: PublishedState?, rootCount: UInt64, origin: Origin?,
        snapshots: Snapshots, grafts: Grafts
    ) {
        self.reader = reader
        self.published = published
        self.origin = origin
        self.snapshots = snapshots
        self.grafts = grafts
        self.nextInode = nextInode
        self.nextCookie = nextCookie
        self.inodeCount = inodeCount
        numbers = ObjectNumbers(next: nextObject)
        roots = RootCount(rootCount)
    }

    // MARK: Changes

    /// Changes that wait for a commit.
    package var changeCount: Int { pending.changeCount }

    /// Whether a commit is due although nobody waits for one.
    package var wantsCommit: Bool {
        changeCount > ManifestBounds.changesPerCommit
            || pending.contentByteCount > ManifestBounds.contentBytesPerCommit
    }

    /// Whether anything waits for a commit.
    var hasChanges: Bool {
        changeCount > 0 || !files.unlinked.isEmpty || pending.published != nil
            || pending.origin != nil || !pending.keptNodes.isEmpty || !pending.snapshots.isEmpty
            || !pending.grafts.isEmpty
    }

    /// Notes that a record differs from its row.
    package func mark(_ record: InodeRecord) { pending.add(record, generation: turns.generation) }

    /// Notes that a record differs from its row.
    package func mark(_ record: ObjectRecord) { pending.add(record, generation: turns.generation) }

    /// Copies out all changes since the last commit and opens the next generation.
    func takeBatch() -> CommitBatch {
        defer { turns.generation += 1 }
        return pending.takeBatch(
            generation: turns.generation, &files, nextObject: numbers.nextToStore())
    }

    /// Takes the changes of the batch that was taken last back, because it could not be committed.
    func restore(_ batch: CommitBatch) {
        pending.restore(batch, &files, in: cache, generation: turns.generation)
    }

    /// Takes the changes of a batch back that SQLite could not be told of.
    func restoreNotCheckpointed(_ batch: CommitBatch) {
        pending.restoreNotCheckpointed(batch, in: cache, newestSnapshot: snapshots.newest)
    }

    /// Whether a body says so of an inode that SQLite has not been told of as it is. Looks at a few thousand at most, as
    /// many as changed since the last checkpoint.
    package func hasNotCheckpointed(
        where body: (InodeRecord) throws(Errno) -> Bool
    ) throws(Errno) -> Bool {
        try pending.hasInode(where: body)
    }

    /// How many inodes and objects are in memory, and how many bytes of clean inline content.
    package var memoryCounts: (inodes: Int, objects: Int, inlineBytes: Int) {
        (cache.inodes.count, cache.objects.count, cache.inlineByteCount)
    }

    /// Bytes of clean extended attributes in memory, about.
    package var cleanAttributeByteCount: Int { cache.attributeByteCount }

    // MARK: Inodes

    /// The record of an inode; nil where there is none. Reads SQLite where it is not in memory.
    package func inode(_ inode: Inode) throws(Errno) -> InodeRecord? {
        if let record = cache.inodes[inode.number] {
            record.isRecent = true
            return record.isDeleted ? nil : record
        }
        guard let record = try rows.loadInode(inode) else { return nil }
        cache.inodes[inode.number] = record
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
        cache.inodes[record.inode.number] = record
        mark(record)
        return record
    }

    /// Takes an inode out of the volume. Its object's reference is the caller's to drop.
    package func delete(_ record: InodeRecord) {
        precondition(!record.isDeleted)
        if record.kind == .directory, record.cid != nil { loseTree(of: record) }
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
        guard let entry = try rows.loadEntry(name, parent: directory.inode) else { return nil }
        directory.children.entries[name] = entry
        cache.entryCount += 1
        return entry
    }

    /// Adds an entry; the name must be free.
    package func insert(
        _ name: FileName, in directory: InodeRecord, inode: Inode, kind: FileKind
    ) {
        let entry = DirectoryEntryRecord(
            inode: inode, kind: kind, cookie: nextCookie, generation: turns.generation)
        nextCookie += 1
        if directory.children.entries.updateValue(entry, forKey: name) == nil {
            cache.entryCount += 1
        }
        directory.children.order?.append((entry.cookie, name))
        note(entry, name, in: directory)
    }

    private func note(
        _ entry: DirectoryEntryRecord, _ name: FileName, in directory: InodeRecord
    ) {
        entryChangeCount &+= 1
        pending.add(entry, name, in: directory)
    }

    /// Makes a name stand for another inode. It keeps its place in a listing that is under way, as
    /// on ext4, so that a name replaced by rename is seen once.
    package func replace(
        _ name: FileName, in directory: InodeRecord, _ old: DirectoryEntryRecord, inode: Inode,
        kind: FileKind
    ) {
        let entry = DirectoryEntryRecord(
            inode: inode, kind: kind, cookie: old.cookie, generation: turns.generation)
        if directory.children.entries.updateValue(entry, forKey: name) == nil {
            cache.entryCount += 1
        }
        note(entry, name, in: directory)
    }

    /// Takes an entry away.
    package func remove(_ name: FileName, in directory: InodeRecord) {
        // The tombstone hides SQLite's row until that is deleted.
        let tombstone = DirectoryEntryRecord(
            inode: Inode(0), kind: .regular, cookie: 0, generation: turns.generation)
        if directory.children.entries.updateValue(tombstone, forKey: name) == nil {
            cache.entryCount += 1
        }
        directory.children.staleInOrder += 1
        note(tombstone, name, in: directory)
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
        let rows = try rows.readEntries(of: directory.inode)
        directory.children.entries.reserveCapacity(rows.count)
        for (name, entry) in rows where directory.children.entries[name] == nil {
            directory.children.entries[name] = entry
            cache.entryCount += 1
        }
        directory.children.setComplete()
    }

    // MARK: Extended attributes

    /// The attributes of an inode, loaded where needed.
    package func attributes(of record: InodeRecord) throws(Errno) -> AttributeTable {
        if let table = record.attributes { return table }
        let table = AttributeTable(
            record.hasAttributes ? try rows.readAttributes(of: record.inode) : [:])
        record.attributes = table
        cache.noteCleanAttributes(table.nameByteCount + table.valueByteCount)
        return table
    }

    /// Sets an attribute of an inode, or removes it with nil.
    package func setAttribute(
        _ name: FileName, of record: InodeRecord, to value: [UInt8]?
    ) throws(Errno) {
        let table = try attributes(of: record)
        table.set(name, to: value)
        record.hasAttributes = !table.values.isEmpty
        pending.contentByteCount += name.bytes.count + (value?.count ?? 0)
        mark(record)
    }
}
