// Murmur3 x64-128, seed 0; only its first 64 bits are of use to sharded directories.
// Source: https://github.com/aappleby/smhasher, MurmurHash3.cpp (public domain algorithm)

package enum Murmur3 {
    private static let c1: UInt64 = 0x87c3_7b91_1142_53d5
    private static let c2: UInt64 = 0x4cf5_ad43_2745_937f

    /// The first half of the 128-bit hash of `bytes`.
    package static func hash64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var h1: UInt64 = 0
        var h2: UInt64 = 0
        var offset = 0
        while bytes.count - offset >= 16 {
            let k1 = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            let k2 = bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
            h1 ^= mix1(UInt64(littleEndian: k1))
            h1 = (rotate(h1, 27) &+ h2) &* 5 &+ 0x52dc_e729
            h2 ^= mix2(UInt64(littleEndian: k2))
            h2 = (rotate(h2, 31) &+ h1) &* 5 &+ 0x3849_5ab5
            offset += 16
        }
        // The last 0 to 15 bytes; an empty half mixes to 0.
        var k1: UInt64 = 0
        var k2: UInt64 = 0
        for (index, byte) in bytes[offset...].enumerated() {
            if index < 8 {
                k1 |= UInt64(byte) << UInt64(8 * index)
            } else {
                k2 |= UInt64(byte) << UInt64(8 * (index - 8))
            }
        }
        h1 ^= mix1(k1)
        h2 ^= mix2(k2)

        h1 ^= UInt64(bytes.count)
        h2 ^= UInt64(bytes.count)
        h1 &+= h2
        h2 &+= h1
        return finish(h1) &+ finish(h2)
    }

    private static func mix1(_ word: UInt64) -> UInt64 { rotate(word &* c1, 31) &* c2 }
    private static func mix2(_ word: UInt64) -> UInt64 { rotate(word &* c2, 33) &* c1 }

    private static func rotate(_ word: UInt64, _ count: UInt64) -> UInt64 {
        word << count | word >> (64 - count)
    }

    private static func finish(_ word: UInt64) -> UInt64 {
        var word = word
        word ^= word >> 33
        word = word &* 0xff51_afd7_ed55_8ccd
        word ^= word >> 33
        word = word &* 0xc4ce_b9fe_1a85_ec53
        return word ^ word >> 33
    }
}
