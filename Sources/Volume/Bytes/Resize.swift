public import Base
internal import Glibc
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Cuts a file, or makes it longer with a hole (truncate(2)).
    func truncate(
        _ file: OpenFile, to size: UInt64, by writer: Writer
    ) throws(Errno) {
        guard size <= Self.fileSizeMax else { throw .fileTooLarge }
        try withWriteLock(of: file, keeping: size) { () throws(Errno) in
            if let backing = manifest.withLock({ state in file(state).backing }) {
                return try truncate(file, backing, to: size, by: writer)
            }
            let isDone = try changing { (state) throws(Errno) in
                let record = try record(file.inode, state)
                let object = try state.object(of: record)
                if size == 0 {
                    record.object = nil
                    record.blocks = 0
                    opens(state).forgetUnsynchronized(file.inode)
                    file(state).file = nil
                    if let object { state.release(object) }
                } else if object?.isInline ?? true, size <= options.inlineSizeMax {
                    if size > record.size { try checkRoom(state) }
                    let own = try ownInlineObject(of: record, state)
                    var bytes = try state.inlineBytes(of: own)
                    if bytes.count > size { bytes.removeLast(bytes.count - Int(size)) }
                    bytes += [UInt8](repeating: 0, count: Int(size) - bytes.count)
                    own.inlineBytes = bytes
                    state.markInline(own)
                    record.blocks = (size + 511) / 512
                } else {
                    return false
                }
                record.size = size
                try noteChange(of: record, by: writer, state)
                return true
            }
            guard !isDone else { return }
            let flat = try ownFlatFile(of: file, keeping: size)
            // A copy that was made for this has the size already, and the file with it.
            if try Sys.status(of: flat.raw).size != size { try Sys.truncate(flat.raw, to: size) }
            try changing { (state) throws(Errno) in
                let record = try record(file.inode, state)
                record.size = size
                opens(state).noteUnsynchronized(flat, of: file.inode)
                try noteChange(of: record, by: writer, state)
            }
        }
    }

    private func truncate(
        _ file: OpenFile, _ backing: Backing, to size: UInt64, by writer: Writer
    ) throws(Errno) {
        let flat = backing.isWritable ? backing.file : try makeWritable(file, backing)
        if size > 0 {
            try Sys.truncate(flat.raw, to: size)
        } else {
            try empty(flat)
        }
        let after = try? Sys.status(of: flat.raw)
        try changing { (state) throws(Errno) in
            try noteBackingChange(
                of: try record(file.inode, state), file, after, by: writer, state)
        }
    }

    /// Reserves, punches or zeroes a range (fallocate(2)).
    ///
    /// - Parameter caller: whose rights decide on set-id bits; nil takes no privileges.
    /// - Throws: EOPNOTSUPP for the modes that move bytes, which FUSE does not pass on either;
    ///   EINVAL, EFBIG, ENOSPC, EBADF.
    public func allocate(
        _ handle: HandleID, mode: Int32, offset: UInt64, length: UInt64,
        caller: Caller? = nil
    ) throws(Errno) {
        let description = try opens.handles.handle(handle)
        guard description.flags.isWritable else { throw .badFileDescriptor }
        guard length > 0 else { throw .invalidArgument }
        let (end, overflow) = offset.addingReportingOverflow(length)
        guard !overflow, end <= Self.fileSizeMax else { throw .fileTooLarge }
        // linux/falloc.h: KEEP_SIZE is 1, PUNCH_HOLE is 2, ZERO_RANGE is 16.
        let keepsSize = mode & 1 != 0
        let punches = mode & 2 != 0
        let zeroes = mode & 16 != 0
        guard mode & ~(1 | 2 | 16) == 0 else { throw Errno(rawValue: EOPNOTSUPP) }
        // fallocate(2): PUNCH_HOLE must be ORed with KEEP_SIZE.
        guard !(punches && (!keepsSize || zeroes)) else { throw Errno(rawValue: EOPNOTSUPP) }
        let file = description.file
        let writer = self.writer(changing: file, caller)
        defer { tellLostPrivileges(of: file) }
        try withWriteLock(of: file) { () throws(Errno) in
            let (size, isInline) = try sizeAndForm(of: file)
            let reach = keepsSize ? min(end, size) : end
            let isChange = punches || zeroes
            if isInline, max(reach, size) <= options.inlineSizeMax, isChange || !keepsSize {
                // Inline content has no holes, and no room of its own to reserve: zeros are both.
                let start = isChange ? offset : size
                guard start < reach else {
                    return try takePrivileges(of: file, by: writer)
                }
                try changeBytes(of: file, in: start..<reach, by: writer) { (target) throws(Errno) in
                    guard isChange, case .inline(let bytes) = target else { return }
                    for index in Int(start)..<Int(reach) { bytes[index] = 0 }
                }
                return
            }
            try changeBytes(
                of: file, in: offset..<end, by: writer, keepsSize: keepsSize, mustBeFlat: true
            ) { (target) throws(Errno) in
                guard case .flat(let flat) = target else { return }
                try Sys.allocate(flat.raw, mode: mode, offset: offset, length: length)
            }
        }
    }

    private func sizeAndForm(
        of file: OpenFile
    ) throws(Errno) -> (size: UInt64, isInline: Bool) {
        let (known, isInline) = try reading { (state) throws(Errno) in
            let record = try record(file.inode, state)
            let object = try state.object(of: record)
            let isInline = file(state).backing == nil && object?.isInline ?? true
            return (KnownSize(file(state).backing, record), isInline)
        }
        return (try known.now, isInline)
    }
}
