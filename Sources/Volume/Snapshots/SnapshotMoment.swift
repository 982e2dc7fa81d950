internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

// What a snapshot has of the tree at one moment. A file that somebody may write to has no CID of its own that lasts: the snapshot
// gets a copy of it, and the directories above that, as far as they differ from the tree's. All else is what the tree has.

/// The copy of a file that is being written.
struct FrozenFile {
    enum Content {
        case empty
        case inline([UInt8])
        case flat(ObjectFile)
    }

    let content: Content
    let size: UInt64
    let result: SealResult
}

/// A snapshot while it is made.
final class SnapshotMoment {
    /// By inode number.
    var frozen: [UInt64: FrozenFile] = [:]
    /// Directories above a file that is frozen, or that turned out to be.
    var overlaid: Set<UInt64> = []
    /// Of directories that are not the tree's.
    var nodes: [StoredNode] = []
    /// The frozen files that are in the tree.
    var used: Set<UInt64> = []
    private let take: Take
    private(set) var taken: StoredSnapshot?
    /// The names and attributes of the moment, for a manifest; nil where none is wanted.
    let reading: ManifestReading?
    /// How many changes there were before SQLite was told of all.
    var changesBefore: UInt64 = 0
    /// Names or attributes were changed since then, so the reading would be of another moment.
    private(set) var isLate = false

    typealias Take =
        (SnapshotMoment, ManifestState, CID, UInt64) throws(Errno) -> StoredSnapshot

    /// - Parameter take: makes the snapshot of a root, under the manifest's lock, at the moment when the root is known.
    init(
        reading: ManifestReading?,
        take: @escaping Take
    ) {
        self.reading = reading
        self.take = take
    }

    /// Begins the computation, for the first time or again.
    func begin() { (overlaid, nodes, used, isLate) = ([], [], [], false) }

    /// Under the manifest's lock.
    ///
    /// - Parameter changes: how many changes there were by now.
    func complete(
        _ root: CID, _ treeSize: UInt64, changes: UInt64, _ state: ManifestState
    ) throws(Errno) {
        if let reading {
            isLate = changes != changesBefore
            guard !isLate else { return }
            try reading.begin()
        }
        taken = try take(self, state, root, treeSize)
    }
}

extension Volume {
    /// Looks for files that somebody may write to, has those sealed that rest, and copies the others.
    func freezeWrittenFiles(_ moment: SnapshotMoment) throws(Errno) {
        moment.changesBefore = manifest.withLock { publishing($0).changes }
        try manifest.checkpoint()
        // What was copied once stays so while somebody may write to it.
        for number in Set(try writtenFiles()).union(moment.frozen.keys) {
            let inode = Inode(number)
            _ = try restingNode(of: inode, moment)
            guard moment.frozen[inode.number] != nil else { continue }
            try reading { (state) throws(Errno) in
                guard let record = try state.inode(inode) else { return }
                try overlay(above: record, moment, state)
            }
        }
        // Those that the tree has are met in it.
        moment.used = []
    }

    /// The files that have no CID which lasts, as SQLite knows them, and those that are open with a backing file.
    private func writtenFiles() throws(Errno) -> [UInt64] {
        var found = Set(
            manifest.withLock { state in
                opens(state).files.values.filter { $0(state).backing?.isWritable ?? false }
                    .map(\.inode.number)
            })
        try reading { (state) throws(Errno) in
            for object in try state.rows.stagingObjects() {
                found.formUnion(try state.rows.inodes(holding: object))
            }
        }
        return Array(found)
    }

    /// Marks the directories above an inode, under the manifest's lock.
    private func overlay(
        above record: InodeRecord, _ moment: SnapshotMoment, _ state: ManifestState
    ) throws(Errno) {
        for parent in [record.parent] + record.otherParents {
            var next = parent
            while next.number != 0, moment.overlaid.insert(next.number).inserted, next != .root {
                guard let directory = try state.inode(next) else { break }
                next = directory.parent
            }
        }
    }

    /// The CID of a file that is to stay: of its sealed content, or of a copy where it is being written; nil where it is gone.
    func restingNode(
        of inode: Inode, _ moment: SnapshotMoment
    ) throws(Errno) -> (cid: CID, treeSize: UInt64)? {
        if let frozen = validCopy(of: inode, moment) {
            moment.used.insert(inode.number)
            return (frozen.result.cid, frozen.result.treeSize)
        }
        if let sealed = try sealedNode(of: inode) { return sealed }
        let hasWriters = manifest.withLock { state in
            opens(state).files[inode.number].map { $0(state).hasWriters } ?? false
        }
        if !hasWriters {
            do throws(Errno) {
                _ = try seal(inode, attempts: 4)
            } catch {
                guard error == .resourceTemporarilyUnavailable else {
                    if error == Self.stale { return nil }
                    throw error
                }
            }
            if let sealed = try sealedNode(of: inode) { return sealed }
        }
        guard let frozen = try freeze(inode) else { return nil }
        moment.frozen[inode.number] = frozen
        moment.used.insert(inode.number)
        // What is written to it from now on is not the snapshot's.
        manifest.withLock { state in _ = seals(state).frozen.insert(inode.number) }
        return (frozen.result.cid, frozen.result.treeSize)
    }

