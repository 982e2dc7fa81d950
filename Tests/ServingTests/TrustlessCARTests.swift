import Base
import HTTPTypes
import MerkleDAG
import Multiformats
import Serving
import Testing

/// CARs: the cases of ipfs/gateway-conformance v0.13.2 (`TestTrustlessCarPathing`, `…DagScope…`, `…OrderAndDuplicates`,
/// `…FormatPrecedence`), each with its exact blocks in their order, and what its texts ask beside them.
@Suite struct TrustlessCARTests {
    private let content: FixtureContent
    private let gateway: TrustlessGateway

    init() throws {
        content = try FixtureContent(
            "subdir-with-two-single-block-files", "subdir-with-mixed-block-files",
            "single-layer-hamt-with-multi-block-files", "dir-with-dag-cbor-with-links",
            "dir-with-duplicate-files", "dag-cbor-traversal", "plain-json", "gateway-raw-block")
        gateway = TrustlessGateway(content: content, scope: .tree)
    }

    /// Asks by the query and by Accept, and checks the fields that every CAR has.
    private func check(
        _ path: String, _ query: String = "", gives blocks: [String],
        location: SourceLocation = #_sourceLocation
    ) throws {
        let accept: HTTPFields = [.accept: "application/vnd.ipld.car"]
        for response in [
            try gateway.ask("/ipfs/\(path)?format=car\(query)"),
            try gateway.ask("/ipfs/\(path)?x=y\(query)", accept),
        ] {
            #expect(response.status == 200, sourceLocation: location)
            #expect(try response.blocks() == blocks, sourceLocation: location)
            #expect(response.body.count == nil)
            #expect(response.field("X-Content-Type-Options") == "nosniff")
            #expect(response.field("Accept-Ranges") == "none")
            #expect(
                response.field("Content-Type")
                    == "application/vnd.ipld.car; version=1; order=dfs; dups=n")
            let disposition = response.field("Content-Disposition") ?? ""
            #expect(disposition.hasPrefix("attachment; filename=\""))
            #expect(disposition.hasSuffix(".car\""))
            #expect(response.field("Etag")?.hasPrefix("W/\"") == true)
            #expect(response.field("Cache-Control") == "public, max-age=29030400, immutable")
        }
        let head = try gateway.ask("/ipfs/\(path)?format=car\(query)", method: .head)
        let get = try gateway.ask("/ipfs/\(path)?format=car\(query)")
        #expect(head.status == 200 && head.fields == get.fields, sourceLocation: location)
    }

    /// The shards of the fixture, in the order in which `ipfs dag export` wrote them.
    private func shards() throws -> [String] {
        try content.sections.filter { cid in
            guard cid.codec == .dagPB, let block = content.stored(cid),
                let data = try DAGNode(decoding: block).data
            else { return false }
            return try UnixFSData(decoding: data).kind == .hamtShard
        }.map { "\($0)" }
    }

    // MARK: Paths

    @Test func thePathComesBeforeWhatItLeadsTo() throws {
        try check(
            "\(Known.singleRoot)/subdir/ascii.txt",
            gives: [Known.singleRoot, Known.singleSubdir, Known.ascii])
    }

    @Test func theShardsOfThePathComeBeforeTheFile() throws {
        // 685.txt lies in this shard of the second level.
        let shard = "bafybeifajm5xyg46n4hjxg7clq2f7vcn7eg7bn3yevylcemr6vd7mp6gta"
        try check(
            "\(Known.hamtRoot)/685.txt",
            gives: [Known.hamtRoot, shard, Known.multiblock] + Known.leaves)
    }

    @Test func aPathThroughDAGCBORComesFirst() throws {
        try check("\(Known.document)/files/single", gives: [Known.document, Known.hello])
        try check(
            "\(Known.documentRoot)/document/files/multiblock",
            gives: [Known.documentRoot, Known.document, Known.multiblock] + Known.leaves)
    }

    @Test func aPathMayEndWithinABlock() throws {
        let root = "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim"
        let second = "bafyreig5alecq2l2akgajxywgnv22kuxh6xcagsnelepylqovt4t5jxt6u"
        let third = "bafyreiaefvpp22slf5bzd4lqgzwbztqahwlldtqkpgmlhv7mh23pudle7y"
        try check("\(root)/foo/link/bar/hello", gives: [root, second, third])
        try check("\(root)/foo", gives: [root, second, third])
        try check("\(root)/foo", "&dag-scope=block", gives: [root])
        try check("\(root)/foo/object", gives: [root])
        #expect(try gateway.ask("/ipfs/\(root)/foo/object?format=raw").status == 404)
        #expect(try gateway.ask("/ipfs/\(root)/foo/none?format=car").status == 404)
        #expect(try gateway.ask("/ipfs/\(root)/foo/object/x?format=car").status == 404)
    }

    @Test(arguments: [
        "subdir/i-do-not-exist", "nothing/at/all", "subdir/ascii.txt/below", "subdir/../subdir",
        "./subdir", "subdir%2Fascii.txt", "subdir/%2e%2e/subdir", "subdir//ascii.txt", "subdir/%00",
    ]) func aPathThatLeadsNowhereIs404(_ path: String) throws {
        for format in ["car", "raw"] {
            let response = try gateway.ask("/ipfs/\(Known.singleRoot)/\(path)?format=\(format)")
            #expect(response.status == 404)
        }
    }

    @Test func aPathOfTooManyNamesIs400() throws {
        let path = String(repeating: "/a", count: 257)
        #expect(try gateway.ask("/ipfs/\(Known.singleRoot)\(path)?format=car").status == 400)
    }

    // MARK: dag-scope

    @Test func scopeBlockIsThePathAndItsEnd() throws {
        let scope = "&dag-scope=block"
        try check(
            "\(Known.singleRoot)/subdir", scope, gives: [Known.singleRoot, Known.singleSubdir])
        try check(
            "\(Known.singleRoot)/subdir/ascii.txt", scope,
            gives: [Known.singleRoot, Known.singleSubdir, Known.ascii])
        let shard = "bafybeiawjmzmi5c6v5h75nepfpx7jj5ns5t54girned3kilvakmhctxlxy"
        try check(
            "\(Known.hamtRoot)/1.txt", scope, gives: [Known.hamtRoot, shard, Known.multiblock])
    }

    @Test func scopeEntityIsAFileOrAListing() throws {
        let scope = "&dag-scope=entity"
        try check(Known.singleRoot, scope, gives: [Known.singleRoot])
        try check(
            "\(Known.mixedRoot)/subdir/ascii.txt", scope,
            gives: [Known.mixedRoot, Known.mixedSubdir, Known.ascii])
        try check(
            "\(Known.mixedRoot)/subdir/multiblock.txt", scope,
            gives: [Known.mixedRoot, Known.mixedSubdir, Known.multiblock] + Known.leaves)
        try check(
            "\(Known.documentRoot)/document", scope, gives: [Known.documentRoot, Known.document])
    }

    @Test func scopeEntityOfAShardedDirectoryIsAllItsShards() throws {
        let shards = try shards()
        #expect(shards.count == 237)
        try check(Known.hamtRoot, "&dag-scope=entity", gives: shards)
    }

    @Test func scopeAllIsEverythingBelow() throws {
        try check(
            "\(Known.mixedRoot)/subdir", "&dag-scope=all",
            gives: [Known.mixedRoot, Known.mixedSubdir, Known.ascii, Known.hello, Known.multiblock]
                + Known.leaves)
        try check(
            "\(Known.mixedRoot)/subdir/multiblock.txt", "&dag-scope=all",
            gives: [Known.mixedRoot, Known.mixedSubdir, Known.multiblock] + Known.leaves)
        // The links of DAG-CBOR are followed.
        try check(
            Known.documentRoot,
            gives: [Known.documentRoot, Known.document, Known.hello, Known.multiblock]
                + Known.leaves)
    }

    @Test func jsonWithoutLinksIsABlock() throws {
        let json = "bagaaierajjsnhsxqlgfrvknlt7z2heoljcgfv37cn45tu7mhmr23x3ekiboq"
        try check(json, gives: [json])
    }

    @Test func linksThatAreNotKnownAre501() throws {
        let cid = content.put(Array("{\"a\":1}".utf8), .dagJSON)
        #expect(try gateway.ask("/ipfs/\(cid)?format=car").status == 501)
        #expect(
            try gateway.ask("/ipfs/\(cid)?format=car&dag-scope=block").blocks() == ["\(cid)"])
    }

    // MARK: Order and duplicates

    private func accepting(_ parameters: String, _ query: String = "") throws -> ServeResponse {
        try gateway.ask(
            "/ipfs/\(Known.duplicates)\(query)",
            [.accept: "application/vnd.ipld.car\(parameters)"])
    }

    private let once =
        [Known.duplicates, Known.ascii, Known.hello, Known.multiblock] + Known.leaves
    private let twice =
        [Known.duplicates, Known.ascii, Known.ascii, Known.hello, Known.multiblock] + Known.leaves

    @Test func duplicatesComeIfTheyAreAskedFor() throws {
        let all = try accepting("; version=1; order=dfs; dups=y")
        #expect(
            all.field("Content-Type") == "application/vnd.ipld.car; version=1; order=dfs; dups=y")
        #expect(try all.blocks() == twice)
        #expect(try accepting("; version=1; order=dfs; dups=n").blocks() == once)
        #expect(try accepting("; version=1; order=unk").blocks() == once)
        #expect(try accepting("").blocks() == once)
        #expect(all.field("Etag") != (try accepting("")).field("Etag"))
    }

    @Test func theQueryComesBeforeAccept() throws {
        #expect(try accepting("; dups=y", "?format=car").blocks() == twice)
        #expect(try accepting("; dups=n", "?format=car&car-dups=y").blocks() == twice)
        #expect(try accepting("; dups=y", "?car-dups=n").blocks() == once)
        let order = try accepting("; order=unk", "?format=car&car-order=dfs")
        #expect(order.field("Content-Type")?.contains("order=dfs") == true)
        #expect(try accepting("; version=2", "?format=car&car-version=1").status == 200)
    }

    @Test func whereTheAnswerLiesIsTold() throws {
        let response = try accepting("; version=1; order=dfs; dups=y", "?dag-scope=all")
        #expect(
            response.field("Content-Location")
                == "/ipfs/\(Known.duplicates)?dag-scope=all&format=car&car-version=1&car-order=dfs&car-dups=y"
        )
        #expect(try accepting("", "?format=car").field("Content-Location") == nil)
    }

    @Test func theFirstVariantThatIsGivenHereIsTaken() throws {
        let response = try gateway.ask(
            "/ipfs/\(Known.duplicates)",
            [
                .accept: "application/vnd.ipld.car;order=foo, "
                    + "application/vnd.ipld.car;order=\"dfs\";dups=y;q=0.5"
            ])
        #expect(try response.blocks() == twice)
    }

    @Test(arguments: ["; version=2", "; order=bfs", "; dups=maybe"])
    func aVariantThatIsNotGivenHereIs406(_ parameters: String) throws {
        #expect(try accepting(parameters).status == 406)
    }

    @Test(arguments: [
        "car-version=2", "car-order=bfs", "car-dups=", "dag-scope=some", "dag-scope=",
        "entity-bytes=", "entity-bytes=1", "entity-bytes=a:b", "entity-bytes=*:5",
        "entity-bytes=0:99999999999999999999", "entity-bytes=+1:2", "entity-bytes=0:1:2",
        "entity-bytes=-:5",
    ]) func aQueryThatSaysNothingIs400(_ query: String) throws {
        #expect(
            try gateway.ask("/ipfs/\(Known.duplicates)?format=car&\(query)").status == 400)
    }

    // MARK: Identity

    @Test(arguments: ["n", "y"]) func identityBlocksAreNoSections(_ dups: String) throws {
        for root in ["bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa", "bafkqaaa"] {
            let response = try gateway.ask(
                "/ipfs/\(root)", [.accept: "application/vnd.ipld.car; dups=\(dups)"])
            #expect(response.status == 200)
            let archive = try FixtureContent.archive(try response.bytes())
            #expect(archive.roots.map { "\($0)" } == [root])
            #expect(archive.sections.isEmpty)
        }
        let inline = CID(codec: .raw, multihash: try .identity(Array("inline".utf8)))
        let leaf = content.put(Array("leaf".utf8))
        let node = content.put(
            DAGNode(links: [
                DAGLink(cid: inline, treeSize: 6), DAGLink(cid: leaf, treeSize: 4),
            ]))
        let response = try gateway.ask("/ipfs/\(node)?format=car&car-dups=\(dups)")
        #expect(try response.blocks() == ["\(node)", "\(leaf)"])
    }

    @Test func aDirectoryInItsCIDLeadsOn() throws {
        let leaf = content.put(Array("leaf".utf8))
        let directory = DAGNode(
            links: [DAGLink(cid: leaf, name: Array("a".utf8), treeSize: 4)],
            data: UnixFSData(kind: .directory).encoded())
        let root = CID(codec: .dagPB, multihash: try .identity(directory.encoded()))
        try check("\(root)/a", gives: ["\(leaf)"])
        try check("\(root)", gives: ["\(leaf)"])
    }

    // MARK: Conditions

    @Test func theTagSaysWhatWasAskedFor() throws {
        let targets = [
            "\(Known.mixedRoot)?format=car", "\(Known.mixedRoot)/subdir?format=car",
            "\(Known.mixedRoot)?format=car&dag-scope=block",
            "\(Known.mixedRoot)?format=car&dag-scope=entity",
            "\(Known.mixedRoot)?format=car&entity-bytes=0:5",
            "\(Known.mixedRoot)?format=car&entity-bytes=0:*",
            "\(Known.mixedRoot)?format=car&car-dups=y", "\(Known.mixedSubdir)?format=car",
        ]
        let tags = try targets.map { try gateway.ask("/ipfs/\($0)").field("Etag") ?? "" }
        #expect(Set(tags).count == targets.count)
        for (target, tag) in zip(targets, tags) {
            for known in [tag, String(tag.dropFirst(2)), "\"x\", \(tag)", "*"] {
                let response = try gateway.ask("/ipfs/\(target)", [.ifNoneMatch: known])
                #expect(response.status == 304)
                #expect(response.body.count == 0)
                #expect(response.field("Etag") == tag)
                #expect(
                    response.field("Cache-Control") == "public, max-age=29030400, immutable")
            }
        }
    }

    @Test func rangesOfACARAreNotGiven() throws {
        let response = try gateway.ask(
            "/ipfs/\(Known.mixedRoot)?format=car", [.range: "bytes=0-9"])
        #expect(response.status == 200)
        #expect(try response.blocks().count == 10)
    }

    // MARK: What is missing midway

    @Test func aMissingBlockEndsTheStream() throws {
        content.lose(try CID(parsing: Known.leaves[2]))
        let response = try gateway.ask("/ipfs/\(Known.mixedRoot)?format=car")
        #expect(response.status == 200)
        guard case .producer(let producer, nil) = response.body else {
            Issue.record("a CAR is made while it is sent")
            return
        }
        var bytes: [UInt8] = []
        #expect(throws: ServeFault.notFound) {
            while let piece = try producer.next() { bytes += try piece.read() }
        }
        // What came before is sent, and nothing comes behind.
        let sent = try FixtureContent.archive(bytes).sections.map { "\($0.cid)" }
        #expect(
            sent == [
                Known.mixedRoot, Known.mixedSubdir, Known.ascii, Known.hello, Known.multiblock,
                Known.leaves[0], Known.leaves[1],
            ])
        #expect(try producer.next() == nil)
    }

    @Test func headAsksForThePathAlone() throws {
        _ = try gateway.ask(
            "/ipfs/\(Known.mixedRoot)/subdir/multiblock.txt?format=car", method: .head)
        #expect(
            content.asked.blocks.map { "\($0)" }
                == [Known.mixedRoot, Known.mixedSubdir, Known.multiblock])
    }

    @Test func eachBlockIsAskedForOnceAndToldOfBefore() throws {
        let response = try gateway.ask("/ipfs/\(Known.mixedRoot)/subdir?format=car")
        let blocks = try response.blocks()
        #expect(content.asked.blocks.map { "\($0)" } == blocks)
        let told = Set(content.asked.expected.map { "\($0)" })
        #expect(told.isSuperset(of: [Known.ascii, Known.hello] + Known.leaves))
        content.asked = .init()
        _ = try gateway.ask(
            "/ipfs/\(Known.mixedRoot)?format=car", [.cacheControl: "only-if-cached"]
        ).bytes()
        #expect(content.asked.expected.isEmpty)
    }

    @Test func whatIsOutOfScopeMidwayEndsTheStream() throws {
        content.hide(try CID(parsing: Known.hello))
        let response = try gateway.ask("/ipfs/\(Known.mixedRoot)?format=car")
        #expect(throws: ServeFault.notFound) { try response.bytes() }
        let any = TrustlessGateway(content: content, scope: .any)
        #expect(try any.ask("/ipfs/\(Known.mixedRoot)?format=car").blocks().count == 10)
    }

    @Test func aClientThatIsGoneEndsTheWork() throws {
        var request = try #require(
            ServeRequest(method: .get, target: "/ipfs/\(Known.mixedRoot)?format=car"))
        let cancellation = Cancellation()
        request.cancellation = cancellation
        let response = gateway.respond(to: request)
        cancellation.cancel()
        content.asked = .init()
        // The header was made before.
        #expect(throws: ServeFault.self) { try response.bytes() }
        #expect(content.asked.blocks.isEmpty)
    }
}
