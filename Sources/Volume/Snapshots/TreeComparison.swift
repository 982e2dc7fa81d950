internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// Two trees are compared by their links: where the CIDs of a name are equal, all below it is, and nobody looks there. So it
// costs what differs. What differs can be told without an end (a DAG of forty nodes can have 2^40 paths), so it is told as
// it is found, and what waits is bounded.
//
// Order: the names of a directory by their bytes; what is below a name behind it, and before the next one.

extension Volume {
    /// Tells what differs between two trees, in the order of the names' bytes, until the body answers false. Looks only into
    /// what differs. Blocks for blocks that are elsewhere.
    ///
    /// A directory that both have is looked into, and not told itself. A name that is a directory in one tree alone is
    /// `changed`, and what was or is below it follows as removed or added.
    ///
    /// - Throws: `snapshot`, `tree`, `operation`.
    public func forEachDifference(
        from old: ComparedTree, to new: ComparedTree, _ body: (TreeDifference) -> Bool
    ) throws(VolumeError) {
        let (from, to) = (try root(of: old), try root(of: new))
        do throws(Errno) {
            // What was sealed just now counts as here.
            try manifest.checkpoint()
        } catch {
            throw .operation(failed: "comparing trees", error)
        }
        let comparison = TreeComparison(self)
        do throws(DAGReadError) {
            try comparison.run(from: from, to: to, body)
        } catch {
            guard !comparison.isStopped else { throw .tree("the volume is being closed") }
            throw .tree("the trees cannot be compared: \(error.reason)")
        }
    }

    private func root(of tree: ComparedTree) throws(VolumeError) -> CID {
        switch tree {
        case .snapshot(let name): return try snapshot(named: name).root
        case .root(let cid): return cid
        case .live:
            do throws(Errno) {
                return try cid(of: .root)
            } catch {
                throw .operation(failed: "the root's CID", error)
            }
        }
    }
}

/// One comparison of two trees.
final class TreeComparison {
    private typealias Link = MerkleDAG.DirectoryEntry

    /// A name that the trees have differently. A side is nil where that tree has it not.
    private struct Difference {
        let name: [UInt8]
        let old: CID?
        let new: CID?

        /// Bytes of memory, about.
        var weight: Int { name.count + 192 }
    }

    /// A directory that is gone through: what of it waits, the first name last.
    private struct Level {
        var waiting: [Difference]
        /// Whether a name of it is in the path at this moment.
        var isInside = false
    }

    private let volume: Volume
    private let source: RecentBlocks
    private var levels: [Level] = []
    private var path: [[UInt8]] = []
    private var pathBytes = 0
    private var heldBytes = 0
    /// Whether a CID is a directory; nil for what no file system has.
    private var kinds = Recent<CID, Bool?>(countMax: 4_096)
    private var leftOut = 0

    /// What may wait, as bytes of memory.
    private static let heldBytesMax = 256 << 20
    /// Of the longest path.
    private static let pathBytesMax = 128 << 10
    /// Names that are told in the log where they are left out.
    private static let namedMax = 8

    init(_ volume: Volume) {
        self.volume = volume
        source = RecentBlocks(DAGSource(volume: volume))
    }

    /// The volume is being closed.
    var isStopped: Bool { volume.remotes.fetcher.cancellation.isCancelled }

    func run(
        from old: CID, to new: CID, _ body: (TreeDifference) -> Bool
    ) throws(DAGReadError) {
        guard old != new else { return }
        for cid in [old, new] {
            guard try isDirectory(cid, as: []) == true else { throw .notDirectory(cid) }
        }
        try enter(old, new)
        while let last = levels.indices.last {
            guard !isStopped else { throw .unavailable(BlockUnavailable(old)) }
            if levels[last].isInside {
                levels[last].isInside = false
                pathBytes -= path.removeLast().count + 1
            }
            guard let difference = levels[last].waiting.popLast() else {
                levels.removeLast()
                continue
            }
            heldBytes -= difference.weight
            guard try tell(difference, body) else { return }
        }
    }

