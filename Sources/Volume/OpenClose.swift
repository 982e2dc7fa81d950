public import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Opens a regular file. O_TRUNC empties it; O_CREAT and O_EXCL are `create`'s.
    ///
    /// - Throws: EISDIR, ELOOP for a symlink, ENXIO for what is no regular file, EROFS.
    public func open(
        _ inode: Inode, flags: OpenFlags, caller: Caller
    ) throws(Errno) -> OpenedFile {
        if options.isReadOnly, flags.isWritable || flags.truncates { throw .readOnlyFileSystem }
        let opened = try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            switch record.kind {
            case .regular: return openHandle(to: record, flags: flags, state)
            case .directory: throw .isDirectory
            case .symlink: throw .tooManySymbolicLinkLevels
            case .fifo, .socket, .characterDevice, .blockDevice: throw .noSuchAddressOrDevice
            }
        }
        guard flags.truncates else { return opened }
        do throws(Errno) {
            try truncate(handles.handle(opened.handle).file, to: 0)
        } catch {
            release(opened.handle)
            throw error
        }
        return opened
    }

    /// Makes a handle; under the manifest's lock.
    func openHandle(
        to record: InodeRecord, flags: OpenFlags, _ state: ManifestState
    ) -> OpenedFile {
        let file = use(record)
        if flags.isWritable { file.writers += 1 }
        let handle = handles.insert(FileHandle(file: file, flags: flags))
        // The kernel is the only one who changes files here, so its pages always hold; but a read
        // that must move the access time has to come through.
        let keepCache = !(flags.isReadable && wantsAccessTime(record))
        return OpenedFile(handle: handle, keepCache: keepCache)
    }

    /// Counts a user of a file's shared state; under the manifest's lock.
    func use(_ record: InodeRecord) -> OpenFile {
        let file = running.openFiles[record.inode.number] ?? OpenFile(inode: record.inode)
        if file.users == 0 { running.openFiles[record.inode.number] = file }
        file.users += 1
        record.pins += 1
        return file
    }

    /// Ends a `use`; under the manifest's lock.
    func endUse(_ file: OpenFile, _ state: ManifestState) {
        file.users -= 1
        if file.users == 0 { running.openFiles.removeValue(forKey: file.inode.number) }
        guard let record = try? state.inode(file.inode) else { return }
        record.pins -= 1
        if file.users == 0 { reapIfUnused(record, state) }
    }

    /// What close(2) of one descriptor asks for; errors of earlier writes were told by the writes.
    public func flush(_ handle: HandleID) throws(Errno) {
        _ = try handles.handle(handle)
    }

    /// Ends a handle. What it wrote is sealed in the background after the last writer left.
    public func release(_ handle: HandleID) {
        guard let description = handles.remove(handle) else { return }
        let file = description.file
        let (isLastWriter, mustSynchronize) = manifest.withLock { state in
            if description.flags.isWritable { file.writers -= 1 }
            let isLast = description.flags.isWritable && file.writers == 0
            endUse(file, state)
            return (isLast, running.unsynchronized.count > RunningState.unsynchronizedMax)
        }
        if mustSynchronize { try? synchronizeBytes(of: file.inode) }
        if isLastWriter { enqueueSeal(file.inode) }
    }

    /// The flat file that holds an object, opened where it is not open yet; under the manifest's
    /// lock.
    func objectFile(
        _ file: OpenFile, object: UInt64, forWriting: Bool
    ) throws(Errno) -> ObjectFile {
        if let open = file.file, open.id == object, file.isFileWritable || !forWriting {
            return open
        }
        if let open = running.unsynchronized[file.inode.number]?.file, open.id == object {
            file.file = open
            file.isFileWritable = true
            return open
        }
        let opened = try store.open(object, forWriting: forWriting)
        file.file = opened
        file.isFileWritable = forWriting
        return opened
    }
}
