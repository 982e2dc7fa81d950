internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

/// The blocks of one file's content, in order: its leaves, then its nodes, the root last, because
/// whoever finds that finds the rest.
final class FileBlocks: CustomStringConvertible {
    enum Interruption: Error {
        /// The content was changed, or went; newer content is sealed by itself.
        case outdated
        case damaged
        case failed(Errno)
    }

    /// The sealed object that it is; it is not removed until `end`. Nil for a file with a writer.
    let object: UInt64?
    let root: CID
    let size: UInt64
    private let volume: Volume
    private let content: Volume.Content
    private let leaves: [[UInt8]]
    private let nodes: [StoredNode]

    /// The blocks of content that was hashed just now, and may change at any time.
    init(_ content: Volume.Content, size: UInt64, _ result: SealResult, of volume: Volume) {
        object = nil
        root = result.cid
        self.size = size
        self.volume = volume
        self.content = content
        leaves = result.leaves
        nodes = Self.rootLast(result.nodes, result.cid)
    }

    /// The blocks of an object; nil where it is not there any more, not sealed, or published already.
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
            let blocks = try state.rows.blocks(of: record)
            (leaves, nodes) = (blocks.leaves, blocks.nodes)
            guard !leaves.isEmpty else {
                throw .ioError.because("object \(object): its leaves are not in the manifest")
            }
        }
        let content: Volume.Content =
            record.isInline
            ? .inline(try state.inlineBytes(of: record))
            : .flat(try volume.opens.filesAhead(state).file(object, forWriting: false, state))
        state.pin(record)
        return (root, record.size, content, leaves, rootLast(nodes, root))
    }

    private static func rootLast(_ nodes: [StoredNode], _ root: CID) -> [StoredNode] {
        var nodes = nodes
        if let last = nodes.firstIndex(where: { $0.multihash == root.multihash.bytes }) {
            nodes.append(nodes.remove(at: last))
        }
        return nodes
    }

    func end() {
        guard let object else { return }
        volume.manifest.withLock { state in
            guard let record = try? state.object(object) else { return }
            state.unpin(record)
        }
    }

    var description: String { object.map { "object \($0)" } ?? "file \(root)" }

    /// How many blocks there are.
    var count: Int { max(leaves.count, 1) + nodes.count }

    func cid(at index: Int) -> CID? {
        if leaves.isEmpty { return root }
        return index < leaves.count
            ? volume.leafCID(leaves[index]) : volume.nodeCID(nodes[index - leaves.count].multihash)
    }

    /// The flat file of the content; nil for inline content.
    var file: ObjectFile? {
        guard case .flat(let file) = content else { return nil }
        return file
    }

    /// Whether no other block stands below this one.
    func isLeaf(at index: Int) -> Bool { index < max(leaves.count, 1) }

    /// The bytes of a block, without what frames a leaf.
    func byteCount(at index: Int) -> Int {
        guard isLeaf(at: index) else { return nodes[index - leaves.count].bytes.count }
        let start = UInt64(index) * UInt64(volume.profile.chunkSize)
        return Int(min(UInt64(volume.profile.chunkSize), size - min(size, start)))
    }

    /// A block, compared with its hash.
    func block(at index: Int) throws(Interruption) -> [UInt8] {
        let bytes = isLeaf(at: index) ? try leaf(index) : nodes[index - leaves.count].bytes
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
        guard let object else { return false }
        return volume.manifest.withLock { state in
            guard let record = try? state.object(object) else { return false }
            return record.state == .sealed && record.cid == root
        }
    }
}
