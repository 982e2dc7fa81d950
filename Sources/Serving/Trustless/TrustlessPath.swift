internal import MerkleDAG
internal import Multiformats

/// A path below a CID, followed to its end.
struct TrustlessPath {
    /// A block that proves a step of the way.
    struct WayBlock: Sendable {
        var cid: CID
        /// Nil where it is to be asked for again: not everything on the way stays in memory.
        var block: [UInt8]?
    }

    /// The most names of a path.
    static let nameCountMax = 256
    /// How many bytes of the way stay in memory.
    static let keptBytesMax = 256 << 10

    /// The block at the end.
    var end: CID
    /// What was read to come there, in this order: without the block at the end, but where the path ends within it.
    var way: [WayBlock]
    /// One CID for each name, and the root before.
    var roots: [CID]
    /// Where the path ends within the block at its end: what the value there links to.
    var innerLinks: [CID]?

    /// Follows names through directories, sharded or not, and through DAG-CBOR.
    ///
    /// - Throws: `notFound` where the way ends: a name that is not there, a block that is no directory. Symlinks are not
    ///   followed.
    init(root: CID, names: [[UInt8]], blocks: ServedBlocks) throws(ServeFault) {
        guard names.count <= Self.nameCountMax else {
            throw .unsuitable(reason: "the path has more than \(Self.nameCountMax) names")
        }
        guard names.allSatisfy(Self.canBe) else { throw .notFound }
        let recorder = Recorder(blocks)
        end = root
        roots = [root]
        var rest = names[...]
        do throws(DAGReadError) {
            while let name = rest.first {
                if end.codec == .dagCBOR {
                    let block = try recorder.verifiedBlock(end)
                    switch try Self.place(rest, end, block) {
                    case .link(let cid, let nameCount) where nameCount > 0:
                        end = cid
                        rest = rest.dropFirst(nameCount)
                    case .value(let links):
                        innerLinks = links
                        rest = []
                    case .link, nil: throw .noSuchEntry(end, name: name)
                    }
                } else {
                    let directory = try DirectoryReader(root: end, source: recorder)
                    guard let entry = try directory.entry(name) else {
                        throw .noSuchEntry(end, name: name)
                    }
                    end = entry.cid
                    rest = rest.dropFirst()
                }
                if innerLinks == nil { roots.append(end) }
            }
        } catch {
            guard error.isOfContent else { throw ServeFault(error) }
            // Of a block that is no directory a client learns no more than of a name that is not there.
            throw .notFound
        }
        way = recorder.way.blocks
    }

    private static func place(
        _ path: ArraySlice<[UInt8]>, _ cid: CID, _ block: [UInt8]
    ) throws(DAGReadError) -> DAGCBORPlace? {
        do throws(DAGCBORError) {
            return try DAGCBOR.place(at: path, in: block)
        } catch {
            throw .malformed(cid, .notCBOR)
        }
    }

    /// Whether something can have this name.
    private static func canBe(_ name: [UInt8]) -> Bool {
        !name.isEmpty && !name.contains(UInt8(ascii: "/")) && !name.contains(0)
            && !name.elementsEqual(".".utf8) && !name.elementsEqual("..".utf8)
    }
}

/// Blocks, and which of them were asked for.
private struct Recorder: BlockSource {
    final class Way {
        var blocks: [TrustlessPath.WayBlock] = []
        var byteCount = 0
    }

    let way = Way()
    private let blocks: ServedBlocks

    init(_ blocks: ServedBlocks) {
        self.blocks = blocks
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        let block = try blocks.block(cid)
        let isKept = way.byteCount + block.count <= TrustlessPath.keptBytesMax
        if isKept { way.byteCount += block.count }
        way.blocks.append(TrustlessPath.WayBlock(cid: cid, block: isKept ? block : nil))
        return block
    }
}
