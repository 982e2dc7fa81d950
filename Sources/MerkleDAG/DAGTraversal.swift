public import Multiformats

/// Which blocks of a DAG are wanted.
public enum DAGPart: Hashable, Sendable {
    /// That of the root alone.
    case block
    /// What it takes to read a file, or to list a directory; of anything else that of the root alone.
    case entity
    /// Of a file what it takes to read these bytes, of anything else as `entity`.
    case bytes(Range<UInt64>)
    /// All that the links lead to.
    case all
}

/// A block on the way through a DAG.
public struct DAGStep: Sendable {
    public var cid: CID
    /// The block, checked against its CID; nil where the way goes on without knowing it: a leaf, or the last one that is
    /// wanted. It was not asked for then.
    public var block: [UInt8]?
}

/// Goes through the blocks of a part of a DAG, depth first, one at a time: a DAG node, then what its links lead to, in
/// their order.
///
/// Blocks that lie in their own CID (identity) are gone through, and are no steps. Of dag-json the links are not
/// known. In memory are `pendingMax` links, `seenMax` CIDs and one block. Not safe for use by several threads at once.
public struct DAGTraversal: Sendable {
    /// The most links that wait for their turn.
    public static let pendingMax = 1 << 17
    /// The most CIDs that are remembered for duplicates to be left out. Those that come later may come again.
    public static let seenMax = 1 << 16
    /// The most links that are followed, or passed over because they came already: a small DAG may have ways
    /// without end.
    public static let stepMax = 1 << 22

    /// Why a block is wanted, which says what of its links are.
    private enum Role {
        /// All of them.
        case all
        /// None.
        case block
        /// Those of a file or of the shards of a directory, whichever it is; of a file only those with these bytes.
        case entity(Range<UInt64>?)
        /// Those with these bytes of this part of a file.
        case file(Range<UInt64>?)
        /// Those of shards of this fanout.
        case shard(fanout: Int, depth: Int)

        /// Whether nothing below is left out of what the same block may lead to at another place.
        var isWhole: Bool {
            switch self {
            case .all, .block, .shard, .entity(nil), .file(nil): true
            case .entity, .file: false
            }
        }
    }

    private struct Visit {
        var cid: CID
        var role: Role
    }

    /// What is still to come, the next one last.
    private var pending: [Visit]
    private let hasDuplicates: Bool
    /// What came already, unless duplicates are wanted.
    private var seen: Set<CID>
    /// Of that, what came without some of its links: at the two ends of a range.
    private var incomplete: Set<CID> = []
    private var stepsLeft = DAGTraversal.stepMax
    private var stepsToExpecting = 0

    /// - Parameters:
    ///   - roots: one after the other.
    ///   - hasDuplicates: whether a block comes as often as links lead to it.
    ///   - seen: what is not to come again, where no duplicates are wanted.
    public init(roots: [CID], part: DAGPart, hasDuplicates: Bool = false, seen: [CID] = []) {
        let role: Role
        switch part {
        case .block: role = .block
        case .entity: role = .entity(nil)
        case .bytes(let range): role = .entity(range)
        case .all: role = .all
        }
        pending = roots.reversed().map { Visit(cid: $0, role: role) }
        self.hasDuplicates = hasDuplicates
        self.seen = hasDuplicates ? [] : Set(seen.map(\.asV1))
    }

    /// The next block; nil at the end. Blocks for as long as the source does.
    ///
    /// - Throws: `tooMany` beyond `stepMax`, `tooDeep` beyond `pendingMax`. There is no going on after an error.
    public mutating func next(from source: some BlockSource) throws(DAGReadError) -> DAGStep? {
        while let visit = pending.popLast() {
            guard stepsLeft > 0 else { throw .tooMany(limit: Self.stepMax) }
            stepsLeft -= 1
            let cid = visit.cid
            let isIdentity = cid.multihash.code == .identity
            var isStep = !isIdentity
            if !hasDuplicates, !isIdentity {
                switch arrival(of: cid.asV1, visit.role) {
                case .over: continue
                case .again: isStep = false
                case .new: break
                }
            }
            guard try Self.goesOn(visit) else {
                guard isStep else { continue }
                tell(source)
                return DAGStep(cid: cid)
            }
            let block = try source.verifiedBlock(cid)
            let visits = try Self.visits(from: visit, block)
            guard visits.count <= Self.pendingMax - pending.count else { throw .tooDeep(cid) }
            pending.append(contentsOf: visits.reversed())
            if !visits.isEmpty { stepsToExpecting = 0 }
            guard isStep else { continue }
            tell(source)
            return DAGStep(cid: cid, block: block)
        }
        return nil
    }

    private enum Arrival {
        case new
        /// It came, but not all that it leads to.
        case again
        case over
    }

