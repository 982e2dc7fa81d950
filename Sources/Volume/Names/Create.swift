public import Base
internal import InodeManifest

public import struct SystemPackage.Errno

extension Volume {
    /// Makes a file, fifo, socket or device node (mknod(2)). Counts one reference.
    ///
    /// - Throws: EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, ENOSPC, EROFS.
    public func makeNode(
        _ name: FileName, in parent: Inode, kind: FileKind, mode: UInt32, rdev: UInt64,
        caller: Caller
    ) throws(Errno) -> Attributes {
        guard kind != .directory, kind != .symlink else { throw .invalidArgument }
        let known = try changing { (state) throws(Errno) in
            let record = try makeEntry(
                name, in: parent, kind: kind, mode: mode, rdev: rdev, caller: caller, state)
            return referenced(record, state)
        }
        return try attributes(known)
    }

    /// Makes a directory (mkdir(2)). Counts one reference.
    ///
    /// - Throws: as `makeNode`.
    public func makeDirectory(
        _ name: FileName, in parent: Inode, mode: UInt32, caller: Caller
    ) throws(Errno) -> Attributes {
        let known = try changing { (state) throws(Errno) in
            let record = try makeEntry(
                name, in: parent, kind: .directory, mode: mode, caller: caller, state)
            return referenced(record, state)
        }
        return try attributes(known)
    }

    /// Makes a symbolic link (symlink(2)). Counts one reference.
    ///
    /// - Throws: as `makeNode`; ENAMETOOLONG for a target over 4,095 bytes (PATH_MAX).
    public func makeSymlink(
        _ name: FileName, in parent: Inode, target: [UInt8], caller: Caller
    ) throws(Errno) -> Attributes {
        guard target.count < 4096 else { throw .fileNameTooLong }
        guard !target.isEmpty else { throw .noSuchFileOrDirectory }
        let known = try changing { (state) throws(Errno) in
            // symlink(7): the permissions of a symbolic link are not used; they are always 0777.
            let bare = Caller(uid: caller.uid, gid: caller.gid, pid: caller.pid, umask: 0)
            let record = try makeEntry(
                name, in: parent, kind: .symlink, mode: 0o777, target: target, caller: bare, state)
            return referenced(record, state)
        }
        return try attributes(known)
    }

    /// Makes a regular file and opens it. Where the name is there already, it is opened instead,
    /// as open(2) with O_CREAT does. Counts one reference.
    ///
    /// - Throws: EEXIST for O_EXCL, EISDIR, and as `makeNode`.
    public func create(
        _ name: FileName, in parent: Inode, mode: UInt32, flags: OpenFlags, caller: Caller
    ) throws(Errno) -> (Attributes, OpenedFile) {
        let nameClass = SmallFilePredictor.NameClass(of: name)
        var attempt = 0
        while true {
            attempt += 1
            let existing = try reading { (state) throws(Errno) in
                try state.entry(name, in: try directory(parent, state))?.inode
            }
            do throws(Errno) {
                if let existing {
                    guard !flags.isExclusive else { throw .fileExists }
                    return try openReferenced(existing, flags: flags, caller: caller)
                }
                if SnapshotView.isTopName(name, in: parent) {
                    throw flags.isExclusive ? .fileExists : .isDirectory
                }
                return try makeAndOpen(flags, nameClass) { (state) throws(Errno) in
                    try makeEntry(
                        name, in: parent, kind: .regular, mode: mode, caller: caller, state)
                }
            } catch {
                // Others may make or remove the name between the look and the deed.
                let isOvertaken = existing == nil ? error == .fileExists : error == Self.stale
                guard isOvertaken, !flags.isExclusive, attempt < Self.createAttemptsMax else {
                    throw error
                }
            }
        }
    }

    /// How often `create` looks again when others make and remove its name meanwhile.
    private static let createAttemptsMax = 64

