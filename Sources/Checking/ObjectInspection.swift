internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

/// What is seen of one sealed object while its leaves come in.
final class ObjectInspection {
    enum Content {
        case inline([UInt8])
        case flat(ObjectFile, size: UInt64)
    }

    let object: CheckedObject
    let content: Content
    /// The bytes that are hashed.
    let size: UInt64
    let leafCount: UInt64
    private let chunkSize: UInt64
    private var builder: BalancedDAGBuilder
    private var nextLeaf: UInt64 = 0
    private var stored: CheckedLeaves?
    private var storedLeaf: (number: Int64, multihash: [UInt8])?
    /// The first leaves that are not those stored, and how many there are.
    private(set) var differing: [UInt64] = []
    private(set) var differingCount: UInt64 = 0
    private var hasForeignLeaves = false
    private var areNodesWrong = false
    private var nodes: Set<[UInt8]> = []
    private(set) var failure: Errno?

    private static let differingMax = 16

    init(_ object: CheckedObject, content: Content, size: UInt64, profile: ImportProfile) {
        self.object = object
        self.content = content
        self.size = size
        chunkSize = UInt64(profile.chunkSize)
        // The content of no byte has one leaf too.
        leafCount = max(1, size / chunkSize + (size % chunkSize > 0 ? 1 : 0))
        builder = BalancedDAGBuilder(profile: profile)
    }

    var file: ObjectFile? {
        if case .flat(let file, _) = content { file } else { nil }
    }

    func range(ofLeaf number: UInt64) -> Range<Int> {
        let start = number * chunkSize
        return Int(clamping: start)..<Int(clamping: min(size, start + chunkSize))
    }

    /// Takes the next leaf; true for the last one.
    func take(_ outcome: LeafPipeline.Outcome, check: VolumeCheck) throws(CheckFailure) -> Bool {
        let number = nextLeaf
        nextLeaf += 1
        switch outcome {
        case .failed(let errno, _):
            failure = failure ?? errno
        case .leaf(let leaf, _):
            guard failure == nil else { break }
            // The only leaf is the root, and is not stored again.
            if leafCount > 1 {
                try compare(leaf, number: number, check: check)
            }
            try builder.append(leaf) { (cid, block) throws(CheckFailure) in
                try compare(node: cid, block, check: check)
            }
        }
        return nextLeaf == leafCount
    }

    private func compare(
        _ leaf: Leaf, number: UInt64, check: VolumeCheck
    ) throws(CheckFailure) {
        if stored == nil {
            let leaves = try check.manifest.leaves(of: object.id)
            stored = leaves
            storedLeaf = try leaves.next()
        }
        while let row = storedLeaf, row.number < Int64(clamping: number) {
            hasForeignLeaves = true
            storedLeaf = try stored?.next()
        }
        if let row = storedLeaf, row.number == Int64(clamping: number) {
            storedLeaf = try stored?.next()
            if row.multihash == leaf.cid.multihash.bytes { return }
        }
        differingCount += 1
        if differing.count < Self.differingMax { differing.append(number) }
    }

    private func compare(
        node cid: CID, _ block: [UInt8], check: VolumeCheck
    ) throws(CheckFailure) {
        let multihash = cid.multihash.bytes
        // Runs of equal content have equal nodes, which are stored once.
        guard nodes.insert(multihash).inserted else { return }
        if try check.manifest.node(of: object.id, multihash: multihash) != block {
            areNodesWrong = true
        }
    }

    /// The root of the bytes, after all leaves.
    func finish(check: VolumeCheck) throws(CheckFailure) -> DAGRoot {
        let root = try builder.finish { (cid, block) throws(CheckFailure) in
            try compare(node: cid, block, check: check)
        }
        if storedLeaf != nil { hasForeignLeaves = true }
        if leafCount > 1, try check.manifest.nodeCount(of: object.id) != nodes.count {
            areNodesWrong = true
        }
        stored = nil
        return root
    }

    /// What is wrong with the stored leaves and nodes of bytes that match the CID.
    var blockFault: String? {
        if let first = differing.first {
            return "the hash stored for leaf \(first) is not that of its bytes"
                + (differingCount > 1 ? ", nor are \(differingCount - 1) others" : "")
        }
        if hasForeignLeaves { return "more leaves are stored than it has" }
        return areNodesWrong ? "its stored nodes are not those of its CID" : nil
    }

    /// The root of the leaves that are stored; nil where they are not those of such an object.
    func storedRoot(
        _ profile: ImportProfile, check: VolumeCheck
    ) throws(CheckFailure) -> DAGRoot? {
        let leaves = try check.manifest.leaves(of: object.id)
        var builder = BalancedDAGBuilder(profile: profile)
        var number: UInt64 = 0
        while let row = try leaves.next() {
            guard row.number == Int64(clamping: number), number < leafCount,
                let multihash = try? Multihash(bytes: row.multihash), multihash.isSHA256
            else { return nil }
            let length = UInt64(range(ofLeaf: number).count)
            builder.append(profile.leaf(profile.leafCID(multihash), length: length)) { _, _ in }
            number += 1
        }
        return number == leafCount ? builder.finish { _, _ in } : nil
    }

    /// Seals the bytes again, to store their leaves and nodes anew.
    func seal(_ profile: ImportProfile) -> SealResult? {
        switch content {
        case .inline(let bytes): .sealing(bytes, profile: profile)
        case .flat(let file, _):
            try? .sealing(file, size: size, profile: profile, isWanted: { true })
        }
    }
}
