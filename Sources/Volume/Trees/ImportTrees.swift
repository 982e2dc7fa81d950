public import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
public import Multiformats
public import Remotes

internal import struct SystemPackage.Errno

// An import of whole trees. They are made, and filled, below a directory that has no name itself, and get their own
// name at the end, by one commit. So nobody sees a part of them, and what a crash leaves of them is an inode without
// a name, which the next opening removes with all that is below it (`removeNameless`).

extension Volume {
    /// Gives a name to the DAGs that somebody has who will not be asked again, once they are here as a whole: one DAG by
    /// its name, several in a directory of that name, each by its CID. All or nothing, whenever it ends. A file whose
    /// DAG is not the one that the volume's profile makes gets that one's CID.
    ///
    /// Blocks for the source and the disk.
    ///
    /// - Parameters:
    ///   - roots: the DAGs; the same one twice counts once.
    ///   - progress: as of `fetchTree`.
    /// - Throws: `tree` where a block cannot be had, or is nothing that a file system has; `operation` with EEXIST,
    ///   ENOENT, ENOTDIR, ENAMETOOLONG, ENOSPC, EROFS, and EINTR where `progress` ended it.
    public func importTrees(
        _ roots: [CID], from source: any RemoteBlocks, as name: FileName, in parent: Inode,
        progress: (FetchedTree) -> Bool
    ) throws(VolumeError) -> FetchedTree {
        var known: Set<CID> = []
        let roots = roots.filter { known.insert($0).inserted }
        guard !roots.isEmpty else {
            throw .tree("\(source.address): it has no root, so there is no tree to import")
        }
        return try remotes.fetcher.with(source) { () throws(VolumeError) in
            let entries = try entries(for: roots, as: name)
            let holder = try importing(source) { () throws(Errno) in
                try makeNameless(entries, as: name, for: parent)
            }
            do throws(VolumeError) {
                return try importing(source) { () throws(Errno) in
                    let top = try child(name, of: holder)
                    let found = try fetchTree(top, keepsAll: true, progress: progress)
                    try giveName(name, to: top, of: holder, in: parent)
                    return found
                }
            } catch {
                do throws(Errno) {
                    try removeNameless(holder)
                } catch {
                    log.warning("an import that failed takes room until the next mount: \(error)")
                }
                throw error
            }
        }
    }

    /// What the names lead to: the one that is given, or those below it.
    private func entries(
        for roots: [CID], as name: FileName
    ) throws(VolumeError) -> [ExpandedEntry] {
        guard roots.count > 1 else { return [try entry(name, of: roots[0])] }
        var entries: [ExpandedEntry] = []
        for root in roots { entries.append(try entry(FileName("\(root)"), of: root)) }
        return entries
    }

    /// Makes a directory that has no name, and in it the name with what it is to lead to.
    func makeNameless(
        _ entries: [ExpandedEntry], as name: FileName, for parent: Inode
    ) throws(Errno) -> Inode {
        try checkName(name)
        try refuseTopName(name, in: parent)
        return try changing { (state) throws(Errno) in
            let parent = try roomForName(name, in: parent, state)
            try checkRoom(state)
            let holder = state.makeInode(
                kind: .directory, mode: 0o755, uid: parent.uid, gid: parent.gid, parent: Inode(0))
            // By this it is known, also where what follows fails: whoever has a name has links.
            defer {
                holder.linkCount = 0
                state.mark(holder)
            }
            if entries.count == 1 {
                try materialize(entries[0], into: holder, state)
            } else {
                let directory = state.makeInode(
                    kind: .directory, mode: 0o755, uid: parent.uid, gid: parent.gid,
                    parent: holder.inode)
                state.insert(name, in: holder, inode: directory.inode, kind: .directory)
                for entry in entries { try materialize(entry, into: directory, state) }
            }
            return holder.inode
        }
    }

    /// The directory that is to get a name which is free.
    private func roomForName(
        _ name: FileName, in parent: Inode, _ state: ManifestState
    ) throws(Errno) -> InodeRecord {
        let parent = try directory(parent, state)
        guard parent.linkCount > 0 else { throw .noSuchFileOrDirectory }
        guard try state.entry(name, in: parent) == nil else { throw .fileExists }
        return parent
    }

    /// Gives what is here as a whole its name, in one commit, and removes the directory that it was in.
    private func giveName(
        _ name: FileName, to top: Inode, of holder: Inode, in parent: Inode
    ) throws(Errno) {
        let isDirectory = try changing { (state) throws(Errno) in
            let to = try roomForName(name, in: parent, state)
            return try giveName(name, to: top, of: holder, in: to, state) == .directory
        }
        nameChanged(name, in: parent)
        do throws(Errno) {
            try manifest.commit()
        } catch {
            try? remove(name, isDirectory: isDirectory, in: parent)
            nameChanged(name, in: parent)
            throw error
        }
    }

    /// Moves what was made below a directory without a name to where its name is free.
    ///
    /// - Returns: what it is.
    func giveName(
        _ name: FileName, to top: Inode, of holder: Inode, in to: InodeRecord,
        _ state: ManifestState
    ) throws(Errno) -> FileKind {
        let from = try directory(holder, state)
        let record = try record(top, state)
        if record.kind == .directory {
            guard to.linkCount < .max else { throw .tooManyLinks }
            to.addLink()
        }
        state.remove(name, in: from)
        state.insert(name, in: to, inode: top, kind: record.kind)
        record.parent = to.inode
        record.changed = Timestamp.now()
        state.mark(record)
        try touchDirectory(to, state)
        reapIfUnused(from, state)
        return record.kind
    }

    private func remove(
        _ name: FileName, isDirectory: Bool, in parent: Inode
    ) throws(Errno) {
        if isDirectory {
            try removeTree(name, in: parent)
        } else {
            try unlink(name, in: parent)
        }
    }

    /// Removes a directory without a name, with all that is below it; nothing happens where it is gone.
    func removeNameless(_ holder: Inode) throws(Errno) {
        // Who lists it as others do finds nothing: nobody but an import has such a one.
        let entries = try reading { (state) throws(Errno) in
            var entries: [(name: FileName, isDirectory: Bool)] = []
            guard let holder = try state.inode(holder) else { return entries }
            try state.forEachEntry(of: holder, after: 0) { name, entry in
                entries.append((name, entry.kind == .directory))
                return true
            }
            return entries
        }
        for entry in entries {
            try remove(entry.name, isDirectory: entry.isDirectory, in: holder)
        }
        try changing { (state) throws(Errno) in
            if let record = try state.inode(holder) { reapIfUnused(record, state) }
        }
    }

    func child(_ name: FileName, of parent: Inode) throws(Errno) -> Inode {
        try reading { (state) throws(Errno) in
            guard let entry = try state.entry(name, in: try directory(parent, state)) else {
                throw .noSuchFileOrDirectory
            }
            return entry.inode
        }
    }

    /// Names the source where something of it cannot be had, and the errno alone else.
    private func importing<Result>(
        _ source: any RemoteBlocks, _ body: () throws(Errno) -> Result
    ) throws(VolumeError) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            let cause = error.isOrdinary ? nil : FailureCause.take()
            if error == .ioError, let cause { throw .tree("\(source.address): \(cause)") }
            throw .operation("importing \(source.address)" + (cause.map { ": \($0)" } ?? ""), error)
        }
    }
}
