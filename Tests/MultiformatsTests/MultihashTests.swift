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
