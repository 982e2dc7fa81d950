internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

// Bytes of the view: from the volume's own object of a file's CID, where there is one, in the form in which it has
// them; else from the blocks of its DAG, wherever they are.

/// An open file of a snapshot.
final class SnapshotFile: Sendable {
    let node: SnapshotNode
    /// The object of its content, pinned; nil for none.
    let object: UInt64?
    /// By which its reads of a remote object are counted.
    let use: OpenFile
    /// Readers of its DAG that nobody uses now.
    private let readers = Monitor<[SnapshotReader]>([])

    /// How many readers are kept: each has a block in memory.
    private static let readersMax = 2

    init(_ node: SnapshotNode, object: UInt64?) {
        self.node = node
        self.object = object
        use = OpenFile(inode: node.inode)
    }

    /// Takes a reader: the one that has read up to an offset, where there is one.
    func takeReader(at offset: UInt64) -> SnapshotReader? {
        readers.withLock { readers in
            if let index = readers.firstIndex(where: { $0.next == offset }) {
                return readers.remove(at: index)
            }
            return readers.count < Self.readersMax ? nil : readers.removeFirst()
        }
    }

    func giveBack(_ reader: SnapshotReader) {
        readers.withLock { readers in
            if readers.count == Self.readersMax { readers.removeFirst() }
            readers.append(reader)
        }
    }
}

/// Reads a file of a snapshot by its DAG; for one thread at a time. What was read on the way stays, so that going on
/// costs no block twice.
final class SnapshotReader {
    /// Blocks from here, and from elsewhere while somebody waits for them.
    final class Blocks: BlockSource {
        let local: SnapshotBlocks
        var remote: VolumeBlocks?
        /// What came last from elsewhere: a read that goes on in the next block begins again in this one.
        private var last: (cid: CID, bytes: [UInt8])?

        init(_ local: SnapshotBlocks) {
            self.local = local
        }

        func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
            if let last, last.cid == cid { return last.bytes }
            guard let remote else { return try local.block(cid) }
            if let found = local.local(cid) { return found }
            let bytes = try remote.block(cid)
            last = (cid, bytes)
            return bytes
        }
    }

    let blocks: Blocks
    /// Where its last read ended.
    private(set) var next: UInt64 = 0
    /// Nil before the file's root is here.
    private var reader: FileReader<Blocks>?

    init(_ local: SnapshotBlocks) {
        blocks = Blocks(local)
    }

    func read(
        _ node: SnapshotNode, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(DAGReadError) -> Int {
        if reader == nil { reader = try FileReader(root: node.cid, source: blocks) }
        guard var reader else { preconditionFailure("no reader") }
        // The link to a raw block may say otherwise, and the size of its file with it.
        guard reader.size == node.size else { throw .malformed(node.cid, .inconsistentSizes) }
        self.reader = nil
        defer { self.reader = reader }
        let count = try reader.read(into: buffer, at: offset)
        next = offset + UInt64(count)
        return count
    }
}

/// The open files of the view by number.
struct SnapshotFiles {
    private var files: [UInt64: SnapshotFile] = [:]
    private var next = SnapshotView.firstHandle

    mutating func insert(_ file: SnapshotFile) -> HandleID {
        defer { next += 1 }
        files[next] = file
        return HandleID(next)
    }

    func find(_ handle: HandleID) -> SnapshotFile? { files[handle.number] }

    mutating func remove(_ handle: HandleID) -> SnapshotFile? {
        files.removeValue(forKey: handle.number)
    }

    var all: [HandleID] { files.keys.map { HandleID($0) } }
}

/// The flat files that open files of the view are read from, by object.
final class SnapshotFlatFiles {
    private var files: [UInt64: (users: Int, file: ObjectFile?)] = [:]

    func beginUse(_ object: UInt64) { files[object, default: (0, nil)].users += 1 }

    func endUse(_ object: UInt64) {
        guard let entry = files[object] else { return }
        files[object] = entry.users > 1 ? (entry.users - 1, entry.file) : nil
    }

