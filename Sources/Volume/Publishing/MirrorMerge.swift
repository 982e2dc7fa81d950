public import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

// What others do at the MFS path comes into the tree name by name, by comparing three directories:
// the mirror as it was left (base), what stands there now (theirs), and the tree (ours). Where only
// they changed a name, it becomes theirs; where both did, ours keeps the name and theirs gets one
// beside it, so that nothing is lost. Doing it again changes nothing more.

extension Volume {
    /// Brings what others changed at the MFS path into the tree.
    func mergeMirror(_ connection: RemoteConnection) throws(PublishFailure) {
        let mirror = manifest.withLock { $0.published?.view }
        guard let status = try mirrorStatus(connection) else {
            // Whoever took all of it away has no part of the tree in mind: it is shown again.
            if mirror != nil { manifest.withLock { $0.published?.view = nil } }
            return
        }
        guard status.cid != mirror else { return }
        log.notice("MFS \(connection.path) was changed by others: merging \(status.cid)")
        let merge = MirrorMerge(volume: self, connection: connection)
        do throws(MergeStop) {
            try merge.run(base: mirror, theirs: status.cid)
        } catch {
            switch error {
            case .changed: throw .changed
            case .read(let error):
                throw .failed("MFS \(connection.path) cannot be merged: \(error.reason)")
            case .tree(let error):
                throw .failed("MFS \(connection.path) cannot be merged: \(error)")
            }
        }
        // With what was merged, in one commit or in an earlier one.
        manifest.withLock { $0.published?.view = status.cid }
    }
}

/// Why a merge stopped.
private enum MergeStop: Error {
    /// The tree changed under it; the next one goes on.
    case changed
    case read(DAGReadError)
    case tree(Errno)
}

/// One merge of a mirror into the tree.
private final class MirrorMerge {
    private struct Directory {
        let base: CID?
        let theirs: CID
        let inode: Inode
        let path: String
    }

    private typealias Link = MerkleDAG.DirectoryEntry

    private let volume: Volume
    private let connection: RemoteConnection
    private let blocks: VolumeBlocks
    private var pending: [Directory] = []
    /// What was found of blocks that may be linked again; nil for what is nothing at all.
    private var kinds: [CID: UnixFSEntry?] = [:]
    private static let kindsMax = 4_096

    init(volume: Volume, connection: RemoteConnection) {
        self.volume = volume
        self.connection = connection
        blocks = VolumeBlocks(volume: volume, fetcher: connection.fetcher)
    }

    func run(base: CID?, theirs: CID) throws(MergeStop) {
        pending = [Directory(base: base, theirs: theirs, inode: .root, path: "")]
        while let directory = pending.popLast() { try merge(directory) }
    }

    private func merge(_ directory: Directory) throws(MergeStop) {
        let theirs: [Link]
        do throws(DAGReadError) {
            theirs = try links(of: directory.theirs)
        } catch {
            // What nobody can read is nothing that they could mean; ours stays in its place.
            guard error.isOfContent, !directory.path.isEmpty else { throw .read(error) }
            let path = shown(Array(directory.path.utf8))
            volume.log.warning("MFS: \(path) is passed over: \(error.reason)")
            return
        }
        // What the node has let go of cannot be compared with: then nothing counts as removed.
        var base: [[UInt8]: Link] = [:]
        if let cid = directory.base, let known = try? links(of: cid) {
            for link in known { base[link.name] = link }
        }
        for link in theirs {
            let before = base.removeValue(forKey: link.name)
            guard before?.cid != link.cid else { continue }
            try merge(link, before, directory)
        }
        for link in base.values { try mergeRemoval(of: link, directory) }
    }

    private func links(of cid: CID) throws(DAGReadError) -> [Link] {
        let expansion = Expansion(volume, connection.fetcher)
        defer { expansion.end() }
        return try expansion.links(of: cid)
    }

