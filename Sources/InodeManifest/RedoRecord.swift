internal import Base
internal import MerkleDAG
internal import Multiformats

// The payload of a record of the redo log: one CommitBatch. All numbers are little-endian.
//
//   payload    inodes objects entries deleted-inodes deleted-objects deleted-files evicted-files
//              unlinked next placements lost remotes kept
//   a list     count u32, then the elements
//   bytes      0 u32 for none, else the count + 1 as u32, then the bytes
//   inode      id u64, kind u8, mode uid gid nlink u32, rdev size blocks u64, atime mtime ctime
//              btime i64, parent u64, other_parents bytes, object (flag u8, u64), cid bytes,
//              tree_size u64, not_loaded u8, target bytes, has_xattrs u8, xattrs (form u8, list of name and
//              value bytes), nodes (flag u8, list of multihash and bytes), tree_born u64 where they are there
//   xattrs     form 0: none changed, and no list; 2: those that changed, none for the value of one that
//              was removed; 1, in logs of before: all that there are
//   object     id u64, state u8, refs u32, size u64, cid bytes, tree_size u64, inline bytes,
//              is-inline u8, drops-blocks u8, blocks (flag u8, leaves, nodes), born kept u64
//   entry      parent u64, name bytes, inode u64 (0 deletes the entry), kind u8, cookie u64
//   next       flag u8, next_object u64
//   placement  kind u8, id remote u64, state u8, request bytes, epoch u64 (0 takes the placement away)
//   lost       kind u8, owner u64, root_count (flag u8, u64), snapshot u64: the DAG nodes that the owner had are kept
//   kept       snapshot born u64, nodes: DAG nodes that no row has, kept for snapshots
//   remote     id u64, kind u8, identity path bytes, epoch u64, root bytes, root_count u64, mirror bytes,
//              time i64
//
// So it is in records of the form 3. In those of the form 2, which builds before format 6 wrote, root_count has no flag, and there is
// neither tree_born, born, kept, snapshot nor the list of kept nodes. In those of the form 1, which builds before format 4 of the database wrote,
// tree_size is followed by `published` u64, the epoch of a placement at the only remote; and in the
// place of the last four lists stands
//
//   published  flag u8; then peer bytes, epoch u64, path bytes, root bytes, mirror bytes, time i64
//
// All are read, so that what such a build was killed with is not lost.
//
// Validity: the payload is read to its last byte. A number that makes no sense in its place is what
// the row would hold, and is for `check` to find.

/// The forms that the attributes of an inode are told in.
enum AttributeForm {
    static let unchanged: UInt8 = 0
    static let all: UInt8 = 1
    static let changes: UInt8 = 2
}

/// Writes records into memory that is kept for the next one.
struct RedoWriter {
    /// The record.
    private(set) var bytes: [UInt8] = []
    /// Bytes beyond which nothing more is written.
    private let byteCountMax: Int
    /// The record is longer than it may be.
    private var isFull = false

    init(byteCountMax: Int) {
        self.byteCountMax = byteCountMax
    }

    /// Writes a batch behind the room for the head; false where that is too long, or has what only SQLite is told.
    mutating func encode(_ batch: CommitBatch) -> Bool {
        guard batch.origin == nil, batch.snapshots.isEmpty, batch.grafts.isEmpty else {
            return false
        }
        bytes.removeAll(keepingCapacity: bytes.capacity <= Self.capacityKeptMax)
        bytes.append(contentsOf: repeatElement(0, count: RedoHead.byteCount))
        isFull = false
        putList(batch.inodes) { $0.put($1) }
        putList(batch.objects) { $0.put($1) }
        putList(batch.entryChanges) { writer, change in
            writer.put(change.parent)
            writer.put(change.name.bytes)
            writer.put(change.inode)
            writer.put(change.kind.rawValue)
            writer.put(change.cookie)
        }
        for numbers in [
            batch.deletedInodes, batch.deletedObjects, batch.deletedFiles, batch.evictedFiles,
            batch.unlinkedObjects,
        ] {
            putList(numbers) { $0.put($1) }
        }
        put(batch.nextObject)
        putList(batch.placements) { $0.put($1) }
        putList(batch.lostNodes) { writer, lost in
            writer.put(UInt8(truncatingIfNeeded: lost.owner.kind.rawValue))
            writer.put(lost.owner.id)
            writer.put(lost.rootCount)
            writer.put(lost.snapshot)
        }
        putList(batch.published.map { [$0] } ?? []) { $0.put($1) }
        putList(batch.keptNodes) { writer, kept in
            writer.put(kept.snapshot)
            writer.put(kept.born)
            writer.put(kept.nodes)
        }
        return !isFull
    }

