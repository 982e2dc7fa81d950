internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import PortableManifest

internal import struct SystemPackage.Errno

// The portable manifest of a snapshot is written of what SQLite had at the snapshot's moment, at leisure: a reading that
// begins under the same lock. So the two are of one tree. Its blocks are DAG nodes that the snapshot keeps.

extension Volume {
    /// Finds out what is in all directories: of one that nobody has looked into no manifest can tell anything. Blocks for what is
    /// elsewhere.
    func loadAllDirectories() throws(Errno) {
        while true {
            try manifest.checkpoint()
            let ids = try reading { (state) throws(Errno) in try state.rows.notLoaded(limit: 256) }
            guard !ids.isEmpty else { return }
            for id in ids {
                do throws(Errno) {
                    try expand(Inode(id))
                } catch {
                    // It is gone meanwhile.
                    guard error == Self.stale else { throw error }
                }
            }
        }
    }

    /// Writes the manifest of a reading, and has a snapshot keep it.
    ///
    /// - Throws: `snapshot` for a tree that no manifest can tell of; `operation`.
    func writeManifest(
        of snapshot: StoredSnapshot, _ reading: ManifestReading
    ) throws(VolumeError) -> CID {
        var walk = PortableWalk(reading, tree: snapshot.root, profile: profile.name)
        let cid: CID
        do throws(PortableWalk.Failure) {
            cid = try walk.run()
        } catch {
            switch error {
            case .manifest(let reason): throw .snapshot("snapshot \(snapshot.name): \(reason)")
            case .reading(let error):
                throw .operation(failed: "the manifest of snapshot \(snapshot.name)", error)
            }
        }
        let nodes = walk.nodes
        manifest.withLock { $0.setManifest(of: snapshot.id, to: cid, nodes) }
        do throws(Errno) {
            try manifest.commit()
        } catch {
            throw .operation(failed: "the manifest of snapshot \(snapshot.name)", error)
        }
        return cid
    }
}

/// One walk over all names of a moment.
private struct PortableWalk {
    enum Failure: Error {
        case reading(Errno)
        /// One line.
        case manifest(String)
    }

    private struct Level {
        /// Nil for the root.
        let entry: ManifestReading.Entry?
        /// Those that are not in the builder yet, the next one last.
        var left: [ManifestReading.Entry]
        var builder = PortableDirectoryBuilder()
    }

    private let reading: ManifestReading
    private let tree: CID
    private let profile: String
    private(set) var nodes: [StoredNode] = []
    /// Equal blocks come several times.
    private var known: Set<[UInt8]> = []

    init(_ reading: ManifestReading, tree: CID, profile: String) {
        self.reading = reading
        self.tree = tree
        self.profile = profile
    }

    /// - Returns: the CID of the manifest.
    mutating func run() throws(Failure) -> CID {
        var levels = [Level(entry: nil, left: try entries(of: .root))]
        while let last = levels.indices.last {
            if let next = levels[last].left.popLast() {
                if next.kind == .directory {
                    levels.append(Level(entry: next, left: try entries(of: next.inode)))
                } else {
                    try add(next, directory: nil, to: &levels[last].builder)
                }
                continue
            }
            var done = levels.removeLast()
            let cid = try writing { (emit) throws(PortableWriteError<Never>) in
                try done.builder.finish(emit: emit)
            }
            guard let parent = levels.indices.last, let entry = done.entry else {
                return try root(directory: cid)
            }
            try add(entry, directory: cid, to: &levels[parent].builder)
        }
        throw .manifest("there is no root directory")
    }

    private func entries(of directory: Inode) throws(Failure) -> [ManifestReading.Entry] {
        do throws(Errno) {
            return try reading.entries(of: directory).reversed()
        } catch {
            throw .reading(error)
        }
    }

    private mutating func add(
        _ entry: ManifestReading.Entry, directory: CID?, to builder: inout PortableDirectoryBuilder
    ) throws(Failure) {
        let isLinked = entry.kind != .directory && entry.linkCount > 1
        let made = PortableEntry(
            name: entry.name, kind: entry.kind, attributes: entry.portable,
            extendedAttributes: try extendedAttributes(of: entry),
            hardLinks: isLinked
                ? PortableHardLinks(group: entry.inode.number, count: entry.linkCount) : nil,
            rdev: entry.rdev, directory: directory)
        try writing { (emit) throws(PortableWriteError<Never>) in
            try builder.add(made, emit: emit)
        }
    }

    private func extendedAttributes(
        of entry: ManifestReading.Entry
    ) throws(Failure) -> [PortableExtendedAttribute] {
        guard entry.hasAttributes else { return [] }
        do throws(Errno) {
            return try reading.attributes(of: entry.inode).map {
                PortableExtendedAttribute(name: $0.name, value: $0.value)
            }
        } catch {
            throw .reading(error)
        }
    }

    private mutating func root(directory: CID) throws(Failure) -> CID {
        let found: ManifestReading.Entry?
        do throws(Errno) {
            found = try reading.inode(.root)
        } catch {
            throw .reading(error)
        }
        guard let found else { throw .manifest("there is no root directory") }
        let root = PortableRoot(
            tree: tree, profile: profile, directory: directory, attributes: found.portable,
            extendedAttributes: try extendedAttributes(of: found))
        return try writing { (emit) throws(PortableWriteError<Never>) in
            try root.write(emit: emit)
        }
    }

    private mutating func writing<Result>(
        _ body: ((CID, [UInt8]) throws(Never) -> Void) throws(PortableWriteError<Never>) -> Result
    ) throws(Failure) -> Result {
        var emitted: [(CID, [UInt8])] = []
        let result: Result
        do throws(PortableWriteError<Never>) {
            result = try body { (cid, block) throws(Never) in emitted.append((cid, block)) }
        } catch {
            throw .manifest("\(error)")
        }
        for (cid, block) in emitted where known.insert(cid.multihash.bytes).inserted {
            nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: block))
        }
        return result
    }
}

extension ManifestReading.Entry {
    fileprivate var portable: PortableAttributes {
        PortableAttributes(mode: mode, uid: uid, gid: gid, modified: modified)
    }
}
