public import Base
internal import InodeManifest

public import struct SystemPackage.Errno

extension Volume {
    /// Finds a name in a directory, and counts one reference of the kernel to what it names.
    ///
    /// - Throws: ENOENT, ENOTDIR, ENAMETOOLONG.
    public func lookup(_ name: FileName, in parent: Inode) throws(Errno) -> Attributes {
        guard name.bytes.count <= Self.nameLengthMax else { throw .fileNameTooLong }
        return try reading { (state) throws(Errno) in
            let directory = try directory(parent, state)
            if name.bytes == [0x2e] { return referenced(directory, state) }
            if name.bytes == [0x2e, 0x2e] {
                return referenced(try record(directory.parent, state), state)
            }
            guard let entry = try state.entry(name, in: directory) else {
                throw .noSuchFileOrDirectory
            }
            return referenced(try record(entry.inode, state), state)
        }
    }

    /// The attributes of an inode, which may be nameless but open.
    ///
    /// - Throws: ESTALE where it is gone.
    public func attributes(of inode: Inode) throws(Errno) -> Attributes {
        try reading { (state) throws(Errno) in
            attributes(of: try record(inode, state), state)
        }
    }

    /// The target of a symbolic link.
    ///
    /// - Throws: EINVAL for anything else.
    public func readSymlink(_ inode: Inode) throws(Errno) -> [UInt8] {
        try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            guard record.kind == .symlink else { throw .invalidArgument }
            noteAccess(to: record, state)
            return record.target
        }
    }

    /// Walks names from the root, links not followed. Counts no reference.
    ///
    /// - Throws: ENOENT, ENOTDIR.
    public func resolve(path: [FileName]) throws(Errno) -> Inode {
        try reading { (state) throws(Errno) in
            var inode = Inode.root
            for name in path {
                let directory = try directory(inode, state)
                guard let entry = try state.entry(name, in: directory) else {
                    throw .noSuchFileOrDirectory
                }
                inode = entry.inode
            }
            return inode
        }
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
