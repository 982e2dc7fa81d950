import Crypto
import MerkleDAG
import Multiformats

/// The bytes that hexadecimal digits stand for. Spaces are for the reader.
func hex(_ digits: String) -> [UInt8] {
    let values = digits.compactMap { $0.isWhitespace ? nil : $0.hexDigitValue }
    precondition(values.count % 2 == 0, "two digits a byte")
    return stride(from: 0, to: values.count, by: 2).map { UInt8(values[$0] * 16 + values[$0 + 1]) }
}

/// Blocks in memory; counts how often each one is asked for.
final class MemoryBlocks: BlockSource {
    var blocks: [Multihash: [UInt8]] = [:]
    var requestCount = 0

    func put(_ cid: CID, _ block: [UInt8]) {
        blocks[cid.multihash] = block
    }

    /// Stores a node and gives its CID.
    func put(_ node: DAGNode, version: Int = 1) -> CID {
        put(raw: node.encoded(), version: version)
    }

    /// Stores a dag-pb block as it is and gives its CID.
    func put(raw block: [UInt8], version: Int = 1) -> CID {
        let cid = CID.dagPB(sha256: block, version: version)
        put(cid, block)
        return cid
    }

    /// Stores a raw leaf and gives its CID.
    func putLeaf(_ content: [UInt8]) -> CID {
        let cid = CID.raw(sha256: content)
        put(cid, content)
        return cid
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        requestCount += 1
        guard let block = blocks[cid.multihash] else { throw BlockUnavailable(cid) }
        return block
    }
}

/// The deterministic stream of the published vectors: the keystream of ChaCha20 (RFC 8439) under
/// key = SHA-256(seed), nonce 0, counter 0.
struct ChaChaStream {
    private typealias Lanes = SIMD4<UInt32>

    private let key: [UInt32]
    private var counter: UInt32 = 0
    /// Four blocks of 64 bytes.
    private var buffer = [UInt8](repeating: 0, count: 256)
    private var used = 256

    init(seed: String) {
        let digest = Array(SHA256.hash(data: Array(seed.utf8)))
        key = (0..<8).map { word in
            (0..<4).reduce(0) { $0 | UInt32(digest[4 * word + $1]) << UInt32(8 * $1) }
        }
    }

    /// Fills all of `target` with the next bytes.
    mutating func read(into target: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < target.count {
            if used == buffer.count {
                refill()
            }
            let count = min(target.count - done, buffer.count - used)
            buffer.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(rebasing: target[done..<(done + count)])
                    .copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: bytes[used..<(used + count)]))
            }
            used += count
            done += count
        }
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { read(into: $0) }
        return bytes
    }

    @inline(__always)
    private static func quarter(
        _ a: inout Lanes, _ b: inout Lanes, _ c: inout Lanes, _ d: inout Lanes
    ) {
        func rotate(_ value: Lanes, _ count: UInt32) -> Lanes {
            value &<< Lanes(repeating: count) | value &>> Lanes(repeating: 32 - count)
        }
        a = a &+ b
        d = rotate(d ^ a, 16)
        c = c &+ d
        b = rotate(b ^ c, 12)
        a = a &+ b
        d = rotate(d ^ a, 8)
        c = c &+ d
        b = rotate(b ^ c, 7)
    }

    /// Makes four blocks at once, one in each lane.
    private mutating func refill() {
        let constants: [UInt32] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]
        func start(_ index: Int) -> Lanes {
            switch index {
            case ..<4: Lanes(repeating: constants[index])
            case ..<12: Lanes(repeating: key[index - 4])
            case 12: Lanes(repeating: counter) &+ Lanes(0, 1, 2, 3)
            default: Lanes(repeating: 0)
            }
        }
        var (x0, x1, x2, x3) = (start(0), start(1), start(2), start(3))
        var (x4, x5, x6, x7) = (start(4), start(5), start(6), start(7))
        var (x8, x9, x10, x11) = (start(8), start(9), start(10), start(11))
        var (x12, x13, x14, x15) = (start(12), start(13), start(14), start(15))
        for _ in 0..<10 {
            Self.quarter(&x0, &x4, &x8, &x12)
            Self.quarter(&x1, &x5, &x9, &x13)
            Self.quarter(&x2, &x6, &x10, &x14)
            Self.quarter(&x3, &x7, &x11, &x15)
            Self.quarter(&x0, &x5, &x10, &x15)
            Self.quarter(&x1, &x6, &x11, &x12)
            Self.quarter(&x2, &x7, &x8, &x13)
            Self.quarter(&x3, &x4, &x9, &x14)
        }
        let words = (x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15)
        withUnsafeBytes(of: words) { raw in
            buffer.withUnsafeMutableBytes { buffer in
                for index in 0..<16 {
                    let word = raw.load(fromByteOffset: 16 * index, as: Lanes.self) &+ start(index)
                    for lane in 0..<4 {
                        buffer.storeBytes(
                            of: word[lane].littleEndian, toByteOffset: 64 * lane + 4 * index,
                            as: UInt32.self)
                    }
                }
            }
        }
        counter &+= 4
        used = 0
    }
}

extension ImportProfile {
    /// Imports content that is in memory and, if asked to, keeps its blocks.
    func importContent(
        _ content: [UInt8], metadata: UnixFSMetadata = .none, into blocks: MemoryBlocks? = nil
    ) -> DAGRoot {
        var offset = 0
        let emit: ((CID, [UInt8]) -> Void)? = blocks.map { blocks in
            { cid, block in blocks.put(cid, block) }
        }
        return importFile(
            metadata: metadata,
            read: { buffer in
                let count = min(buffer.count, content.count - offset)
                buffer.copyBytes(from: content[offset..<(offset + count)])
                offset += count
                return count
            }, emit: emit)
    }

    /// Imports the first `count` bytes of a deterministic stream.
    func importStream(seed: String, count: Int) -> DAGRoot {
        var stream = ChaChaStream(seed: seed)
        var left = count
        return importFile(
            read: { buffer in
                let piece = UnsafeMutableRawBufferPointer(
                    rebasing: buffer[..<min(buffer.count, left)])
                stream.read(into: piece)
                left -= piece.count
                return piece.count
            }, emit: nil)
    }

    func leaf(_ content: String) -> Leaf {
        Array(content.utf8).withUnsafeBytes { leaf($0) }
    }

    /// The profile with another way to decide what is sharded.
    func sharding(
        above threshold: Int, by estimation: DirectorySizeEstimation = .links, fanout: Int = 256,
        linksMax: Int = 0
    ) -> ImportProfile {
        ImportProfile(
            chunkSize: chunkSize, fileLinksMax: fileLinksMax, rawLeaves: rawLeaves,
            cidVersion: cidVersion, hamtFanout: fanout, directoryThreshold: threshold,
            directoryEstimation: estimation, directoryLinksMax: linksMax)
    }

    /// Builds a directory and, if asked to, keeps its blocks.
    func directory(
        _ entries: some Sequence<(name: String, leaf: Leaf)>, metadata: UnixFSMetadata = .none,
        into blocks: MemoryBlocks? = nil
    ) throws -> DAGRoot {
        var builder = DirectoryBuilder(profile: self, metadata: metadata)
        for (name, leaf) in entries {
            builder.add(name: Array(name.utf8), cid: leaf.cid, treeSize: leaf.treeSize)
        }
        return try builder.finish { cid, block in blocks?.put(cid, block) }
    }
}

extension DAGRoot {
    /// The root as an entry of a directory.
    var asLeaf: Leaf { Leaf(cid: cid, fileSize: fileSize, treeSize: treeSize) }
}
