public import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// Sets attributes (chmod(2), chown(2), truncate(2), utimensat(2)). Who may, the kernel has
    /// checked.
    ///
    /// - Throws: ESTALE, EISDIR or EINVAL for the size of what is no regular file, EFBIG, ENOSPC,
    ///   EIO, EROFS.
    public func setAttributes(
        of inode: Inode, _ change: AttributeChange, handle: HandleID?, caller: Caller
    ) throws(Errno) -> Attributes {
        if let size = change.size { try resize(inode, to: size, change, caller) }
        let seen = backingStatus(of: inode)
        let mayTake = change.uid != nil || change.gid != nil || change.isEmpty
        // Bits that come meanwhile go.
        let rights =
            (mayTake ? rights(of: caller, over: inode) : nil) ?? Rights(least: caller)
        let known = try changing { (state) throws(Errno) in
            let record = try record(inode, state)
            // What was written before this is older than what is set here.
            if let seen, let file = opens(state).files[inode.number],
                file(state).backing?.attachment === seen.attachment
            {
                takeOverTimes(of: record, file, seen.status, state)
            }
            let now = Timestamp.now()
            if change.uid != nil || change.gid != nil {
                try dropPrivilegesForOwner(of: record, by: rights, state)
                record.uid = change.uid ?? record.uid
                record.gid = change.gid ?? record.gid
            } else if change.isEmpty {
                try dropPrivilegesAsAsked(of: record, by: caller, rights, state)
            }
            if let mode = change.mode { try setMode(of: record, to: mode & 0o7777, state) }
            if let accessed = change.accessed { record.accessed = accessed.time(now: now) }
            if let modified = change.modified { record.modified = modified.time(now: now) }
            record.changed = change.changed ?? now
            state.mark(record)
            return knownAttributes(of: record, state)
        }
        return try attributes(known)
    }

    /// What the backing file of an inode tells of itself now, if it has one.
    private func backingStatus(
        of inode: Inode
    ) -> (attachment: BackingAttachment, status: FileStatus)? {
        let backing = manifest.withLock { state in opens(state).files[inode.number]?(state).backing
        }
        guard let backing, let status = try? Sys.status(of: backing.file.raw) else { return nil }
        return (backing.attachment, status)
    }

    private func resize(
        _ inode: Inode, to size: UInt64, _ change: AttributeChange, _ caller: Caller
    ) throws(Errno) {
        guard !options.isReadOnly else { throw .readOnlyFileSystem }
        let file = try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            guard record.kind != .directory else { throw .isDirectory }
            guard record.kind == .regular else { throw .invalidArgument }
            let file = use(record, state)
            // Like an open writer, so that nothing is sealed while the bytes are changed.
            file(state).writers += 1
            return file
        }
        defer {
            let isUnused = manifest.withLock { state in
                file(state).writers -= 1
                endUse(file, state)
                return !file(state).hasWriters
            }
            if isUnused { enqueueSeal(inode) }
        }
        // The answer tells the kernel of the mode.
        try truncate(
            file, to: size, by: Writer(caller: caller, clearsSetID: change.clearSetID))
    }
}

extension TimeChange {
    fileprivate func time(now: Timestamp) -> Timestamp {
        switch self {
        case .now: now
        case .at(let time): time
        }
    }
}
