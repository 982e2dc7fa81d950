import HTTPTypes
import MerkleDAG
import Multiformats
import Serving
import Testing

/// DAGs and requests that were made to cost more than they should.
@Suite struct TrustlessHostileTests {
    private let content: FixtureContent
    private let gateway: TrustlessGateway

    init() throws {
        content = try FixtureContent()
        gateway = TrustlessGateway(content: content, scope: .any)
    }

    /// A chain of DAG nodes, each of which links to the next one twice: 2^depth ways lead down.
    private func ladder(_ depth: Int) -> CID {
        var cid = content.put(Array("end".utf8))
        for _ in 0..<depth {
            cid = content.put(
                DAGNode(
                    links: [DAGLink(cid: cid, treeSize: 0), DAGLink(cid: cid, treeSize: 0)],
                    data: UnixFSData(kind: .directory).encoded()))
        }
        return cid
    }

    @Test func aDAGOfManyWaysIsGoneThroughOnce() throws {
        let response = try gateway.ask("/ipfs/\(ladder(64))?format=car")
        #expect(try response.blocks().count == 65)
    }

    @Test func duplicatesHaveAnEnd() throws {
        let response = try gateway.ask("/ipfs/\(ladder(64))?format=car&car-dups=y")
        guard case .producer(let producer, nil) = response.body else {
            Issue.record("a CAR is made while it is sent")
            return
        }
        // It would go on for ever: it is looked at for a while, and comes in pieces of bounded size.
        for _ in 0..<100 {
            let piece = try #require(try producer.next())
            #expect(piece.count <= 128 << 10)
        }
    }