    /// A name that is new or different there.
    private func merge(
        _ link: Link, _ before: Link?, _ directory: Directory
    ) throws(MergeStop) {
        let name = FileName(link.name)
        let path = directory.path + "/" + String(decoding: link.name, as: UTF8.self)
        guard let theirs = try expanded(link) else { return }
        guard let ours = try ours(name, directory.inode) else {
            // Where we removed what they changed, it comes back: theirs is the newer content.
            try change(path, "added") { () throws(Errno) in
                try self.volume.materialize(theirs, into: directory.inode, replacing: nil)
            }
            return
        }
        let cid = try self.cid(of: ours.inode)
        if cid == link.cid { return }
        if case .directory = theirs.entry, ours.kind == .directory {
            // Nobody has looked into it: it need not be compared, which for a DAG that links the same
            // directories again and again would never end.
            if let before, cid == before.cid, try isNotLoaded(ours.inode) {
                try change(path, "changed") { () throws(Errno) in
                    try self.volume.retarget(ours.inode, from: before.cid, to: theirs)
                    self.volume.nameChanged(name, in: directory.inode)
                }
                return
            }
            if try isNotLoaded(ours.inode) { return try keepBoth(theirs, directory, path) }
            let isDirectoryBefore = try before.map { (link) throws(MergeStop) in
                if case .directory? = try expanded(link)?.entry { true } else { false }
            }
            pending.append(
                Directory(
                    base: isDirectoryBefore == true ? before?.cid : nil, theirs: link.cid,
                    inode: ours.inode, path: path))
            return
        }
        if let before, cid == before.cid {
            try change(path, "changed") { () throws(Errno) in
                if ours.kind == .directory {
                    try self.volume.removeTree(name, in: directory.inode)
                    try self.volume.materialize(theirs, into: directory.inode, replacing: nil)
                } else {
                    try self.volume.materialize(
                        theirs, into: directory.inode, replacing: ours.inode)
                }
            }
            return
        }
        try keepBoth(theirs, directory, path)
    }

    /// A name that is gone there.
    private func mergeRemoval(of link: Link, _ directory: Directory) throws(MergeStop) {
        let name = FileName(link.name)
        let path = directory.path + "/" + String(decoding: link.name, as: UTF8.self)
        guard let ours = try ours(name, directory.inode) else { return }
        guard try cid(of: ours.inode) == link.cid else {
            volume.log.warning("MFS: \(path) was removed there and changed here: it stays")
            return
        }
        try change(path, "removed") { () throws(Errno) in
            if ours.kind == .directory {
                try self.volume.removeTree(name, in: directory.inode)
            } else {
                try self.volume.unlink(name, in: directory.inode)
                self.volume.nameChanged(name, in: directory.inode)
            }
        }
    }

    private func keepBoth(
        _ theirs: Volume.ExpandedEntry, _ directory: Directory, _ path: String
    ) throws(MergeStop) {
        let suffix = Array(".mfs-\(theirs.cid)".utf8.suffix(8))
        let stem = theirs.name.bytes.prefix(Volume.nameLengthMax - suffix.count - 5)
        let name = FileName(stem + Array(".mfs-".utf8) + suffix)
        if let there = try ours(name, directory.inode), try cid(of: there.inode) == theirs.cid {
            return
        }
        volume.log.warning(
            "MFS: \(path) was changed there and here: theirs is kept as \(name)")
        let renamed = Volume.ExpandedEntry(
            name: name, cid: theirs.cid, treeSize: theirs.treeSize, entry: theirs.entry)
        try change(path, "kept both") { () throws(Errno) in
            try self.volume.materialize(renamed, into: directory.inode, replacing: nil)
        }
    }

    private func change(
        _ path: String, _ what: String, _ body: () throws(Errno) -> Void
    ) throws(MergeStop) {
        do throws(Errno) {
            try body()
        } catch {
            // Somebody was faster here; what they did is compared the next time.
            switch error {
            case .fileExists, .noSuchFileOrDirectory, .directoryNotEmpty, Volume.stale:
                throw .changed
            default: throw .tree(error)
            }
        }
        volume.log.notice("MFS: \(what): \(path)")
    }

    private func ours(
        _ name: FileName, _ directory: Inode
    ) throws(MergeStop) -> (inode: Inode, kind: FileKind)? {
        do throws(Errno) {
            return try volume.reading { (state) throws(Errno) in
                try state.entry(name, in: try self.volume.directory(directory, state)).map {
                    ($0.inode, $0.kind)
                }
            }
        } catch {
            throw error == Volume.stale ? .changed : .tree(error)
        }
    }

