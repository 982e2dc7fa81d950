internal import Base
internal import InodeManifest
internal import Kubo
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

// What is sealed and not published is the outbox; it stands in the rows themselves (Schema.swift).
// The objects of it that are known to be new are kept in memory as well, in the order in which they
// were sealed, so that nobody has to look for them.

/// Objects that wait to be sent to the node.
struct Outbox {
    /// In the order in which they were sealed.
    private var waiting: [UInt64] = []
    private var head = 0
    private var members: Set<UInt64> = []
    /// Objects that somebody is sending now.
    private(set) var underWay: Set<UInt64> = []
    /// Where the search for objects of earlier times goes on; nil once they are all in here.
    private(set) var searchedUpTo: UInt64? = 0

    /// The most that waits in memory.
    static let countMax = 65_536

    var isEmpty: Bool { head == waiting.count && underWay.isEmpty && searchedUpTo == nil }
    var hasWaiting: Bool { head < waiting.count }

    mutating func add(_ ids: [UInt64]) {
        for id in ids {
            guard members.count < Self.countMax else {
                // They are in the manifest; the search comes to them later.
                searchedUpTo = 0
                return
            }
            if members.insert(id).inserted { waiting.append(id) }
        }
    }

    mutating func searchAgain() { searchedUpTo = 0 }

    mutating func noteSearched(upTo id: UInt64?) { searchedUpTo = id }

    /// Takes the next objects out, whose sending must be ended by `end`.
    mutating func take(_ countMax: Int) -> [UInt64] {
        var taken: [UInt64] = []
        while head < waiting.count, taken.count < countMax {
            let id = waiting[head]
            head += 1
            members.remove(id)
            if underWay.insert(id).inserted { taken.append(id) }
        }
        if head > 4096 || head == waiting.count {
            waiting.removeFirst(head)
            head = 0
        }
        return taken
    }

    /// Claims one object; false where somebody is sending it.
    mutating func claim(_ id: UInt64) -> Bool { underWay.insert(id).inserted }

    func isUnderWay(_ id: UInt64) -> Bool { underWay.contains(id) }

    /// Ends what `take` or `claim` began.
    mutating func end(_ ids: some Sequence<UInt64>) { underWay.subtract(ids) }
}

/// The blocks of one sealed object, in order: its leaves, then its nodes, the root last, because
/// whoever finds that finds the rest.
///
/// It keeps the object from being removed until `end`.
final class ObjectBlocks {
    enum Interruption: Error {
        /// The content was changed, or went; newer content is sealed by itself.
        case outdated
        case damaged
        case failed(Errno)
    }

    let object: UInt64
    let root: CID
    private let size: UInt64
    private let volume: Volume
    private let content: Volume.Content
    private let leaves: [[UInt8]]
    private let nodes: [StoredNode]

    /// Nil where the object is not there any more, or not sealed, or published already.
    init?(_ object: UInt64, of volume: Volume) throws(Errno) {
        let found = try volume.reading { (state) throws(Errno) in
            try Self.find(object, volume, state)
        }
        guard let found else { return nil }
        self.object = object
        self.volume = volume
        (root, size, content, leaves, nodes) = found
    }

    private static func find(
        _ object: UInt64, _ volume: Volume, _ state: ManifestState
    ) throws(Errno) -> (CID, UInt64, Volume.Content, [[UInt8]], [StoredNode])? {
        guard let record = try state.object(object), record.state == .sealed,
            let root = record.cid, !state.isPublished(record)
        else { return nil }
        var (leaves, nodes) = ([[UInt8]](), [StoredNode]())
        if record.size > UInt64(volume.profile.chunkSize) {
            (leaves, nodes) = try volume.blocks(of: record, state)
            // Sealed just now, and on its way to SQLite: it comes again.
            guard !leaves.isEmpty else { throw .resourceTemporarilyUnavailable }
            if let last = nodes.firstIndex(where: { $0.multihash == root.multihash.bytes }) {
                nodes.append(nodes.remove(at: last))
            }
        }
        let content: Volume.Content =
            record.isInline
            ? .inline(try state.inlineBytes(of: record))
            : .flat(try volume.store.open(object, forWriting: false))
        state.pin(record)
        return (root, record.size, content, leaves, nodes)
    }

