import Base
import HTTPTypes
import Logging
import MerkleDAG
import Multiformats
import Remotes
import Serving
import Testing
import Volume
import registryfs

/// A tree from sources, as it is served.
@Suite struct SourcesContentTests {
    /// Somebody who has blocks, and gives some of them never.
    private final class SourceDouble: RemoteBlocks {
        struct State: Sendable {
            var blocks: [CID: [UInt8]] = [:]
            var stuck: Set<CID> = []
            var askedCount: [CID: Int] = [:]
        }

        let state = Monitor(State())
        let goOn = Base.Semaphore()

        var address: String { "a double" }

        func put(_ node: DAGNode) -> CID {
            let block = node.encoded()
            let cid = CID.dagPB(sha256: block, version: 1)
            state.withLock { $0.blocks[cid] = block }
            return cid
        }

        func put(_ text: String) -> CID {
            let cid = CID.raw(sha256: Array(text.utf8))
            state.withLock { $0.blocks[cid] = Array(text.utf8) }
            return cid
        }

        func directory(_ entries: [(String, CID)]) -> CID {
            put(
                DAGNode(
                    links: entries.map { DAGLink(cid: $0.1, name: Array($0.0.utf8), treeSize: 1) },
                    data: UnixFSData(kind: .directory).encoded()))
        }

        func askedCount(_ cid: CID) -> Int { state.withLock { $0.askedCount[cid] ?? 0 } }

        func block(
            _ request: BlockRequest, memory: ReplyMemory?
        ) throws(RemoteError) -> [UInt8] {
            let (block, isStuck) = state.withLock { state in
                state.askedCount[request.cid, default: 0] += 1
                return (state.blocks[request.cid], state.stuck.contains(request.cid))
            }
            if isStuck { goOn.wait() }
            guard let block else { throw RemoteError(.notFound, "the double has no such block") }
            return block
        }
    }

    /// What a name stands for, as a test says.
    private final class Name: Sendable {
        let state = Monitor((result: Result<OriginRoot, OriginError>?.none, count: 0))

        func set(_ root: CID, lifetimeSeconds: Double?) {
            state.withLock {
                $0.result = .success(OriginRoot(cid: root, lifetimeSeconds: lifetimeSeconds))
            }
        }

        func fail() { state.withLock { $0.result = .failure(OriginError("nobody answers")) } }

        var lookUpCount: Int { state.withLock { $0.count } }

        var origin: OriginOptions {
            OriginOptions(reference: "/ipns/registry.example") { [self] _ throws(OriginError) in
                let result = state.withLock { state in
                    state.count += 1
                    return state.result
                }
                guard let result else { throw OriginError("no such name") }
                return try result.get()
            }
        }
    }

    private let source = SourceDouble()
    private let name = Name()
    private let milliseconds = Monitor(Int64(0))
    private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func content(
        _ root: CID, lifetimeSeconds: Double? = 3_600, waitsMax: (Int, Int) = (32, 64)
    ) throws -> SourcesContent {
        name.set(root, lifetimeSeconds: lifetimeSeconds)
        let milliseconds = milliseconds
        return try SourcesContent(
            origin: name.origin, sources: source, log: quiet, waitsMax: waitsMax
        ) { milliseconds.withLock { $0 } }
    }

    private func pass(seconds: Int64) { milliseconds.withLock { $0 += seconds * 1_000 } }

    /// Waits for what another thread does, not for ever.
    private func eventually(_ condition: () -> Bool) -> Bool {
        for _ in 0..<2_000 where !condition() { Threads.sleep(milliseconds: 10) }
        return condition()
    }

    private func fault<Value>(_ body: () throws(ServeFault) -> Value) -> ServeFault? {
        do throws(ServeFault) {
            _ = try body()
            return nil
        } catch {
            return error
        }
    }

    // MARK: Names