    private mutating func arrival(of cid: CID, _ role: Role) -> Arrival {
        guard seen.contains(cid) else {
            guard seen.count < Self.seenMax else { return .new }
            seen.insert(cid)
            if !role.isWhole { incomplete.insert(cid) }
            return .new
        }
        guard incomplete.contains(cid) else { return .over }
        if role.isWhole { incomplete.remove(cid) }
        return .again
    }

    /// How many of the next blocks the source is told of, and after how many it is told again.
    private static var expectedMax: Int { 32 }

    private mutating func tell(_ source: some BlockSource) {
        guard stepsToExpecting == 0 else {
            stepsToExpecting -= 1
            return
        }
        stepsToExpecting = Self.expectedMax / 2
        var expected: [CID] = []
        for visit in pending.suffix(Self.expectedMax).reversed() {
            guard visit.cid.multihash.code != .identity, !seen.contains(visit.cid.asV1) else {
                continue
            }
            expected.append(visit.cid)
        }
        if !expected.isEmpty { source.expect(expected) }
    }

    /// Whether links of the block may be wanted, so that it has to be read.
    private static func goesOn(_ visit: Visit) throws(DAGReadError) -> Bool {
        let codec = visit.cid.codec
        switch visit.role {
        case .block: return false
        case .entity: return codec == .dagPB
        case .file, .shard:
            guard codec == .dagPB || codec == .raw else { throw .unsupportedCodec(visit.cid) }
            return codec == .dagPB
        case .all:
            if codec == .dagPB || codec == .dagCBOR { return true }
            guard codec.hasNoLinks else { throw .unsupportedCodec(visit.cid) }
            return false
        }
    }

    private static func visits(
        from visit: Visit, _ block: [UInt8]
    ) throws(DAGReadError) -> [Visit] {
        let cid = visit.cid
        switch visit.role {
        case .block: return []
        case .all: return try cid.checkedLinks(in: block).map { Visit(cid: $0, role: .all) }
        case .entity, .file, .shard: break
        }
        let decoded: UnixFSBlock
        do throws(BlockFormatError) {
            decoded = try UnixFSBlock(cid: cid, decoding: block)
        } catch {
            // The root may be anything; what it leads to may not.
            if case .entity = visit.role { return [] }
            throw .malformed(cid, error)
        }
        let kind = decoded.fields?.kind
        switch visit.role {
        case .block, .all: return []
        case .entity(let range):
            if kind == .hamtShard { return try shards(decoded, depth: 0, fanout: nil) }
            return decoded.isFilePart ? try parts(decoded, range) : []
        case .file(let range):
            guard decoded.isFilePart else { throw .notFile(cid) }
            return try parts(decoded, range)
        case .shard(let fanout, let depth):
            guard kind == .hamtShard else { throw .malformed(cid, .badShard) }
            return try shards(decoded, depth: depth, fanout: fanout)
        }
    }

    private static func parts(
        _ block: UnixFSBlock, _ range: Range<UInt64>?
    ) throws(DAGReadError) -> [Visit] {
        guard let range else {
            return block.links.map { Visit(cid: $0.cid, role: .file(nil)) }
        }
        let node = try FileNode(block)
        var visits: [Visit] = []
        for index in node.children.indices {
            let (start, end) = (node.childStart(index), node.childEnds[index])
            guard start < range.upperBound, end > range.lowerBound, start < end else { continue }
            let isWhole = range.lowerBound <= start && end <= range.upperBound
            let within = max(range.lowerBound, start) - start..<min(range.upperBound, end) - start
            visits.append(Visit(cid: node.children[index], role: .file(isWhole ? nil : within)))
        }
        return visits
    }

    /// The shards that a shard links to, not its entries.
    private static func shards(
        _ block: UnixFSBlock, depth: Int, fanout: Int?
    ) throws(DAGReadError) -> [Visit] {
        let shard = try HAMTShard(block)
        guard fanout ?? shard.shape.fanout == shard.shape.fanout,
            depth == 0 || !shard.links.isEmpty
        else { throw .malformed(block.cid, .badShard) }
        var visits: [Visit] = []
        for index in shard.links.indices {
            guard case .shard(let cid) = shard.slot(index) else { continue }
            guard depth + 1 < shard.shape.depthMax else { throw .tooDeep(cid) }
            visits.append(
                Visit(cid: cid, role: .shard(fanout: shard.shape.fanout, depth: depth + 1)))
        }
        return visits
    }
}

extension Multicodec {
    /// Whether blocks of this codec never have links, as far as is known here.
    public var hasNoLinks: Bool {
        self == .raw || self == .json || self == .cbor || self == .libp2pKey
    }
}
