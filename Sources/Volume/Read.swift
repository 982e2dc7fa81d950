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
    }

    /// Reads from an offset; fewer bytes than the buffer has room for come only at the end.
    /// Blocks for the disk.
    ///
    /// - Throws: EBADF, EIO.
    public func read(
        _ handle: HandleID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        let description = try handles.handle(handle)
        // mmap and the page cache read through handles that were opened O_WRONLY, too.
        let (content, size) = try content(of: description.file)
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
        case .flat(let file):
            return try Sys.read(file.raw, at: offset, into: part)
        }
    }

    /// The content and the size of a file, in one look.
    func content(of file: OpenFile) throws(Errno) -> (Content, size: UInt64) {
        try reading { (state) throws(Errno) in
            let record = try record(file.inode, state)
            noteAccess(to: record, state)
            return (try content(of: file, record, state), record.size)
        }
    }

    func content(
        of file: OpenFile, _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Content {
        guard let object = try state.object(of: record) else { return .empty }
        if object.isInline { return .inline(try state.inlineBytes(of: object)) }
        return .flat(try objectFile(file, object: object.id, forWriting: false))
    }

    /// Finds data or a hole (SEEK_DATA and SEEK_HOLE of lseek(2)).
    ///
    /// - Throws: ENXIO past the end or where no data follows, EINVAL for another `whence`.
    public func seek(
        _ handle: HandleID, from offset: UInt64, whence: Int32
    ) throws(Errno) -> UInt64 {
        let description = try handles.handle(handle)
        // lseek(2), unistd.h: SEEK_DATA is 3, SEEK_HOLE is 4.
        let isData = whence == 3
        guard isData || whence == 4 else { throw .invalidArgument }
        let (content, size) = try content(of: description.file)
        guard offset < size else { throw .noSuchAddressOrDevice }
        switch content {
        case .empty: throw .noSuchAddressOrDevice
        case .inline: return isData ? offset : size
        case .flat(let file): return try Sys.seek(file.raw, from: offset, whence: whence)
        }
    }
}
