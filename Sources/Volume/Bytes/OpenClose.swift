public import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Opens a regular file. O_TRUNC empties it; O_CREAT and O_EXCL are `create`'s. Blocks for the node
    /// where content that is there only is to be written, unless O_NONBLOCK is set.
    ///
    /// - Parameter clearSetID: with O_TRUNC, the caller may not keep set-id bits.
    /// - Throws: EISDIR, ELOOP for a symlink, ENXIO for what is no regular file, EROFS; EINTR where
    ///   the wait was interrupted.
    public func open(
        _ inode: Inode, flags: OpenFlags, caller: Caller, clearSetID: Bool = false
    ) throws(Errno) -> OpenedFile {
        if options.isReadOnly, flags.isWritable || flags.truncates { throw .readOnlyFileSystem }
        if inode.isOfView { return try view.open(inode, flags: flags, self) }
        let opened = try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            switch record.kind {
            case .regular: return openHandle(to: record, flags: flags, state)
            case .directory: throw .isDirectory
            case .symlink: throw .tooManySymbolicLinkLevels
            case .fifo, .socket, .characterDevice, .blockDevice: throw .noSuchAddressOrDevice
            }
        }
        defer { tellLostPrivileges(of: opened.1.file) }
        return try finishOpening(opened, by: Writer(caller: caller, clearsSetID: clearSetID))
    }

    /// Makes a handle; under the manifest's lock. `finishOpening` must follow without it.
    func openHandle(
        to record: InodeRecord, flags: OpenFlags, _ state: ManifestState
    ) -> (HandleID, FileHandle) {
        let file = use(record, state)
        file(state).opens += 1
        if flags.isWritable { file(state).writers += 1 }
        let description = FileHandle(file: file, flags: flags)
        return (opens.handles.insert(description), description)
    }

    /// Empties the file where O_TRUNC asks for it, and decides how its bytes are got at.
    func finishOpening(
        _ opened: (HandleID, FileHandle), isNew: Bool = false, by writer: Writer = .nobody
    ) throws(Errno) -> OpenedFile {
        let (handle, description) = opened
        do throws(Errno) {
            // First, so that content which goes anyway is neither unsealed nor copied.
            if description.flags.truncates { try truncate(description.file, to: 0, by: writer) }
            if description.flags.isWritable, !description.flags.isNonblocking {
                try fetchBeforeWrites(to: description.file)
            }
            let access = try access(for: description, isNew: isNew)
            return OpenedFile(
                handle: handle, access: access, mayWait: try isRemote(description.file, access))
        } catch {
            release(handle)
            throw error
        }
    }

    private func isRemote(_ file: OpenFile, _ access: FileAccess) throws(Errno) -> Bool {
        guard fetcher != nil, case .volume = access else { return false }
        return try reading { (state) throws(Errno) in
            try state.object(of: try record(file.inode, state))?.state == .remote
        }
    }

    /// Counts a user of a file's shared state; under the manifest's lock.
    func use(_ record: InodeRecord, _ state: ManifestState) -> OpenFile {
        let file = opens(state).files[record.inode.number] ?? OpenFile(inode: record.inode)
        if file(state).users == 0 {
            file(state).nameClass = passthrough(state).smallFiles.nameClass(of: record.inode)
            opens(state).files[record.inode.number] = file
        }
        file(state).users += 1
        record.pins += 1
        return file
    }

    /// Ends a `use`; under the manifest's lock.
    func endUse(_ file: OpenFile, _ state: ManifestState) {
        file(state).users -= 1
        if file(state).users == 0 {
            opens(state).files.removeValue(forKey: file.inode.number)
            remotes(state).endUse(of: file(state))
        }
        guard let record = try? state.inode(file.inode) else { return }
        record.pins -= 1
        if file(state).users == 0 { reapIfUnused(record, state) }
    }

    /// What close(2) of one descriptor asks for; errors of earlier writes were told by the writes.
    public func flush(_ handle: HandleID) throws(Errno) {
        if handle.isOfView {
            _ = try view.file(handle)
        } else {
            _ = try opens.handles.handle(handle)
        }
    }

    /// Ends a handle. What it wrote is sealed in the background after the last writer left.
    public func release(_ handle: HandleID) {
        if handle.isOfView { return view.release(handle, self) }
        guard let description = opens.handles.remove(handle) else { return }
        let file = description.file
        var isRemoteDue = false
        let (isLastWriter, hasBacking, mustSynchronize) = manifest.withLock { state in
            if description.flags.isWritable { file(state).writers -= 1 }
            file(state).opens -= 1
            let isLast = description.flags.isWritable && file(state).writers == 0
            if file(state).opens == 0 { file(state).passthrough.noteClosed() }
            let hasBacking = file(state).backing != nil
            if isLast, !hasBacking { noteSize(of: file, state) }
            endUse(file, state)
            if let fetcher {
                isRemoteDue = remotes(state).closed.extentCount > fetcher.extents.closedMax
            }
            return (
                isLast, hasBacking, opens(state).unsynchronized.count > OpenFiles.unsynchronizedMax
            )
        }
        if let fetcher, isRemoteDue { letClosedGo(fetcher) }
        if hasBacking { detachBacking(of: file) }
        if mustSynchronize { try? synchronizeBytes(of: file.inode) }
        if isLastWriter && !hasBacking { enqueueSeal(file.inode) }
    }

    /// Notes how large a file has become; under the manifest's lock.
    func noteSize(of file: OpenFile, _ state: ManifestState) {
        guard let nameClass = file(state).nameClass, let record = try? state.inode(file.inode)
        else {
            return
        }
        passthrough(state).smallFiles.note(nameClass, isSmall: record.size <= options.inlineSizeMax)
    }

    /// The open flat file that holds an object; under the manifest's lock.
    ///
    /// - Throws: `FilesAhead.notOpen` where it has to be opened first; nothing may have been changed until then.
    func objectFile(
        _ file: OpenFile, object: UInt64, forWriting: Bool, _ state: ManifestState
    ) throws(Errno) -> ObjectFile {
        if let open = file(state).file, open.id == object, file(state).isFileWritable || !forWriting
        {
            return open
        }
        if let open = opens(state).unsynchronized[file.inode.number]?.file, open.id == object {
            file(state).file = open
            file(state).isFileWritable = true
            return open
        }
        let opened = try opens.filesAhead(state).file(object, forWriting: forWriting, state)
        file(state).file = opened
        file(state).isFileWritable = forWriting
        return opened
    }

    /// Opens the flat file of an object that has one. Not under the manifest's lock.
    ///
    /// - Throws: EIO where it is missing: ENOENT would tell a program that a name is.
    func openFlatFile(_ object: UInt64, forWriting: Bool) throws(Errno) -> ObjectFile {
        do throws(Errno) {
            return try store.open(object, forWriting: forWriting)
        } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
            throw .ioError.because(
                "object \(object): its flat file in \(stateDirectoryPath)/objects is missing: "
                    + "run registryfs check")
        }
    }
}
