internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import Remotes

// The tree stands in the node's MFS too, for everyone who speaks with the node. MFS cannot replace a
// directory in one call, so the mirror is brought from what it is to the new root name by name, whole
// new subtrees by one call, additions before removals; names that did not change are not touched, so
// what others do there at the same time stays.

extension Volume {
    /// Makes the directory at the node's MFS path be a root whose blocks the node has.
    func mirrorTree(_ root: CID, _ connection: RemoteConnection) throws(PublishFailure) {
        let status = try mirrorStatus(connection)
        if let status, status.cid != root {
            // What others did since it was looked at comes into the tree first.
            guard status.cid == manifest.withLock({ $0.published?.mirror }) else { throw .changed }
            try changeMirror(from: status.cid, to: root, connection)
        } else if status == nil {
            try copy(root, to: connection.path, connection)
        }
        manifest.withLock { $0.published?.mirror = root }
    }

    /// What stands at the MFS path; nil for nothing.
    func mirrorStatus(_ connection: RemoteConnection) throws(PublishFailure) -> MFSStatus? {
        let status: MFSStatus?
        do throws(RemoteError) {
            status = try connection.names.status(
                of: connection.path, cancellation: connection.cancellation)
        } catch {
            throw .remote(error)
        }
        guard status?.kind != .file else {
            throw .failed(
                "MFS \(connection.path) is a file: remove it, or mount with another --mfs-path")
        }
        return status
    }

    private func copy(
        _ root: CID, to path: MFSPath, _ connection: RemoteConnection
    ) throws(PublishFailure) {
        do throws(RemoteError) {
            try connection.names.put(
                root, at: path, [.makesParents, .flushes], cancellation: connection.cancellation)
        } catch {
            throw .remote(error)
        }
    }

    private func changeMirror(
        from old: CID, to root: CID, _ connection: RemoteConnection
    ) throws(PublishFailure) {
        let changes = MirrorChanges(
            blocks: VolumeBlocks(volume: self, fetcher: connection.fetcher), path: connection.path)
        let isFound: Bool
        do throws(DAGReadError) {
            isFound = try changes.find(from: old, to: root)
        } catch {
            throw .failed("MFS \(connection.path) cannot be compared: \(error.reason)")
        }
        guard isFound else { return try replaceMirror(old, by: root, connection) }
        do throws(RemoteError) {
            try changes.apply(connection)
        } catch {
            // Others were faster at that name: what they did is merged first.
            guard error.kind == .conflict || error.kind == .notFound else { throw .remote(error) }
            log.notice("\(error)")
        }
        let now = try mirrorStatus(connection)
        guard now?.cid != root else { return }
        // Either others changed it, and that is merged next; or the node makes other blocks of
        // equal names, and the whole mirror is put in its place.
        guard let now, try isSameTree(now.cid, root, connection) else { throw .changed }
        try replaceMirror(now.cid, by: root, connection)
    }

    private func isSameTree(
        _ one: CID, _ other: CID, _ connection: RemoteConnection
    ) throws(PublishFailure) -> Bool {
        let changes = MirrorChanges(
            blocks: VolumeBlocks(volume: self, fetcher: connection.fetcher), path: connection.path)
        do throws(DAGReadError) {
            return try changes.find(from: one, to: other) && changes.isEmpty
        } catch {
            throw .failed("MFS \(connection.path) cannot be compared: \(error.reason)")
        }
    }

    /// Puts a root in the place of a mirror of the same content, or of one that differs in so much that
    /// its names are not gone through.
    private func replaceMirror(
        _ old: CID, by root: CID, _ connection: RemoteConnection
    ) throws(PublishFailure) {
        let (new, previous) = (connection.path.beside("new"), connection.path.beside("old"))
        do throws(RemoteError) {
            let (names, cancellation) = (connection.names, connection.cancellation)
            for path in [new, previous] { try names.remove(path, cancellation: cancellation) }
            try names.put(root, at: new, .flushes, cancellation: cancellation)
            try names.move(connection.path, to: previous, cancellation: cancellation)
            try names.move(new, to: connection.path, cancellation: cancellation)
            // What others did between the two is still there.
            guard try names.status(of: previous, cancellation: cancellation)?.cid == old else {
                log.warning(
                    "MFS \(connection.path) was changed while it was replaced: see \(previous)")
                return
            }
            try names.remove(previous, cancellation: cancellation)
        } catch {
            throw .remote(error)
        }
    }
}

