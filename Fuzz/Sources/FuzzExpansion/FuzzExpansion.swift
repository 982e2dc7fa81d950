import Base
import MerkleDAG
import Multiformats
import Volume

/// Directories of others, looked into as a volume does it.
///
/// The input is a recipe for blocks whose hashes are right, each of which may link to those before it
/// and to none: names that no file can have, the same block many times, targets and sizes that lie,
/// shards, large blocks of few bytes of input. Time, memory, and the bytes that are asked for must stay
/// within the bounds, and what comes out must be entries that a file system can have.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    var recipe = Recipe(bytes: UnsafeRawBufferPointer(start: start, count: count))
    var blocks: [CID: [UInt8]] = [:]
    var cids: [CID] = []
    while !recipe.isAtEnd, cids.count < 48 {
        cids.append(recipe.block(above: cids, in: &blocks))
    }
    guard let root = cids.last else { return 0 }
    lookInto(root, blocks)
    return 0
}

private func lookInto(_ root: CID, _ blocks: [CID: [UInt8]]) {
    var bounds = ExpansionBounds()
    bounds.entriesMax = 512
    bounds.nodeBytesMax = 1 << 20
    bounds.childBytesMax = 2 << 20
    bounds.targetBytesMax = 64 << 10
    bounds.milliseconds = 2_000
    let given = Monitor<(bytes: Int, times: [CID: Int])>((0, [:]))
    let found: ForeignDirectory
    do throws(DAGReadError) {
        found = try ForeignDirectory(root, within: bounds, profile: .unixfsV1_2025) {
            (cid) throws(BlockUnavailable) in
            guard let block = blocks[cid] else { throw BlockUnavailable(cid) }
            given.withLock { given in
                given.bytes += block.count
                given.times[cid, default: 0] += 1
            }
            return block
        }
    } catch {
        check(given.withLock { $0.bytes }, bounds, blocks)
        return
    }
    check(given.withLock { $0.bytes }, bounds, blocks)
    let times = given.withLock { $0.times }
    // Once as a node of the directory, on each of its levels at most, and once as a child.
    precondition(times.values.allSatisfy { $0 <= 24 }, "a block is not asked for again and again")
    precondition(found.entries.count <= bounds.entriesMax)
    var names: Set<[UInt8]> = []
    var targetBytes = 0
    for (name, entry) in found.entries {
        precondition((1...255).contains(name.count) && !name.contains(0) && !name.contains(0x2f))
        precondition(name != [0x2e] && name != [0x2e, 0x2e])
        precondition(names.insert(name).inserted, "no name comes twice")
        switch entry {
        case .file(let size, _): precondition(size <= UInt64(Int64.max))
        case .directory: break
        case .symlink(let target, _):
            precondition((1...4095).contains(target.count) && !target.contains(0))
            targetBytes += target.count
        }
    }
    precondition(targetBytes <= bounds.targetBytesMax)
}

/// Beyond the bounds there is the block that passed each, and those that other threads had asked for.
private func check(_ bytes: Int, _ bounds: ExpansionBounds, _ blocks: [CID: [UInt8]]) {
    let largest = blocks.values.map(\.count).max() ?? 0
    precondition(bytes <= bounds.nodeBytesMax + bounds.childBytesMax + 9 * largest)
}

/// Takes numbers and names from the input; past its end everything is zero.
private struct Recipe {
    let bytes: UnsafeRawBufferPointer
    var offset = 0
    /// Bytes of blocks that may still be made of few bytes of input.
    var padding = 6 << 20

