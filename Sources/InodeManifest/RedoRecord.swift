internal import Base
internal import MerkleDAG
internal import Multiformats

// The payload of a record of the redo log: one CommitBatch. All numbers are little-endian.
//
//   payload    inodes objects entries deleted-inodes deleted-objects deleted-files evicted-files
//              unlinked next published
//   a list     count u32, then the elements
//   bytes      0 u32 for none, else the count + 1 as u32, then the bytes
//   inode      id u64, kind u8, mode uid gid nlink u32, rdev size blocks u64, atime mtime ctime
//              btime i64, parent u64, other_parents bytes, object (flag u8, u64), cid bytes,
//              tree_size published u64, unexpanded u8, target bytes, has_xattrs u8, xattrs (form u8, list of name and
//              value bytes), nodes (flag u8, list of multihash and bytes)
//   xattrs     form 0: none changed, and no list; 2: those that changed, none for the value of one that
//              was removed; 1, in logs of before: all that there are
//   object     id u64, state u8, refs u32, size u64, cid bytes, tree_size published u64, inline bytes,
//              is-inline u8, drops-blocks u8, blocks (flag u8, leaves, nodes)
//   entry      parent u64, name bytes, inode u64 (0 deletes the entry), kind u8, cookie u64
//   next       flag u8, next_object u64
//   published  flag u8; then peer bytes, epoch u64, path bytes, root bytes, view bytes, time i64
//
// Validity: the payload is read to its last byte. A number that makes no sense in its place is what
// the row would hold, and is for `check` to find.

/// The forms that the attributes of an inode are told in.
private enum AttributeForm {
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

    /// Writes a batch behind the room for the head; false where that is too long.
    mutating func encode(_ batch: CommitBatch) -> Bool {
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
        put(batch.published != nil)
        if let published = batch.published {
            put(Array(published.peer.utf8))
            put(published.epoch)
            put(Array(published.path.utf8))
            put(published.root?.bytes)
            put(published.view?.bytes)
            put(published.time.nanoseconds)
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
        put(row.publishedEpoch)
        put(!row.isExpanded)
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
        if let nodes = row.newNodes { put(nodes) }
    }

    private mutating func put(_ row: CommitBatch.ObjectRow) {
        put(row.id)
        put(UInt8(truncatingIfNeeded: row.state.rawValue))
        put(row.references)
        put(row.size)
        put(row.cid)
        put(row.treeSize)
        put(row.publishedEpoch)
        put(row.inlineBytes)
        put(row.isInline)
        put(row.dropsBlocks)
        put(row.newBlocks != nil)
        if let blocks = row.newBlocks {
            putList(blocks.leaves) { $0.put($1) }
            put(blocks.nodes)
        }
    }

    private mutating func put(_ nodes: [StoredNode]) {
        putList(nodes) { writer, node in
            writer.put(node.multihash)
            writer.put(node.bytes)
        }
    }
}

/// A payload that is not one.
struct RedoPayloadError: Error {}

/// Reads a payload.
struct RedoReader {
    private var rest: UnsafeRawBufferPointer

    /// The batch of a payload. Its rows are told as stored, because they may be: what is applied
    /// twice is the same as once.
    static func decode(_ payload: UnsafeRawBufferPointer) throws(RedoPayloadError) -> CommitBatch {
        var reader = RedoReader(rest: payload)
        var batch = CommitBatch()
        batch.inodes = try reader.list { (reader) throws(RedoPayloadError) in try reader.inode() }
        batch.objects = try reader.list { (reader) throws(RedoPayloadError) in
            try reader.object()
        }
        batch.entryChanges = try reader.list { (reader) throws(RedoPayloadError) in
            EntryChange(
                parent: try reader.number(), name: FileName(try reader.bytes() ?? []),
                inode: try reader.number(), kind: try reader.kind(), cookie: try reader.number())
        }
        func numbers() throws(RedoPayloadError) -> [UInt64] {
            try reader.list { (reader) throws(RedoPayloadError) in try reader.number() }
        }
        batch.deletedInodes = try numbers()
        batch.storedDeletedInodes = batch.deletedInodes
        batch.deletedObjects = try numbers()
        batch.storedDeletedObjects = batch.deletedObjects
        batch.deletedFiles = try numbers()
        batch.evictedFiles = try numbers()
        batch.unlinkedObjects = try numbers()
        batch.nextObject = try reader.optionalNumber()
        batch.published = try reader.flag() ? try reader.published() : nil
        guard reader.rest.isEmpty else { throw RedoPayloadError() }
        return batch
    }