    func find(_ object: UInt64) -> ObjectFile? { files[object]?.file }

    func keep(_ file: ObjectFile) {
        if files[file.id] != nil { files[file.id]?.file = file }
    }

    /// Notes that the object has another flat file now.
    func drop(_ object: UInt64) { files[object]?.file = nil }
}

extension SnapshotView {
    /// Opens a file of the view to read it.
    ///
    /// - Throws: EROFS for writing; EISDIR, ELOOP as for all others.
    func open(
        _ inode: Inode, flags: OpenFlags, _ volume: Volume
    ) throws(Errno) -> OpenedFile {
        guard case .node(let node) = try place(of: inode) else { throw .isDirectory }
        switch node.kind {
        case .regular: break
        case .symlink: throw .tooManySymbolicLinkLevels
        default: throw .isDirectory
        }
        guard !flags.isWritable, !flags.truncates else { throw .readOnlyFileSystem }
        let (object, isHere) = try volume.reading { (state) throws(Errno) in
            let found = try self.object(of: node, volume, state)
            if let found {
                state.pin(found)
                flatFiles(state).beginUse(found.id)
            }
            return (found?.id, found?.state == .sealed)
        }
        let handle = files.withLock { $0.insert(SnapshotFile(node, object: object)) }
        return OpenedFile(
            handle: handle, access: .volume(keepsPages: true),
            mayWait: !isHere && volume.fetcher != nil)
    }

    /// The object that has a file's content: one that is here, before one that is elsewhere.
    func object(
        of node: SnapshotNode, _ volume: Volume, _ state: ManifestState
    ) throws(Errno) -> ObjectRecord? {
        guard node.size > 0 else { return nil }
        var remote: ObjectRecord?
        for id in try state.objects(with: node.cid) {
            guard let object = try state.object(id), object.state != .staging,
                object.cid == node.cid, object.size == node.size
            else { continue }
            if object.state == .sealed { return object }
            // One that is to have a digest may be refused for it, which is no matter of this file's.
            if remote == nil || state.grafts.unverified[id] == nil { remote = object }
        }
        return volume.fetcher == nil ? nil : remote
    }

    func release(_ handle: HandleID, _ volume: Volume) {
        guard let file = files.withLock({ $0.remove(handle) }), let id = file.object else { return }
        let extents = volume.manifest.withLock { state in
            flatFiles(state).endUse(id)
            volume.remotes(state).endUse(of: file.use(state))
            if let object = try? state.object(id) { state.unpin(object) }
            return volume.remotes(state).closed.extentCount
        }
        if let fetcher = volume.fetcher, extents > fetcher.extents.closedMax {
            volume.letClosedGo(fetcher)
        }
    }

    func file(_ handle: HandleID) throws(Errno) -> SnapshotFile {
        guard let file = files.withLock({ $0.find(handle) }) else { throw .badFileDescriptor }
        return file
    }

    func seek(_ handle: HandleID, from offset: UInt64, whence: Int32) throws(Errno) -> UInt64 {
        let size = try file(handle).node.size
        // lseek(2), unistd.h: SEEK_DATA is 3, SEEK_HOLE is 4; a filesystem may call all of it data.
        guard whence == 3 || whence == 4 else { throw .invalidArgument }
        guard offset < size else { throw .noSuchAddressOrDevice }
        return whence == 3 ? offset : size
    }

    // MARK: Reading

    /// Reads from an offset. Blocks for the disk, and for blocks that are elsewhere.
    func read(
        _ handle: HandleID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer,
        _ volume: Volume
    ) throws(Errno) -> Int {
        let file = try file(handle)
        guard offset < file.node.size else { return 0 }
        let wanted = Int(min(UInt64(buffer.count), file.node.size - offset))
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
        if let id = file.object {
            while true {
                do throws(Errno) {
                    guard try readObject(id, of: file, at: offset, into: part, volume) else {
                        break
                    }
                    return wanted
                } catch {
                    // It has become a flat file meanwhile, or went from the cache as a whole.
                    guard error == RemoteFile.gone else { throw error }
                }
            }
        }
        return try readDAG(file, at: offset, into: part, volume)
    }