    /// Tells of one name, and goes on with what is below it.
    private func tell(
        _ difference: Difference, _ body: (TreeDifference) -> Bool
    ) throws(DAGReadError) -> Bool {
        let name = difference.name
        let wasOne = try isDirectory(difference.old, as: name)
        let isOne = try isDirectory(difference.new, as: name)
        let kind: TreeDifference.Kind
        switch (wasOne, isOne) {
        case (nil, nil): return true
        case (nil, _): kind = .added
        case (_, nil): kind = .removed
        case (true, true): return try enter(name, difference.old, difference.new)
        case (_, _): kind = .changed
        }
        let isDirectory = kind != .changed && (wasOne ?? isOne) == true
        guard body(TreeDifference(kind: kind, path: path + [name], isDirectory: isDirectory))
        else { return false }
        guard wasOne == true || isOne == true else { return true }
        return try enter(
            name, wasOne == true ? difference.old : nil, isOne == true ? difference.new : nil)
    }

    private func enter(
        _ name: [UInt8], _ old: CID?, _ new: CID?
    ) throws(DAGReadError) -> Bool {
        pathBytes += name.count + 1
        path.append(name)
        guard pathBytes <= Self.pathBytesMax else { throw .tooDeep(new ?? old ?? Self.emptyLeaf) }
        levels[levels.count - 1].isInside = true
        try enter(old, new)
        return true
    }

    private static let emptyLeaf = CID.raw(sha256: [])

    /// Finds out what two directories have differently; nil is an empty one.
    private func enter(_ old: CID?, _ new: CID?) throws(DAGReadError) {
        var found: [Difference] = []
        var isFull = false
        func note(_ old: Link?, _ new: Link?) -> Bool {
            // What no file could be named by a mount leaves out.
            guard let name = (old ?? new)?.name, Volume.isUsable(name) else { return true }
            let difference = Difference(name: name, old: old?.cid, new: new?.cid)
            heldBytes += difference.weight
            isFull = heldBytes > Self.heldBytesMax
            found.append(difference)
            return !isFull && !isStopped
        }
        let before = try old.map { (cid) throws(DAGReadError) in
            try DirectoryReader(root: cid, source: source)
        }
        let now = try new.map { (cid) throws(DAGReadError) in
            try DirectoryReader(root: cid, source: source)
        }
        switch (before, now) {
        case (let before?, let now?): try now.forEachDifference(from: before, note)
        case (let before?, nil): try before.forEachEntry { note($0, nil) }
        case (nil, let now?): try now.forEachEntry { note(nil, $0) }
        case (nil, nil): break
        }
        guard !isFull else {
            let limit = ExpansionLimit(reason: "more names differ than can be sorted in memory")
            throw .unavailable(BlockUnavailable(new ?? old ?? Self.emptyLeaf, cause: limit))
        }
        found.sort { $1.name.lexicographicallyPrecedes($0.name) }
        levels.append(Level(waiting: found))
    }

    /// Whether a CID is a directory; nil, and a line in the log, for what no file system has, and a mount leaves out.
    private func isDirectory(_ cid: CID?, as name: [UInt8]) throws(DAGReadError) -> Bool? {
        guard let cid else { return nil }
        guard cid.codec != .raw else { return false }
        if let known = kinds[cid] { return known }
        var found: Bool?
        do throws(DAGReadError) {
            if isFileHere(cid) {
                found = false
            } else if case .directory = try source.unixfsEntry(cid) {
                found = true
            } else {
                found = false
            }
        } catch {
            guard error.isOfContent else { throw error }
            leftOut += 1
            if leftOut <= Self.namedMax {
                volume.log.warning("comparing trees: \(shown(name)) is left out: \(error.reason)")
            }
        }
        kinds.note(cid, found)
        return found
    }

    /// Whether a file of the volume has this content, whose root block may be elsewhere.
    private func isFileHere(_ cid: CID) -> Bool {
        let objects = try? volume.reading { (state) throws(Errno) in try state.objects(with: cid) }
        return objects?.isEmpty == false
    }
}

/// Blocks of which the last two are at hand: what a name is and what it holds are asked one after the other.
private final class RecentBlocks: BlockSource, Sendable {
    private let source: DAGSource
    private let last = Monitor<[(cid: CID, bytes: [UInt8])]>([])

    init(_ source: DAGSource) {
        self.source = source
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        if let known = last.withLock({ $0.first { $0.cid == cid } }) { return known.bytes }
        let bytes = try source.block(cid)
        last.withLock { last in
            if last.count == 2 { last.removeFirst() }
            last.append((cid, bytes))
        }
        return bytes
    }
}
