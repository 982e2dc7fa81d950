public import Base
internal import InodeManifest

public import struct SystemPackage.Errno

extension Volume {
    /// Moves a name, in one step for every observer and for a crash (renameat2(2)). What the new
    /// name stood for goes, unless the flags say otherwise.
    ///
    /// - Parameter caller: owns the whiteout, where the flags ask for one.
    /// - Throws: ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EEXIST, EINVAL where a directory would become
    ///   its own descendant, EROFS; ENOSPC where there is no room for a whiteout; ENOSPC and
    ///   EIO where unwritten bytes cannot be made durable.
    public func rename(
        _ name: FileName, in parent: Inode, to newName: FileName, in newParent: Inode,
        flags: RenameFlags, caller: Caller = .system
    ) throws(Errno) {
        try checkName(name)
        try checkName(newName)
        // renameat2(2): EINVAL for RENAME_EXCHANGE together with either of the others.
        guard flags.isSubset(of: .all),
            !flags.contains(.exchange) || flags.isDisjoint(with: [.noReplace, .whiteout])
        else { throw .invalidArgument }
        try synchronizeBeforeReplacing(name, in: parent, by: newName, in: newParent, flags: flags)
        try changing { (state) throws(Errno) in
            let from = try directory(parent, state)
            let to = try directory(newParent, state)
            guard let entry = try state.entry(name, in: from) else {
                throw absence(of: name, in: parent)
            }
            let moved = try record(entry.inode, state)
            let other = try state.entry(newName, in: to)
            let replaced = try other.map { (other) throws(Errno) in
                try record(other.inode, state)
            }
            guard to.linkCount > 0 else { throw .noSuchFileOrDirectory }
            if moved.kind == .directory { try refuseLoop(moving: moved, into: to, state) }
            if flags.contains(.exchange) {
                guard let replaced else { throw absence(of: newName, in: newParent) }
                if replaced.kind == .directory {
                    try refuseLoop(moving: replaced, into: from, state)
                }
                try exchange(
                    (name, from, moved), (newName, to, replaced), state)
                return
            }
            if let replaced {
                guard !flags.contains(.noReplace) else { throw .fileExists }
                // rename(2): two names of one inode: it does nothing, and returns success.
                if replaced.inode == moved.inode { return }
                try checkReplacing(replaced, by: moved, state)
            }
            if replaced == nil, SnapshotView.isTopName(newName, in: newParent) {
                throw flags.contains(.noReplace) ? .fileExists : .readOnlyFileSystem
            }
            // Made before anything is changed: there may be no room for it.
            let whiteout =
                flags.contains(.whiteout) ? try makeWhiteout(in: from, caller, state) : nil
            if let other, let replaced {
                if replaced.kind == .directory {
                    to.dropLink()
                    dropDirectory(replaced, state)
                } else {
                    dropLink(of: replaced, in: to, state)
                }
                state.replace(newName, in: to, other, inode: moved.inode, kind: moved.kind)
            } else {
                state.insert(newName, in: to, inode: moved.inode, kind: moved.kind)
            }
            if let whiteout {
                state.replace(
                    name, in: from, entry, inode: whiteout.inode, kind: whiteout.kind)
            } else {
                state.remove(name, in: from)
            }
            moveParent(of: moved, from: from, to: to, state)
            try touchDirectory(from, state)
            if to !== from { try touchDirectory(to, state) }
        }
    }

    /// Makes the inode that takes the old name, with the mode and all else that ext4 gives it.
    private func makeWhiteout(
        in directory: InodeRecord, _ caller: Caller, _ state: ManifestState
    ) throws(Errno) -> InodeRecord {
        try checkRoom(state)
        return try makeInode(
            in: directory, kind: .characterDevice, mode: 0, rdev: 0, target: [], caller: caller,
            state)
    }

    /// A directory must not be moved into its own subtree.
    private func refuseLoop(
        moving moved: InodeRecord, into directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) {
        var ancestor = directory
        // No more steps than there are inodes: in a damaged manifest the way up may be a ring.
        for _ in 0...state.inodeCount {
            if ancestor === moved { throw .invalidArgument }
            if ancestor.inode == .root || ancestor.parent == ancestor.inode { return }
            ancestor = try record(ancestor.parent, state)
        }
        throw .ioError.because(
            "\(directory.inode): no way leads from it to the root: run registryfs check")
    }

    private func checkReplacing(
        _ replaced: InodeRecord, by moved: InodeRecord, _ state: ManifestState
    ) throws(Errno) {
        if moved.kind == .directory {
            guard replaced.kind == .directory else { throw .notDirectory }
            guard try state.isEmpty(replaced) else { throw .directoryNotEmpty }
        } else if replaced.kind == .directory {
            throw .isDirectory
        }
    }

    private func exchange(
        _ one: (name: FileName, directory: InodeRecord, inode: InodeRecord),
        _ other: (name: FileName, directory: InodeRecord, inode: InodeRecord),
        _ state: ManifestState
    ) throws(Errno) {
        if one.inode === other.inode { return }
        guard let entry = try state.entry(one.name, in: one.directory),
            let otherEntry = try state.entry(other.name, in: other.directory)
        else { throw .noSuchFileOrDirectory }
        state.replace(
            one.name, in: one.directory, entry, inode: other.inode.inode, kind: other.inode.kind)
        state.replace(
            other.name, in: other.directory, otherEntry, inode: one.inode.inode,
            kind: one.inode.kind)
        moveParent(of: one.inode, from: one.directory, to: other.directory, state)
        moveParent(of: other.inode, from: other.directory, to: one.directory, state)
        try touchDirectory(one.directory, state)
        if one.directory !== other.directory { try touchDirectory(other.directory, state) }
    }

    /// Notes that one name of an inode stands in another directory now.
    private func moveParent(
        of moved: InodeRecord, from: InodeRecord, to: InodeRecord, _ state: ManifestState
    ) {
        moved.changed = Timestamp.now()
        state.mark(moved)
        guard from !== to else { return }
        if moved.kind == .directory {
            from.dropLink()
            to.addLink()
        }
        if moved.parent == from.inode {
            moved.parent = to.inode
        } else if let index = moved.otherParents.firstIndex(of: from.inode) {
            moved.otherParents[index] = to.inode
        }
    }

    /// Makes the bytes of a file durable before it takes the name of another, so that a crash
    /// leaves the old content or the new, as ext4 does for programs that forget to fsync. What was
    /// written to a backing file is taken over before any new name, so that none comes without it.
    private func synchronizeBeforeReplacing(
        _ name: FileName, in parent: Inode, by newName: FileName, in newParent: Inode,
        flags: RenameFlags
    ) throws(Errno) {
        let moved = try reading { (state) throws(Errno) -> (inode: Inode, replaces: Bool)? in
            guard let entry = try state.entry(name, in: try directory(parent, state)),
                entry.kind == .regular
            else { return nil }
            let other = try state.entry(newName, in: try directory(newParent, state))
            return (entry.inode, other != nil)
        }
        guard let moved else { return }
        if moved.replaces, !flags.contains(.noReplace), !flags.contains(.exchange) {
            try synchronizeBytes(of: moved.inode)
        } else {
            try syncFromBacking(moved.inode)
        }
    }
}
