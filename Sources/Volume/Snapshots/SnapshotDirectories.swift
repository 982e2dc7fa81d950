internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

/// What a directory of snapshots holds.
final class SnapshotDirectory: Sendable {
    /// In the order of its DAG's links, so that a place in it stays what it is.
    let entries: [Volume.ExpandedEntry]
    /// Places in `entries`.
    private let places: [FileName: Int]
    /// Bytes of memory, about.
    let cost: Int

    init(_ entries: [Volume.ExpandedEntry]) {
        self.entries = entries
        places = Dictionary(
            entries.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
        cost = entries.reduce(Self.ownCost) { sum, child in
            var cost = Self.entryCost + child.name.bytes.count
            if case .symlink(let target, _) = child.entry { cost += target.count }
            return sum + cost
        }
    }

    /// What it takes beside its entries, and an entry beside its text, in bytes.
    private static let ownCost = 512
    private static let entryCost = 320

    func find(_ name: FileName) -> Volume.ExpandedEntry? { places[name].map { entries[$0] } }
}

/// The directories that were looked into lately, by their CIDs: snapshots have most of them in common.
///
/// In two generations: what is used stands in the newer one, and once that is full the older one goes and another
/// begins. The directory that was used last stays, however large.
struct SnapshotDirectories {
    private var newer: [CID: SnapshotDirectory] = [:]
    private var older: [CID: SnapshotDirectory] = [:]
    private var cost = 0

    /// Bytes of one generation, about: 75,000 entries.
    private static let costMax = 24 << 20

    mutating func find(_ cid: CID) -> SnapshotDirectory? {
        if let known = newer[cid] { return known }
        guard let known = older[cid] else { return nil }
        add(known, of: cid)
        return known
    }

    mutating func add(_ directory: SnapshotDirectory, of cid: CID) {
        guard newer[cid] == nil else { return }
        if cost + directory.cost > Self.costMax {
            older = newer
            newer = [:]
            cost = 0
        }
        older[cid] = nil
        newer[cid] = directory
        cost += directory.cost
    }

    mutating func removeAll() {
        newer = [:]
        older = [:]
        cost = 0
    }
}

/// Blocks of snapshots that are here, in whatever form.
struct SnapshotBlocks: BlockSource {
    let volume: Volume
    let snapshot: UInt64

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        if let found = local(cid) { return found }
        throw BlockUnavailable(cid, cause: NotHere())
    }

    func local(_ cid: CID) -> [UInt8]? {
        if let found = volume.localBlock(cid) { return found }
        // A wrong answer of a disk comes back at the second look.
        guard volume.view.takesCheckpoint(for: snapshot) else { return nil }
        try? volume.manifest.checkpoint()
        return volume.localBlock(cid)
    }
}

extension DAGReadError {
    /// A block is not here, and may be elsewhere.
    var isElsewhere: Bool {
        guard case .unavailable(let error) = self else { return false }
        return error.cause is NotHere
    }
}

extension SnapshotView {
    /// What a directory of a snapshot holds. Blocks for blocks that are elsewhere.
    ///
    /// - Throws: ENOTDIR; EIO where it is not to be had, ESTALE where the snapshot is gone as well; EINTR.
    func directory(of node: SnapshotNode, _ volume: Volume) throws(Errno) -> SnapshotDirectory {
        guard node.kind == .directory else { throw .notDirectory }
        if let known = directories.withLock({ $0.find(node.cid) }) { return known }
        let found = SnapshotDirectory(try children(of: node, volume))
        directories.withLock { $0.add(found, of: node.cid) }
        return found
    }

    private func children(
        of node: SnapshotNode, _ volume: Volume
    ) throws(Errno) -> [Volume.ExpandedEntry] {
        let blocks = SnapshotBlocks(volume: volume, snapshot: node.snapshot.number)
        do throws(DAGReadError) {
            // Nobody is told of a wait where there is none.
            return try children(
                of: node.cid,
                Expansion(
                    beside: volume.remotes.localExpansions,
                    volume.fetcher?.options.expansion ?? ExpansionBounds(), log: volume.log,
                    isCancelled: { false }
                ) { (cid, _) throws(BlockUnavailable) in try blocks.block(cid) })
        } catch {
            guard let fetcher = volume.fetcher, error.isElsewhere else {
                throw failure(of: node, error, volume)
            }
            return try volume.remotes.waits.during { (wait) throws(Errno) in
                do throws(DAGReadError) {
                    return try children(
                        of: node.cid, expansion(blocks, fetcher, wait.cancellation))
                } catch {
                    guard !wait.isInterrupted else { throw .interrupted }
                    throw failure(of: node, error, volume)
                }
            }
        }
    }

    private func expansion(
        _ blocks: SnapshotBlocks, _ fetcher: Fetcher, _ cancellation: Cancellation
    ) -> Expansion {
        let volume = blocks.volume
        // Helping threads fetch for whoever waits here.
        let user = volume.remotes.waits.user
        return Expansion(
            beside: fetcher.expansions, fetcher.options.expansion, log: volume.log,
            isCancelled: { cancellation.isCancelled }
        ) { (cid, milliseconds) throws(BlockUnavailable) in
            if let found = blocks.local(cid) { return found }
            var source = VolumeBlocks(
                volume: volume, fetcher: fetcher, cancellation: cancellation, user: user)
            source.milliseconds = min(fetcher.options.fetchMilliseconds, milliseconds)
            return try source.block(cid)
        }
    }

    private func children(
        of cid: CID, _ expansion: Expansion
    ) throws(DAGReadError) -> [Volume.ExpandedEntry] {
        defer { expansion.end() }
        return try expansion.children(of: cid, expansion.links(of: cid))
    }

    /// What an operation fails with for which blocks of a snapshot are not to be had.
    func failure(of node: SnapshotNode, _ error: DAGReadError, _ volume: Volume) -> Errno {
        let isThere = list(of: volume).contains { $0.number == node.snapshot.number }
        let cause = "snapshot \(node.snapshot.name), \(node.cid): \(error.reason)"
        return (isThere ? Errno.ioError : Volume.stale).because(cause)
    }
}
