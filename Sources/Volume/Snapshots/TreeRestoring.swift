internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

/// Why a restoring stopped.
enum RestoreStop: Error {
    /// The tree changed under it; the next one goes on.
    case changed
    case failed(VolumeError)
}

/// Brings a tree to another one by what differs.
struct TreeRestoring {
    private typealias Link = MerkleDAG.DirectoryEntry

    private struct Ours {
        let inode: Inode
        let kind: FileKind
        /// Nil for what UnixFS cannot hold.
        let cid: CID?
        let isLoaded: Bool
    }

    private let volume: Volume
    private let source: DAGSource
    /// What it is brought to, for messages.
    private let label: String
    private var pending: [(inode: Inode, cid: CID)] = []
    private(set) var done = RestoredTree()

    init(_ volume: Volume, _ label: String) {
        self.volume = volume
        self.label = label
        source = DAGSource(volume: volume, cancellation: nil)
    }

    /// Brings what is at a path to a DAG; nil for nothing.
    mutating func run(
        _ path: [FileName], to target: Volume.ExpandedEntry?
    ) throws(RestoreStop) {
        pending = []
        if path.isEmpty {
            guard let target, case .directory = target.entry else {
                throw .failed(.snapshot("snapshot \(label): its root is no directory"))
            }
            pending.append((.root, target.cid))
        } else if let name = path.last {
            let text = path.map { shown($0.bytes) }.joined(separator: "/")
            let parent: Inode
            do throws(Errno) {
                parent = try volume.resolve(path: path.dropLast())
                guard try volume.attributes(of: parent).kind == .directory else {
                    throw .notDirectory
                }
            } catch {
                throw .failed(
                    .snapshot("\(text): there is no directory for it: restore the one above"))
            }
            let ours = try ours(name, parent)
            guard ours != nil || target != nil || done != RestoredTree() else {
                throw .failed(
                    .snapshot("\(text): neither the tree nor snapshot \(label) has it"))
            }
            try restore(name, in: parent, to: target)
        }
        while let (inode, cid) = pending.popLast() { try restore(inode, to: cid) }
    }

    private mutating func restore(_ directory: Inode, to cid: CID) throws(RestoreStop) {
        let own = try operation { () throws(Errno) in try volume.cid(of: directory) }
        guard own != cid else { return }
        if directory == .root, try retargetRoot(from: own, to: cid) { return }
        let theirs = try links(of: cid)
        for link in theirs {
            let name = FileName(link.name)
            if let ours = try ours(name, directory), ours.cid == link.cid { continue }
            let entry = try reading { () throws(DAGReadError) in
                try source.entry(of: link.cid, treeSize: link.treeSize)
            }
            let target = Volume.ExpandedEntry(
                name: name, cid: link.cid, treeSize: link.treeSize, entry: entry)
            try restore(name, in: directory, to: target)
        }
        let names = Set(theirs.map(\.name))
        let entries = try operation { () throws(Errno) in try volume.entries(in: directory) }
        for entry in entries where !names.contains(entry.name.bytes) && entry.kind.isInUnixFS {
            try restore(entry.name, in: directory, to: nil)
        }
    }

    /// A root that nobody has looked into stands for another one in one step.
    private mutating func retargetRoot(from old: CID, to new: CID) throws(RestoreStop) -> Bool {
        let block = try reading { () throws(DAGReadError) in try source.verifiedBlock(new) }
        guard volume.retargetRoot(from: old, to: new, block) else { return false }
        done.changed += 1
        try load(.root)
        return true
    }

    private mutating func restore(
        _ name: FileName, in parent: Inode, to target: Volume.ExpandedEntry?
    ) throws(RestoreStop) {
        let ours = try ours(name, parent)
        guard let target else {
            guard let ours, ours.kind.isInUnixFS else { return }
            try remove(name, ours.kind, in: parent)
            done.removed += 1
            return
        }
        guard let ours else {
            try change { () throws(Errno) in
                try volume.materialize(target, into: parent, replacing: nil)
            }
            done.added += 1
            return try loadNew(name, in: parent)
        }
        guard ours.cid != target.cid else { return }
        if case .directory = target.entry, ours.kind == .directory {
            guard !ours.isLoaded, let cid = ours.cid else {
                return pending.append((ours.inode, target.cid))
            }
            try change { () throws(Errno) in
                try volume.retarget(ours.inode, from: cid, to: target)
            }
            volume.nameChanged(name, in: parent)
            done.changed += 1
            return try load(ours.inode)
        }
        done.changed += 1
        if ours.kind == .directory {
            try remove(name, ours.kind, in: parent)
            try change { () throws(Errno) in
                try volume.materialize(target, into: parent, replacing: nil)
            }
        } else {
            try change { () throws(Errno) in
                try volume.materialize(
                    target, into: parent, replacing: ours.inode, keepsAttributes: true)
            }
        }
        try loadNew(name, in: parent)
    }