    /// Writes the head of the record.
    mutating func seal(number: UInt64, before: UInt64, key: [UInt8]) {
        bytes.withUnsafeMutableBytes {
            RedoHead.seal($0, number: number, before: before, key: key)
        }
    }

    private static let capacityKeptMax = 1 << 18

    private mutating func put<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private mutating func put(_ flag: Bool) { put(UInt8(flag ? 1 : 0)) }

    private mutating func put(_ number: UInt64?) {
        put(number != nil)
        put(number ?? 0)
    }

    private mutating func put(_ blob: [UInt8]?) {
        guard let blob else { return put(UInt32(0)) }
        guard bytes.count + blob.count < byteCountMax else { return isFull = true }
        put(UInt32(blob.count) + 1)
        bytes.append(contentsOf: blob)
    }

    private mutating func putList<Elements: Collection>(
        _ elements: Elements, _ body: (inout RedoWriter, Elements.Element) -> Void
    ) {
        put(UInt32(truncatingIfNeeded: elements.count))
        for element in elements {
            if bytes.count >= byteCountMax { isFull = true }
            guard !isFull else { return }
            body(&self, element)
        }
    }

    private mutating func put(_ row: CommitBatch.InodeRow) {
        put(row.id)
        put(row.kind.rawValue)
        for number in [row.mode, row.uid, row.gid, row.linkCount] { put(number) }
        for number in [row.rdev, row.size, row.blocks] { put(number) }
        for time in [row.accessed, row.modified, row.changed, row.created] { put(time) }
        put(row.parent)
        put(row.otherParents)
        put(row.object)
        put(row.cid)
        put(row.treeSize)
        put(!row.isLoaded)
        put(row.target)
        put(row.hasAttributes)
        put(row.attributes.isEmpty ? AttributeForm.unchanged : AttributeForm.changes)
        if !row.attributes.isEmpty {
            putList(row.attributes) { writer, attribute in
                writer.put(attribute.name.bytes)
                writer.put(attribute.value)
            }
        }
        put(row.newNodes != nil)
        if let nodes = row.newNodes {
            put(nodes)
            put(row.treeBorn)
        }
    }

    private mutating func put(_ row: CommitBatch.ObjectRow) {
        put(row.id)
        put(UInt8(truncatingIfNeeded: row.state.rawValue))
        put(row.references)
        put(row.size)
        put(row.cid)
        put(row.treeSize)
        put(row.inlineBytes)
        put(row.isInline)
        put(row.dropsBlocks)
        put(row.newBlocks != nil)
        if let blocks = row.newBlocks {
            putList(blocks.leaves) { $0.put($1) }
            put(blocks.nodes)
        }
        put(row.born)
        put(row.kept)
    }

    private mutating func put(_ change: PlacementChange) {
        put(UInt8(truncatingIfNeeded: change.kind.rawValue))
        put(change.id)
        put(change.remote)
        put(UInt8(truncatingIfNeeded: change.state.rawValue))
        put(change.request)
        put(change.epoch)
    }

    private mutating func put(_ remote: PublishedState) {
        put(PlacementChange.kuboRemote)
        put(UInt8(truncatingIfNeeded: RemoteKind.kubo.rawValue))
        put(Array(remote.peer.utf8))
        put(Array(remote.path.utf8))
        put(remote.epoch)
        put(remote.root?.bytes)
        put(remote.rootCount)
        put(remote.mirror?.bytes)
        put(remote.time.nanoseconds)
    }

    private mutating func put(_ nodes: [StoredNode]) {
        putList(nodes) { writer, node in
            writer.put(node.multihash)
            writer.put(node.bytes)
        }
    }
}