    @Test func aNameIsLookedUpAgainWhenItsTimeIsOver() throws {
        let (one, two) = (source.directory([]), source.directory([("a", source.put("a"))]))
        let content = try content(one, lifetimeSeconds: 60)
        name.set(two, lifetimeSeconds: 60)
        for _ in 0..<59 {
            pass(seconds: 1)
            #expect(try content.root() == one)
        }
        #expect(name.lookUpCount == 1)
        pass(seconds: 1)
        // Who asks gets the old root until there is the new one.
        #expect(eventually { (try? content.root()) == two })
        for _ in 0..<50 { #expect(try content.root() == two) }
        #expect(name.lookUpCount == 2)
    }

    @Test(
        arguments: [(0.0, 5), (0.001, 5), (1e12, 3_600), (Double?.none, 60)] as [(Double?, Int64)])
    func theTimeOfANameHasBounds(_ lifetime: Double?, _ seconds: Int64) throws {
        let (one, two) = (source.directory([]), source.directory([("a", source.put("a"))]))
        let content = try content(one, lifetimeSeconds: lifetime)
        name.set(two, lifetimeSeconds: 3_600)
        pass(seconds: seconds - 1)
        #expect(try content.root() == one)
        #expect(name.lookUpCount == 1)
        pass(seconds: 1)
        #expect(eventually { (try? content.root()) == two })
    }

    @Test func aNameThatCannotBeLookedUpKeepsItsRootAndIsAskedForAgain() throws {
        let (one, two) = (source.directory([]), source.directory([("a", source.put("a"))]))
        let content = try content(one, lifetimeSeconds: 5)
        name.fail()
        pass(seconds: 5)
        #expect(try content.root() == one)
        #expect(eventually { name.lookUpCount == 2 })
        // Not at once again.
        for _ in 0..<50 { #expect(try content.root() == one) }
        #expect(name.lookUpCount == 2)
        name.set(two, lifetimeSeconds: 5)
        pass(seconds: 61)
        #expect(eventually { (try? content.root()) == two })
    }

    @Test func aNameThatLeadsNowhereIsAnErrorAtTheStart() {
        #expect(throws: OriginError.self) {
            try SourcesContent(origin: name.origin, sources: source, log: quiet)
        }
        name.set(CID.raw(sha256: [1, 2, 3]), lifetimeSeconds: nil)
        let below = OriginOptions(reference: "x") { _ throws(OriginError) in
            OriginRoot(cid: CID.dagPB(sha256: [1, 2, 3], version: 1), path: [[0x61]])
        }
        #expect(throws: OriginError.self) {
            try SourcesContent(origin: below, sources: source, log: quiet)
        }
    }

    // MARK: What belongs to the tree

