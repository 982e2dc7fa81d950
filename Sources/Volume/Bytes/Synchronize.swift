public import Base
internal import InodeManifest
internal import Logging
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Makes a file's bytes, attributes and names durable (fsync(2)); `dataOnly` (fdatasync(2))
    /// does the same, because one commit holds all of them. Blocks for the disk.
    ///
    /// - Throws: EBADF, EIO, ENOSPC.
    public func synchronize(_ handle: HandleID, dataOnly: Bool) throws(Errno) {
        if handle.isOfView {
            _ = try view.file(handle)
            return
        }
        let description = try opens.handles.handle(handle)
        // Data first: the manifest must never tell of bytes that a power loss takes back.
        try synchronizeAndHash(description.file)
        // So that one commit has it all.
        try reading { (state) throws(Errno) in try sealIfInline(description.inode, state) }
        try manifest.commit()
        if let connection, connection.options.isDurableAtRemote {
            try waitUntilAtRemote(description.inode, connection)
        }
    }

    private func synchronizeAndHash(_ file: OpenFile) throws(Errno) {
        defer { endFlush(file) }
        try synchronizeBytes(of: file.inode) { hashAhead(file) }
    }

    /// Begins to hash a large file before its last close: who asks for fsync(2) has often written all
    /// there is. The disk works meanwhile, and the processors would not.
    private func hashAhead(_ file: OpenFile) {
        let flat = manifest.withLock { state -> ObjectFile? in
            // Once: a database that calls fsync all day would be hashed all day.
            guard let backing = file(state).backing, backing.isWritable, !backing.wasHashedAhead
            else { return nil }
            return backing.file
        }
        guard let flat, let status = try? Sys.status(of: flat.raw),
            status.size >= Self.hashAheadSizeMin
        else { return }
        let isFirst = manifest.withLock { state in
            guard let backing = file(state).backing, !backing.wasHashedAhead else { return false }
            file(state).passthrough.noteHashedAhead()
            opens(state).flushing.insert(file.inode.number)
            return true
        }
        guard isFirst, options.sealThreads > 0 else { return }
        seals.queue.add(file.inode, delayMilliseconds: Self.hashAheadDelay)
    }

    /// Lets the leaves of a file go to the node that were held while it was flushed.
    private func endFlush(_ file: OpenFile) {
        let wasHeld = manifest.withLock { state in
            opens(state).flushing.remove(file.inode.number) != nil
        }
        if wasHeld { connection?.outbox.wakeAll() }
    }

    private static let hashAheadSizeMin: UInt64 = 1 << 20
    /// So that the time of the last write is past, in milliseconds.
    private static let hashAheadDelay = 25

    /// Makes the entries of a directory durable. Costs no disk write where nothing changed.
    ///
    /// - Throws: ENOTDIR, EIO, ENOSPC.
    public func synchronizeDirectory(_ inode: Inode) throws(Errno) {
        if inode.isOfView { return try view.checkDirectory(inode) }
        _ = try reading { (state) throws(Errno) in try directory(inode, state) }
        try manifest.commit()
    }

    /// Makes everything durable (sync(2)). A file whose bytes cannot be keeps nothing else from it.
    ///
    /// - Throws: EIO, ENOSPC, once all that could be made durable is.
    public func synchronizeAll() throws(Errno) {
        syncAllFromBacking()
        let inodes = manifest.withLock { state in opens(state).unsynchronized.keys.map { Inode($0) }
        }
        var failure: Errno?
        for inode in inodes {
            do throws(Errno) {
                try synchronizeBytes(of: inode)
            } catch {
                failure = failure ?? error
            }
        }
        try manifest.commit()
        if let failure { throw failure }
    }

    /// Makes the bytes of a file's flat file durable.
    ///
    /// - Parameter whileFlushed: called before the flush, when what was written is taken over.
    func synchronizeBytes(of inode: Inode, whileFlushed: () -> Void = {}) throws(Errno) {
        try syncFromBacking(inode, isForced: true)
        whileFlushed()
        // The note stays until the flush is done: another fsync of the file must not return before.
        let pending = manifest.withLock { state in opens(state).unsynchronized[inode.number] }
        guard let pending else { return }
        try flush(pending.file, of: inode)
        manifest.withLock { state in opens(state).noteSynchronized(inode, pending) }
        if let status = try? Sys.status(of: pending.file.raw) {
            noteBlocks(of: inode, object: pending.file.id, status.blocks)
        }
    }

    /// Flushes a flat file, and logs a failure the first time.
    private func flush(_ flat: ObjectFile, of inode: Inode) throws(Errno) {
        let isKnown = store.flushFailure(of: flat.id) != nil
        do throws(Errno) {
            try flat.synchronize(in: store)
        } catch {
            if !isKnown {
                log.error(
                    """
                    \(inode), object \(flat.id): what was written did not come to the disk (\(error)): \
                    fsync fails until the file is written anew
                    """)
            }
            throw error
        }
    }

    /// Keeps the room that an object's flat file takes, in blocks of 512 bytes, once its bytes are on the disk.
    func noteBlocks(of inode: Inode, object: UInt64, _ blocks: UInt64) {
        manifest.withLock { state in
            guard let record = try? state.inode(inode), record.object == object,
                record.blocks != blocks
            else { return }
            record.blocks = blocks
            state.mark(record)
        }
    }

    /// Makes the bytes of files durable that nobody has open for writing, so that the commit that
    /// follows names no content that a power loss would take.
    func synchronizeClosedFiles() {
        let inodes = manifest.withLock { state in
            opens(state).unsynchronized.keys.filter {
                !(opens(state).files[$0]?(state).hasWriters ?? false)
            }
        }
        // What fails is logged, and stays to be asked for.
        for inode in inodes { try? synchronizeBytes(of: Inode(inode)) }
    }
}
