internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// A tree of others comes into the volume's name by name, by comparing three directories: what both began with
// (base), what others have now (theirs), and the tree (ours). Where only they changed a name, it becomes theirs;
// where both did, ours keeps the name and theirs gets one beside it, so that nothing is lost, or, of a tree that is
// only followed, theirs takes its place. Doing it again changes nothing more.

/// Why a merge stopped.
enum MergeStop: Error {
    /// The tree changed under it; the next one goes on.
    case changed
    case read(DAGReadError)
    case tree(Errno)
}

/// One merge of a tree of others into the volume's.
final class TreeMerge {
    /// What becomes of a name that both changed.
    enum Conflict {
        /// Theirs gets a name beside ours, with a suffix and the end of its CID.
        case keepsBoth(suffix: String)
        /// Theirs takes the place of ours: nobody changes ours.
        case takesTheirs
        /// Ours stays.
        case keepsOurs
    }

    private struct Directory {
        let base: CID?
        let theirs: CID
        let inode: Inode
        let path: String
    }

    private typealias Link = MerkleDAG.DirectoryEntry

    private let volume: Volume
    private let fetcher: Fetcher
    private let blocks: VolumeBlocks
    /// Whose tree it is, for the log.
    private let label: String
    private let conflict: Conflict
    private var pending: [Directory] = []
    /// What was found of blocks that may be linked again; nil for what is nothing at all.
    private var kinds: [CID: UnixFSEntry?] = [:]
    private static let kindsMax = 4_096

    init(_ volume: Volume, _ fetcher: Fetcher, of label: String, _ conflict: Conflict) {
        self.volume = volume
        self.fetcher = fetcher
        self.label = label
        self.conflict = conflict
        blocks = VolumeBlocks(volume: volume, fetcher: fetcher)
    }

    private var takesTheirs: Bool {
        if case .takesTheirs = conflict { true } else { false }
    }

    private var keepsOurs: Bool {
        if case .keepsOurs = conflict { true } else { false }
    }

    /// - Parameters:
    ///   - base: what both began with; nil where they did not.
    ///   - top: the directory of ours that is compared.
    ///   - path: its path, for the log.
    func run(
        base: CID?, theirs: CID, at top: Inode = .root, path: String = ""
    ) throws(MergeStop) {
        pending = [Directory(base: base, theirs: theirs, inode: top, path: path)]
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
            volume.log.warning("\(label): \(path) is passed over: \(error.reason)")
            return
        }
        // What the node has let go of cannot be compared with: then nothing counts as removed.
        var base: [[UInt8]: Link] = [:]
        if let cid = directory.base {
            do throws(DAGReadError) {
                for link in try links(of: cid) { base[link.name] = link }
            } catch {
                if keepsOurs {
                    let path = shown(Array(directory.path.utf8))
                    volume.log.warning(
                        "\(label): what \(path) was before is not to be had, so what is here stays: \(error.reason)"
                    )
                }
            }
        }
        for link in theirs {
            let before = base.removeValue(forKey: link.name)
            guard before?.cid != link.cid else { continue }
            try merge(link, before, directory)
        }
        if takesTheirs {
            try removeAllBut(Set(theirs.map(\.name)), in: directory)
        } else {
            for link in base.values { try mergeRemoval(of: link, directory) }
        }
    }

    /// Removes what is not in theirs, known from the base or not.
    private func removeAllBut(
        _ names: Set<[UInt8]>, in directory: Directory
    ) throws(MergeStop) {
        let ours: [DirectoryEntry]
        do throws(Errno) {
            ours = try volume.entries(in: directory.inode)
        } catch {
            throw error == Volume.stale ? .changed : .tree(error)
        }
        for entry in ours where !names.contains(entry.name.bytes) {
            let path = directory.path + "/" + String(decoding: entry.name.bytes, as: UTF8.self)
            try remove(entry.name, entry.kind, directory, path)
        }
    }

    private func links(of cid: CID) throws(DAGReadError) -> [Link] {
        let expansion = Expansion(volume, fetcher)
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
        // Where ours stays in any case, names are compared below, so that what is being written there holds nothing up.
        if keepsOurs, ours.kind == .directory, case .directory = theirs.entry,
            try !isNotLoaded(ours.inode)
        {
            return try descend(before, theirs.cid, ours.inode, path)
        }
        // Of what nobody changes, the CID need not be that of the base: another layout of the same content.
        let cid: CID
        if takesTheirs, let before { cid = before.cid } else { cid = try self.cid(of: ours.inode) }
        if cid == link.cid { return }
        if case .directory = theirs.entry, ours.kind == .directory {
            // Nobody has looked into it: it need not be compared, which for a DAG that links the same
            // directories again and again would never end.
            if try isNotLoaded(ours.inode) {
                let own = try self.cid(of: ours.inode)
                if own == link.cid { return }
                guard takesTheirs || own == before?.cid else {
                    return try keepBoth(theirs, directory, path)
                }
                try change(path, "changed") { () throws(Errno) in
                    try self.volume.retarget(ours.inode, from: own, to: theirs)
                    self.volume.nameChanged(name, in: directory.inode)
                }
                return
            }
            return try descend(before, link.cid, ours.inode, path)
        }
        if takesTheirs || before != nil && cid == before?.cid {
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

    /// Has two directories compared.
    private func descend(
        _ before: Link?, _ theirs: CID, _ ours: Inode, _ path: String
    ) throws(MergeStop) {
        let isDirectoryBefore = try before.map { (link) throws(MergeStop) in
            if case .directory? = try expanded(link)?.entry { true } else { false }
        }
        pending.append(
            Directory(
                base: isDirectoryBefore == true ? before?.cid : nil, theirs: theirs, inode: ours,
                path: path))
    }

    /// A name that is gone there.
    private func mergeRemoval(of link: Link, _ directory: Directory) throws(MergeStop) {
        let name = FileName(link.name)
        let path = directory.path + "/" + String(decoding: link.name, as: UTF8.self)
        guard let ours = try ours(name, directory.inode) else { return }
        guard try cid(of: ours.inode) == link.cid else {
            volume.log.warning("\(label): \(path) was removed there and changed here: it stays")
            return
        }
        try remove(name, ours.kind, directory, path)
    }

    private func remove(
        _ name: FileName, _ kind: FileKind, _ directory: Directory, _ path: String
    ) throws(MergeStop) {
        try change(path, "removed") { () throws(Errno) in
            if kind == .directory {
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
        guard case .keepsBoth(let mark) = conflict else { return }
        let suffix = Array(mark.utf8) + Array("\(theirs.cid)".utf8.suffix(8))
        let stem = theirs.name.bytes.prefix(Volume.nameLengthMax - suffix.count)
        let name = FileName(stem + suffix)
        if let there = try ours(name, directory.inode), try cid(of: there.inode) == theirs.cid {
            return
        }
        volume.log.warning(
            "\(label): \(path) was changed there and here: theirs is kept as \(name)")
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
        volume.log.notice("\(label): \(what): \(path)")
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
        let found = Volume.ExpandedEntry(
            name: FileName(link.name), cid: link.cid, treeSize: link.treeSize, entry: entry)
        guard keepsOurs else { return found }
        guard let admitted = found.ofGraft else {
            volume.log.warning("\(label): \(shown(link.name)) is left out: no registry has such")
            return nil
        }
        return admitted
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
            volume.log.warning("\(label): \(shown(link.name)) is left out: \(error.reason)")
        }
        if isOwn {
            if kinds.count >= Self.kindsMax { kinds = [:] }
            kinds[link.cid] = .some(entry)
        }
        return entry
    }
}