    /// Makes a regular file by a body and opens it. The attributes are those of the open file.
    ///
    /// - Parameter nameClass: tells of its size; nil where it has no name.
    private func makeAndOpen(
        _ flags: OpenFlags, _ nameClass: SmallFilePredictor.NameClass?,
        _ body: (ManifestState) throws(Errno) -> InodeRecord
    ) throws(Errno) -> (Attributes, OpenedFile) {
        let (inode, handle) = try changing { (state) throws(Errno) in
            let record = try body(state)
            _ = referenced(record, state)
            if let nameClass { passthrough(state).smallFiles.noteMade(record.inode, nameClass) }
            return (record.inode, openHandle(to: record, flags: flags, state))
        }
        do throws(Errno) {
            let opened = try finishOpening(handle, isNew: true)
            return (try attributes(of: inode), opened)
        } catch {
            forget(inode, count: 1)
            throw error
        }
    }

    private func openReferenced(
        _ inode: Inode, flags: OpenFlags, caller: Caller
    ) throws(Errno) -> (Attributes, OpenedFile) {
        let opened = try open(inode, flags: flags, caller: caller)
        do throws(Errno) {
            let known = try reading { (state) throws(Errno) in
                referenced(try record(inode, state), state)
            }
            return (try attributes(known), opened)
        } catch {
            release(opened.handle)
            throw error
        }
    }

    /// Makes a regular file without a name and opens it (O_TMPFILE of open(2)); `link` can name
    /// it later unless O_EXCL is set. Counts one reference.
    public func makeTemporary(
        in parent: Inode, mode: UInt32, flags: OpenFlags, caller: Caller
    ) throws(Errno) -> (Attributes, OpenedFile) {
        try makeAndOpen(flags, nil) { (state) throws(Errno) in
            let directory = try directory(parent, state)
            try checkRoom(state)
            let record = try makeInode(
                in: directory, kind: .regular, mode: mode, rdev: 0, target: [], caller: caller,
                state)
            record.linkCount = 0
            record.parent = Inode(0)
            return record
        }
    }

    /// Makes an inode and its entry.
    private func makeEntry(
        _ name: FileName, in parent: Inode, kind: FileKind, mode: UInt32, rdev: UInt64 = 0,
        target: [UInt8] = [], caller: Caller, _ state: ManifestState
    ) throws(Errno) -> InodeRecord {
        try checkName(name)
        let directory = try directory(parent, state)
        // A directory that was removed while somebody stands in it takes no new entries.
        guard directory.linkCount > 0 else { throw .noSuchFileOrDirectory }
        guard try state.entry(name, in: directory) == nil else { throw .fileExists }
        try refuseTopName(name, in: parent)
        try checkRoom(state)
        if kind == .directory, directory.linkCount == UInt32.max { throw .tooManyLinks }
        let record = try makeInode(
            in: directory, kind: kind, mode: mode, rdev: rdev, target: target, caller: caller,
            state)
        state.insert(name, in: directory, inode: record.inode, kind: kind)
        if kind == .directory { directory.addLink() }
        try touchDirectory(directory, state)
        return record
    }

    /// Makes an inode with the owner, group, mode and ACLs that it inherits.
    func makeInode(
        in directory: InodeRecord, kind: FileKind, mode: UInt32, rdev: UInt64, target: [UInt8],
        caller: Caller, _ state: ManifestState
    ) throws(Errno) -> InodeRecord {
        var mode = mode & 0o7777
        var gid = caller.gid
        // inode(7): in a set-group-ID directory, new files get the directory's group, and new
        // directories the bit as well.
        if directory.mode & 0o2000 != 0 {
            gid = directory.gid
            if kind == .directory { mode |= 0o2000 }
        }
        let inherited = try inheritedACLs(
            from: directory, kind: kind, mode: &mode, umask: caller.umask, state)
        let record = state.makeInode(
            kind: kind, mode: mode, uid: caller.uid, gid: gid, rdev: rdev,
            parent: directory.inode, target: target)
        for (name, value) in inherited { try state.setAttribute(name, of: record, to: value) }
        return record
    }
}
