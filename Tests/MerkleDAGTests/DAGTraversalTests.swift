import MerkleDAG
import Multiformats
import Testing

/// Parts of DAGs, one block at a time.
@Suite struct DAGTraversalTests {
    private func steps(_ traversal: DAGTraversal, _ source: some BlockSource) throws -> [DAGStep] {
        var traversal = traversal
        var steps: [DAGStep] = []
        while let step = try traversal.next(from: source) { steps.append(step) }
        return steps
    }

    private func links(_ cids: some Sequence<CID>) -> DAGNode {
        DAGNode(links: cids.map { DAGLink(cid: $0, treeSize: 0) })
    }

    private func cid(_ number: Int) -> CID {
        CID.raw(sha256: (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) })
    }

    @Test func leavesAreNotAskedFor() throws {
        let blocks = MemoryBlocks()
        let leaf = blocks.putLeaf([1])
        let node = links([leaf])
        let root = blocks.put(node)
        let found = try steps(DAGTraversal(roots: [root], part: .all), blocks)
        #expect(found.map(\.cid) == [root, leaf])
        #expect(found.map(\.block) == [node.encoded(), nil])
        #expect(blocks.requestCount == 1)
        #expect(try steps(DAGTraversal(roots: [root], part: .block), blocks).map(\.cid) == [root])
        #expect(blocks.requestCount == 1)
    }

    @Test func theWholeIsWhatTheWalkGives() throws {
        let blocks = MemoryBlocks()
        let profile = ImportProfile(
            chunkSize: 5, fileLinksMax: 3, rawLeaves: true, cidVersion: 1,
            directoryEstimation: .block)
        let root = profile.importContent((0..<400).map { UInt8($0 % 7) }, into: blocks).cid
        var walked: [CID] = []
        try blocks.forEachBlock(below: root) { cid, _ in walked.append(cid) }
        #expect(try steps(DAGTraversal(roots: [root], part: .all), blocks).map(\.cid) == walked)
        #expect(try steps(DAGTraversal(roots: [root], part: .entity), blocks).map(\.cid) == walked)
        let every = try steps(
            DAGTraversal(roots: [root], part: .all, hasDuplicates: true), blocks
        ).map(\.cid)
        #expect(every.count > walked.count && Set(every) == Set(walked))
    }

    @Test func aRangeIsWhatAReaderOfItAsksFor() throws {
        let blocks = MemoryBlocks()
        let profile = ImportProfile(
            chunkSize: 5, fileLinksMax: 3, rawLeaves: true, cidVersion: 1,
            directoryEstimation: .block)
        let content = (0..<100).map { UInt8($0) }
        let root = profile.importContent(content, into: blocks).cid
        for start in stride(from: 0, to: 100, by: 3) {
            for end in stride(from: start + 1, through: 100, by: 7) {
                var asked: Set<CID> = []
                let recorder = ClosureBlockSource { (cid) throws(BlockUnavailable) in
                    asked.insert(cid)
                    return try blocks.block(cid)
                }
                var reader = try FileReader(root: root, source: recorder)
                var buffer = [UInt8](repeating: 0, count: end - start)
                let count = try buffer.withUnsafeMutableBytes {
                    try reader.read(into: $0, at: UInt64(start))
                }
                #expect(count == end - start)
                let range = UInt64(start)..<UInt64(end)
                let found = try steps(DAGTraversal(roots: [root], part: .bytes(range)), blocks)
                #expect(Set(found.map(\.cid)) == asked)
                #expect(found.count == asked.count)
            }
        }
    }

    @Test func whatIsKnownDoesNotComeAgain() throws {
        let blocks = MemoryBlocks()
        let leaf = blocks.putLeaf([1])
        let root = blocks.put(links([leaf]))
        let known = DAGTraversal(roots: [root], part: .all, seen: [leaf])
        #expect(try steps(known, blocks).map(\.cid) == [root])
        let again = DAGTraversal(
            roots: [root, root], part: .all, hasDuplicates: true, seen: [leaf])
        #expect(try steps(again, blocks).map(\.cid) == [root, leaf, root, leaf])
    }

    @Test func beyondTheBoundDuplicatesComeAgain() throws {
        let blocks = MemoryBlocks()
        let half = DAGTraversal.seenMax / 2
        let root = blocks.put(
            links([
                blocks.put(links((0..<half).map(cid))),
                blocks.put(links((half..<2 * half).map(cid))),
                blocks.put(links([cid(0), cid(2 * half - 1), cid(2 * half - 1)])),
            ]))
        let found = try steps(DAGTraversal(roots: [root], part: .all), blocks).map(\.cid)
        // The DAG nodes take places too, so the last leaves were not remembered.
        #expect(found.count == 4 + 2 * half + 2)
        #expect(Array(found.suffix(2)) == [cid(2 * half - 1), cid(2 * half - 1)])
    }

    @Test func tooManyLinksThatWaitAreRefused() throws {
        let blocks = MemoryBlocks()
        var inner = blocks.putLeaf([1])
        for level in 0..<4 {
            // The way goes down by the first link, and the others wait.
            let others = (0..<40_000).map { cid(level * 40_000 + $0) }
            inner = blocks.put(links([inner] + others))
        }
        var thrown: DAGReadError?
        do {
            _ = try steps(DAGTraversal(roots: [inner], part: .all), blocks)
        } catch let error as DAGReadError {
            thrown = error
        }
        guard case .tooDeep = thrown else {
            Issue.record("expected tooDeep, not \(String(describing: thrown))")
            return
        }
    }

    @Test func unknownCodecsAreRefusedWhereTheyWouldBeFollowed() throws {
        let blocks = MemoryBlocks()
        let strange = CID(codec: .dagJSON, multihash: .sha256(of: [1]))
        let root = blocks.put(links([strange]))
        #expect(throws: DAGReadError.self) {
            try steps(DAGTraversal(roots: [root], part: .all), blocks)
        }
        #expect(
            try steps(DAGTraversal(roots: [strange], part: .entity), blocks).map(\.cid)
                == [strange])
    }

    // MARK: Within DAG-CBOR

    @Test func pathsWithinABlockLeadToLinks() throws {
        let (one, two, three) = (cid(1), cid(2), cid(3))
        let block = DAGCBOR.map([
            .init("a", .list([.unsigned(1), .link(one), .map([.init("b", .link(two))])])),
            .init("bytes", .bytes([0xd8, 0x2a])), .init("link", .link(three)),
            .init("", .bool(true)), .init("other", .list([.float(1.5), .null, .negative(3)])),
        ]).encoded
        func place(_ path: String...) throws -> DAGCBORPlace? {
            try DAGCBOR.place(at: path.map { Array($0.utf8) }, in: block)
        }
        #expect(try DAGCBOR.links(in: block) == DAGCBOR(decoding: block).links)
        #expect(try place() == .value(links: [one, two, three]))
        #expect(try place("link") == .link(three, nameCount: 1))
        #expect(try place("link", "x", "y") == .link(three, nameCount: 1))
        #expect(try place("a") == .value(links: [one, two]))
        #expect(try place("a", "0") == .value(links: []))
        #expect(try place("a", "1") == .link(one, nameCount: 2))
        #expect(try place("a", "2", "b", "z") == .link(two, nameCount: 3))
        #expect(try place("other", "2") == .value(links: []))
        for path in [
            ["a", "3"], ["a", "-1"], ["a", "01"], ["a", "+1"], ["a", "0", "x"], ["c"],
        ] {
            #expect(try DAGCBOR.place(at: path.map { Array($0.utf8) }, in: block) == nil)
        }
        let link = DAGCBOR.link(one).encoded
        #expect(
            try DAGCBOR.place(at: [Array("x".utf8)], in: link) == .link(one, nameCount: 0))
    }

    @Test func linksOfWhatIsNoDAGCBORAreRefused() {
        for block: [UInt8] in [
            [], [0x81], [0xff], [0xf6, 0xf6], [UInt8](repeating: 0x81, count: 99),
        ] {
            #expect(throws: DAGCBORError.self) { try DAGCBOR.links(in: block) }
        }
    }
}
