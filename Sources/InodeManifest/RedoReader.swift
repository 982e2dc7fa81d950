internal import Base
internal import MerkleDAG
internal import Multiformats

/// A payload that is not one.
struct RedoPayloadError: Error {}

/// Reads a payload; RedoRecord.swift has its layout.
struct RedoReader {
    private var rest: UnsafeRawBufferPointer
    private let form: RedoHead.Form
    /// What the rows of the form 1 tell of placements.
    private var placements: [PlacementChange] = []

    private init(_ payload: UnsafeRawBufferPointer, _ form: RedoHead.Form) {
        rest = payload
        self.form = form
    }

    /// The batch of a payload. Its rows are told as stored, because they may be: what is applied
    /// twice is the same as once.
    static func decode(
        _ payload: UnsafeRawBufferPointer, _ form: RedoHead.Form
    ) throws(RedoPayloadError) -> CommitBatch {
        var reader = RedoReader(payload, form)
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
        switch form {
        case .former:
            batch.published = try reader.flag() ? try reader.formerPublished() : nil
            batch.placements = reader.placements
        case .withoutSnapshots, .current:
            batch.placements = try reader.list { (reader) throws(RedoPayloadError) in
                try reader.placement()
            }
            batch.lostNodes = try reader.list { (reader) throws(RedoPayloadError) in
                try reader.lostNodes()
            }
            batch.published = try reader.list { (reader) throws(RedoPayloadError) in
                try reader.remote()
            }.last
            guard form == .current else { break }
            batch.keptNodes = try reader.list { (reader) throws(RedoPayloadError) in
                KeptNodes(
                    snapshot: try reader.number(), born: try reader.number(),
                    nodes: try reader.nodes())
            }
        }
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
            treeSize: try number(), placedEpoch: try formerEpoch(), isLoaded: try !flag(),
            target: try bytes(), hasAttributes: try flag(), isStored: true)
        if form == .former, row.kind == .directory {
            notePlacement(.directory, row.id, row.cid == nil ? 0 : row.placedEpoch)
        }
        let attributeForm = try number(UInt8.self)
        guard attributeForm <= AttributeForm.changes else { throw RedoPayloadError() }
        row.replacesAttributes = attributeForm == AttributeForm.all
        if attributeForm != AttributeForm.unchanged { row.attributes = try attributes() }
        row.newNodes = try flag() ? try nodes() : nil
        if form == .current, row.newNodes != nil { row.treeBorn = try number() }
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
        var row = CommitBatch.ObjectRow(
            id: id, state: state, references: try number(), size: try number(), cid: try bytes(),
            treeSize: try number(), placedEpoch: try formerEpoch(), inlineBytes: try bytes(),
            isInline: try flag(), dropsBlocks: try flag(),
            newBlocks: try flag() ? try blocks() : nil, isStored: true)
        if form == .current { (row.born, row.kept) = (try number(), try number()) }
        if form == .former { notePlacement(.object, id, state == .staging ? 0 : row.placedEpoch) }
        return row
    }

    /// The epoch that a row of the form 1 has; 0 in the other.
    private mutating func formerEpoch() throws(RedoPayloadError) -> UInt64 {
        form == .former ? try number() : 0
    }

    private mutating func notePlacement(_ kind: PlacedKind, _ id: UInt64, _ epoch: UInt64) {
        placements.append(PlacementChange(kind: kind, id: id, epoch: epoch))
    }

    private mutating func placement() throws(RedoPayloadError) -> PlacementChange {
        guard let kind = PlacedKind(rawValue: Int64(try number(UInt8.self))) else {
            throw RedoPayloadError()
        }
        let (id, remote): (UInt64, UInt64) = (try number(), try number())
        guard let state = PlacementState(rawValue: Int64(try number(UInt8.self))) else {
            throw RedoPayloadError()
        }
        return PlacementChange(
            kind: kind, id: id, remote: remote, state: state, request: try bytes(),
            epoch: try number())
    }

    private mutating func lostNodes() throws(RedoPayloadError) -> LostNodes {
        guard let kind = DAGOwner.Kind(rawValue: Int64(try number(UInt8.self))),
            kind == .object || kind == .directory
        else { throw RedoPayloadError() }
        let owner = DAGOwner(kind: kind, id: try number())
        guard form == .current else {
            return LostNodes(owner: owner, rootCount: try number(), snapshot: 0)
        }
        return LostNodes(owner: owner, rootCount: try optionalNumber(), snapshot: try number())
    }

    private mutating func remote() throws(RedoPayloadError) -> PublishedState {
        guard try number(UInt64.self) == PlacementChange.kuboRemote,
            try number(UInt8.self) == UInt8(RemoteKind.kubo.rawValue)
        else { throw RedoPayloadError() }
        let peer = String(decoding: try bytes() ?? [], as: UTF8.self)
        let path = String(decoding: try bytes() ?? [], as: UTF8.self)
        return PublishedState(
            peer: peer, epoch: try number(), path: path, root: try cid(),
            rootCount: try number(), mirror: try cid(),
            time: Timestamp(nanoseconds: try number()))
    }

    private mutating func formerPublished() throws(RedoPayloadError) -> PublishedState {
        PublishedState(
            peer: String(decoding: try bytes() ?? [], as: UTF8.self), epoch: try number(),
            path: String(decoding: try bytes() ?? [], as: UTF8.self), root: try cid(),
            mirror: try cid(), time: Timestamp(nanoseconds: try number()))
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
