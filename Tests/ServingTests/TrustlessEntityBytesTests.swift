import HTTPTypes
import MerkleDAG
import Multiformats
import Serving
import Testing

/// `entity-bytes`: the cases of ipfs/gateway-conformance v0.13.2 (`TestTrustlessCarEntityBytes`), and its edges.
@Suite struct TrustlessEntityBytesTests {
    private let content: FixtureContent
    private let gateway: TrustlessGateway

    init() throws {
        content = try FixtureContent(
            "subdir-with-mixed-block-files", "single-layer-hamt-with-multi-block-files",
            "file-3k-and-3-blocks-missing-block", "dir-with-dag-cbor-with-links")
        gateway = TrustlessGateway(content: content, scope: .tree)
    }

    private func blocks(_ path: String, _ bytes: String) throws -> [String] {
        let byQuery = try gateway.ask(
            "/ipfs/\(path)?format=car&dag-scope=entity&entity-bytes=\(bytes)")
        let byAccept = try gateway.ask(
            "/ipfs/\(path)?entity-bytes=\(bytes)", [.accept: "application/vnd.ipld.car"])
        #expect(byQuery.status == 200 && byAccept.status == 200)
        let blocks = try byQuery.blocks()
        #expect(try byAccept.blocks() == blocks)
        return blocks
    }

    private func status(_ bytes: String) throws -> Int {
        try gateway.ask("/ipfs/\(Known.multiblock)?format=car&entity-bytes=\(bytes)").status
    }

    /// The leaves of a file of 1026 bytes that a range needs.
    @Test(arguments: [
        ("0:*", 0..<5), ("512:*", 2..<5), ("512:1023", 2..<4), ("512:-256", 2..<4),
        ("-5:*", 3..<5), ("-9999:*", 0..<5), ("-9999:-3", 0..<4), ("0:0", 0..<1),
        ("255:255", 0..<1), ("255:256", 0..<2), ("256:256", 1..<2), ("1025:1025", 4..<5),
        ("1023:1024", 3..<5), ("-1:-1", 4..<5), ("-1026:-1026", 0..<1), ("1000:2000", 3..<5),
        ("0:9223372036854775807", 0..<5), ("-9223372036854775808:*", 0..<5),
        ("0:-1", 0..<5),
    ]) func aRangeOfAFileIsItsLeaves(_ bytes: String, _ leaves: Range<Int>) throws {
        #expect(try blocks(Known.multiblock, bytes) == [Known.multiblock] + Known.leaves[leaves])
        // Nothing else was asked for.
        content.asked = .init()
        _ = try gateway.ask(
            "/ipfs/\(Known.multiblock)?format=car&entity-bytes=\(bytes)"
        ).bytes()
        #expect(
            content.asked.blocks.map { "\($0)" } == [Known.multiblock] + Known.leaves[leaves])
    }

    @Test func thePathComesBeforeTheRange() throws {
        #expect(
            try blocks("\(Known.mixedRoot)/subdir/multiblock.txt", "0:*")
                == [Known.mixedRoot, Known.mixedSubdir, Known.multiblock] + Known.leaves)
    }

    @Test func aRangeWithoutLengthIsTheRootAlone() throws {
        for bytes in ["5:4", "1025:0", "512:-600", "5:-1023"] {
            #expect(try blocks(Known.multiblock, bytes) == [Known.multiblock])
        }
        let empty = content.put([])
        #expect(try blocks("\(empty)", "0:*") == ["\(empty)"])
        #expect(try blocks("\(empty)", "5:*") == ["\(empty)"])
    }

    @Test func aRangeOutsideOfTheFileIs400() throws {
        for bytes in [
            "1026:*", "2000:3000", "0:-1027", "-9999:-2000", "9223372036854775807:*",
            "0:-9223372036854775808",
        ] {
            #expect(try status(bytes) == 400)
        }
    }

    @Test func ofADirectoryItIsIgnored() throws {
        #expect(try blocks(Known.mixedRoot, "0:5") == [Known.mixedRoot])
        #expect(try blocks(Known.hamtRoot, "0:*").count == 237)
        #expect(try blocks(Known.hamtRoot, "100000:*").count == 237)
        #expect(try blocks(Known.document, "0:5") == [Known.document])
    }

    @Test func ofARawBlockItIsTheBlock() throws {
        #expect(try blocks(Known.ascii, "5:6") == [Known.ascii])
        #expect(
            try gateway.ask("/ipfs/\(Known.ascii)?format=car&entity-bytes=31:*").status == 400)
    }

    @Test func blocksOutsideOfTheRangeMayBeMissing() throws {
        let leaf1 = "QmPKt7ptM2ZYSGPUc8PmPT2VBkLDK3iqpG9TBJY7PCE9rF"
        let leaf3 = "QmWXY482zQdwecnfBsj78poUUuPXvyw2JAFAEMw4tzTavV"
        #expect(try blocks(Known.missingRoot, "0:1000") == [Known.missingRoot, leaf1])
        #expect(try blocks(Known.missingRoot, "2200:*") == [Known.missingRoot, leaf3])
        let middle = try gateway.ask(
            "/ipfs/\(Known.missingRoot)?format=car&entity-bytes=1500:*")
        #expect(middle.status == 200)
        #expect(throws: ServeFault.notFound) { try middle.bytes() }
    }

    @Test func aPartThatStandsTwiceIsGivenWithBothItsEnds() throws {
        // A file of two same halves, of which the range has the end of one and the beginning of the other.
        let one = content.put(Array("one".utf8))
        let two = content.put(Array("two".utf8))
        let half = content.put(file([(one, 3), (two, 3)]))
        let root = content.put(file([(half, 6), (half, 6)]))
        #expect(
            try blocks("\(root)", "4:7") == ["\(root)", "\(half)", "\(two)", "\(one)"])
        #expect(
            try blocks("\(root)", "4:11") == ["\(root)", "\(half)", "\(two)", "\(one)"])
        #expect(
            try blocks("\(root)", "0:*") == ["\(root)", "\(half)", "\(one)", "\(two)"])
    }

    /// A DAG node of a file.
    private func file(_ parts: [(CID, UInt64)]) -> DAGNode {
        DAGNode(
            links: parts.map { DAGLink(cid: $0.0, treeSize: $0.1) },
            data: UnixFSData(
                kind: .file, fileSize: parts.reduce(0) { $0 + $1.1 }, blockSizes: parts.map(\.1)
            ).encoded())
    }
}