    /// The copy of a file that is being written. One that nobody may write to any more may have got its name since, as what is whole:
    /// its copy would be half of it.
    private func validCopy(of inode: Inode, _ moment: SnapshotMoment) -> FrozenFile? {
        guard let frozen = moment.frozen[inode.number] else { return nil }
        // Another name of it has the copy already.
        guard !moment.used.contains(inode.number) else { return frozen }
        let isWritten = manifest.withLock { state in
            if opens(state).files[inode.number].map({ $0(state).hasWriters }) ?? false {
                return true
            }
            seals(state).frozen.remove(inode.number)
            return false
        }
        guard !isWritten else { return frozen }
        moment.frozen[inode.number] = nil
        if case .flat(let file) = frozen.content { discard(file.id) }
        return nil
    }

    /// What a file is that nobody may write to; nil for another.
    private func sealedNode(of inode: Inode) throws(Errno) -> (cid: CID, treeSize: UInt64)? {
        try reading { (state) throws(Errno) in
            guard let record = try state.inode(inode), record.kind == .regular else { return nil }
            guard !(opens(state).files[inode.number]?(state).backing?.isWritable ?? false) else {
                return nil
            }
            guard let object = try state.object(of: record) else {
                let leaf = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0))
                return (leaf.cid, leaf.treeSize)
            }
            guard object.state != .staging, let cid = object.cid else { return nil }
            return (cid, object.treeSize)
        }
    }

    /// Copies a file as it is; nil where it is gone.
    private func freeze(_ inode: Inode) throws(Errno) -> FrozenFile? {
        try syncFromBacking(inode)
        let found = try reading { (state) throws(Errno) -> (OpenFile, Content, UInt64)? in
            guard let record = try state.inode(inode), record.kind == .regular else { return nil }
            let file = use(record, state)
            do throws(Errno) {
                return (file, try syncedContent(of: file, record, state), record.size)
            } catch {
                endUse(file, state)
                throw error
            }
        }
        guard let (file, content, size) = found else { return nil }
        defer { manifest.withLock { endUse(file, $0) } }
        switch content {
        case .empty:
            return FrozenFile(
                content: .empty, size: 0, result: SealResult.sealing([], profile: profile))
        case .inline(let bytes):
            return FrozenFile(
                content: .inline(bytes), size: UInt64(bytes.count),
                result: SealResult.sealing(bytes, profile: profile))
        case .remote:
            throw Self.stale
        case .flat:
            return try freezeFlat(inode, content, size)
        }
    }

    /// What the manifest has of a file: of one with a backing file, that of the last sync.
    private func syncedContent(
        of file: OpenFile, _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Content {
        guard let object = try state.object(of: record) else { return .empty }
        guard object.isInline else { return try content(of: file, record, state) }
        return .inline(try state.inlineBytes(of: object))
    }

    private func freezeFlat(
        _ inode: Inode, _ content: Content, _ size: UInt64
    ) throws(Errno) -> FrozenFile {
        let id = try changing { (state) throws(Errno) in
            try checkRoom(state)
            return state.numbers.reserve()
        }
        do throws(Errno) {
            let copy = try fillFlatFile(id, from: content, size: size)
            try copy.synchronize(in: store)
            let result: SealResult
            do throws(SealInterruption) {
                result = try .sealing(copy, size: size, profile: profile, helpers: 1) { true }
            } catch {
                switch error {
                case .failed(let errno): throw errno
                case .outdated, .truncated:
                    throw .ioError.because("\(inode): the copy for the snapshot is too short")
                }
            }
            return FrozenFile(content: .flat(copy), size: size, result: result)
        } catch {
            discard(id)
            throw error
        }
    }

    /// Makes objects of the frozen files that are in the tree, under the manifest's lock. The reference of each is the snapshot's.
    func frozenObjects(_ moment: SnapshotMoment, _ state: ManifestState) -> [ObjectRecord] {
        var objects: [ObjectRecord] = []
        for number in moment.used {
            guard let frozen = moment.frozen[number] else { continue }
            let made: ObjectRecord
            switch frozen.content {
            case .empty: continue
            case .inline(let bytes):
                made = state.makeObject(id: nil, size: frozen.size, inlineBytes: bytes)
            case .flat(let file):
                made = state.makeObject(id: file.id, size: frozen.size)
            }
            state.seal(made, as: frozen.result, size: frozen.size)
            objects.append(made)
        }
        return objects
    }

    /// Ends what `restingNode` began: copies that no snapshot has are removed.
    func endMoment(_ moment: SnapshotMoment) {
        manifest.withLock { state in
            for number in moment.frozen.keys { seals(state).frozen.remove(number) }
        }
        for (number, frozen) in moment.frozen {
            guard case .flat(let file) = frozen.content,
                moment.taken == nil || !moment.used.contains(number)
            else { continue }
            discard(file.id)
        }
    }
}
