public import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Copies bytes between two open files (copy_file_range(2)). A whole sealed file that is
    /// copied to an empty one is shared instead, and costs nothing. Returns what was copied, less
    /// than asked only at the end of the source, and where that has to be fetched. Blocks for the node
    /// then.
    ///
    /// - Parameter caller: whose rights decide on set-id bits; nil takes no privileges.
    /// - Throws: EBADF, EINVAL for overlapping ranges of one file, EFBIG, ENOSPC, EIO, EINTR; EXDEV from a file of a snapshot, at
    ///   which the kernel copies by its page cache.
    public func copyRange(
        from source: HandleID, at sourceOffset: UInt64, to destination: HandleID,
        at destinationOffset: UInt64, length: UInt64, caller: Caller? = nil
    ) throws(Errno) -> UInt64 {
        if source.isOfView {
            _ = try view.file(source)
            guard try opens.handles.handle(destination).flags.isWritable else {
                throw .badFileDescriptor
            }
            throw .improperLink
        }
        let from = try opens.handles.handle(source)
        let to = try opens.handles.handle(destination)
        guard from.flags.isReadable, to.flags.isWritable else { throw .badFileDescriptor }
        let writer = self.writer(changing: to.file, caller)
        defer { tellLostPrivileges(of: to.file) }
        var done: UInt64 = 0
        var attempts = 1
        while done < length {
            do throws(Errno) {
                let (count, isPart) = try copyOnce(
                    from: from, at: sourceOffset + done, to: to, at: destinationOffset + done,
                    length: length - done, by: writer)
                done += count
                // The kernel holds a lock of the target for as long as a call takes, on which its
                // removal waits with the directory's.
                if !isPart || count == 0 || done >= Self.fetchedPerCall { return done }
            } catch {
                // As read(2) and write(2) have it: what was done counts, and the next call tells.
                if error != .resourceTemporarilyUnavailable, done > 0 { return done }
                attempts += 1
                guard error == .resourceTemporarilyUnavailable else { throw error }
                guard attempts < Self.copyAttemptsMax else {
                    throw .ioError.because(
                        "\(from.inode): it is shorter than it says, or cut all the time")
                }
                // The source is just being cut: it is looked at again when that is done.
                from.file.writeLock.withLock { _ in }
            }
        }
        return done
    }

    /// How often a copy begins again when its source is cut under it.
    private static let copyAttemptsMax = 64

    /// Copies all that is here, or a part of what has to be fetched.
    private func copyOnce(
        from: FileHandle, at sourceOffset: UInt64, to: FileHandle,
        at destinationOffset: UInt64, length: UInt64, by writer: Writer
    ) throws(Errno) -> (count: UInt64, isPart: Bool) {
        let copied = try withWriteLock(of: to.file) { () throws(Errno) -> UInt64? in
            if sourceOffset == 0, destinationOffset == 0, from.inode != to.inode,
                let shared = try share(from.file, with: to.file, length: length, by: writer)
            {
                return shared
            }
            return try withContent(of: from.file) { (content, size) throws(Errno) -> UInt64? in
                guard sourceOffset < size else { return 0 }
                let count = min(length, size - sourceOffset)
                let (end, overflow) = destinationOffset.addingReportingOverflow(count)
                guard !overflow, end <= Self.fileSizeMax else { throw .fileTooLarge }
                if from.inode == to.inode, sourceOffset < end,
                    destinationOffset < sourceOffset + count
                {
                    throw .invalidArgument
                }
                guard count > 0 else { return 0 }
                if case .remote = content { return nil }
                try changeBytes(of: to.file, in: destinationOffset..<end, by: writer) {
                    (target) throws(Errno) in
                    try copy(
                        content, at: sourceOffset, to: target, at: destinationOffset, count: count)
                }
                return count
            }
        }
        if let copied { return (copied, false) }
        let count = try copyFetched(
            from: from.file, at: sourceOffset, to: to.file, at: destinationOffset, length: length,
            by: writer)
        return (count, true)
    }

    /// Copies a part of content that is at the node: it is fetched first, without any lock.
    private func copyFetched(
        from: OpenFile, at sourceOffset: UInt64, to: OpenFile, at destinationOffset: UInt64,
        length: UInt64, by writer: Writer
    ) throws(Errno) -> UInt64 {
        let wanted = Int(min(length, Self.fetchedAtOnce))
        var bytes = [UInt8](repeating: 0, count: wanted)
        let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try read(from, at: sourceOffset, into: buffer)
        }
        guard count > 0 else { return 0 }
        bytes.removeLast(wanted - count)
        let end = destinationOffset + UInt64(count)
        try withWriteLock(of: to) { () throws(Errno) in
            try changeBytes(of: to, in: destinationOffset..<end, by: writer) {
                (target) throws(Errno) in
                try copy(
                    .inline(bytes), at: 0, to: target, at: destinationOffset, count: UInt64(count))
            }
        }
        return UInt64(count)
    }

    private static let fetchedAtOnce: UInt64 = 1 << 20
    /// What one call copies of content that has to be fetched, in bytes.
    private static let fetchedPerCall: UInt64 = 16 << 20

    private func copy(
        _ content: Content, at sourceOffset: UInt64, to target: WritableContent,
        at destinationOffset: UInt64, count: UInt64
    ) throws(Errno) {
        switch (content, target) {
        case (.empty, _), (.remote, _):
            // Of a remote file, bytes come here by `copyFetched`.
            return
        case (.inline(let bytes), .inline(let destination)):
            let place = Int(destinationOffset)..<Int(destinationOffset + count)
            bytes.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: destination[place]).copyMemory(
                    from: UnsafeRawBufferPointer(
                        rebasing: source[Int(sourceOffset)..<Int(sourceOffset + count)]))
            }
        case (.inline(let bytes), .flat(let file)):
            try bytes.withBytes { (source) throws(Errno) in
                try Sys.write(
                    file.raw, at: destinationOffset,
                    UnsafeRawBufferPointer(
                        rebasing: source[Int(sourceOffset)..<Int(sourceOffset + count)]))
            }
        case (.flat(let file), .inline(let destination)):
            // By way of a buffer: a read that fails must not leave half of it behind.
            let buffer = OwnedBuffer(byteCount: Int(count))
            let read = try Sys.read(file.raw, at: sourceOffset, into: buffer.bytes)
            guard read == Int(count) else { throw .resourceTemporarilyUnavailable }
            let place = Int(destinationOffset)..<Int(destinationOffset + count)
            UnsafeMutableRawBufferPointer(rebasing: destination[place])
                .copyMemory(from: UnsafeRawBufferPointer(buffer.bytes))
        case (.flat(let source), .flat(let file)):
            let copied = try Sys.copy(
                from: source.raw, at: sourceOffset, to: file.raw, at: destinationOffset,
                length: count)
            guard copied == count else { throw .resourceTemporarilyUnavailable }
        }
    }

    /// Lets an empty file share the whole sealed content of another; nil where that cannot be.
    private func share(
        _ source: OpenFile, with destination: OpenFile, length: UInt64, by writer: Writer
    ) throws(Errno) -> UInt64? {
        try changing { (state) throws(Errno) in
            let from = try record(source.inode, state)
            let to = try record(destination.inode, state)
            // A backing file cannot be given another content than its own while it is open.
            guard destination(state).backing == nil, source(state).backing?.isWritable != true
            else {
                return nil
            }
            guard to.size == 0, from.size <= length, let object = try state.object(of: from),
                object.state != .staging
            else { return nil }
            let old = try state.object(of: to)
            state.retain(object)
            to.object = object.id
            to.size = from.size
            to.blocks = from.blocks
            destination(state).file = nil
            opens(state).forgetUnsynchronized(to.inode)
            if let old { state.release(old) }
            try noteChange(of: to, by: writer, state)
            return from.size
        }
    }
}