    @Test func aFileOfManyWaysIsReadOnce() throws {
        // 2^40 bytes in 41 blocks.
        var cid = content.put([7])
        var size: UInt64 = 1
        for _ in 0..<40 {
            cid = content.put(
                DAGNode(
                    links: [DAGLink(cid: cid, treeSize: 0), DAGLink(cid: cid, treeSize: 0)],
                    data: UnixFSData(
                        kind: .file, fileSize: 2 * size, blockSizes: [size, size]
                    ).encoded()))
            size *= 2
        }
        #expect(try gateway.ask("/ipfs/\(cid)?format=car").blocks().count == 41)
        for bytes in ["0:*", "1:-2", "12345:99999999999", "-1:*", "549755813887:549755813888"] {
            let response = try gateway.ask("/ipfs/\(cid)?format=car&entity-bytes=\(bytes)")
            #expect(response.status == 200)
            #expect(try response.blocks().count == 41)
        }
        #expect(
            try gateway.ask("/ipfs/\(cid)?format=car&entity-bytes=1099511627776:*").status == 400)
    }

    @Test func aLongChainNeedsNoStack() throws {
        var cid = content.put(Array("end".utf8))
        for _ in 0..<20_000 {
            cid = content.put(DAGNode(links: [DAGLink(cid: cid, treeSize: 0)]))
        }
        #expect(try gateway.ask("/ipfs/\(cid)?format=car").blocks().count == 20_001)
    }

    @Test func sizesThatLieEndTheStream() throws {
        let leaf = content.put(Array("leaf".utf8))
        let wrong = content.put(
            DAGNode(
                links: [DAGLink(cid: leaf, treeSize: 0)],
                data: UnixFSData(kind: .file, fileSize: 9, blockSizes: [4]).encoded()))
        // As a whole it is blocks, whatever it says; of no UnixFS file bytes can be told.
        #expect(try gateway.ask("/ipfs/\(wrong)?format=car").blocks().count == 2)
        let bytes = try gateway.ask("/ipfs/\(wrong)?format=car&entity-bytes=0:2")
        #expect(bytes.status == 200)
        let parent = content.put(
            DAGNode(
                links: [DAGLink(cid: wrong, treeSize: 0), DAGLink(cid: leaf, treeSize: 0)],
                data: UnixFSData(kind: .file, fileSize: 13, blockSizes: [9, 4]).encoded()))
        let response = try gateway.ask("/ipfs/\(parent)?format=car&entity-bytes=0:2")
        #expect(response.status == 200)
        #expect(throws: ServeFault.self) { try response.bytes() }
        let huge = content.put(
            DAGNode(
                links: [DAGLink(cid: leaf, treeSize: 0), DAGLink(cid: leaf, treeSize: 0)],
                data: UnixFSData(kind: .file, fileSize: 2, blockSizes: [.max, 3]).encoded()))
        #expect(try gateway.ask("/ipfs/\(huge)?format=car&entity-bytes=0:*").status == 200)
    }

    @Test func blocksThatAreNoDAGNodesEndTheStream() throws {
        let broken = content.put([0xff, 0xff, 0xff], .dagPB)
        #expect(throws: ServeFault.self) {
            try gateway.ask("/ipfs/\(broken)?format=car").bytes()
        }
        #expect(try gateway.ask("/ipfs/\(broken)/a?format=car").status == 404)
        #expect(try gateway.ask("/ipfs/\(broken)?format=raw").bytes() == [0xff, 0xff, 0xff])
        let cbor = content.put([UInt8](repeating: 0x81, count: 100_000), .dagCBOR)
        #expect(throws: ServeFault.self) { try gateway.ask("/ipfs/\(cbor)?format=car").bytes() }
        #expect(try gateway.ask("/ipfs/\(cbor)/0/0/0?format=car").status == 404)
    }

    @Test func wrongBytesOfADAGNodeEndTheStream() throws {
        let leaf = content.put(Array("leaf".utf8))
        let node = DAGNode(links: [DAGLink(cid: leaf, treeSize: 4)])
        let other = DAGNode(links: [DAGLink(cid: leaf, treeSize: 5)])
        let content = LyingContent(
            cid: CID.dagPB(sha256: node.encoded(), version: 1), block: other.encoded())
        let gateway = TrustlessGateway(content: content, scope: .any)
        let response = try gateway.ask("/ipfs/\(content.cid)?format=car")
        #expect(throws: ServeFault.damaged(content.cid)) { try response.bytes() }
        #expect(try gateway.ask("/ipfs/\(content.cid)/a?format=car").status == 502)
    }

    @Test func blocksOfMoreThan2MiBAreNotGiven() throws {
        let large = content.put([UInt8](repeating: 1, count: (2 << 20) + 1))
        #expect(try gateway.ask("/ipfs/\(large)?format=raw").status == 501)
        #expect(try gateway.ask("/ipfs/\(large)?format=car").status == 501)
        let parent = content.put(DAGNode(links: [DAGLink(cid: large, treeSize: 0)]))
        #expect(throws: ServeFault.self) { try gateway.ask("/ipfs/\(parent)?format=car").bytes() }
        let largest = content.put([UInt8](repeating: 1, count: 2 << 20))
        #expect(try gateway.ask("/ipfs/\(largest)?format=raw").bytes().count == 2 << 20)
        #expect(try gateway.ask("/ipfs/\(largest)?format=car").blocks() == ["\(largest)"])
    }

    @Test func fieldsHaveNothingOfTheClientsLines() throws {
        let leaf = content.put(Array("leaf".utf8))
        let response = try gateway.ask(
            "/ipfs/\(leaf)?a%0D%0AX-A:%20b=%0D%0Ac", [.accept: "application/vnd.ipld.raw"])
        let texts = response.fields.map(\.value)
        #expect(texts.allSatisfy { $0.utf8.allSatisfy { $0 >= 0x20 } })
        #expect(
            response.field("Content-Location")
                == "/ipfs/\(leaf)?a%0D%0AX-A%3A%20b=%0D%0Ac&format=raw")
    }

    @Test func acceptOfManyTypesIsBounded() throws {
        let leaf = content.put(Array("leaf".utf8))
        let many = Array(repeating: "a/b;q=0.1", count: 5000).joined(separator: ",")
        let fields: HTTPFields = [.accept: many + ", application/vnd.ipld.raw"]
        #expect(try gateway.ask("/ipfs/\(leaf)", fields).status == 406)
    }
}

/// One block, with other bytes than it should have.
private struct LyingContent: ServedContent {
    let cid: CID
    let block: [UInt8]

    var tree: any ServedTree { DAGTree(root: cid, in: self, scope: .any) }
    func root() throws(ServeFault) -> CID { cid }
    func block(_ cid: CID, scope: BlockScope, reach: BlockReach) throws(ServeFault) -> BytesPlace {
        guard cid == self.cid else { throw .notFound }
        return .bytes(block)
    }
    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace? { nil }
    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool { cid == self.cid }
}
