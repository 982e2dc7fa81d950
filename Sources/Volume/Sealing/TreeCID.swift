public import Base
internal import Glibc
internal import InodeManifest
internal import MerkleDAG
public import Multiformats

public import struct SystemPackage.Errno

// The CID of a directory is kept in its inode row while it is current. A change below takes it
// away from every directory above, up to the first that has none: above that one there is none
// either. While CIDs are computed that rule is kept by a mark on the directories at work.

extension Volume {
    /// The CID of a file, directory or symlink as `ipfs add` would give it under the volume's
    /// profile. Seals and computes what is not known yet, which may block for long.
    ///
    /// What UnixFS cannot hold (fifos, sockets, device nodes) is left out of a directory's DAG.
    ///
    /// What is told as a CID can be had at once, by `block` and `exportCAR`, as long as the content stays
    /// so; of a volume that is open read-only, what was sealed before.
    ///
    /// - Throws: ENODATA for what UnixFS cannot hold, EAGAIN where the content never stands still.
    public func cid(of inode: Inode) throws(Errno) -> CID {
        if inode.isOfView { return try view.cid(of: inode).cid }
        let kind = try reading { (state) throws(Errno) in try record(inode, state).kind }
        switch kind {
        case .regular: return try seal(inode, attempts: Self.treeAttemptsMax).cid
        case .symlink:
            try noteSymlink(inode)
            return symlinkNode(try readSymlinkTarget(inode)).cid
        case .directory:
            return try background.run { () throws(Errno) in try directoryCID(of: inode) }
        case .fifo, .socket, .characterDevice, .blockDevice: throw Errno(rawValue: ENODATA)
        }
    }

    /// The CID of the root directory, as `cid(of:)` gives it, for as long as somebody wants it.
    ///
    /// - Parameter isWanted: asked at each entry.
    /// - Throws: EINTR where nobody does any more.
    package func rootCID(while isWanted: () -> Bool) throws(Errno) -> CID {
        try background.run { () throws(Errno) in try directoryCID(of: .root, while: isWanted) }
    }

    private func directoryCID(
        of inode: Inode, while isWanted: () -> Bool = { true }
    ) throws(Errno) -> CID {
        syncAllFromBacking()
        return try seals.treeLock.withLock { (_) throws(Errno) in
            for attempt in 0..<Self.treeAttemptsMax {
                // A backing file that was written just now counts as changing for as long as
                // its time could not tell of another write.
                if attempt > 0 { usleep(1000) }
                do throws(Errno) {
                    if let root = try computeTree(inode, while: isWanted) { return root.cid }
                } catch {
                    // Something that was listed is gone by now; the directory itself may be.
                    guard error == Self.stale else { throw error }
                    _ = try attributes(of: inode)
                }
            }
            throw .resourceTemporarilyUnavailable.because(
                "\(inode): what is in it never stands still")
        }
    }

    /// How often a computation begins again when the content changes under it.
    static let treeAttemptsMax = 64

    private func readSymlinkTarget(_ inode: Inode) throws(Errno) -> [UInt8] {
        try reading { (state) throws(Errno) in try record(inode, state).target }
    }

    private func symlinkNode(_ target: [UInt8]) -> (cid: CID, treeSize: UInt64, block: [UInt8]) {
        let (root, block) = profile.symlink(target: target)
        return (root.cid, root.treeSize, block)
    }

    /// Takes the CIDs of the directories above an inode away, after a change of its content.
    func outdateTree(above record: InodeRecord, _ state: ManifestState) throws(Errno) {
        // A snapshot that is being made has a copy.
        let isFrozen = seals(state).frozen.contains(record.inode.number)
        if record.parent.number != 0, let parent = try state.inode(record.parent) {
            try outdateTree(of: parent, isFrozen: isFrozen, state)
        }
        var last = record.parent
        for other in record.otherParents where other != last {
            last = other
            if let parent = try state.inode(other) {
                try outdateTree(of: parent, isFrozen: isFrozen, state)
            }
        }
    }

    /// Takes the CIDs of a directory and of those above it away.
    ///
    /// - Parameter isFrozen: the change is none for computations that are under way.
    func outdateTree(
        of directory: InodeRecord, isFrozen: Bool = false, _ state: ManifestState
    ) throws(Errno) {
        var directory = directory
        // In a damaged manifest the way up may be a ring: one that was passed a power of two steps ago is
        // met again then.
        var (passed, steps) = (directory, 0)
        while directory.cid != nil || seals(state).treesAtWork.contains(directory.inode) {
            if !isFrozen { seals(state).treesAtWork.noteChange(of: directory.inode) }
            state.clearTree(of: directory)
            guard directory.inode != .root, directory.parent != directory.inode,
                let parent = try state.inode(directory.parent), parent !== passed
            else { return }
            steps += 1
            if steps.nonzeroBitCount == 1 { passed = directory }
            directory = parent
        }
    }

