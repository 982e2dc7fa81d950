internal import MerkleDAG

/// The leaves and DAG nodes that SQLite cannot find yet, by their multihash: so a block is served without a checkpoint.
///
/// Kept only from `keep` on; what came before is in SQLite after a checkpoint. Beyond its bounds it forgets all, and a
/// checkpoint finds what it had.
package struct RecentBlocks {
    /// Who needs a block.
    package enum Owner: Sendable {
        case object(UInt64)
        /// The number of its inode.
        case directory(UInt64)
        /// Snapshots between the two, as of `Snapshots.isNeeded`.
        case snapshot(born: UInt64, kept: UInt64)
    }

    private struct Node {
        let bytes: [UInt8]
        /// The newest last.
        var owners: [(owner: Owner, generation: UInt64)]
    }

    private struct Leaf {
        let object: UInt64
        let number: UInt64
        let generation: UInt64
    }

    private var nodes: [[UInt8]: Node] = [:]
    /// The newest last.
    private var leaves: [[UInt8]: [Leaf]] = [:]
    private var nodeByteCount = 0
    private var leafCount = 0
    private var isKept = false

    /// Blocks of either kind that are known at most, and the bytes of the nodes.
    private static let countMax = 1 << 17
    private static let nodeBytesMax = 64 << 20
    /// Places of one leaf, and owners of one node, that are known: there can be many where content repeats itself.
    private static let placesMax = 8

    init() {}

    /// Has blocks noted from now on.
    package mutating func keep() { isKept = true }

    mutating func note(_ blocks: StoredBlocks, of object: UInt64, generation: UInt64) {
        guard isKept else { return }
        for (number, multihash) in blocks.leaves.enumerated() {
            guard leafCount < Self.countMax else { return removeAll() }
            var places = leaves[multihash] ?? []
            if places.count == Self.placesMax {
                places.removeFirst()
                leafCount -= 1
            }
            places.append(
                Leaf(object: object, number: UInt64(number), generation: generation))
            leaves[multihash] = places
            leafCount += 1
        }
        note(blocks.nodes, of: .object(object), generation: generation)
    }

    mutating func note(_ stored: [StoredNode], of owner: Owner, generation: UInt64) {
        guard isKept else { return }
        for node in stored {
            var known = nodes[node.multihash]
            if known == nil {
                guard nodes.count < Self.countMax,
                    nodeByteCount + node.bytes.count <= Self.nodeBytesMax
                else { return removeAll() }
                nodeByteCount += node.bytes.count
            }
            if known?.owners.count == Self.placesMax { known?.owners.removeFirst() }
            var entry = known ?? Node(bytes: node.bytes, owners: [])
            entry.owners.append((owner, generation))
            nodes[node.multihash] = entry
        }
    }

    /// Forgets what SQLite can find.
    mutating func forget(checkpointed generation: UInt64) {
        if !nodes.isEmpty {
            nodes = nodes.compactMapValues { node in
                let left = node.owners.filter { $0.generation > generation }
                return left.isEmpty ? nil : Node(bytes: node.bytes, owners: left)
            }
            nodeByteCount = nodes.values.reduce(0) { $0 + $1.bytes.count }
        }
        if !leaves.isEmpty {
            leaves = leaves.compactMapValues { places in
                let left = places.filter { $0.generation > generation }
                return left.isEmpty ? nil : left
            }
            leafCount = leaves.values.reduce(0) { $0 + $1.count }
        }
    }

    private mutating func removeAll() {
        (nodes, leaves) = ([:], [:])
        (nodeByteCount, leafCount) = (0, 0)
    }

    /// A node with those who need it; nil where SQLite must be asked.
    package func node(with multihash: [UInt8]) -> (bytes: [UInt8], owners: [Owner])? {
        nodes[multihash].map { ($0.bytes, $0.owners.map(\.owner)) }
    }

    /// Where a leaf lies; the object may have been changed since.
    package func leaves(with multihash: [UInt8]) -> [(object: UInt64, number: UInt64)] {
        (leaves[multihash] ?? []).map { ($0.object, $0.number) }
    }
}
