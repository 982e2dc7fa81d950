public import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Writes all bytes at an offset, and makes the file longer where it must. Blocks for the disk
    /// only as write(2) to the disk below does.
    ///
    /// - Parameters:
    ///   - clearSetID: the writer may not keep set-user-id and set-group-id bits.
    ///   - caller: who writes, which takes the file's capability; nil for pages of a mapping.
    /// - Throws: EBADF, EFBIG, ENOSPC, EIO, EROFS. Nothing is counted as written then.
    public func write(
        _ handle: HandleID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer, clearSetID: Bool,
        caller: Caller? = nil
    ) throws(Errno) -> Int {
        let description = try opens.handles.handle(handle)
        guard description.flags.isWritable else { throw .badFileDescriptor }
        guard !bytes.isEmpty else { return 0 }
        let (end, overflow) = offset.addingReportingOverflow(UInt64(bytes.count))
        guard !overflow, end <= Self.fileSizeMax else { throw .fileTooLarge }
        let writer = Writer(caller: caller, clearsSetID: clearSetID)
        defer { tellLostPrivileges(of: description.file) }
        try withWriteLock(of: description.file) { () throws(Errno) in
            try changeBytes(of: description.file, in: offset..<end, by: writer) {
                (target) throws(Errno) in
                switch target {
                case .inline(let content):
                    UnsafeMutableRawBufferPointer(rebasing: content[Int(offset)..<Int(end)])
                        .copyMemory(from: bytes)
                case .flat(let file):
                    try Sys.write(file.raw, at: offset, bytes)
                }
            }
        }
        if description.flags.isSynchronous { try synchronize(handle, dataOnly: false) }
        return bytes.count
    }

    /// Where bytes can be changed in place.
    enum WritableContent {
        /// The whole content, long enough for the range that is to be changed; valid in the body.
        case inline(UnsafeMutableRawBufferPointer)
        case flat(ObjectFile)
    }

    private enum ChangeStep {
        case done
        case inPlace(ObjectFile)
        case needsFlatFile
    }

    /// Lets a body change a range of a file's bytes where they lie, and notes the change. The file
    /// grows to the end of the range, unless it `keepsSize`. The caller holds the write lock.
    ///
    /// - Throws: `RemoteFile.elsewhere` before anything was changed, as does all that makes a flat
    ///   file the inode's own: see `withWriteLock`.
    func changeBytes(
        of file: OpenFile, in range: Range<UInt64>, by writer: Writer,
        keepsSize: Bool = false, mustBeFlat: Bool = false,
        _ body: (WritableContent) throws(Errno) -> Void
    ) throws(Errno) {
        let step = try changing { (state) throws(Errno) -> ChangeStep in
            let record = try record(file.inode, state)
            if range.upperBound > record.size { try checkRoom(state) }
            if let flat = try flatFileInPlace(of: file, record, state) {
                record.contentVersion += 1
                return .inPlace(flat)
            }
            guard !mustBeFlat, try state.object(of: record)?.isInline ?? true,
                max(range.upperBound, record.size) <= options.inlineSizeMax
            else { return .needsFlatFile }
            try changeInline(record, in: range, by: writer, state, body)
            return .done
        }
        let target: ObjectFile
        switch step {
        case .done: return
        case .inPlace(let flat): target = flat
        case .needsFlatFile: target = try ownFlatFile(of: file, keeping: .max)
        }
        do throws(Errno) {
            try body(.flat(target))
        } catch {
            // A part may have been written: what was read before holds no longer, and what lies
            // beyond the end must not come to light when the file grows.
            let size = try reading { (state) throws(Errno) in
                // A backing file's own size is the truth.
                file(state).backing == nil ? try record(file.inode, state).size : nil
            }
            if let size { try? Sys.truncate(target.raw, to: size) }
            try noteFlatChange(of: file, target, end: 0, by: writer)
            throw error
        }
        try noteFlatChange(of: file, target, end: keepsSize ? 0 : range.upperBound, by: writer)
    }

    private func changeInline(
        _ record: InodeRecord, in range: Range<UInt64>, by writer: Writer, _ state: ManifestState,
        _ body: (WritableContent) throws(Errno) -> Void
    ) throws(Errno) {
        try checkRoom(state)
        let object = try ownInlineObject(of: record, state)
        var bytes = try state.inlineBytes(of: object)
        // The array is taken out of the record so that changing it does not copy it.
        object.inlineBytes = nil
        defer {
            object.inlineBytes = bytes
            state.markInline(object)
        }
        let end = Int(max(record.size, range.upperBound))
        if bytes.count < end { bytes += [UInt8](repeating: 0, count: end - bytes.count) }
        do throws(Errno) {
            try bytes.withMutableBytes { (content) throws(Errno) in try body(.inline(content)) }
        } catch {
            bytes.removeLast(bytes.count - Int(record.size))
            throw error
        }
        record.size = UInt64(end)
        record.blocks = (record.size + 511) / 512
        try noteChange(of: record, by: writer, state)
    }

    /// The flat file, where it is this inode's alone and staging already.
    private func flatFileInPlace(
        of file: OpenFile, _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> ObjectFile? {
        if let backing = file(state).backing, backing.isWritable { return backing.file }
        guard let object = try state.object(of: record), !object.isInline,
            object.state == .staging, object.references == 1, !object.isUnsealUncommitted
        else { return nil }
        return try objectFile(file, object: object.id, forWriting: true, state)
    }

    /// An inline object that is this inode's alone and staging.
    func ownInlineObject(
        of record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> ObjectRecord {
        guard let object = try state.object(of: record) else {
            let made = state.makeObject(id: nil, size: 0, inlineBytes: [])
            record.object = made.id
            return made
        }
        if state.isShared(object) {
            let made = state.makeObject(
                id: nil, size: object.size, inlineBytes: try state.inlineBytes(of: object))
            record.object = made.id
            state.release(object)
            return made
        }
        state.unseal(object)
        return object
    }

    /// Notes after a change that a file's bytes are new.
    func noteChange(
        of record: InodeRecord, by writer: Writer, _ state: ManifestState
    ) throws(Errno) {
        record.contentVersion += 1
        let now = Timestamp.now()
        record.modified = now
        record.changed = now
        try dropPrivileges(of: record, by: writer, state)
        state.mark(record)
        try outdateTree(above: record, state)
    }

    private func noteFlatChange(
        of file: OpenFile, _ flat: ObjectFile, end: UInt64, by writer: Writer
    ) throws(Errno) {
        // Where it is the backing file; the write lock keeps it so.
        let after = try? Sys.status(of: flat.raw)
        try changing { (state) throws(Errno) in
            let record = try record(file.inode, state)
            if file(state).backing != nil {
                return try noteBackingChange(of: record, file, after, by: writer, state)
            }
            record.size = max(record.size, end)
            opens(state).noteUnsynchronized(flat, of: file.inode)
            try noteChange(of: record, by: writer, state)
        }
    }

    /// Gives a file a flat file of its own that may be changed in place: content that was inline,
    /// sealed or shared is moved, unsealed or copied. The caller holds the write lock.
    ///
    /// - Parameter keeping: how many bytes of the old content are wanted.
    func ownFlatFile(of file: OpenFile, keeping: UInt64) throws(Errno) -> ObjectFile {
        if let flat = try unsealedFlatFile(of: file) { return flat }
        return try copyToFlatFile(file, keeping: keeping)
    }

    /// The flat file of an inode that has one to itself, unsealed durably; nil where it has none.
    /// The caller holds the write lock.
    func unsealedFlatFile(of file: OpenFile) throws(Errno) -> ObjectFile? {
        if try isLentByEarlier(file) { return nil }
        let unsealed = try changing { (state) throws(Errno) -> (ObjectFile, Bool)? in
            let record = try record(file.inode, state)
            record.contentVersion += 1
            if let backing = file(state).backing, backing.isWritable {
                return (backing.file, false)
            }
            guard let object = try state.object(of: record), !object.isInline,
                !state.isShared(object), object.state != .remote
            else { return nil }
            let flat = try objectFile(file, object: object.id, forWriting: true, state)
            if state.unseal(object) {
                object.isUnsealUncommitted = true
                try outdateTree(above: record, state)
            }
            return (flat, object.isUnsealUncommitted)
        }
        guard let (flat, mustCommit) = unsealed else { return nil }
        if mustCommit {
            // Bytes that no longer match a CID must never be found behind it after a crash.
            try manifest.commit()
            try reading { (state) throws(Errno) in
                try state.object(flat.id)?.isUnsealUncommitted = false
            }
        }
        return flat
    }

    private func copyToFlatFile(_ file: OpenFile, keeping: UInt64) throws(Errno) -> ObjectFile {
        let id = try changing { (state) throws(Errno) in
            let object = try state.object(of: try record(file.inode, state))
            guard object?.state != .remote else { throw RemoteFile.elsewhere }
            try checkRoom(state)
            return state.numbers.reserve()
        }
        let (made, size): (ObjectFile, UInt64)
        do throws(Errno) {
            (made, size) = try withContent(of: file, isAccess: false) {
                (content, size) throws(Errno) in
                let size = min(size, keeping)
                return (try fillFlatFile(id, from: content, size: size), size)
            }
        } catch {
            discard(id)
            throw error
        }
        try changing { (state) throws(Errno) in
            try take(made, size: size, as: file, try record(file.inode, state), state)
        }
        return made
    }

    /// Makes a flat file an inode's content, in place of what it has; under the manifest's lock.
    func take(
        _ made: ObjectFile, size: UInt64, as file: OpenFile, _ record: InodeRecord,
        _ state: ManifestState
    ) throws(Errno) {
        let old = try state.object(of: record)
        record.object = state.makeObject(id: made.id, size: size).id
        record.size = size
        state.mark(record)
        if let old { state.release(old) }
        file(state).file = made
        file(state).isFileWritable = true
        opens(state).noteUnsynchronized(made, of: file.inode)
        record.contentVersion += 1
        try outdateTree(above: record, state)
    }

    /// Makes the flat file of a reserved number, with the first bytes of some content.
    func fillFlatFile(
        _ id: UInt64, from content: Content, size: UInt64
    ) throws(Errno) -> ObjectFile {
        let made = try store.create(id)
        switch content {
        case .empty: break
        case .inline(let bytes):
            try bytes.withBytes { (source) throws(Errno) in
                try Sys.write(
                    made.raw, at: 0,
                    UnsafeRawBufferPointer(rebasing: source[..<Int(min(size, UInt64(bytes.count)))])
                )
            }
        case .flat(let source):
            let copied = try Sys.copy(from: source.raw, at: 0, to: made.raw, at: 0, length: size)
            if copied < size { try Sys.truncate(made.raw, to: size) }
        case .remote: throw RemoteFile.elsewhere
        }
        return made
    }
}
