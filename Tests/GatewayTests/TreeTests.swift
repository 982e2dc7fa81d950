import Base
import Gateway
import HTTPScript
import KuboDouble
import MerkleDAG
import Multiformats
import Remotes
import Testing

/// Archives of whole files and directories from a gateway.
struct TreeTests {
    private let leaves = (0..<40).map { rawBlock($0, byteCount: 20_000) }
    private var root: Block { fileRoot(of: leaves) }

    private struct Taken {
        var cids: [CID] = []
        var ending: TreeEnding?
        var error: RemoteError?
    }

    /// All that comes; each block is compared with its CID once more.
    private func take(
        _ remote: some RemoteTrees, _ root: CID, _ change: (inout TreeRequest) -> Void = { _ in }
    ) -> Taken {
        var request = TreeRequest(root, deadlineMilliseconds: 60_000)
        request.asksPeers = true
        change(&request)
        var taken = Taken()
        do throws(RemoteStreamError<Never>) {
            taken.ending = try remote.blocks(request) { (cid, bytes) throws(Never) in
                #expect((try? bytes.withUnsafeBytes { try cid.verify($0) }) != nil)
                taken.cids.append(cid)
            }
        } catch {
            switch error {
            case .remote(let error): taken.error = error
            }
        }
        return taken
    }

    private func isEnded(_ ending: TreeEnding?) -> Bool {
        if case .ended = ending { true } else { false }
    }

    private func isBounded(_ ending: TreeEnding?) -> Bool {
        if case .bounded = ending { true } else { false }
    }

    private func cut(_ ending: TreeEnding?) -> RemoteError? {
        if case .cut(let error) = ending { error } else { nil }
    }

    private func serving(_ body: [UInt8]) throws -> ScriptedServer {
        try ScriptedServer { _, _ in
            [Reply.whole(200, body, headers: ["Content-Type: application/vnd.ipld.car"])]
        }
    }

    @Test func aFileComesWithOneRequest() throws {
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        let taken = take(try makeGateway(double.gatewayAddress), root.cid)
        #expect(taken.cids == [root.cid] + leaves.map(\.cid))
        #expect(isEnded(taken.ending) && taken.error == nil)
        #expect(double.statistics["gateway"]?.calls == 1)
    }

