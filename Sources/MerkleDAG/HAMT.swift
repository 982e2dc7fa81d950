// Sharded directories: a trie over the hashes of names (HAMT), spread over DAG nodes.
//
// Hash:     the first 64 bits of Murmur3 x64-128 over the name; log2(fanout) bits choose the bucket
//           on each level, from the most significant bit down.
// Node:     dag-pb with one link for each bucket in use, in order of the buckets. Link name = the
//           bucket in upper-case hexadecimal, padded to the width of fanout - 1, and then the
//           name of the entry, or nothing if the link leads to a shard of the next level.
// UnixFS:   Type 5, Data = bitfield of the buckets in use, hashType 0x22, fanout; no filesize.
//           The bitfield is one big-endian number with bit i for bucket i, leading zero bytes left out.
// Validity: each entry lies where its hash says; a shard below the root is not empty.
// Source:   https://specs.ipfs.tech/unixfs (its "little-endian" bitfield is this one), and boxo

internal import Multiformats

/// The geometry of a sharded directory: everything that follows from the fanout.
struct HAMTShape: Sendable {
    let fanout: Int
    let bitsPerLevel: Int
    /// The characters of a bucket's number in a link name.
    let prefixLength: Int
    /// The levels that 64 bits of hash are enough for.
    let depthMax: Int

    /// - Precondition: `fanout` is a power of two, 8 to 1024.
    init(fanout: Int) {
        precondition((8...1024).contains(fanout) && fanout.nonzeroBitCount == 1)
        self.fanout = fanout
        bitsPerLevel = fanout.trailingZeroBitCount
        prefixLength = (bitsPerLevel + 3) / 4
        depthMax = 64 / bitsPerLevel
    }

    /// The bucket of a hash at a depth below `depthMax`; the root's depth is 0.
    func bucket(of hash: UInt64, depth: Int) -> Int {
        let shift = UInt64(64 - bitsPerLevel * (depth + 1))
        return Int(truncatingIfNeeded: hash >> shift) & (fanout - 1)
    }

    func appendPrefix(of bucket: Int, to bytes: inout [UInt8]) {
        for digit in (0..<prefixLength).reversed() {
            let value = UInt8(truncatingIfNeeded: (bucket >> (4 * digit)) & 0xf)
            bytes.append(value < 10 ? 0x30 + value : 0x41 + value - 10)
        }
    }
}

/// The buckets of a shard that are in use.
struct HAMTBitfield: Sendable {
    private var words: [UInt64]

    init(fanout: Int) {
        words = Array(repeating: 0, count: (fanout + 63) / 64)
    }

    /// Reads the bytes of a bitfield; nil if it has buckets beyond `fanout`.
    init?(decoding bytes: UnsafeRawBufferPointer, fanout: Int) {
        self.init(fanout: fanout)
        guard bytes.count <= (fanout + 7) / 8 else { return nil }
        for (index, byte) in bytes.reversed().enumerated() {
            words[index / 8] |= UInt64(byte) << UInt64(8 * (index % 8))
        }
    }

    mutating func insert(_ bucket: Int) {
        words[bucket / 64] |= 1 << UInt64(bucket % 64)
    }

    func contains(_ bucket: Int) -> Bool {
        words[bucket / 64] & (1 << UInt64(bucket % 64)) != 0
    }

    var count: Int {
        words.reduce(0) { $0 + $1.nonzeroBitCount }
    }

    /// How many buckets below `bucket` are in use: the index of its link.
    func rank(of bucket: Int) -> Int {
        let whole = words[..<(bucket / 64)].reduce(0) { $0 + $1.nonzeroBitCount }
        return whole + (words[bucket / 64] & ((1 << UInt64(bucket % 64)) - 1)).nonzeroBitCount
    }

    var bytes: [UInt8] {
        let all = words.reversed().flatMap { word in
            (0..<8).reversed().map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
        }
        return Array(all.drop { $0 == 0 })
    }
}
