internal import Base
internal import InodeManifest
internal import Kubo
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// The tree stands in the node's MFS too, for everyone who speaks with the node. MFS cannot replace a
// directory in one call, so the view is brought from what it is to the new root name by name, whole
// new subtrees by one call, additions before removals; names that did not change are not touched, so
// what others do there at the same time stays.

extension Volume {
    /// Makes the directory at the node's MFS path be a root whose blocks the node has.
    func showTree(_ root: CID, _ node: NodeLink) throws(PublishFailure) {
        let status = try viewStatus(node)
        if let status, status.cid != root {
            // What others did since it was looked at comes into the tree first.
            guard status.cid == manifest.withLock({ $0.published?.view }) else { throw .changed }
            try changeView(from: status.cid, to: root, node)
        } else if status == nil {
            try copy(root, to: node.path, node)
        }
        manifest.withLock { $0.published?.view = root }
    }

    /// What stands at the MFS path; nil for nothing.
    func viewStatus(_ node: NodeLink) throws(PublishFailure) -> MFSStatus? {
        let status: MFSStatus?
        do throws(KuboError) {
            status = try node.client.filesStat(node.path, cancellation: node.cancellation)
        } catch {
            throw .node(error)
        }
        guard status?.kind != .file else {
            throw .failed("MFS \(node.path) is a file: remove it, or mount with another --mfs-path")
        }
        return status
    }

    private func copy(
        _ root: CID, to path: MFSPath, _ node: NodeLink
    ) throws(PublishFailure) {
        do throws(KuboError) {
            try node.client.filesCopy(
                from: MFSPath("/ipfs/\(root)"), to: path, parents: true, isOffline: true,
                cancellation: node.cancellation)
        } catch {
            throw .node(error)
        }
    }

    private func changeView(
        from old: CID, to root: CID, _ node: NodeLink
    ) throws(PublishFailure) {
        let changes = ViewChanges(blocks: NodeBlocks(volume: self, node: node), path: node.path)
        let isFound: Bool
        do throws(DAGReadError) {
            isFound = try changes.find(from: old, to: root)
        } catch {
            throw .failed("MFS \(node.path) cannot be compared: \(error.reason)")
        }
        guard isFound else { return try replaceView(old, by: root, node) }
        do throws(KuboError) {
            try changes.apply(node)
        } catch {
            // Others were faster at that name: what they did is merged first.
            guard error.kind == .conflict || error.kind == .notFound else { throw .node(error) }
            log.notice("\(error)")
        }
        let now = try viewStatus(node)
        guard now?.cid != root else { return }
        // Either others changed it, and that is merged next; or the node makes other blocks of
        // equal names, and the whole view is put in its place.
        guard let now, try isSameTree(now.cid, root, node) else { throw .changed }
        try replaceView(now.cid, by: root, node)
    }

    private func isSameTree(
        _ one: CID, _ other: CID, _ node: NodeLink
    ) throws(PublishFailure) -> Bool {
        let changes = ViewChanges(blocks: NodeBlocks(volume: self, node: node), path: node.path)
        do throws(DAGReadError) {
            return try changes.find(from: one, to: other) && changes.isEmpty
        } catch {
            throw .failed("MFS \(node.path) cannot be compared: \(error.reason)")
        }
    }