    @Test func theRequestSaysWhatIsWanted() throws {
        let server = try serving(archive(roots: [root.cid], [root] + leaves))
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)/sub")
        _ = take(gateway, root.cid)
        _ = take(gateway, root.cid) { $0.scope = .all }
        for (request, scope) in zip(server.requests, ["entity", "all"]) {
            #expect(
                request.line == "GET /sub/ipfs/\(root.cid)?format=car&dag-scope=\(scope)"
                    + "&car-version=1&car-order=dfs&car-dups=n HTTP/1.1")
            #expect(
                request.header("Accept")
                    == "application/vnd.ipld.car; version=1; order=dfs; dups=n")
        }
    }

    @Test func aDirectoryComesWithItsShardsAlone() throws {
        var blocks: [Block] = []
        var builder = DirectoryBuilder(profile: .unixfsV1_2025)
        let file = rawBlock(5)
        for index in 0..<8_000 {
            builder.add(
                name: Array("some-longer-name-of-a-file-\(index)".utf8), cid: file.cid,
                treeSize: UInt64(file.bytes.count))
        }
        #expect(builder.isSharded)
        let made = try builder.finish { (cid, bytes) throws(Never) in blocks.append((cid, bytes)) }
        let double = try makeDouble(blocks + [file])
        defer { double.stop() }
        let taken = take(try makeGateway(double.gatewayAddress), made.cid)
        #expect(taken.cids.first == made.cid)
        #expect(Set(taken.cids) == Set(blocks.map(\.cid)))
        #expect(taken.cids.count == Set(taken.cids).count && taken.cids.count > 1)
    }

    @Test func whatNothingLinksToIsPassedOver() throws {
        let foreign = (100..<140).map { rawBlock($0) }
        let other = fileRoot(of: foreign)
        // Roots that lie, a leaf before its root, and everything twice.
        let body = archive(
            roots: [other.cid, foreign[0].cid],
            [leaves[3], other] + foreign + [root] + leaves + leaves + [root] + foreign)
        let server = try serving(body)
        defer { server.stop() }
        let taken = take(try makeGateway("http://\(server.address)"), root.cid)
        #expect(taken.cids == [root.cid] + leaves.map(\.cid))
        #expect(isEnded(taken.ending))
    }

    @Test func anArchiveWithoutTheRootIsNotFound() throws {
        let server = try serving(archive(roots: [], leaves))
        defer { server.stop() }
        let taken = take(try makeGateway("http://\(server.address)"), root.cid)
        #expect(taken.cids.isEmpty && taken.error?.kind == .notFound)
        let double = try makeDouble(leaves)
        defer { double.stop() }
        #expect(take(try makeGateway(double.gatewayAddress), root.cid).error?.kind == .notFound)
    }

    @Test func theBoundOfBytesEndsIt() throws {
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        let taken = take(try makeGateway(double.gatewayAddress), root.cid) {
            $0.bytesMax = 100_000
        }
        #expect(isBounded(taken.ending))
        #expect((2...8).contains(taken.cids.count))
    }

    @Test func whatCameBeforeACutIsGiven() throws {
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        double.add(Fault(.cutReply, command: "gateway", value: 100_000))
        let taken = take(try makeGateway(double.gatewayAddress), root.cid)
        #expect(cut(taken.ending)?.kind == .unreachable)
        #expect(taken.cids.first == root.cid && (2...6).contains(taken.cids.count))
    }

    @Test func anArchiveThatEndsWithinABlockIsCut() throws {
        let body = archive(roots: [root.cid], [root] + leaves)
        let server = try serving(Array(body[..<(body.count / 2)]))
        defer { server.stop() }
        let taken = take(try makeGateway("http://\(server.address)"), root.cid)
        #expect(cut(taken.ending) != nil)
        #expect(taken.cids.count > 10 && taken.cids.count < 30)
    }

    @Test func anErrorAtTheEndIsACut() throws {
        let body = archive(roots: [root.cid], [root, leaves[0]])
        let server = try ScriptedServer { _, _ in
            [
                .send(
                    Reply.head(200, ["Transfer-Encoding: chunked", "Trailer: X-Stream-Error"])
                        + Reply.chunk(body)
                        + Array("0\r\nX-Stream-Error: no such block\r\n\r\n".utf8))
            ]
        }
        defer { server.stop() }
        let taken = take(try makeGateway("http://\(server.address)"), root.cid)
        #expect(cut(taken.ending)?.description.contains("no such block") == true)
        #expect(taken.cids == [root.cid, leaves[0].cid])
    }

    @Test func otherBytesEndItAndNoneOfThemIsGiven() throws {
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        // Within the third leaf or so.
        double.add(Fault(.flip, command: "gateway", value: 60_000))
        let taken = take(try makeGateway(double.gatewayAddress), root.cid)
        #expect(taken.error?.kind == .wrongBytes)
        #expect((1...4).contains(taken.cids.count))
    }

    @Test(arguments: [Fault.Kind.page, .endless])
    func whatIsNoArchiveIsWrong(_ kind: Fault.Kind) throws {
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        double.add(Fault(kind, command: "gateway"))
        let taken = take(try makeGateway(double.gatewayAddress), root.cid)
        #expect(taken.error?.kind == .wrongBytes && taken.cids.isEmpty)
    }

    @Test func silenceEndsAtTheDeadline() throws {
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        double.add(Fault(.hang, command: "gateway"))
        let taken = take(try makeGateway(double.gatewayAddress), root.cid) {
            $0.deadlineMilliseconds = 50
        }
        #expect(taken.error?.kind == .timeout)
    }

    @Test func theCallersErrorIsItsOwn() throws {
        struct Enough: Error {}
        let double = try makeDouble(leaves + [root])
        defer { double.stop() }
        let gateway = try makeGateway(double.gatewayAddress)
        var count = 0
        var isOurs = false
        do throws(RemoteStreamError<Enough>) {
            _ = try gateway.blocks(
                TreeRequest(root.cid, deadlineMilliseconds: 60_000)
            ) { (_, _) throws(Enough) in
                count += 1
                if count == 3 { throw Enough() }
            }
        } catch {
            if case .source = error { isOurs = true }
        }
        #expect(isOurs && count == 3)
    }

    @Test func identityIsAnsweredHere() throws {
        let server = try serving([])
        defer { server.stop() }
        let cid = CID(codec: .raw, multihash: try .identity([7]))
        #expect(take(try makeGateway("http://\(server.address)"), cid).cids == [cid])
        #expect(server.requestCount == 0)
    }
}
