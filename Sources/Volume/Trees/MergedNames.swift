internal import Base
internal import InodeManifest
internal import Multiformats

internal import struct SystemPackage.Errno

// Names that get, or lose, what has a CID: what a merge is made of.

extension Volume {
    /// Gives a name to what the node holds under a CID.
    ///
    /// - Parameters:
    ///   - replacing: what has the name now and is no directory; nil where it is free.
    ///   - keepsAttributes: the owner, mode and extended attributes of that stay with the name.
    /// - Throws: EEXIST or ENOENT where that is not so.
    func materialize(
        _ entry: ExpandedEntry, into parent: Inode, replacing old: Inode?,
        keepsAttributes: Bool = false
    ) throws(Errno) {
        try changing { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard directory.linkCount > 0 else { throw .noSuchFileOrDirectory }
            let existing = try state.entry(entry.name, in: directory)
            guard existing?.inode == old else {
                throw existing == nil ? .noSuchFileOrDirectory : .fileExists
            }
            var replaced: InodeRecord?
            if let existing {
                let target = try record(existing.inode, state)
                guard target.kind != .directory else { throw .fileExists }
                // Before anything is changed.
                if keepsAttributes, target.hasAttributes { _ = try state.attributes(of: target) }
                replaced = target
                state.remove(entry.name, in: directory)
                dropLink(of: target, in: directory, state)
            }
            let made = try materialize(entry, into: directory, state)
            if keepsAttributes, let replaced { try copyAttributes(of: replaced, to: made, state) }
            try touchDirectory(directory, state)
        }
        nameChanged(entry.name, in: parent)
    }

    private func copyAttributes(
        of old: InodeRecord, to new: InodeRecord, _ state: ManifestState
    ) throws(Errno) {
        (new.uid, new.gid) = (old.uid, old.gid)
        // Set-id bits would be those of another program.
        if new.kind == .regular, old.kind == .regular { new.mode = old.mode & 0o1777 }
        guard old.hasAttributes else { return }
        // So would capabilities.
        for (name, value) in try state.attributes(of: old).values
        where name != FileName("security.capability") {
            try state.setAttribute(name, of: new, to: value)
        }
    }

    /// Lets a directory that nobody has looked into stand for another CID.
    ///
    /// - Throws: ESTALE where it is not what it was.
    func retarget(
        _ inode: Inode, from old: CID, to entry: ExpandedEntry
    ) throws(Errno) {
        try changing { (state) throws(Errno) in
            let record = try record(inode, state)
            guard !record.isLoaded, record.cid == old else { throw Self.stale }
            try outdateTree(above: record, state)
            (record.cid, record.treeSize) = (entry.cid, entry.treeSize)
            let now = Timestamp.now()
            (record.modified, record.changed) = (now, now)
            state.mark(record)
        }
    }

    /// Removes a directory with all that is in it. What nobody has looked into goes in one step,
    /// whatever it would unfold to.
    ///
    /// - Throws: ENOTEMPTY, among others, where somebody makes new names in it meanwhile.
    func removeTree(_ name: FileName, in parent: Inode) throws(Errno) {
        struct Level {
            let name: FileName
            let parent: Inode
            let inode: Inode
            /// Nil before the directory is listed.
            var pending: [DirectoryEntry]?
        }
        let top = try reading { (state) throws(Errno) -> Inode in
            guard let entry = try state.entry(name, in: try directory(parent, state)) else {
                throw .noSuchFileOrDirectory
            }
            return entry.inode
        }
        var levels = [Level(name: name, parent: parent, inode: top, pending: nil)]
        var entered: Set<Inode> = [top]
        while let last = levels.indices.last {
            let level = levels[last]
            if level.pending == nil {
                if try removeNotLoaded(level.name, in: level.parent) {
                    nameChanged(level.name, in: level.parent)
                    levels.removeLast()
                    continue
                }
                levels[last].pending = try entries(in: level.inode)
            }
            guard let entry = levels[last].pending?.popLast() else {
                try removeDirectory(level.name, in: level.parent)
                nameChanged(level.name, in: level.parent)
                levels.removeLast()
                continue
            }
            if entry.kind == .directory {
                // A damaged manifest may have one below itself.
                guard entered.insert(entry.inode).inserted else {
                    throw .ioError.because("\(entry.inode): two names lead to this directory")
                }
                levels.append(
                    Level(
                        name: entry.name, parent: level.inode, inode: entry.inode, pending: nil))
            } else {
                try unlink(entry.name, in: level.inode)
                nameChanged(entry.name, in: level.inode)
            }
        }
    }

    /// Removes a directory that nobody has looked into; false, and nothing is done, for another.
    private func removeNotLoaded(_ name: FileName, in parent: Inode) throws(Errno) -> Bool {
        try changing { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard let entry = try state.entry(name, in: directory) else {
                throw .noSuchFileOrDirectory
            }
            let target = try record(entry.inode, state)
            guard target.kind == .directory, !target.isLoaded else { return false }
            state.remove(name, in: directory)
            directory.dropLink()
            try touchDirectory(directory, state)
            // Whoever stands in it finds it empty.
            target.isLoaded = true
            target.children.setComplete()
            state.clearTree(of: target)
            dropDirectory(target, state)
            return true
        }
    }

    /// The entries of a directory, without `.` and `..`.
    func entries(in directory: Inode) throws(Errno) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        try readDirectory(directory, from: 0) { entry in
            if entry.name.bytes != [0x2e], entry.name.bytes != [0x2e, 0x2e] {
                entries.append(entry)
            }
            return true
        }
        return entries
    }
}
