public import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Where the bytes of a file are at the moment.
    enum Content {
        case empty
        case inline([UInt8])
        case flat(ObjectFile)
        /// At the node, and here as far as it was read.
        case remote(RemoteFile)
    }

    /// Reads from an offset; fewer bytes than the buffer has room for come only at the end.
    /// Blocks for the disk.
    ///
    /// - Throws: EBADF, EIO.
    public func read(
        _ handle: HandleID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        if handle.isOfView { return try view.read(handle, at: offset, into: buffer, self) }
        let description = try opens.handles.handle(handle)
        // mmap and the page cache read through handles that were opened O_WRONLY, too.
        return try read(description.file, at: offset, into: buffer)
    }

    func read(
        _ file: OpenFile, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try withContent(of: file) { (content, size) throws(Errno) in
            guard offset < size else { return 0 }
            let wanted = Int(min(UInt64(buffer.count), size - offset))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
            switch content {
            case .empty:
                return 0
            case .inline(let bytes):
                bytes.withUnsafeBytes { source in
                    part.copyMemory(
                        from: UnsafeRawBufferPointer(
                            rebasing: source[Int(offset)..<Int(offset) + wanted]))
                }
                return wanted
            case .flat(let flat):
                let count = try Sys.read(flat.raw, at: offset, into: part)
                if count < wanted { try refuseShort(flat, of: file, size: size) }
                return count
            case .remote(let remote):
                return try read(remote, at: offset, into: part)
            }
        }
    }

    /// Fails where a flat file that nobody changes any more is shorter than its content.
    private func refuseShort(_ flat: ObjectFile, of file: OpenFile, size: UInt64) throws(Errno) {
        let isSealed = try reading { (state) throws(Errno) in
            guard file(state).backing == nil else { return false }
            return try state.object(flat.id)?.state == .sealed
        }
        guard isSealed else { return }
        let left = try Sys.status(of: flat.raw).size
        guard left < size else { return }
        throw .ioError.because(
            "\(file.inode), object \(flat.id): its flat file has only \(left) of \(size) bytes: "
                + "run registryfs check")
    }

    /// Runs a body with the content and the size of a file. While it runs, nobody changes a flat
    /// file that the inode shares with others.
    ///
    /// - Parameter isAccess: whether it moves the access time.
    func withContent<Result>(
        of file: OpenFile, isAccess: Bool = true,
        _ body: (Content, UInt64) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        while true {
            do throws(Errno) {
                return try withContentNow(of: file, isAccess: isAccess, body)
            } catch {
                // It has become a flat file meanwhile, or went from the cache as a whole.
                guard error == RemoteFile.gone else { throw error }
            }
        }
    }

    private func withContentNow<Result>(
        of file: OpenFile, isAccess: Bool, _ body: (Content, UInt64) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        let (content, size, shared) = try reading {
            (state) throws(Errno) -> (Content, KnownSize, UInt64?) in
            let record = try record(file.inode, state)
            if isAccess { noteAccess(to: record, state) }
            let content = try self.content(of: file, record, state)
            let size = KnownSize(file(state).backing, record)
            var shared: UInt64?
            if case .flat(let flat) = content, let object = try state.object(of: record),
                state.isShared(object)
            {
                shared = flat.id
                opens(state).beginSharedRead(flat.id)
            }
            return (content, size, shared)
        }
        defer {
            if let shared { manifest.withLock { state in opens(state).endSharedRead(shared) } }
        }
        return try body(content, try size.now)
    }

    /// The size of a file, as far as the manifest knows it.
    enum KnownSize {
        case recorded(UInt64)
        /// Somebody may write to its backing file, unseen.
        case backing(ObjectFile)

        init(_ backing: Backing?, _ record: InodeRecord) {
            if let backing, backing.isWritable {
                self = .backing(backing.file)
            } else {
                self = .recorded(record.size)
            }
        }

        /// The size now. Not under the manifest's lock.
        var now: UInt64 {
            get throws(Errno) {
                switch self {
                case .recorded(let size): size
                case .backing(let file): try Sys.status(of: file.raw).size
                }
            }
        }
    }

    func content(
        of file: OpenFile, _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Content {
        if let backing = file(state).backing { return .flat(backing.file) }
        guard let object = try state.object(of: record) else { return .empty }
        if object.isInline {
            let bytes = try state.inlineBytes(of: object)
            guard UInt64(bytes.count) == record.size else {
                throw .ioError.because(
                    "manifest.sqlite: table inode, row id \(record.inode.number), column size: it is "
                        + "\(record.size), but object \(object.id) has \(bytes.count) bytes: "
                        + "run registryfs check")
            }
            return .inline(bytes)
        }
        if object.state == .remote {
            remotes(state).noteUse(object.id, of: file(state))
            return .remote(try remoteFile(of: object, state))
        }
        fetcher?.cache.withLock { $0.use(object.id) }
        return .flat(try objectFile(file, object: object.id, forWriting: false, state))
    }

    /// Finds data or a hole (SEEK_DATA and SEEK_HOLE of lseek(2)).
    ///
    /// - Throws: ENXIO past the end or where no data follows, EINVAL for another `whence`.
    public func seek(
        _ handle: HandleID, from offset: UInt64, whence: Int32
    ) throws(Errno) -> UInt64 {
        if handle.isOfView { return try view.seek(handle, from: offset, whence: whence) }
        let description = try opens.handles.handle(handle)
        // lseek(2), unistd.h: SEEK_DATA is 3, SEEK_HOLE is 4.
        let isData = whence == 3
        guard isData || whence == 4 else { throw .invalidArgument }
        return try withContent(of: description.file) { (content, size) throws(Errno) in
            guard offset < size else { throw .noSuchAddressOrDevice }
            switch content {
            case .empty: throw .noSuchAddressOrDevice
            case .inline: return isData ? offset : size
            case .flat(let file): return try Sys.seek(file.raw, from: offset, whence: whence)
            // lseek(2) lets a filesystem call all of it data.
            case .remote: return isData ? offset : size
            }
        }
    }
}