    init(bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    var isAtEnd: Bool { offset >= bytes.count }

    mutating func byte() -> UInt8 {
        guard !isAtEnd else { return 0 }
        defer { offset += 1 }
        return bytes[offset]
    }

    mutating func some(countMax: Int) -> [UInt8] {
        let count = min(Int(byte()), countMax, bytes.count - min(offset, bytes.count))
        return (0..<count).map { _ in byte() }
    }

    /// A small number, or one of those at which arithmetic goes wrong.
    mutating func number() -> UInt64 {
        let byte = byte()
        switch byte {
        case 0xff: return .max
        case 0xfe: return UInt64(Int64.max)
        case 0xfd: return 1 << 62
        case 0xfc: return 2 << 20
        case 0xfb: return (2 << 20) + 1
        default: return UInt64(byte)
        }
    }

    /// Some bytes, which may be repeated to many.
    mutating func content() -> [UInt8] {
        let some = some(countMax: 40)
        let times = 1 << Int(byte() % 18)
        guard !some.isEmpty, times * some.count <= min(padding, 2 << 20) else { return some }
        padding -= times * some.count
        return [UInt8]((0..<times * some.count).lazy.map { some[$0 % some.count] })
    }

    mutating func child(of cids: [CID]) -> CID {
        let which = Int(byte())
        guard !cids.isEmpty, which < 0xf0 else {
            // One that nobody has, of some codec.
            let codecs: [Multicodec] = [.raw, .dagPB, .dagCBOR]
            return CID(codec: codecs[which % 3], multihash: .sha256(of: [UInt8(which)]))
        }
        let cid = cids[cids.count - 1 - which % cids.count]
        // The same hash under another codec is another thing.
        return which < 0xe0 ? cid : CID(codec: .raw, multihash: cid.multihash)
    }

    mutating func links(to cids: [CID]) -> [DAGLink] {
        var links: [DAGLink] = []
        for _ in 0..<byte() % 24 {
            let (cid, name, size) = (child(of: cids), some(countMax: 12), number())
            let times = byte()
            // Many links to one block, under names of their own.
            for number in 0..<(times < 0xe0 ? 1 : 8 * (Int(times) - 0xdf)) {
                let suffix = number == 0 ? [] : Array("\(number)".utf8)
                links.append(DAGLink(cid: cid, name: name + suffix, treeSize: size))
            }
        }
        return links
    }

    mutating func block(above cids: [CID], in blocks: inout [CID: [UInt8]]) -> CID {
        let shape = byte()
        if shape & 0x07 == 7 {
            let leaf = content()
            let cid = CID.raw(sha256: leaf)
            blocks[cid] = leaf
            return cid
        }
        let links = links(to: cids)
        if shape & 0x47 == 0x41, let root = sharded(links, in: &blocks) { return root }
        let kind = UnixFSData.Kind(rawValue: UInt64(shape & 0x07)) ?? .file
        let data = shape & 0x08 == 0 ? nil : content()
        let isShard = kind == .hamtShard
        let sizes = kind == .file ? links.map { _ in number() } : []
        let message = UnixFSData(
            kind: kind, data: data,
            fileSize: shape & 0x10 == 0 ? nil : number(), blockSizes: sizes,
            hashType: isShard ? 0x22 : nil, fanout: isShard ? 1 << UInt64(3 + byte() % 9) : nil,
            metadata: UnixFSMetadata(mode: shape & 0x20 == 0 ? nil : UInt32(byte()) << 4))
        return add(DAGNode(links: links, data: message.encoded()), to: &blocks)
    }

    private func add(_ node: DAGNode, to blocks: inout [CID: [UInt8]]) -> CID {
        let block = node.encoded()
        let cid = CID.dagPB(sha256: block, version: 1)
        blocks[cid] = block
        return cid
    }

    /// A sharded directory as it should be, but that one of its shards may stand in for others.
    private mutating func sharded(
        _ links: [DAGLink], in blocks: inout [CID: [UInt8]]
    ) -> CID? {
        var builder = DirectoryBuilder(
            profile: ImportProfile(
                chunkSize: 1 << 20, fileLinksMax: 1024, rawLeaves: true, cidVersion: 1,
                hamtFanout: 8, directoryThreshold: 1, directoryEstimation: .block))
        for link in links { builder.add(name: link.name, cid: link.cid, treeSize: link.treeSize) }
        var shards: [[UInt8]] = []
        let root = try? builder.finish(emit: { _, block in shards.append(block) })
        guard let root else { return nil }
        for shard in shards { blocks[CID.dagPB(sha256: shard, version: 1)] = shard }
        guard byte() & 1 == 1, let last = shards.last, var node = try? DAGNode(decoding: last),
            let other = shards.first
        else { return root.cid }
        for index in node.links.indices where node.links[index].name.count == 1 {
            node.links[index].cid = CID.dagPB(sha256: other, version: 1)
        }
        return add(node, to: &blocks)
    }
}
