package import Base

/// The record of a row with the columns that `loadInode` asks for.
func decodeInode(_ row: StoredRow, _ inode: Inode) throws(DamagedRow) -> InodeRecord {
    let kind = try row.kind(0, "kind")
    var target: [UInt8] = []
    if kind == .symlink {
        target = try row.bytes(17, "target")
        guard (1..<4096).contains(target.count), !target.contains(0) else {
            throw row.damage("target", "\(target.count) bytes that are no path")
        }
    }
    let record = InodeRecord(
        inode: inode, kind: kind, mode: try row.number32(1, "mode", max: 0o7777),
        uid: try row.number32(2, "uid"), gid: try row.number32(3, "gid"),
        linkCount: try row.number32(4, "nlink"), rdev: try row.bits(5, "rdev"),
        parent: Inode(try row.number(12, "parent", in: 0...StoredRow.numberMax)),
        target: target,
        accessed: Timestamp(nanoseconds: try row.integer(8, "atime")),
        modified: Timestamp(nanoseconds: try row.integer(9, "mtime")),
        changed: Timestamp(nanoseconds: try row.integer(10, "ctime")),
        created: Timestamp(nanoseconds: try row.integer(11, "btime")))
    record.isStored = true
    record.size = try row.number(6, "size")
    // A figure for people, no more.
    record.blocks = UInt64(clamping: try row.integer(7, "blocks"))
    record.otherParents = try row.parents(13, "other_parents")
    if !row.isNull(14) { record.object = try row.number(14, "object", in: 1...StoredRow.numberMax) }
    record.cid = try row.cid(15, "cid")
    record.treeSize = try row.bits(16, "tree_size")
    record.hasAttributes = try row.integer(18, "has_xattrs") != 0
    if !row.isNull(19) { record.placedEpoch = try row.bits(19, "epoch of placement") }
    record.isLoaded = try row.integer(20, "not_loaded") == 0
    guard record.isLoaded || kind == .directory && record.cid != nil else {
        throw row.damage("not_loaded", "there is no CID of a directory to find the entries by")
    }
    return record
}

/// The record of a row with the columns that `loadObject` asks for.
func decodeObject(_ row: StoredRow, _ id: UInt64) throws(DamagedRow) -> ObjectRecord {
    let number = try row.integer(0, "state")
    guard let state = ObjectState(rawValue: number) else {
        throw row.damage("state", "\(number) is no state of an object")
    }
    let record = ObjectRecord(
        id: id, state: state, references: try row.number32(1, "refs"),
        size: try row.number(2, "size"), isInline: try row.integer(5, "inline") != 0)
    record.isStored = true
    record.cid = try row.cid(3, "cid")
    record.treeSize = try row.bits(4, "tree_size")
    if !row.isNull(6) { record.placedEpoch = try row.bits(6, "epoch of placement") }
    record.born = try row.number(7, "born", in: 0...StoredRow.numberMax)
    record.kept = try row.number(8, "kept", in: 0...StoredRow.numberMax)
    if state == .remote {
        guard !record.isInline else {
            throw row.damage("inline", "bytes of an object that is at the node")
        }
        guard record.cid != nil else {
            throw row.damage("cid", "there is none to have its bytes by from the node")
        }
    }
    return record
}

/// The entry of a row whose columns `inode`, `kind` and `cookie` begin at one.
func decodeEntry(
    _ statement: BoundStatement, _ name: FileName, _ parent: Inode, from column: Int32
) throws(DamagedRow) -> DirectoryEntryRecord {
    let row = StoredRow(statement, table: "entry", key: .name(name, parent: parent.number))
    if let fault = name.fault { throw row.damage("name", fault) }
    return DirectoryEntryRecord(
        inode: Inode(try row.number(column, "inode", in: 1...StoredRow.numberMax)),
        kind: try row.kind(column + 1, "kind"),
        cookie: try row.number(
            column + 2, "cookie", in: UInt64(Schema.cookieMin)...StoredRow.numberMax),
        generation: 0)
}

// `other_parents` is a run of little-endian 64-bit inode numbers.

/// The `other_parents` column of a list of directories; nil, which is NULL, for an empty one.
package func encodeParents(_ parents: [Inode]) -> [UInt8]? {
    guard !parents.isEmpty else { return nil }
    let byteCount = parents.count * MemoryLayout<UInt64>.size
    return [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initialized in
        let bytes = UnsafeMutableRawBufferPointer(buffer)
        for (index, parent) in parents.enumerated() {
            bytes.storeBytes(
                of: parent.number.littleEndian, toByteOffset: index * MemoryLayout<UInt64>.size,
                as: UInt64.self)
        }
        initialized = byteCount
    }
}

/// The inode numbers of an `other_parents` column; bytes beyond the last whole one are left out.
package func decodeParents(_ bytes: [UInt8]) -> [Int64] {
    stride(from: 0, to: bytes.count - bytes.count % 8, by: 8).map { start in
        Int64(
            bitPattern: bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) })
    }
}