    @Test func onlyThatIsGotToWhichABlockOfTheTreeHasLed() throws {
        let (inside, outside) = (source.put("inside"), source.put("outside"))
        let content = try content(source.directory([("a", inside)]))
        for cid in [inside, outside] {
            let found = fault { () throws(ServeFault) in
                try content.block(cid, scope: .tree, reach: .everywhere)
            }
            #expect(found == .notFound)
        }
        #expect(source.askedCount(inside) == 0 && source.askedCount(outside) == 0)
        _ = try content.block(try content.root(), scope: .tree, reach: .everywhere)
        #expect(
            try content.block(inside, scope: .tree, reach: .everywhere).read()
                == Array("inside".utf8))
        #expect(
            fault { () throws(ServeFault) in
                try content.block(outside, scope: .tree, reach: .everywhere)
            } == .notFound)
        #expect(
            try content.block(outside, scope: .any, reach: .everywhere).read()
                == Array("outside".utf8))
    }

    @Test func whatSourcesSayBecomesAFault() throws {
        let missing = CID.raw(sha256: [9])
        let content = try content(source.directory([("a", missing)]))
        _ = try content.block(try content.root(), scope: .tree, reach: .everywhere)
        #expect(
            fault { () throws(ServeFault) in
                try content.block(missing, scope: .tree, reach: .everywhere)
            } == .notFound)
        #expect(source.askedCount(missing) == 1)
        #expect(
            fault { () throws(ServeFault) in
                try content.block(missing, scope: .tree, reach: .here)
            } == .notFound)
        #expect(source.askedCount(missing) == 1)
        #expect(try content.wholeFile(missing, scope: .tree) == nil)
        #expect(try content.has(missing, scope: .tree))
    }

    // MARK: Uploads

    /// A repository with an upload under way, whose directory another name may lead to as well.
    private struct Repository {
        var root: CID
        var uploads: CID
        var upload: CID
        var data: CID
        var layer: CID
    }

    private func repository() -> Repository {
        let (data, layer) = (source.put("half a layer"), source.put("a layer"))
        let upload = source.directory([("data", data)])
        let uploads = source.directory([("2f1c", upload)])
        let root = source.directory([("_layers", layer), ("_uploads", uploads)])
        return Repository(root: root, uploads: uploads, upload: upload, data: data, layer: layer)
    }

    private func answer(_ content: SourcesContent, _ target: String) throws -> ServeResponse {
        let trustless = TrustlessGateway(content: content, scope: .tree)
        let gateway = PathGateway(
            content: content, scope: .tree, names: nil, trustless: trustless)
        return gateway.respond(
            to: try #require(ServeRequest(method: .get, target: target)))
    }

    @Test(arguments: ["?format=raw", "?format=car&dag-scope=block", ""])
    func uploadsAreGivenByNoPath(_ query: String) throws {
        let parts = repository()
        let content = try content(parts.root)
        let path = "/ipfs/\(parts.root)/_uploads"
        #expect(try answer(content, "\(path)/2f1c/data\(query)").status == 404)
        #expect(try answer(content, "\(path)/2f1c\(query)").status == 404)
        // Their directory is, for whoever has the tree by its CID.
        #expect([200, 301].contains(try answer(content, path + query).status))
        #expect(try answer(content, "/ipfs/\(parts.root)/_layers\(query)").status == 200)
        #expect(source.askedCount(parts.upload) == 0 && source.askedCount(parts.data) == 0)
    }

    @Test func uploadsAreGivenByNoCIDOnceSomebodyHasComeDownToThem() throws {
        let parts = repository()
        let content = try content(parts.root)
        #expect(try answer(content, "/ipfs/\(parts.root)/_uploads?format=raw").status == 200)
        // Neither by itself, nor because a walk of the tree expects it.
        content.expect([parts.upload])
        #expect(try answer(content, "/ipfs/\(parts.upload)?format=raw").status == 404)
        #expect(try answer(content, "/ipfs/\(parts.uploads)/2f1c?format=raw").status == 404)
        #expect(try answer(content, "/ipfs/\(parts.uploads)?format=raw").status == 200)
        #expect(source.askedCount(parts.upload) == 0)
        // With any block it is as of a volume.
        #expect(
            try content.block(parts.data, scope: .any, reach: .everywhere).read()
                == Array("half a layer".utf8))
    }

    @Test func aCARStopsBeforeUploads() throws {
        let parts = repository()
        let content = try content(parts.root)
        let response = try answer(content, "/ipfs/\(parts.root)?format=car")
        #expect(response.status == 200)
        guard case .producer(let body, _) = response.body else {
            Issue.record("a body that is no archive")
            return
        }
        var isCut = false
        for _ in 0..<100 {
            do throws(ServeFault) {
                if try body.next() == nil { break }
            } catch {
                isCut = true
                break
            }
        }
        #expect(isCut)
        #expect(source.askedCount(parts.upload) == 0 && source.askedCount(parts.data) == 0)
    }

    @Test func whatAnotherNameLeadsToAsWellIsGiven() throws {
        let shared = source.directory([("deep", source.put("shared"))])
        let uploads = source.directory([("x", shared)])
        let root = source.directory([("_uploads", uploads), ("a", shared)])
        let content = try content(root)
        #expect(try answer(content, "/ipfs/\(root)/_uploads?format=raw").status == 200)
        #expect(try answer(content, "/ipfs/\(root)/a?format=raw").status == 200)
        #expect(try answer(content, "/ipfs/\(root)/a/deep?format=raw").status == 200)
    }

    @Test func aDirectoryOfUploadsThatIsEmptyHidesNoOther() throws {
        let empty = source.directory([])
        let inner = source.directory([("kept", empty)])
        let uploads = source.directory([("x", empty)])
        let root = source.directory([("_uploads", uploads), ("a", inner)])
        let content = try content(root)
        for path in ["_uploads", "a", "a/kept"] {
            #expect(try answer(content, "/ipfs/\(root)/\(path)?format=raw").status == 200)
        }
    }

    // MARK: Waits

    @Test func blocksThatNoSourceGivesTakeNothingFromThoseThatAreHere() throws {
        let (stuck, here) = (source.put("stuck"), source.put("here"))
        let further = source.put("further")
        source.state.withLock { $0.stuck = [stuck] }
        let root = source.directory([("a", stuck), ("b", here), ("c", further)])
        let content = try content(root, waitsMax: (1, 0))
        _ = try content.block(root, scope: .tree, reach: .everywhere)
        _ = try content.block(here, scope: .tree, reach: .everywhere)
        let thread = try Threads.start(name: "test") {
            _ = try? content.block(stuck, scope: .tree, reach: .everywhere)
        }
        #expect(eventually { source.askedCount(stuck) == 1 })
        for _ in 0..<2 {
            let found = fault { () throws(ServeFault) in
                try content.block(further, scope: .tree, reach: .everywhere)
            }
            #expect(found == .unavailable)
        }
        #expect(source.askedCount(further) == 0)
        for _ in 0..<100 {
            #expect(try content.block(here, scope: .tree, reach: .everywhere).count == 4)
        }
        source.goOn.signal()
        thread.join()
        #expect(try content.block(further, scope: .tree, reach: .everywhere).count == 7)
    }
}