    private func remove(
        _ name: FileName, _ kind: FileKind, in parent: Inode
    ) throws(RestoreStop) {
        try change { () throws(Errno) in
            if kind == .directory {
                try volume.removeTree(name, in: parent)
            } else {
                try volume.unlink(name, in: parent)
                volume.nameChanged(name, in: parent)
            }
        }
    }

    private func loadNew(_ name: FileName, in parent: Inode) throws(RestoreStop) {
        guard let made = try ours(name, parent), made.kind == .directory else { return }
        try load(made.inode)
    }

    /// What the volume has of a tree that came back becomes the tree's own, so that it does not go with the snapshot.
    private func load(_ inode: Inode) throws(RestoreStop) {
        try change { () throws(Errno) in try volume.loadFromHere(inode) }
    }

    private func ours(_ name: FileName, _ parent: Inode) throws(RestoreStop) -> Ours? {
        let found = try operation { () throws(Errno) in
            try volume.reading { (state) throws(Errno) -> Ours? in
                guard let entry = try state.entry(name, in: try volume.directory(parent, state))
                else { return nil }
                let record = try volume.record(entry.inode, state)
                let cid = record.kind == .regular ? try state.object(of: record)?.cid : record.cid
                return Ours(
                    inode: entry.inode, kind: entry.kind, cid: cid, isLoaded: record.isLoaded)
            }
        }
        guard let found, found.cid == nil, found.kind.isInUnixFS else { return found }
        let cid = try operation { () throws(Errno) in try volume.cid(of: found.inode) }
        return Ours(inode: found.inode, kind: found.kind, cid: cid, isLoaded: found.isLoaded)
    }

    private func links(of cid: CID) throws(RestoreStop) -> [Link] {
        try reading { () throws(DAGReadError) in
            let expansion = Expansion(volume, volume.fetcher)
            defer { expansion.end() }
            return try expansion.links(of: cid)
        }
    }

    // MARK: Errors

    private func reading<Result>(
        _ body: () throws(DAGReadError) -> Result
    ) throws(RestoreStop) -> Result {
        do throws(DAGReadError) {
            return try body()
        } catch {
            throw .failed(.tree("snapshot \(label): it cannot be read: \(error.reason)"))
        }
    }

    private func operation<Result>(
        _ body: () throws(Errno) -> Result
    ) throws(RestoreStop) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            switch error {
            case Volume.stale, .resourceTemporarilyUnavailable: throw .changed
            default: throw .failed(.operation(failed: "restoring snapshot \(label)", error))
            }
        }
    }

    /// Somebody may be faster here; what they did is compared the next time.
    private func change(_ body: () throws(Errno) -> Void) throws(RestoreStop) {
        do throws(Errno) {
            try body()
        } catch {
            switch error {
            case .fileExists, .noSuchFileOrDirectory, .directoryNotEmpty, Volume.stale,
                .resourceTemporarilyUnavailable:
                throw .changed
            default: throw .failed(.operation(failed: "restoring snapshot \(label)", error))
            }
        }
    }
}

extension FileKind {
    /// UnixFS has something for it.
    var isInUnixFS: Bool { self == .regular || self == .directory || self == .symlink }
}

extension Volume {
    /// Finds out the entries of a directory, and of those below it, as far as their DAG nodes are here: what the volume has of
    /// them is the tree's own then. What is elsewhere stays for its first use.
    func loadFromHere(_ top: Inode) throws(Errno) {
        try manifest.checkpoint()
        var waiting = [top]
        while let inode = waiting.popLast() {
            let cid = try reading { (state) throws(Errno) -> CID? in
                let record = try record(inode, state)
                return record.kind == .directory && !record.isLoaded ? record.cid : nil
            }
            guard let cid, localBlock(cid) != nil else { continue }
            do throws(Errno) {
                try expand(inode)
            } catch {
                // What is below it is elsewhere, and not to be had now: it is asked for at its first use.
                guard error == .ioError else { throw error }
                continue
            }
            try reading { (state) throws(Errno) in
                try state.forEachEntry(of: try directory(inode, state), after: 0) { _, entry in
                    if entry.kind == .directory { waiting.append(entry.inode) }
                    return true
                }
            }
        }
    }
}
