import MerkleDAG
import Multiformats
import Testing

/// What passes on an archive that somebody else sends.
@Suite struct CARVerifierTests {
    private static let leaf = Array("a leaf".utf8)
    private static let other = Array("another leaf".utf8)
    private static let root = CID.raw(sha256: leaf)

    /// An archive of two blocks, the root first.
    private static func archive(_ blocks: [(CID, [UInt8])], root: CID = root) -> [UInt8] {
        let output = Written()
        var writer = CARWriter(roots: [root]) { output.bytes += Array($0) }
        for (cid, block) in blocks { writer.write(cid, block) }
        return output.bytes
    }

    private static let whole = archive([(root, leaf), (CID.raw(sha256: other), other)])

    /// What comes out where pieces of a length go in.
    private static func passed(
        _ archive: [UInt8], pieceCount: Int
    ) throws(CARError) -> [UInt8] {
        var verifier = CARVerifier(root: root)
        var result: [UInt8] = []
        var rest = archive[...]
        while !rest.isEmpty {
            result += try rest.prefix(pieceCount).withPiece { (piece) throws(CARError) in
                try verifier.take(piece)
            }
            rest = rest.dropFirst(pieceCount)
        }
        try verifier.finish()
        return result
    }

    @Test(arguments: [1, 2, 7, 64, 1 << 20])
    func soundArchiveComesOutAsItCame(_ pieceCount: Int) throws {
        #expect(try Self.passed(Self.whole, pieceCount: pieceCount) == Self.whole)
    }

    @Test func everyChangedByteIsFound() {
        // The codec in the second CID, behind a length and a version: by another one the block has
        // the same hash.
        let codec = Self.archive([(Self.root, Self.leaf)]).count + 2
        for index in Self.whole.indices where index != codec {
            var archive = Self.whole
            archive[index] ^= 1
            #expect(throws: CARError.self, "byte \(index)") {
                try Self.passed(archive, pieceCount: 16)
            }
        }
    }

    @Test func everyCutIsFound() {
        let end = Self.archive([(Self.root, Self.leaf)]).count
        for count in Self.whole.indices where count != end {
            #expect(throws: CARError.self, "\(count) bytes") {
                try Self.passed(Array(Self.whole.prefix(count)), pieceCount: 16)
            }
        }
    }

    @Test func otherRootsAndBlocksAreFound() {
        let other = CID.raw(sha256: Self.other)
        for archive in [
            Self.archive([(Self.root, Self.leaf)], root: other),
            Self.archive([(other, Self.other), (Self.root, Self.leaf)]),
            Self.archive([(Self.root, Self.other)]),
            Self.archive([]), [],
        ] {
            #expect(throws: CARError.self) { try Self.passed(archive, pieceCount: 16) }
        }
    }

    @Test func nothingThatIsNotVerifiedComesOut() throws {
        let bad = Self.archive([(Self.root, Self.leaf), (CID.raw(sha256: Self.other), Self.leaf)])
        var verifier = CARVerifier(root: Self.root)
        var passed: [UInt8] = []
        #expect(throws: CARError.self) {
            for byte in bad {
                passed += try [byte][...].withPiece { (piece) throws(CARError) in
                    try verifier.take(piece)
                }
            }
        }
        #expect(passed == Self.archive([(Self.root, Self.leaf)]))
    }
}

private final class Written {
    var bytes: [UInt8] = []
}

extension ArraySlice<UInt8> {
    fileprivate func withPiece<Result>(
        _ body: (UnsafeRawBufferPointer) throws(CARError) -> Result
    ) throws(CARError) -> Result {
        try Array(self).withRawBytes(body)
    }
}
