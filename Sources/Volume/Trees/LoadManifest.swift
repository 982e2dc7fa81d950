internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import PortableManifest

internal import struct SystemPackage.Errno

// A tree from a portable manifest begins as one from a CID: with the root of its UnixFS tree. Then all directories are looked into, and each
// entry gets what the manifest says of it, because hard links lead from any directory to any other. Content comes when it is read. A row of
// `restoration` says that this is under way, with the manifest's CID, so that after a crash the next opening goes on before anybody sees the
// tree. Doing it again changes nothing more.

extension Volume {
    /// Notes that the new tree is to get what a manifest says.
    func beginManifest(_ manifest: CID, _ state: ManifestState) {
        state.setRestoration(Restoration(name: "manifest", root: manifest, path: []))
    }

    /// Gives the tree what the manifest says of it. Blocks for the network.
    func loadManifest(_ root: CID) throws(VolumeError) {
        let loading = ManifestLoading(self, root)
        do throws(ManifestLoading.Failure) {
            try loading.run()
        } catch {
            switch error {
            case .tree(let reason): throw .tree("portable manifest \(root): \(reason)")
            case .operation(let error): throw .operation(failed: "portable manifest \(root)", error)
            }
        }
        manifest.withLock { $0.setRestoration(nil) }
        do throws(Errno) {
            try manifest.commit()
        } catch {
            throw .operation(failed: "portable manifest \(root)", error)
        }
    }

    /// The root of a manifest and the tree that it is of. Blocks for the network.
    func manifestRoot(
        _ cid: CID, _ source: DAGSource
    ) throws(VolumeError) -> PortableRoot {
        do throws(PortableReadError<BlockUnavailable>) {
            return try PortableRoot.read(cid) { (cid) throws(BlockUnavailable) in
                try source.block(cid)
            }
        } catch {
            throw .tree("\(error)")
        }
    }
}

/// One pass over a manifest and the tree that it is of.
private final class ManifestLoading {
    enum Failure: Error {
        /// One line.
        case tree(String)
        case operation(Errno)
    }

    private struct Directory {
        let inode: Inode
        let block: CID
        let depth: Int
    }

    private let volume: Volume
    private let root: CID
    private let source: DAGSource
    /// The inode of each group of hard links that was met.
    private var groups: [UInt64: Inode] = [:]

    init(_ volume: Volume, _ root: CID) {
        self.volume = volume
        self.root = root
        source = DAGSource(volume: volume, cancellation: nil)
    }

    func run() throws(Failure) {
        let top = try reading { () throws(PortableReadError<BlockUnavailable>) in
            try PortableRoot.read(root, get: get)
        }
        var pending = [Directory(inode: .root, block: top.directory, depth: 1)]
        while let next = pending.popLast() {
            guard next.depth < PortableManifest.depthMax else {
                throw .tree("block \(next.block): directories lie too deep in each other")
            }
            for (inode, block) in try load(next) {
                pending.append(Directory(inode: inode, block: block, depth: next.depth + 1))
            }
        }
        // Last, because what is made in the directory changes its time.
        try operation { () throws(Errno) in
            try volume.reading { (state) throws(Errno) in
                let record = try volume.record(.root, state)
                try set(record, top.attributes, top.extendedAttributes, state)
            }
        }
    }

    private func get(_ cid: CID) throws(BlockUnavailable) -> [UInt8] { try source.block(cid) }

    /// - Returns: the directories in it.
    private func load(_ directory: Directory) throws(Failure) -> [(Inode, CID)] {
        try operation { () throws(Errno) in try volume.expand(directory.inode) }
        var left = try operation { () throws(Errno) in
            Set(
                try volume.entries(in: directory.inode).filter { $0.kind.isInUnixFS }.map(
                    \.name))
        }
        var reader = PortableDirectoryReader(directory.block)
        var found: [(Inode, CID)] = []
        while let entry = try reading({ () throws(PortableReadError<BlockUnavailable>) in
            try reader.next(get)
        }) {
            let name = FileName(entry.name)
            left.remove(name)
            let inode: Inode? = try operation { () throws(Errno) in
                try volume.reading { (state) throws(Errno) in
                    try self.apply(entry, name, in: directory.inode, state)
                }
            }
            guard let inode else {
                throw .tree(
                    "block \(directory.block): its UnixFS tree has no \(shown(entry.name)) of that kind"
                )
            }
            if let block = entry.directory { found.append((inode, block)) }
        }
        if let name = left.first {
            throw .tree("block \(directory.block) lacks \(shown(name.bytes)) of its UnixFS tree")
        }
        volume.keepChangesBounded()
        return found
    }

    /// - Returns: the inode of the entry; nil where there is none that it can be of.
    private func apply(
        _ entry: PortableEntry, _ name: FileName, in parent: Inode, _ state: ManifestState
    ) throws(Errno) -> Inode? {
        let directory = try volume.directory(parent, state)
        let there = try state.entry(name, in: directory)
        if let there, there.kind != entry.kind { return nil }
        if let links = entry.hardLinks, let first = groups[links.group] {
            guard let other = try state.inode(first), other.kind == entry.kind else { return nil }
            if there?.inode != first {
                if let there {
                    let own = try volume.record(there.inode, state)
                    guard try isEqual(own, other, state) else { return nil }
                    state.remove(name, in: directory)
                    volume.dropLink(of: own, in: directory, state)
                }
                other.addLink()
                other.otherParents.append(parent)
                state.insert(name, in: directory, inode: first, kind: entry.kind)
                state.mark(other)
                try volume.outdateTree(of: directory, state)
            }
            return first
        }
        let record: InodeRecord
        if let there {
            record = try volume.record(there.inode, state)
        } else {
            guard !entry.kind.isInUnixFS else { return nil }
            record = state.makeInode(
                kind: entry.kind, mode: 0, uid: 0, gid: 0, rdev: entry.rdev, parent: parent)
            state.insert(name, in: directory, inode: record.inode, kind: entry.kind)
        }
        if let links = entry.hardLinks { groups[links.group] = record.inode }
        try set(record, entry.attributes, entry.extendedAttributes, state)
        return record.inode
    }

    /// Two files that are to be one have the same content.
    private func isEqual(
        _ one: InodeRecord, _ other: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Bool {
        switch one.kind {
        case .regular:
            try state.object(of: one)?.cid == state.object(of: other)?.cid && one.size == other.size
        case .symlink: one.target == other.target
        default: true
        }
    }

    private func set(
        _ record: InodeRecord, _ attributes: PortableAttributes,
        _ extended: [PortableExtendedAttribute], _ state: ManifestState
    ) throws(Errno) {
        record.mode = attributes.mode
        record.uid = attributes.uid
        record.gid = attributes.gid
        record.modified = attributes.modified
        for attribute in extended {
            let name = FileName(attribute.name)
            guard try state.attributes(of: record).values[name] != attribute.value else { continue }
            try state.setAttribute(name, of: record, to: attribute.value)
        }
        state.mark(record)
    }

    // MARK: Errors

    private func reading<Result>(
        _ body: () throws(PortableReadError<BlockUnavailable>) -> Result
    ) throws(Failure) -> Result {
        do throws(PortableReadError<BlockUnavailable>) {
            return try body()
        } catch {
            throw .tree("\(error)")
        }
    }

    private func operation<Result>(_ body: () throws(Errno) -> Result) throws(Failure) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            throw .operation(error)
        }
    }
}
