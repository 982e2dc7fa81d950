package import Base
package import MerkleDAG
package import Multiformats

package import struct SystemPackage.Errno

// Objects, their bytes where those are inline, and the CIDs of objects and directories.

extension ManifestState {
    /// The record of an object; nil where there is none.
    package func object(_ id: UInt64) throws(Errno) -> ObjectRecord? {
        if let record = cache.objects[id] {
            record.isRecent = true
            return record.isDeleted ? nil : record
        }
        guard let record = try rows.loadObject(id) else { return nil }
        cache.objects[id] = record
        return record
    }

    /// Objects with a CID, to share content or to serve a block: the newest one that waits for its
    /// checkpoint, and a few of those that SQLite has.
    package func objects(with cid: CID, limit: Int = 4) throws(Errno) -> [UInt64] {
        (sealed.find(cid).map { [$0] } ?? []) + (try rows.objects(with: cid, limit: limit))
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

    /// Makes the record of an object, dirty, with one reference.
    ///
    /// - Parameter id: a reserved number for a flat file; nil for an inline object.
    package func makeObject(id: UInt64?, size: UInt64, inlineBytes: [UInt8]? = nil) -> ObjectRecord
    {
        let number: UInt64
        if let id {
            number = id
            numbers.release(id)
        } else {
            number = numbers.take()
        }
        let record = ObjectRecord(
            id: number, state: .staging, references: 1, size: size, isInline: id == nil)
        if let inlineBytes {
            record.inlineBytes = inlineBytes
            record.uncommitted.insert(.inline)
            pending.contentByteCount += inlineBytes.count
        }
        cache.objects[number] = record
        mark(record)
        return record
    }

    /// Makes the record of an object whose bytes are at the node, dirty, with one reference.
    package func makeRemoteObject(size: UInt64, cid: CID, treeSize: UInt64) -> ObjectRecord {
        let record = ObjectRecord(
            id: numbers.take(), state: .remote, references: 1, size: size, isInline: false)
        record.cid = cid
        record.treeSize = treeSize
        record.born = snapshots.last
        cache.objects[record.id] = record
        sealed.note(record.id, cid, generation: turns.generation)
        notePublished(record)
        mark(record)
        return record
    }

    /// Leaves a sealed object's bytes to the node; its flat file goes after the next commit.
    package func evict(_ record: ObjectRecord) {
        precondition(record.state == .sealed && !record.isInline)
        record.state = .remote
        files.noteEvicted(record.id)
        mark(record)
    }

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

    /// Notes that all bytes of a remote object are here again: in its flat file, durably, or inline.
    ///
    /// - Parameter blocks: its leaves and nodes.
    package func keepLocally(_ record: ObjectRecord, _ blocks: SealResult, inlineBytes: [UInt8]?) {
        precondition(record.state == .remote)
        record.state = .sealed
        record.newBlocks = blocks.blocks
        record.uncommitted.insert(.newBlocks)
        self.blocks.note(blocks.blocks, of: record.id, generation: turns.generation)
        if let inlineBytes {
            record.isInline = true
            record.inlineBytes = inlineBytes
            record.uncommitted.insert(.inline)
            pending.contentByteCount += inlineBytes.count
        }
        mark(record)
    }

    /// Notes that the bytes of an inline object changed.
    package func markInline(_ record: ObjectRecord) {
        record.uncommitted.insert(.inline)
        record.size = UInt64(record.inlineBytes?.count ?? 0)
        pending.contentByteCount += record.inlineBytes?.count ?? 0
        mark(record)
    }

    /// The bytes of an inline object.
    package func inlineBytes(of record: ObjectRecord) throws(Errno) -> [UInt8] {
        if let bytes = record.inlineBytes { return bytes }
        let bytes = try rows.readInline(record.id)
        guard UInt64(bytes.count) == record.size else {
            throw .ioError.because(
                "manifest.sqlite: table object, row id \(record.id), column size: it is "
                    + "\(record.size), but there are \(bytes.count) bytes: run registryfs check")
        }
        record.inlineBytes = bytes
        cache.inlineByteCount += bytes.count
        return bytes
    }

    /// Keeps the CID of a directory's DAG, with the nodes that it is made of.
    ///
    /// - Parameter isOlder: the directory had the CID before, so snapshots may have it already.
    package func setTree(
        of record: InodeRecord, cid: CID, treeSize: UInt64, nodes: [StoredNode],
        isOlder: Bool = false
    ) {
        if record.cid != nil { loseTree(of: record) }
        record.cid = cid
        record.treeBorn = isOlder ? 0 : snapshots.last
        record.treeSize = treeSize
        record.place(in: 0, self)
        record.newNodes = nodes
        record.uncommitted.insert(.nodes)
        blocks.note(nodes, of: .directory(record.inode.number), generation: turns.generation)
        pending.contentByteCount += nodes.reduce(0) { $0 + $1.bytes.count }
        mark(record)
    }

    /// Makes an object immutable, with the CID and the blocks that sealing found.
    package func seal(_ record: ObjectRecord, as result: SealResult, size: UInt64) {
        record.state = .sealed
        record.size = size
        record.cid = result.cid
        record.treeSize = result.treeSize
        record.place(in: 0, self)
        record.newBlocks = result.blocks
        record.born = snapshots.last
        record.uncommitted.insert(.newBlocks)
        sealed.note(record.id, result.cid, generation: turns.generation)
        sealed.noteSealed(record.id)
        blocks.note(result.blocks, of: record.id, generation: turns.generation)
        mark(record)
    }

    /// Takes a seal back, because the content is about to change; false where there was none.
    @discardableResult
    package func unseal(_ record: ObjectRecord) -> Bool {
        guard record.state == .sealed else { return false }
        sealed.noteGone(record.id)
        if !record.isInline { loseBlocks(of: record) }
        record.state = .staging
        record.cid = nil
        record.place(in: 0, self)
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

    /// Drops an inode's reference; an object without any is kept for the snapshots that may have it, and else deleted
    /// once it has no pins.
    ///
    /// - Parameter isLossNoted: the tree had lost the inode before, and `noteLoss` has seen to the snapshots of then.
    package func release(_ record: ObjectRecord, isLossNoted: Bool = false) {
        // In a damaged manifest a count may be too low; such an object is left for `check` to find.
        guard record.references > 0 else { return }
        if !isLossNoted, keepForSnapshots(record) { return }
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

    /// Deletes an object that no inode holds and nobody keeps; nothing happens to another.
    package func deleteIfUnused(_ record: ObjectRecord) {
        guard record.references == 0, record.pins == 0, !record.isDeleted else { return }
        sealed.noteGone(record.id)
        _ = grafts.forget(record.id)
        if !record.isInline, record.cid != nil {
            loseBlocks(of: record)
        }
        record.isDeleted = true
        record.inlineBytes = nil
        record.newBlocks = nil
        mark(record)
    }
}