    /// Reads from an object; false where it has other bytes by now, or nobody has them.
    private func readObject(
        _ id: UInt64, of file: SnapshotFile, at offset: UInt64,
        into buffer: UnsafeMutableRawBufferPointer, _ volume: Volume
    ) throws(Errno) -> Bool {
        let content = try volume.reading { (state) throws(Errno) in
            try self.content(of: id, file, volume, state)
        }
        switch content {
        case nil, .empty: return false
        case .inline(let bytes):
            let range = Int(offset)..<Int(offset) + buffer.count
            guard range.upperBound <= bytes.count else { return false }
            bytes.withUnsafeBytes { source in
                buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[range]))
            }
            return true
        case .flat(let flat):
            defer { volume.manifest.withLock { volume.opens($0).endSharedRead(id) } }
            let count = try Sys.read(flat.raw, at: offset, into: buffer)
            // Who writes to it unseals it first.
            let holds = volume.manifest.withLock { state in
                guard let object = try? state.object(id) else { return false }
                return object.state == .sealed && object.cid == file.node.cid
            }
            guard holds else { return false }
            guard count == buffer.count else {
                throw .ioError.because(
                    "object \(id): its flat file has fewer than \(file.node.size) bytes: "
                        + "run registryfs check")
            }
            return true
        case .remote(let remote):
            return try volume.read(remote, at: offset, into: buffer) == buffer.count
        }
    }

    /// What an object has at this moment; nil where that is not the file's content any more, or not to be had. A
    /// read of a flat file is begun.
    private func content(
        of id: UInt64, _ file: SnapshotFile, _ volume: Volume, _ state: ManifestState
    ) throws(Errno) -> Volume.Content? {
        guard let object = try state.object(id), object.cid == file.node.cid,
            object.size == file.node.size
        else { return nil }
        switch object.state {
        case .staging: return nil
        case .remote:
            guard volume.fetcher != nil else { return nil }
            volume.remotes(state).noteUse(id, of: file.use(state))
            return .remote(try volume.remoteFile(of: object, state))
        case .sealed:
            if object.isInline { return .inline(try state.inlineBytes(of: object)) }
            volume.fetcher?.cache.withLock { $0.use(id) }
            let flat: ObjectFile
            if let known = flatFiles(state).find(id) {
                flat = known
            } else {
                flat = try volume.opens.filesAhead(state).file(id, forWriting: false, state)
                flatFiles(state).keep(flat)
            }
            volume.opens(state).beginSharedRead(id)
            return .flat(flat)
        }
    }

    private func readDAG(
        _ file: SnapshotFile, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer,
        _ volume: Volume
    ) throws(Errno) -> Int {
        let node = file.node
        let reader =
            file.takeReader(at: offset)
            ?? SnapshotReader(SnapshotBlocks(volume: volume, snapshot: node.snapshot.number))
        defer { file.giveBack(reader) }
        do throws(DAGReadError) {
            return try reader.read(node, at: offset, into: buffer)
        } catch {
            guard let fetcher = volume.fetcher, error.isElsewhere else {
                throw failure(of: node, error, volume)
            }
            return try volume.remotes.waits.during { (wait) throws(Errno) in
                reader.blocks.remote = VolumeBlocks(
                    volume: volume, fetcher: fetcher, cancellation: wait.cancellation,
                    user: volume.remotes.waits.user)
                defer { reader.blocks.remote = nil }
                do throws(DAGReadError) {
                    return try reader.read(node, at: offset, into: buffer)
                } catch {
                    guard !wait.isInterrupted else { throw .interrupted }
                    throw failure(of: node, error, volume)
                }
            }
        }
    }
}
