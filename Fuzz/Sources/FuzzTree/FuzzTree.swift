import MerkleDAG
import Multiformats

/// Files and directories that no writer makes, read by the readers.
///
/// The input is a recipe for nodes whose hashes are right, so that the readers come to what lies
/// behind the hashes: each node may link to the nodes before it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    var recipe = Recipe(bytes: UnsafeRawBufferPointer(start: start, count: count))
    let blocks = Blocks()
    var cids: [CID] = []
    while !recipe.isAtEnd, cids.count < 64 {
        cids.append(recipe.node(above: cids, in: blocks))
    }
    guard let root = cids.last else { return 0 }
    readFile(root, blocks)
    readDirectory(root, blocks)
    _ = try? blocks.unixfsEntry(root)
    try? blocks.forEachBlock(below: root, blockCountMax: 64) { _, _ in }
    return 0
}

private func readFile(_ root: CID, _ blocks: Blocks) {
    guard var reader = try? FileReader(root: root, source: blocks) else { return }
    var buffer = [UInt8](repeating: 0, count: 300)
    for offset in [0, reader.size / 2, reader.size &- 1, reader.size, .max] {
        blocks.requestCount = 0
        let count = try? buffer.withUnsafeMutableBytes { try reader.read(into: $0, at: offset) }
        if let count {
            precondition(offset >= reader.size || count > 0, "there is a byte before the end")
            precondition(UInt64(count) <= reader.size &- min(offset, reader.size))
        }
        // Each byte costs at most the way from the root to its leaf.
        precondition(blocks.requestCount <= 64 * buffer.count)
        if let leaf = try? reader.leaf(at: offset) {
            precondition(leaf.fileRange.contains(offset))
            precondition(leaf.contentRange.count == leaf.fileRange.count)
        }
    }
}

private func readDirectory(_ root: CID, _ blocks: Blocks) {
    guard let reader = try? DirectoryReader(root: root, source: blocks) else { return }
    var names: Set<[UInt8]> = []
    var isWhole = true
    do {
        try reader.forEachEntry { entry in
            precondition(names.insert(entry.name).inserted, "no name comes twice")
            return names.count < 4096
        }
    } catch {
        isWhole = false
    }
    guard isWhole else { return }
    for name in names.prefix(16) {
        guard let entry = try? reader.entry(name) else {
            preconditionFailure("what is listed is found")
        }
        precondition(entry.name == name)
    }
}

private final class Blocks: BlockSource {
    var blocks: [CID: [UInt8]] = [:]
    var requestCount = 0

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        requestCount += 1
        guard let block = blocks[cid] else { throw BlockUnavailable(cid) }
        return block
    }
}

/// Takes numbers and names from the input; past its end everything is zero.
private struct Recipe {
    let bytes: UnsafeRawBufferPointer
    var offset = 0

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
        default: return UInt64(byte)
        }
    }

    mutating func node(above children: [CID], in blocks: Blocks) -> CID {
        let shape = byte()
        if shape & 0x07 == 7 {
            let leaf = some(countMax: 64)
            let cid = CID.raw(sha256: leaf)
            blocks.blocks[cid] = leaf
            return cid
        }
        var links: [DAGLink] = []
        for _ in 0..<(byte() % 32) where !children.isEmpty {
            let child = children[children.count - 1 - Int(byte()) % children.count]
            links.append(DAGLink(cid: child, name: some(countMax: 12), treeSize: number()))
        }
        let sizes = (0..<(shape & 0x80 == 0 ? links.count : Int(byte() % 32))).map { _ in number() }
        let data = shape & 0x08 == 0 ? nil : some(countMax: 40)
        let sum = sizes.reduce(UInt64(data?.count ?? 0)) { $0 &+ $1 }
        let isShard = shape & 0x07 == 5
        let message = UnixFSData(
            kind: UnixFSData.Kind(rawValue: UInt64(shape & 0x07)) ?? .file, data: data,
            fileSize: shape & 0x10 == 0 ? sum : number(), blockSizes: isShard ? [] : sizes,
            hashType: isShard ? 0x22 : nil, fanout: isShard ? 1 << UInt64(3 + byte() % 9) : nil)
        let block = DAGNode(links: links, data: message.encoded()).encoded()
        let cid = CID.dagPB(sha256: block, version: 1)
        blocks.blocks[cid] = block
        return cid
    }
}