    private mutating func take(_ count: Int) throws(RedoPayloadError) -> UnsafeRawBufferPointer {
        guard count <= rest.count else { throw RedoPayloadError() }
        defer { rest = UnsafeRawBufferPointer(rebasing: rest[count...]) }
        return UnsafeRawBufferPointer(rebasing: rest[..<count])
    }

    private mutating func number<Number: FixedWidthInteger>(
        _ type: Number.Type = Number.self
    ) throws(RedoPayloadError) -> Number {
        Number(littleEndian: try take(MemoryLayout<Number>.size).loadUnaligned(as: Number.self))
    }

    private mutating func flag() throws(RedoPayloadError) -> Bool { try number(UInt8.self) != 0 }

    private mutating func optionalNumber() throws(RedoPayloadError) -> UInt64? {
        let isThere = try flag()
        let value = try number(UInt64.self)
        return isThere ? value : nil
    }

    private mutating func bytes() throws(RedoPayloadError) -> [UInt8]? {
        let count = try number(UInt32.self)
        return count == 0 ? nil : [UInt8](try take(Int(count) - 1))
    }

    private mutating func list<Element>(
        _ body: (inout RedoReader) throws(RedoPayloadError) -> Element
    ) throws(RedoPayloadError) -> [Element] {
        let count = Int(try number(UInt32.self))
        // No element is shorter than a byte.
        guard count <= rest.count else { throw RedoPayloadError() }
        var elements: [Element] = []
        for _ in 0..<count { elements.append(try body(&self)) }
        return elements
    }

    private mutating func kind() throws(RedoPayloadError) -> FileKind {
        guard let kind = FileKind(rawValue: try number()) else { throw RedoPayloadError() }
        return kind
    }

    private mutating func inode() throws(RedoPayloadError) -> CommitBatch.InodeRow {
        var row = CommitBatch.InodeRow(
            id: try number(), kind: try kind(), mode: try number(), uid: try number(),
            gid: try number(), linkCount: try number(), rdev: try number(), size: try number(),
            blocks: try number(), accessed: try number(), modified: try number(),
            changed: try number(), created: try number(), parent: try number(),
            otherParents: try bytes(), object: try optionalNumber(), cid: try bytes(),
            treeSize: try number(), publishedEpoch: try number(), isExpanded: try !flag(),
            target: try bytes(), hasAttributes: try flag(), isStored: true)
        let form = try number(UInt8.self)
        guard form <= AttributeForm.changes else { throw RedoPayloadError() }
        row.replacesAttributes = form == AttributeForm.all
        if form != AttributeForm.unchanged { row.attributes = try attributes() }
        row.newNodes = try flag() ? try nodes() : nil
        return row
    }

    private mutating func attributes() throws(RedoPayloadError) -> [AttributeChange] {
        try list { (reader) throws(RedoPayloadError) in
            AttributeChange(name: FileName(try reader.bytes() ?? []), value: try reader.bytes())
        }
    }

    private mutating func nodes() throws(RedoPayloadError) -> [StoredNode] {
        try list { (reader) throws(RedoPayloadError) in
            StoredNode(multihash: try reader.bytes() ?? [], bytes: try reader.bytes() ?? [])
        }
    }

    private mutating func object() throws(RedoPayloadError) -> CommitBatch.ObjectRow {
        let id = try number(UInt64.self)
        guard let state = ObjectState(rawValue: Int64(try number(UInt8.self))) else {
            throw RedoPayloadError()
        }
        return CommitBatch.ObjectRow(
            id: id, state: state, references: try number(), size: try number(), cid: try bytes(),
            treeSize: try number(), publishedEpoch: try number(), inlineBytes: try bytes(),
            isInline: try flag(),
            dropsBlocks: try flag(), newBlocks: try flag() ? try blocks() : nil, isStored: true)
    }

    private mutating func published() throws(RedoPayloadError) -> PublishedState {
        PublishedState(
            peer: String(decoding: try bytes() ?? [], as: UTF8.self), epoch: try number(),
            path: String(decoding: try bytes() ?? [], as: UTF8.self), root: try cid(),
            view: try cid(), time: Timestamp(nanoseconds: try number()))
    }

    private mutating func cid() throws(RedoPayloadError) -> CID? {
        guard let bytes = try bytes() else { return nil }
        guard let cid = try? CID(bytes: bytes) else { throw RedoPayloadError() }
        return cid
    }

    private mutating func blocks() throws(RedoPayloadError) -> StoredBlocks {
        StoredBlocks(
            leaves: try list { (reader) throws(RedoPayloadError) in try reader.bytes() ?? [] },
            nodes: try nodes())
    }
}