    private struct TreeEntry {
        let name: FileName
        let inode: Inode
        let kind: FileKind
    }

    /// Computes the CID of a directory and of all below it that have none; nil where something
    /// below changed meanwhile. Goes down without recursion, so no depth is too deep.
    ///
    /// - Parameters:
    ///   - moment: a snapshot to be made of it; what is told is then the snapshot's root, which need not be the tree's.
    ///   - isWanted: whether to go on; else EINTR.
    func computeTree(
        _ top: Inode, _ moment: SnapshotMoment? = nil, while isWanted: () -> Bool = { true }
    ) throws(Errno) -> (cid: CID, treeSize: UInt64)? {
        struct Level {
            let inode: Inode
            /// Nil before the directory is listed.
            var pending: [TreeEntry]?
            var builder: DirectoryBuilder
        }
        if let known = try beginComputation(of: top, moment, isTop: true) { return known }
        var levels = [
            Level(inode: top, pending: nil, builder: DirectoryBuilder(profile: profile))
        ]
        defer {
            for level in levels { endComputation(of: level.inode) }
            manifest.withLock { state in
                for inode in seals(state).treesAtWork.takeHeld() {
                    (try? state.inode(inode))?.pins -= 1
                }
            }
        }
        while let last = levels.indices.last {
            guard isWanted() else { throw .interrupted }
            keepChangesBounded()
            if levels[last].pending == nil {
                levels[last].pending = try treeEntries(of: levels[last].inode)
            }
            guard let entry = levels[last].pending?.last else {
                let isTop = last == 0
                guard
                    let result = try finish(
                        levels[last].inode, &levels[last].builder, moment, isTop: isTop)
                else { return nil }
                levels.removeLast()
                guard let parent = levels.indices.last else { return result }
                // Not asked for again: a volume that is only read has not kept it.
                if let entry = levels[parent].pending?.popLast() {
                    levels[parent].builder.add(
                        name: entry.name.bytes, cid: result.cid, treeSize: result.treeSize)
                }
                continue
            }
            guard let node = try treeNode(of: entry, moment) else {
                levels.append(
                    Level(
                        inode: entry.inode, pending: nil,
                        builder: DirectoryBuilder(profile: profile)))
                continue
            }
            // It may have come here since the directories above it were marked.
            if let moment, moment.frozen[entry.inode.number] != nil {
                moment.overlaid.formUnion(levels.map(\.inode.number))
            }
            levels[last].pending?.removeLast()
            if case .node(let cid, let treeSize) = node {
                levels[last].builder.add(name: entry.name.bytes, cid: cid, treeSize: treeSize)
            }
        }
        return nil
    }

    private enum TreeNode {
        case node(CID, treeSize: UInt64)
        /// UnixFS has no node for it.
        case none
    }

    /// The node of an entry; nil for a directory that has to be computed first.
    private func treeNode(
        of entry: TreeEntry, _ moment: SnapshotMoment?
    ) throws(Errno) -> TreeNode? {
        switch entry.kind {
        case .regular:
            if let moment {
                guard let node = try restingNode(of: entry.inode, moment) else { throw Self.stale }
                return .node(node.cid, treeSize: node.treeSize)
            }
            let (cid, treeSize) = try seal(entry.inode, attempts: Self.treeAttemptsMax)
            return .node(cid, treeSize: treeSize)
        case .symlink:
            let (cid, treeSize, _) = symlinkNode(try readSymlinkTarget(entry.inode))
            try noteSymlink(entry.inode)
            return .node(cid, treeSize: treeSize)
        case .directory:
            guard let (cid, treeSize) = try beginComputation(of: entry.inode, moment) else {
                return nil
            }
            return .node(cid, treeSize: treeSize)
        case .fifo, .socket, .characterDevice, .blockDevice:
            return TreeNode.none
        }
    }