extension MFSPath {
    /// A hidden name in the same directory.
    fileprivate func beside(_ suffix: String) -> MFSPath {
        let slash = bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
        return MFSPath(
            bytes: bytes[..<slash] + [UInt8(ascii: ".")] + bytes[slash...]
                + Array(".\(suffix)".utf8))
    }
}

/// What has to be done at an MFS path to bring one tree to another.
final class MirrorChanges {
    private enum Change {
        case put(CID, MFSPath, replaces: Bool)
        case remove(MFSPath)
        case replace(CID, MFSPath)
    }

    private let blocks: VolumeBlocks
    private let top: MFSPath
    private var additions: [Change] = []
    private var removals: [Change] = []

    /// Changes that the node takes without a flush are 256.
    private static let unflushedMax = 200
    /// Pairs of directories that are compared at most, those of them that were compared at another
    /// path before, and changes that are made name by name. A DAG can have a node at 2^40 paths.
    private static let comparedMax = 16_384
    private static let repeatedMax = 1_024
    private static let changesMax = 65_536

    init(blocks: VolumeBlocks, path: MFSPath) {
        self.blocks = blocks
        top = path
    }

    var isEmpty: Bool { additions.isEmpty && removals.isEmpty }

    private struct Pair: Hashable {
        let old: CID
        let new: CID
    }

    /// - Returns: whether all changes were found; false where they are too many.
    func find(from old: CID, to new: CID) throws(DAGReadError) -> Bool {
        var pending = [(old, new, top)]
        var seen: Set<Pair> = []
        var repeatedCount = 0
        while let (old, new, path) = pending.popLast() {
            if !seen.insert(Pair(old: old, new: new)).inserted { repeatedCount += 1 }
            guard seen.count <= Self.comparedMax, repeatedCount <= Self.repeatedMax,
                additions.count + removals.count <= Self.changesMax
            else { return false }
            var before: [[UInt8]: CID] = [:]
            for entry in try DirectoryReader(root: old, source: blocks).entries() {
                before[entry.name] = entry.cid
            }
            for entry in try DirectoryReader(root: new, source: blocks).entries() {
                let place = path.appending(entry.name)
                guard let other = before.removeValue(forKey: entry.name) else {
                    additions.append(.put(entry.cid, place, replaces: false))
                    continue
                }
                guard other != entry.cid else { continue }
                switch (try isDirectory(other), try isDirectory(entry.cid)) {
                case (true, true): pending.append((other, entry.cid, place))
                case (false, false): additions.append(.put(entry.cid, place, replaces: true))
                default: removals.append(.replace(entry.cid, place))
                }
            }
            for name in before.keys { removals.append(.remove(path.appending(name))) }
        }
        return true
    }

    private func isDirectory(_ cid: CID) throws(DAGReadError) -> Bool {
        guard cid.codec != .raw else { return false }
        do throws(DAGReadError) {
            if case .directory = try blocks.unixfsEntry(cid) { return true }
        } catch {
            // What is nothing at all can be replaced as a file can.
            guard error.isOfContent else { throw error }
        }
        return false
    }

    func apply(_ connection: RemoteConnection) throws(RemoteError) {
        let (names, cancellation) = (connection.names, connection.cancellation)
        var unflushed = 0
        for change in additions + removals {
            switch change {
            case .put(let cid, let path, let replaces):
                try names.put(
                    cid, at: path, replaces ? .replacesFile : [], cancellation: cancellation)
                unflushed += 1
            case .replace(let cid, let path):
                try names.remove(path, cancellation: cancellation)
                try names.put(cid, at: path, [], cancellation: cancellation)
                unflushed += 1
            case .remove(let path): try names.remove(path, cancellation: cancellation)
            // It flushes what stands above it, and not what else was changed.
            }
            guard unflushed >= Self.unflushedMax else { continue }
            try names.flush(top, cancellation: cancellation)
            unflushed = 0
        }
        try names.flush(top, cancellation: cancellation)
    }
}