    private func isNotLoaded(_ inode: Inode) throws(MergeStop) -> Bool {
        do throws(Errno) {
            return try volume.reading { (state) throws(Errno) in
                !(try self.volume.record(inode, state).isLoaded)
            }
        } catch {
            throw error == Volume.stale ? .changed : .tree(error)
        }
    }

    private func cid(of inode: Inode) throws(MergeStop) -> CID {
        do throws(Errno) {
            return try volume.cid(of: inode)
        } catch {
            switch error {
            case Volume.stale, .resourceTemporarilyUnavailable: throw .changed
            default: throw .tree(error)
            }
        }
    }

    /// What a link leads to; nil, and a line in the log, for what cannot be in a file system.
    private func expanded(_ link: Link) throws(MergeStop) -> Volume.ExpandedEntry? {
        guard let entry = try kind(of: link) else { return nil }
        return Volume.ExpandedEntry(
            name: FileName(link.name), cid: link.cid, treeSize: link.treeSize, entry: entry)
    }

    private func kind(of link: Link) throws(MergeStop) -> UnixFSEntry? {
        // Of a raw block, each link says for itself how long it is.
        let isOwn = link.cid.codec != .raw
        if isOwn, let known = kinds[link.cid] { return known }
        var entry: UnixFSEntry?
        do throws(DAGReadError) {
            entry = try blocks.entry(of: link.cid, treeSize: link.treeSize)
        } catch {
            guard error.isOfContent else { throw .read(error) }
            volume.log.warning("MFS: \(shown(link.name)) is left out: \(error.reason)")
        }
        if isOwn {
            if kinds.count >= Self.kindsMax { kinds = [:] }
            kinds[link.cid] = .some(entry)
        }
        return entry
    }
}

extension Volume {
    /// Gives a name to what the node holds under a CID.
    ///
    /// - Parameter replacing: what has the name now and is no directory; nil where it is free.
    /// - Throws: EEXIST or ENOENT where that is not so.
    fileprivate func materialize(
        _ entry: ExpandedEntry, into parent: Inode, replacing old: Inode?
    ) throws(Errno) {
        try changing { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard directory.linkCount > 0 else { throw .noSuchFileOrDirectory }
            let existing = try state.entry(entry.name, in: directory)
            guard existing?.inode == old else {
                throw existing == nil ? .noSuchFileOrDirectory : .fileExists
            }
            if let existing {
                let target = try record(existing.inode, state)
                guard target.kind != .directory else { throw .fileExists }
                state.remove(entry.name, in: directory)
                dropLink(of: target, in: directory, state)
            }
            try materialize(entry, into: directory, state)
            try touchDirectory(directory, state)
        }
        nameChanged(entry.name, in: parent)
    }

    /// Lets a directory that nobody has looked into stand for another CID.
    ///
    /// - Throws: ESTALE where it is not what it was.
    fileprivate func retarget(
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
    fileprivate func removeTree(_ name: FileName, in parent: Inode) throws(Errno) {
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

    private func entries(in directory: Inode) throws(Errno) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        try readDirectory(directory, from: 0) { entry in
            if entry.name.bytes != [0x2e], entry.name.bytes != [0x2e, 0x2e] {
                entries.append(entry)
            }
            return true
        }
        return entries
    }

    /// Has it told that a name stands for something else now, without the kernel's doing.
    func nameChanged(_ name: FileName, in parent: Inode) {
        names.withLock { $0 }?.nameChanged(name, in: parent)
    }

    /// Has somebody told of names that change without their doing.
    public func observeNames(_ observer: any NamesObserver) {
        names.withLock { $0 = observer }
    }
}

/// Somebody who remembers what names stand for (the kernel), and must be told when one changes that
/// they did not change themselves.
public protocol NamesObserver: Sendable {
    /// A name came, went, or stands for another inode; the entries of its directory are others then.
    /// Called without any lock.
    func nameChanged(_ name: FileName, in parent: Inode)
}