    /// The stored CID of a directory; without one, marks it as being computed.
    private func beginComputation(
        of inode: Inode, _ moment: SnapshotMoment?, isTop: Bool = false
    ) throws(Errno) -> (cid: CID, treeSize: UInt64)? {
        try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            if let cid = record.cid, !(moment?.overlaid.contains(inode.number) ?? false) {
                if isTop { try complete(moment, cid, record.treeSize, state) }
                return (cid, record.treeSize)
            }
            // It was moved since, and what is above its place of before is outdated.
            guard !seals(state).treesAtWork.isHeld(inode) else { throw Self.stale }
            // Only one computation goes on at a time, and it is above this one.
            guard !seals(state).treesAtWork.contains(inode) else {
                throw .ioError.because(
                    "\(inode): the directory lies in a circle of directories: run registryfs check")
            }
            seals(state).treesAtWork.begin(inode)
            record.pins += 1
            return nil
        }
    }

    private func complete(
        _ moment: SnapshotMoment?, _ root: CID, _ treeSize: UInt64, _ state: ManifestState
    ) throws(Errno) {
        try moment?.complete(
            root, treeSize, changes: publishing(state).changes, state)
    }

    private func endComputation(of inode: Inode) {
        manifest.withLock { state in
            guard seals(state).treesAtWork.contains(inode),
                !seals(state).treesAtWork.isHeld(inode)
            else { return }
            _ = seals(state).treesAtWork.end(inode)
            (try? state.inode(inode))?.pins -= 1
        }
    }

    private func treeEntries(of inode: Inode) throws(Errno) -> [TreeEntry] {
        var entries: [TreeEntry] = []
        try reading { (state) throws(Errno) in
            try state.forEachEntry(of: try directory(inode, state), after: 0) { name, entry in
                entries.append(TreeEntry(name: name, inode: entry.inode, kind: entry.kind))
                return true
            }
        }
        return entries
    }

    /// Ends a directory whose entries are all in the builder, and keeps its CID where nothing
    /// changed meanwhile.
    private func finish(
        _ inode: Inode, _ builder: inout DirectoryBuilder, _ moment: SnapshotMoment?, isTop: Bool
    ) throws(Errno) -> (cid: CID, treeSize: UInt64)? {
        var nodes: [StoredNode] = []
        let root: DAGRoot
        do {
            root = try builder.finish { (cid, block) throws(Never) in
                nodes.append(StoredNode(multihash: cid.multihash.bytes, bytes: block))
            }
        } catch {
            endComputation(of: inode)
            throw .ioError.because("\(inode): its directory node cannot be made: \(error)")
        }
        return try reading { (state) throws(Errno) in
            let record = try record(inode, state)
            let isOverlaid = moment?.overlaid.contains(inode.number) ?? false
            guard !(isOverlaid && seals(state).treesAtWork.hold(inode)) else { return nil }
            if !isOverlaid {
                let isOutdated = seals(state).treesAtWork.end(inode)
                record.pins -= 1
                guard !isOutdated else { return nil }
            }
            guard !options.isReadOnly else { return (root.cid, root.treeSize) }
            if let moment, isOverlaid {
                moment.nodes += nodes
            } else {
                state.setTree(
                    of: record, cid: root.cid, treeSize: root.treeSize, nodes: nodes)
            }
            if isTop { try complete(moment, root.cid, root.treeSize, state) }
            return (root.cid, root.treeSize)
        }
    }

    /// Keeps the CID of a symlink, by which its block is found.
    private func noteSymlink(_ inode: Inode) throws(Errno) {
        try reading { (state) throws(Errno) in noteSymlink(try record(inode, state), state) }
    }

    func noteSymlink(_ record: InodeRecord, _ state: ManifestState) {
        guard record.cid == nil, !options.isReadOnly else { return }
        let node = symlinkNode(record.target)
        record.cid = node.cid
        record.treeSize = node.treeSize
        state.mark(record)
    }
}

/// Directories whose CIDs are being computed, and whether something below changed since that began.
struct TreesAtWork {
    private var isOutdated: [UInt64: Bool] = [:]
    /// Directories that are done, and whose rows do not have the CID that they have in a snapshot: no CID of theirs would lead a
    /// change below them up to the root.
    private var held: Set<UInt64> = []

    func contains(_ inode: Inode) -> Bool {
        // Asked at each change; mostly there is none.
        !isOutdated.isEmpty && isOutdated[inode.number] != nil
    }

    mutating func begin(_ inode: Inode) { isOutdated[inode.number] = false }

    func isHeld(_ inode: Inode) -> Bool { held.contains(inode.number) }

    /// Ends a computation, and has changes below it noted until `takeHeld`; says whether its result holds no longer.
    mutating func hold(_ inode: Inode) -> Bool {
        guard let isOutdated = isOutdated[inode.number] else { return true }
        held.insert(inode.number)
        return isOutdated
    }

    /// Ends all that `hold` began.
    mutating func takeHeld() -> [Inode] {
        defer { held = [] }
        for number in held { isOutdated[number] = nil }
        return held.map { Inode($0) }
    }

    /// Ends a computation; says whether its result holds no longer.
    mutating func end(_ inode: Inode) -> Bool {
        isOutdated.removeValue(forKey: inode.number) ?? true
    }

    /// Notes that something below a directory changed.
    mutating func noteChange(of inode: Inode) {
        guard contains(inode) else { return }
        isOutdated[inode.number] = true
    }
}