    /// Puts a root in the place of a view of the same content, or of one that differs in so much that
    /// its names are not gone through.
    private func replaceView(
        _ old: CID, by root: CID, _ node: NodeLink
    ) throws(PublishFailure) {
        let (new, previous) = (node.path.beside("new"), node.path.beside("old"))
        do throws(KuboError) {
            let (client, cancellation) = (node.client, node.cancellation)
            for path in [new, previous] {
                try client.filesRemove(
                    path, isRecursive: true, force: true, cancellation: cancellation)
            }
            try client.filesCopy(
                from: MFSPath("/ipfs/\(root)"), to: new, isOffline: true,
                cancellation: cancellation)
            try client.filesMove(from: node.path, to: previous, cancellation: cancellation)
            try client.filesMove(from: new, to: node.path, cancellation: cancellation)
            // What others did between the two is still there.
            guard try client.filesStat(previous, cancellation: cancellation)?.cid == old else {
                log.warning("MFS \(node.path) was changed while it was replaced: see \(previous)")
                return
            }
            try client.filesRemove(
                previous, isRecursive: true, force: true, cancellation: cancellation)
        } catch {
            throw .node(error)
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

/// Blocks from here where they are nodes of the volume, else from the node.
struct NodeBlocks: BlockSource {
    let volume: Volume
    let node: NodeLink
    /// Ends the calls; nil: with the link.
    var cancellation: Cancellation?
    /// Has the node look among its peers for what it lacks.
    var asksPeers = true
    /// On whose behalf; nil: on the volume's own.
    var user: UInt32?
    /// How long a block may take; nil for as long as a read waits.
    var milliseconds: Int?

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        try block(cid, memory: nil)
    }

    /// Gives a block, compared with its CID wherever it comes from.
    ///
    /// - Parameter memory: what a block of the node is received into; nil for memory of its own.
    func block(_ cid: CID, memory: ReplyMemory?) throws(BlockUnavailable) -> [UInt8] {
        if cid.codec == .dagPB,
            let stored = try? volume.reading({ (state) throws(Errno) in
                try state.node(with: cid.multihash.bytes)
            }), (try? stored.withUnsafeBytes({ try cid.verify($0) })) != nil
        {
            return stored
        }
        do throws(KuboError) {
            // What the node has itself is not to wait behind what it has to look for.
            do throws(KuboError) {
                return try get(cid, isOffline: true, memory)
            } catch {
                guard asksPeers, error.kind == .notFound else { throw error }
            }
            return try get(cid, isOffline: false, memory)
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }

    private func get(
        _ cid: CID, isOffline: Bool, _ memory: ReplyMemory?
    ) throws(KuboError) -> [UInt8] {
        let block = try node.client.block(
            cid, isOffline: isOffline,
            deadlineMilliseconds: milliseconds ?? node.options.fetchMilliseconds,
            cancellation: cancellation ?? node.cancellation, memory: memory, user: user)
        node.noteFetched(bytes: block.count)
        return block
    }
}

/// What has to be done at an MFS path to bring one tree to another.
final class ViewChanges {
    private enum Change {
        case put(CID, MFSPath, replaces: Bool)
        case remove(MFSPath)
        case replace(CID, MFSPath)
    }

    private let blocks: NodeBlocks
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

    init(blocks: NodeBlocks, path: MFSPath) {
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

    func apply(_ node: NodeLink) throws(KuboError) {
        let (client, cancellation) = (node.client, node.cancellation)
        var unflushed = 0
        for change in additions + removals {
            switch change {
            case .put(let cid, let path, let replaces):
                try client.filesCopy(
                    from: MFSPath("/ipfs/\(cid)"), to: path, force: replaces, flush: false,
                    isOffline: true, cancellation: cancellation)
                unflushed += 1
            case .replace(let cid, let path):
                try client.filesRemove(
                    path, isRecursive: true, force: true, cancellation: cancellation)
                try client.filesCopy(
                    from: MFSPath("/ipfs/\(cid)"), to: path, flush: false, isOffline: true,
                    cancellation: cancellation)
                unflushed += 1
            case .remove(let path):
                try client.filesRemove(
                    path, isRecursive: true, force: true, cancellation: cancellation)
            // It flushes what stands above it, and not what else was changed.
            }
            guard unflushed >= Self.unflushedMax else { continue }
            try client.filesFlush(top, cancellation: cancellation)
            unflushed = 0
        }
        try client.filesFlush(top, cancellation: cancellation)
    }
}

extension DAGReadError {
    /// What went wrong, for people; names the block.
    var reason: String {
        switch self {
        case .unavailable(let error):
            if let cause = error.cause as? KuboError { return "\(cause)" }
            if let cause = error.cause as? ExpansionLimit { return cause.reason }
            return "block \(error.cid) is not to be had"
        case .wrongBytes(let cid): return "block \(cid): the bytes are not those of its hash"
        case .unsupportedHash(let cid): return "block \(cid): its hash function is not known here"
        case .unsupportedCodec(let cid):
            return "block \(cid) is no file, directory or symlink (codec \(cid.codec))"
        case .malformed(let cid, let error): return "block \(cid) is malformed: \(error)"
        case .tooDeep(let cid): return "block \(cid) lies deeper than any writer makes it"
        case .notFile(let cid): return "block \(cid) is no file"
        case .notDirectory(let cid): return "block \(cid) is no directory"
        case .duplicateName(let cid, let name):
            return "directory \(cid) has two entries \(shown(name))"
        case .noSuchEntry(let cid, let name):
            return "directory \(cid) has no entry \(shown(name))"
        case .tooMany(let limit): return "there are more than \(limit)"
        }
    }
}
