public import Base
internal import InodeManifest

public import struct SystemPackage.Errno

extension Volume {
    /// Finds a name in a directory, and counts one reference of the kernel to what it names.
    ///
    /// `.` is the inode itself, of whatever kind, and `..` a directory in which it has a name: so the
    /// kernel, asked by a file handle (open_by_handle_at(2), NFS), finds again what it has dropped.
    /// `/` is the inode itself, too: it is the name of what the kernel knows by a handle only, and it
    /// asks by that name, as below the inode, whether it still holds (overlayfs does so).
    ///
    /// A name that is not here may be a domain's, or that of a blob of one (`Domains`): then it blocks for the network, as long as
    /// `DomainOptions` says at most.
    ///
    /// - Throws: ENOENT, ENOTDIR, ENAMETOOLONG; ESTALE for `.` and `..` of what has no name any more; EIO where a domain cannot be
    ///   looked up, EINTR where that was interrupted.
    public func lookup(_ name: FileName, in parent: Inode) throws(Errno) -> Attributes {
        do throws(Errno) {
            return try lookUpHere(name, in: parent)
        } catch {
            guard error == .noSuchFileOrDirectory, options.domains != nil,
                try pullThrough(name, in: parent)
            else { throw error }
        }
        return try lookUpHere(name, in: parent)
    }

    private func lookUpHere(_ name: FileName, in parent: Inode) throws(Errno) -> Attributes {
        guard name.bytes.count <= Self.nameLengthMax else { throw .fileNameTooLong }
        if parent.isOfView { return try view.lookup(name, in: parent, self) }
        let known = try reading { (state) throws(Errno) -> KnownAttributes? in
            if let found = try inodeNamedByItself(name, parent, state) {
                return referenced(found, state)
            }
            let directory = try directory(parent, state)
            guard let entry = try state.entry(name, in: directory) else {
                if SnapshotView.isTopName(name, in: parent) { return nil }
                throw .noSuchFileOrDirectory
            }
            return referenced(try record(entry.inode, state), state)
        }
        guard let known else { return try view.attributes(of: SnapshotView.top, self) }
        return try attributes(known)
    }

    /// What `.`, `..` and `/` stand for, looked up in an inode; nil for all other names.
    private func inodeNamedByItself(
        _ name: FileName, _ inode: Inode, _ state: ManifestState
    ) throws(Errno) -> InodeRecord? {
        let bytes = name.bytes
        guard bytes.count <= 2, let first = bytes.first, first == 0x2e || first == 0x2f,
            bytes.count == 1 || bytes[1] == 0x2e && first == 0x2e
        else { return nil }
        let itself = try record(inode, state)
        if first == 0x2f { return itself }
        // Who asks by number does not have the inode, so nothing keeps one without a name.
        guard itself.linkCount > 0 else { throw Self.stale }
        return bytes.count == 1 ? itself : try record(itself.parent, state)
    }

    /// The attributes of an inode, which may be nameless but open.
    ///
    /// - Throws: ESTALE where it is gone.
    public func attributes(of inode: Inode) throws(Errno) -> Attributes {
        if inode.isOfView { return try view.attributes(of: inode, self) }
        let known = try reading { (state) throws(Errno) in
            knownAttributes(of: try record(inode, state), state)
        }
        return try attributes(known)
    }

    /// The target of a symbolic link.
    ///
    /// - Throws: EINVAL for anything else.
    public func readSymlink(_ inode: Inode) throws(Errno) -> [UInt8] {
        if inode.isOfView { return try view.readSymlink(inode) }
        return try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            guard record.kind == .symlink else { throw .invalidArgument }
            noteAccess(to: record, state)
            return record.target
        }
    }

    /// Walks names from the root, links not followed. Counts no reference; an inode of the view of snapshots is known
    /// for a while.
    ///
    /// - Throws: ENOENT, ENOTDIR.
    public func resolve(path: [FileName]) throws(Errno) -> Inode {
        var rest = path[...]
        let inode = try reading { (state) throws(Errno) in
            rest = path[...]
            var inode = Inode.root
            while let name = rest.first {
                let directory = try directory(inode, state)
                rest.removeFirst()
                guard let entry = try state.entry(name, in: directory) else {
                    guard SnapshotView.isTopName(name, in: inode) else {
                        throw .noSuchFileOrDirectory
                    }
                    return SnapshotView.top
                }
                inode = entry.inode
            }
            return inode
        }
        return rest.isEmpty ? inode : try view.resolve(rest, from: inode, self)
    }

    /// Moves the access time the way `relatime` of mount(8) does: only where it is older than the
    /// last change or than a day.
    func noteAccess(to record: InodeRecord, _ state: ManifestState) {
        guard !options.isReadOnly, wantsAccessTime(record) else { return }
        record.accessed = Timestamp.now()
        state.mark(record)
    }

    func wantsAccessTime(_ record: InodeRecord) -> Bool {
        let day: Int64 = 24 * 3600 * 1_000_000_000
        return record.accessed <= record.modified || record.accessed <= record.changed
            || Timestamp.now().nanoseconds &- record.accessed.nanoseconds > day
    }
}
