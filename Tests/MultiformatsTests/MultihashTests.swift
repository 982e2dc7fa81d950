import Multiformats
import Testing

@Suite struct MultihashTests {
    private let empty = hex("1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

    @Test func sha256OfNothingIsTheKnownOne() throws {
        let multihash = Multihash.sha256(of: [])
        #expect(multihash.bytes == empty)
        #expect(multihash.code == .sha2_256)
        #expect(multihash.digest == Array(empty.dropFirst(2)))
        #expect(try Multihash(bytes: empty) == multihash)
        #expect(multihash.byteCount == 34)
        #expect(multihash.isSHA256)
    }

    @Test func piecesHashLikeTheWhole() {
        let content = (0..<10_000).map { UInt8($0 % 251) }
        var hasher = SHA256Hasher()
        for start in stride(from: 0, to: content.count, by: 777) {
            hasher.update(Array(content[start..<min(start + 777, content.count)]))
        }
        #expect(hasher.finalize() == .sha256(of: content))
    }

    /// Source: FIPS 180-2, appendix B, and the examples of NIST for SHA-256.
    private static let published: [(message: String, digest: String)] = [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                + "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
        ),
        (
            String(repeating: "a", count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
    ]

    @Test(arguments: published)
    func publishedMessagesHaveTheirHashes(_ message: String, _ digest: String) {
        let content = Array(message.utf8)
        let other = [UInt8](content.reversed())
        #expect(Multihash.sha256(of: content).digest == hex(digest))
        let (left, right) = pair(content, other)
        #expect(left.digest == hex(digest))
        #expect(right == .sha256(of: other))
        #expect(pair(other, content).1.digest == hex(digest))
    }

    /// All lengths around the ends of blocks and of their padding, and long ones.
    @Test func twoContentsHashLikeEachAlone() {
        var random = SystemRandomNumberGenerator()
        for length in Array(0...260) + [4095, 4096, 65_535, 1 << 20, (1 << 20) + 1] {
            let one = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            let other = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            let (left, right) = pair(one, other)
            #expect(left == .sha256(of: one), "\(length) bytes: \(one)")
            #expect(right == .sha256(of: other), "\(length) bytes: \(other)")
            let (longer, shorter) = pair(one + [1], other)
            #expect(longer == .sha256(of: one + [1]))
            #expect(shorter == right)
        }
    }

    private func pair(_ one: [UInt8], _ other: [UInt8]) -> (Multihash, Multihash) {
        one.withUnsafeBytes { one in
            other.withUnsafeBytes { other in Multihash.sha256(of: one, and: other) }
        }
    }

    @Test func contentIsChecked() throws {
        let content = Array("hello world".utf8)
        let hashes = [
            Multihash.sha256(of: content),
            try .identity(content),
            try Multihash(
                code: .sha1, digest: hex("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed")),
            try Multihash(
                code: .sha2_512,
                digest: hex(
                    """
                    309ecc489c12d6eb4cc40f50c902f2b4d0ed77ee511a7c7a9bcd3ca86d4cd86f
                    989dd35bc5ff499670da34255b45b0cfd830e81f605dcf7dc5542e93ae9cd76f
                    """)),
        ]
        for hash in hashes {
            try content.withUnsafeBytes { try hash.verify($0) }
            #expect(throws: MultihashError.mismatch) {
                try content.dropLast().withUnsafeBytes { try hash.verify($0) }
            }
        }
    }

    @Test func contentUnderAnUnknownFunctionIsNotCalledRight() throws {
        let hash = try Multihash(code: .blake3, digest: [UInt8](repeating: 0, count: 32))
        #expect(throws: MultihashError.unsupportedFunction(.blake3)) {
            try [UInt8]().withUnsafeBytes { try hash.verify($0) }
        }
    }

    @Test func everyCutIsRejected() {
        for count in 0..<empty.count {
            #expect(throws: MultihashError.self) { try Multihash(bytes: Array(empty[..<count])) }
        }
    }

    @Test(arguments: [
        (
            "121f" + String(repeating: "00", count: 31),
            MultihashError.badDigestLength(
                code: .sha2_256, length: 31)
        ),
        (
            "1221" + String(repeating: "00", count: 33),
            .badDigestLength(
                code: .sha2_256, length: 33)
        ),
        (
            "008101" + String(repeating: "00", count: 129),
            .badDigestLength(
                code: .identity, length: 129)
        ),
        (
            "00ffffffffffffffff7f00",
            .badDigestLength(
                code: .identity, length: UInt64(Int64.max))
        ),
        ("92002000", .varint(.notMinimal)), ("000161ff", .trailingBytes(count: 1)),
        ("0002ff", .truncated), ("00ffffffffffffffffff01", .varint(.tooLarge)),
    ])
    func malformedBytesAreRejected(digits: String, error: MultihashError) {
        #expect(throws: error) { try Multihash(bytes: hex(digits)) }
    }

    @Test func orderIsThatOfTheBytes() throws {
        let hashes = try (0..<200).map { number in
            number % 5 == 0
                ? try Multihash.identity([UInt8(number)]) : .sha256(of: [UInt8(number)])
        }
        for left in hashes {
            for right in hashes {
                #expect((left < right) == left.bytes.lexicographicallyPrecedes(right.bytes))
                #expect((left == right) == (left.bytes == right.bytes))
            }
        }
    }
}