    func end() {
        volume.manifest.withLock { state in
            guard let record = try? state.object(object) else { return }
            state.unpin(record)
        }
    }

    /// How many blocks there are.
    var count: Int { max(leaves.count, 1) + nodes.count }

    func cid(at index: Int) -> CID? {
        if leaves.isEmpty { return root }
        return index < leaves.count
            ? volume.leafCID(leaves[index]) : volume.nodeCID(nodes[index - leaves.count].multihash)
    }

    /// The bytes of a block, without what frames a leaf.
    func byteCount(at index: Int) -> Int {
        guard index < max(leaves.count, 1) else { return nodes[index - leaves.count].bytes.count }
        let start = UInt64(index) * UInt64(volume.profile.chunkSize)
        return Int(min(UInt64(volume.profile.chunkSize), size - min(size, start)))
    }

    /// A block, compared with its hash.
    func block(at index: Int) throws(Interruption) -> [UInt8] {
        let bytes =
            index < max(leaves.count, 1)
            ? try leaf(index) : nodes[index - leaves.count].bytes
        guard let bytes, let cid = cid(at: index),
            (try? bytes.withUnsafeBytes({ try cid.verify($0) })) != nil
        else { throw isSealed ? .damaged : .outdated }
        return bytes
    }

    private func leaf(_ number: Int) throws(Interruption) -> [UInt8]? {
        do throws(Errno) {
            return try volume.leafBlock(UInt64(number), of: content, size: size)
        } catch {
            throw isSealed ? .failed(error) : .outdated
        }
    }

    private var isSealed: Bool {
        volume.manifest.withLock { state in
            guard let record = try? state.object(object) else { return false }
            return record.state == .sealed && record.cid == root
        }
    }
}

extension Volume {
    func leafCID(_ multihash: [UInt8]) -> CID? {
        guard let multihash = try? Multihash(bytes: multihash) else { return nil }
        return profile.rawLeaves
            ? CID(codec: .raw, multihash: multihash)
            : CID.dagPB(multihash, version: profile.cidVersion)
    }

    func nodeCID(_ multihash: [UInt8]) -> CID? {
        guard let multihash = try? Multihash(bytes: multihash) else { return nil }
        return CID.dagPB(multihash, version: profile.cidVersion)
    }

    /// The leaves' multihashes and the interior nodes of a sealed object of several leaves, as they
    /// wait for their commit or as they stand in the manifest; none where a commit is under way.
    func blocks(
        of record: ObjectRecord, _ state: ManifestState
    ) throws(Errno) -> (leaves: [[UInt8]], nodes: [StoredNode]) {
        if let blocks = record.newBlocks { return (blocks.leaves, blocks.nodes) }
        return (
            try state.leafMultihashes(of: record.id, limit: UInt64(Int64.max)),
            try state.nodes(of: record.id)
        )
    }

    /// Adds the objects to the outbox that were sealed since the last time, and those of earlier
    /// times where not all of them are in it.
    func fillOutbox(_ node: NodeLink) throws(Errno) {
        let sealed = manifest.withLock { $0.takeSealed() }
        var search = node.outbox.withLock { outbox in
            if let sealed { outbox.add(sealed) } else { outbox.searchAgain() }
            return outbox.hasWaiting ? nil : outbox.searchedUpTo
        }
        while let after = search {
            // What is not committed yet is among those that were just sealed, or comes next time.
            let ids = try reading { (state) throws(Errno) in
                try state.unpublishedObjects(after: after, limit: Self.searchedAtOnce)
            }
            search = node.outbox.withLock { outbox in
                outbox.noteSearched(upTo: ids.count < Self.searchedAtOnce ? nil : ids.last)
                outbox.add(ids)
                return ids.isEmpty ? outbox.searchedUpTo : nil
            }
        }
    }

    private static let searchedAtOnce = 4_096

    /// Sends objects of the outbox to the node. Blocks for the node.
    func upload(_ ids: [UInt64], to node: NodeLink) throws(KuboError) {
        let upload = Upload(self, node)
        defer { upload.end() }
        for id in ids { try upload.add(object: id) }
        try upload.flush()
    }
}
