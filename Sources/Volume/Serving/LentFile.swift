internal import Base
internal import InodeManifest
public import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

/// A flat file that somebody outside of the volume reads, open to read alone: its bytes do not change while this is there. From
/// any thread; that it goes blocks for nothing.
public final class LentFile: Sendable {
    private let file: ObjectFile
    private let onEnd: @Sendable () -> Void

    init(_ file: ObjectFile, onEnd: @escaping @Sendable () -> Void) {
        self.file = file
        self.onEnd = onEnd
    }

    deinit { onEnd() }

    /// The descriptor, valid while this is referenced.
    public var raw: Int32 { file.raw }

    /// The number of its object.
    var object: UInt64 { file.id }
}

/// The files that are lent, so that one who wants the same has the same descriptor.
struct LentFiles {
    private struct Place {
        weak var file: LentFile?
    }

    private var files: [UInt64: Place] = [:]
    private static let sweptAt = 1_024
    private var sweepAt = sweptAt

    func find(_ object: UInt64) -> LentFile? { files[object]?.file }

    mutating func note(_ file: LentFile) {
        files[file.object] = Place(file: file)
        guard files.count >= sweepAt else { return }
        files = files.filter { $0.value.file != nil }
        sweepAt = max(Self.sweptAt, files.count * 2)
    }
}

extension Volume {
    /// All bytes of a file by its CID, where they lie here as one run; nil where they do not, or nobody knows the file. Blocks for
    /// the disk.
    public func lendFile(
        _ cid: CID, of scope: ContentScope
    ) throws(ServingFailure) -> LentBytes? {
        let found = try findServed(cid, scope, isFile: true)
        guard found.isInScope else { return nil }
        for object in found.files {
            let step = try serve("file \(cid)") { () throws(Errno) in
                try lendingStep(object, as: cid)
            }
            switch step {
            case .none, .read: continue
            case .inline(let bytes): return .bytes(bytes)
            case .lend(let size):
                guard let file = try lendFlat(object, as: cid) else { continue }
                return .file(file, offset: 0, count: size)
            case .cached(let remote):
                guard let file = lendCached(remote) else { continue }
                return .file(file, offset: 0, count: remote.size)
            }
        }
        return found.isEmptyFile ? .bytes([]) : nil
    }

    enum LendingStep {
        /// The object has other content by now, or it is not here.
        case none
        case inline([UInt8])
        /// It has a flat file of so many bytes.
        case lend(size: UInt64)
        /// It has a flat file that cannot be lent: an open file has it for its backing file.
        case read
        case cached(RemoteFile)
    }

    /// How an object's bytes are to be given.
    func lendingStep(_ object: UInt64, as cid: CID) throws(Errno) -> LendingStep {
        try reading { (state) throws(Errno) in
            guard let record = try state.object(object), record.state != .staging,
                record.cid?.asV1 == cid.asV1
            else { return .none }
            if record.isInline { return .inline(try state.inlineBytes(of: record)) }
            guard record.state == .sealed else {
                guard state.grafts.unverified[object] == nil else { return .none }
                return remotes(state).files[object].map { .cached($0) } ?? .none
            }
            return passthrough(state).backed[object] == nil ? .lend(size: record.size) : .read
        }
    }

    /// Lends the flat file of a sealed object; nil where it cannot be now. Blocks for the disk.
    func lendFlat(_ object: UInt64, as cid: CID) throws(ServingFailure) -> LentFile? {
        serving.endReads()
        fetcher?.cache.withLock { $0.use(object) }
        let (known, begun) = try serve("object \(object)") { () throws(Errno) in
            try reading { (state) throws(Errno) -> (LentFile?, size: UInt64?) in
                guard let record = try state.object(object), record.state == .sealed,
                    record.cid?.asV1 == cid.asV1, !record.isInline,
                    passthrough(state).backed[object] == nil
                else { return (nil, nil) }
                if let known = serving(state).lent.find(object) { return (known, nil) }
                // From here on nobody writes to it in place, nor has it exchanged; that it loses its name is no matter.
                state.lent.begin(object)
                return (nil, record.size)
            }
        }
        if let known { return known }
        guard let size = begun else { return nil }
        let lent = manifest.withLock { $0.lent }
        let flat: ObjectFile
        do throws(Errno) {
            flat = try openFlatFile(object, forWriting: false)
            guard try Sys.status(of: flat.raw).size >= size else {
                throw .ioError.because(
                    "object \(object): its flat file is shorter than \(size) bytes: "
                        + "run registryfs check")
            }
        } catch {
            lent.end(object)
            // Its last user let go of it meanwhile.
            let isGone = manifest.withLock { state in
                let record = try? state.object(object)
                return record == nil || record?.state != .sealed
            }
            if isGone { return nil }
            throw .failed(reason: FailureCause.words(for: error))
        }
        let file = LentFile(flat) { lent.end(object) }
        manifest.withLock { state in serving(state).lent.note(file) }
        return file
    }

    // MARK: Before this process

    /// Whether whoever serves may have a flat file still that a process of before has lent him: nobody here could tell him that it
    /// changes. False where leases are not to be had. Not under the manifest's lock.
    func isLentByEarlier(_ flat: ObjectFile) -> Bool {
        flat.id < manifest.firstNewObject && Sys.hasOtherUser(of: flat.raw)
    }

    /// Whether that may be so of a file whose sealed object is to be written in place.
    func isLentByEarlier(_ file: OpenFile) throws(Errno) -> Bool {
        let flat = try reading { (state) throws(Errno) -> ObjectFile? in
            // What backs an open file was not lent when it began to do so.
            guard file(state).backing == nil, let record = try state.inode(file.inode),
                let object = try state.object(of: record), !object.isInline,
                object.state == .sealed, object.id < manifest.firstNewObject
            else { return nil }
            // Also of one that is shared now: the others may let go of it before it is written.
            return try objectFile(file, object: object.id, forWriting: true, state)
        }
        return flat.map { isLentByEarlier($0) } ?? false
    }

    /// Lends the file of a remote object that is whole in the cache; nil where it is not. Parts of it are not let go
    /// meanwhile.
    private func lendCached(_ remote: RemoteFile) -> LentFile? {
        serving.endReads()
        let object = remote.object
        let begun = manifest.withLock { state -> LentObjects? in
            guard remotes(state).files[object] === remote else { return nil }
            // The file may become the object's flat file while it is lent, which is then not written in place.
            state.lent.begin(object)
            return state.lent
        }
        guard let lent = begun else { return nil }
        guard remote.beginWholeRead() else {
            lent.end(object)
            return nil
        }
        // Its name may have gone from the cache since.
        guard let file = try? store.openCachedToRead(object),
            let status = try? Sys.status(of: file.raw), status.size >= remote.size
        else {
            remote.endRead()
            lent.end(object)
            return nil
        }
        return LentFile(file) { [ended = serving.endedReads] in
            ended.withLock { $0.append(remote) }
            lent.end(object)
        }
    }
}
