import Base
import Foundation
import Gateway
import HTTP
import HTTPScript
import KuboDouble
import Multiformats
import Remotes
import Testing

/// Blocks from a gateway, and gateways that do not do what they should.
struct GatewayTests {
    private let block = rawBlock(1)

    private func answering(_ steps: [ScriptedServer.Step]) throws -> ScriptedServer {
        try ScriptedServer { _, _ in steps }
    }

    // MARK: Addresses

    @Test(arguments: [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://Gateway.Example/", "https://gateway.example"),
        ("HTTPS://gateway.example/some/Path//", "https://gateway.example/some/Path"),
        ("https://gateway.example/some/ipfs/", "https://gateway.example/some"),
        ("http://[::1]:8080/ipfs", "http://[::1]:8080"),
    ])
    func urlsAreReadAsTheyAreWritten(_ text: String, _ shown: String) throws {
        #expect(try GatewayURL(text).description == shown)
    }

    @Test(arguments: [
        "", "gateway.example", "ftp://gateway.example", "http://", "http://user:secret@host/",
        "http://host:0", "http://host:65536", "http://host:", "http://host/a?b", "http://host/a#b",
        "http://[::1", "http://[host]", "http://ho st", "http://host/\\", "http://a,b",
        "http://host/" + String(repeating: "a", count: 2048),
    ])
    func otherTextsAreNone(_ text: String) {
        do {
            _ = try GatewayURL(text)
            Issue.record("\(text) was taken")
        } catch {
            #expect(!error.description.contains("secret"))
            #expect(!error.description.contains { $0.isNewline })
        }
    }

    // MARK: Requests

    @Test func theRequestSaysWhatIsWanted() throws {
        let server = try answering([Reply.whole(200, block.bytes)])
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)/some/path/")
        #expect(try gateway.get(block.cid) == block.bytes)
        #expect(try gateway.get(block.cid, asksPeers: false) == block.bytes)
        for (request, cache) in zip(server.requests, [nil, "only-if-cached"]) {
            #expect(request.line == "GET /some/path/ipfs/\(block.cid)?format=raw HTTP/1.1")
            #expect(request.header("Accept") == "application/vnd.ipld.raw")
            #expect(request.header("User-Agent") == "registryfs/test")
            #expect(request.header("Cache-Control") == cache)
            #expect(request.header("Cookie") == nil && request.header("Referer") == nil)
        }
        #expect(server.connectionCount == 1)
        #expect(gateway.address == "http://\(server.address)/some/path")
    }

    @Test func identityIsAnsweredHere() throws {
        let server = try answering([.close])
        defer { server.stop() }
        let cid = CID(codec: .raw, multihash: try .identity([1, 2, 3]))
        #expect(try makeGateway("http://\(server.address)").get(cid) == [1, 2, 3])
        #expect(server.requestCount == 0)
    }

    @Test func repliesAreReceivedIntoTheCallersMemory() throws {
        let blocks = (0..<8).map { rawBlock($0, byteCount: 200_000) }
        let double = try makeDouble(blocks)
        defer { double.stop() }
        let gateway = try makeGateway(double.gatewayAddress)
        let memory = ReplyMemory()
        for (cid, bytes) in blocks {
            let found = try gateway.block(
                BlockRequest(cid, deadlineMilliseconds: 60_000), memory: memory)
            #expect(found == bytes)
            memory.keep(found)
            #expect(
                failure {
                    _ = try gateway.block(
                        BlockRequest(rawBlock(99).cid, deadlineMilliseconds: 60_000),
                        memory: memory)
                }?.kind == .notFound)
        }
    }

    @Test func noMoreThanTheBoundAreUnderWayAtOnce() throws {
        let server = try ScriptedServer { [block] _, _ in
            [
                .drip(
                    [Reply.head(200, ["Content-Length: \(block.bytes.count)"]) + block.bytes],
                    milliseconds: 20)
            ]
        }
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)") { $0.requestsMax = 4 }
        let threads = try (0..<24).map { index in
            try Threads.start(name: "ask") { [block] in
                let found = try? gateway.get(block.cid, asksPeers: index % 2 == 0)
                #expect(found == block.bytes)
            }
        }
        for thread in threads { thread.join() }
        #expect(server.requestCount == 24)
        #expect(server.openCountMax <= 4)
        #expect(server.connectionCount <= 4)
    }

    @Test func searchesLeaveRoomForWhatIsThere() throws {
        let server = try ScriptedServer { [block] _, request in
            request.header("Cache-Control") == nil ? [.hang] : [Reply.whole(200, block.bytes)]
        }
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)") { $0.requestsMax = 4 }
        let cancellation = Cancellation()
        let threads = try (0..<6).map { user in
            try Threads.start(name: "search") { [block] in
                var request = BlockRequest(block.cid, deadlineMilliseconds: 300_000)
                request.asksPeers = true
                request.user = UInt32(user)
                request.cancellation = cancellation
                _ = try? gateway.block(request, memory: nil)
            }
        }
        server.waitForRequests(2)
        #expect(try gateway.get(block.cid, asksPeers: false) == block.bytes)
        cancellation.cancel()
        for thread in threads { thread.join() }
    }

    // MARK: Answers

    @Test(arguments: [
        (404, RemoteError.Kind.notFound), (410, .notFound), (451, .notFound), (412, .notFound),
        (400, .refused), (401, .refused), (403, .refused), (406, .refused), (501, .refused),
        (429, .busy), (503, .busy), (500, .failed), (502, .failed), (504, .timeout),
        (304, .refused), (204, .refused),
    ])
    func aStatusIsTyped(_ status: Int, _ kind: RemoteError.Kind) throws {
        let server = try answering([Reply.whole(status, "some\nwords\u{1b}[31m")])
        defer { server.stop() }
        let error = failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }
        #expect(error?.kind == kind)
        #expect(error?.notBefore == nil)
        let text = error?.description ?? ""
        #expect(text.contains("\(block.cid)") && text.contains("http://\(server.address)"))
        #expect(!text.contains { $0.isNewline || $0 == "\u{1b}" })
    }

    @Test func whatIsNotCachedIsNotFound() throws {
        let server = try answering([Reply.whole(504, "not cached")])
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)")
        #expect(failure { _ = try gateway.get(block.cid, asksPeers: false) }?.kind == .notFound)
    }

    @Test func aLackThatIsToldAsAnErrorIsNotFound() throws {
        let server = try answering([
            Reply.whole(
                500,
                "failed to resolve: block was not found locally (offline): ipld: could not find x")
        ])
        defer { server.stop() }
        #expect(
            failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }?.kind
                == .notFound)
    }

    @Test(
        arguments: [
            ("2", 2_000), ("0", 0), ("100000", 300_000), ("99999999999999999999999", 300_000),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 300_000),
            ("soon", nil), ("-1", nil), ("", nil),
        ] as [(String, Int64?)])
    func retryAfterIsKeptWithinItsBound(_ value: String, _ milliseconds: Int64?) throws {
        let server = try answering([Reply.whole(429, "", headers: ["Retry-After: \(value)"])])
        defer { server.stop() }
        let before = MonotonicClock.milliseconds
        let error = failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }
        let after = MonotonicClock.milliseconds
        #expect(error?.kind == .busy)
        guard let milliseconds else {
            #expect(error?.notBefore == nil)
            return
        }
        let moment = try #require(error?.notBefore)
        #expect((before + milliseconds...after + milliseconds).contains(moment))
    }

    @Test func retryAfterMayBeADate() throws {
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.timeZone = TimeZone(identifier: "GMT")
        format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        let text = format.string(from: Date(timeIntervalSinceNow: 120))
        let server = try answering([Reply.whole(503, "", headers: ["Retry-After: \(text)"])])
        defer { server.stop() }
        let before = MonotonicClock.milliseconds
        let error = failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }
        let after = MonotonicClock.milliseconds
        let moment = try #require(error?.notBefore)
        // Whole seconds, on both sides.
        #expect((before + 118_000 - (after - before)...after + 121_000).contains(moment))
    }

    // MARK: Lies

    @Test func otherBytesAreNoBlock() throws {
        let server = try answering([
            Reply.whole(200, rawBlock(2).bytes, headers: ["Content-Type: application/vnd.ipld.raw"])
        ])
        defer { server.stop() }
        let error = failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }
        #expect(error?.kind == .wrongBytes)
        #expect(error?.description.contains("application/vnd.ipld.raw") == true)
    }

    @Test func aPageIsNoBlock() throws {
        let double = try makeDouble([block])
        defer { double.stop() }
        double.add(Fault(.page, command: "gateway"))
        let error = failure { _ = try makeGateway(double.gatewayAddress).get(block.cid) }
        #expect(error?.kind == .wrongBytes)
        #expect(error?.description.contains("text/html") == true)
    }

    @Test func theTypeOfABlockDoesNotMatter() throws {
        let server = try answering([
            Reply.whole(200, block.bytes, headers: ["Content-Type: text/html"])
        ])
        defer { server.stop() }
        #expect(try makeGateway("http://\(server.address)").get(block.cid) == block.bytes)
    }

    @Test func aBlockThatNeverEndsIsRefusedWhileItComes() throws {
        let double = try makeDouble([block])
        defer { double.stop() }
        double.add(Fault(.endless, command: "gateway"))
        #expect(
            failure { _ = try makeGateway(double.gatewayAddress).get(block.cid) }?.kind
                == .wrongBytes)
    }

    @Test func aBlockThatIsSaidToBeHugeIsRefused() throws {
        let server = try answering([
            .send(Reply.head(200, ["Content-Length: 1000000000000"])),
            .flood([UInt8](repeating: 1, count: 1 << 16)),
        ])
        defer { server.stop() }
        #expect(
            failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }?.kind
                == .wrongBytes)
    }

    @Test func aHashFunctionThatIsNotKnownIsRefused() throws {
        let cid = CID(
            codec: .raw,
            multihash: try Multihash(code: .blake3, digest: [UInt8](repeating: 1, count: 32)))
        let server = try answering([Reply.whole(200, block.bytes)])
        defer { server.stop() }
        #expect(
            failure { _ = try makeGateway("http://\(server.address)").get(cid) }?.kind == .refused)
    }

    @Test func whatIsNoHTTPFails() throws {
        let server = try answering([.send(Array("SSH-2.0-OpenSSH_9.9\r\n\r\n".utf8)), .close])
        defer { server.stop() }
        let error = failure { _ = try makeGateway("http://\(server.address)").get(block.cid) }
        #expect(error?.kind == .failed || error?.kind == .unreachable)
    }

    @Test func aReplyWithoutALengthCountsWhereItIsTheBlock() throws {
        for (count, kind) in [(block.bytes.count, nil), (10, RemoteError.Kind.unreachable)] {
            let server = try answering([
                .send(Reply.head(200, ["Connection: close"]) + block.bytes[..<count]), .close,
            ])
            defer { server.stop() }
            let gateway = try makeGateway("http://\(server.address)")
            let error = failure { _ = try gateway.get(block.cid) }
            #expect(error?.kind == kind)
        }
    }

    // MARK: Ends

    @Test func aCutReplyIsNone() throws {
        let double = try makeDouble([block])
        defer { double.stop() }
        double.add(Fault(.cutReply, command: "gateway", value: 10))
        #expect(
            failure { _ = try makeGateway(double.gatewayAddress).get(block.cid) }?.kind
                == .unreachable)
    }

    @Test func silenceEndsAtTheDeadline() throws {
        let server = try answering([.hang])
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)")
        #expect(failure { _ = try gateway.get(block.cid, milliseconds: 50) }?.kind == .timeout)
        #expect(
            failure { _ = try gateway.get(block.cid, milliseconds: 50, asksPeers: false) }?.kind
                == .timeout)
    }

    @Test func whatDripsEndsAtTheDeadline() throws {
        let double = try makeDouble([block])
        defer { double.stop() }
        double.add(Fault(.drip, command: "gateway", value: 50))
        let gateway = try makeGateway(double.gatewayAddress)
        #expect(failure { _ = try gateway.get(block.cid, milliseconds: 200) }?.kind == .timeout)
    }

    @Test func cancellationEndsTheRequest() throws {
        let server = try answering([.hang])
        defer { server.stop() }
        let cancellation = Cancellation()
        let canceller = try Threads.start(name: "cancel") {
            server.waitForRequests(1)
            cancellation.cancel()
        }
        let gateway = try makeGateway("http://\(server.address)")
        #expect(failure { _ = try gateway.get(block.cid, cancellation) }?.kind == .cancelled)
        canceller.join()
        #expect(failure { _ = try gateway.get(block.cid, cancellation) }?.kind == .cancelled)
        #expect(server.requestCount == 1)
    }

    @Test func aGatewayThatVanishesIsUnreachableUntilItIsBack() throws {
        let double = try makeDouble([block])
        defer { double.stop() }
        let gateway = try makeGateway(double.gatewayAddress)
        #expect(try gateway.get(block.cid) == block.bytes)
        try double.setRefusing(true)
        #expect(failure { _ = try gateway.get(block.cid) }?.kind == .unreachable)
        try double.setRefusing(false)
        #expect(try gateway.get(block.cid) == block.bytes)
    }

    // MARK: Ways

    @Test func redirectsAreFollowedWithinTheirBound() throws {
        let server = try ScriptedServer { [block] _, request in
            let number = Int(request.line.split(separator: "=").last?.prefix { $0.isNumber } ?? "")
            let next = (number ?? 0) + 1
            return next > GatewayRemote.redirectsMax
                ? [Reply.whole(200, block.bytes)]
                : [Reply.whole(301, "", headers: ["Location: /ipfs/x?n=\(next)"])]
        }
        defer { server.stop() }
        let gateway = try makeGateway("http://\(server.address)")
        #expect(try gateway.get(block.cid) == block.bytes)
        #expect(server.requestCount == GatewayRemote.redirectsMax + 1)
        #expect(server.requests.allSatisfy { $0.header("Accept") == "application/vnd.ipld.raw" })
    }

    @Test func endlessRedirectsAreRefused() throws {
        let double = try makeDouble([block])
        defer { double.stop() }
        double.add(Fault(.redirect, command: "gateway", message: "/ipfs/\(block.cid)?format=raw"))
        let error = failure { _ = try makeGateway(double.gatewayAddress).get(block.cid) }
        #expect(error?.kind == .refused)
        #expect(double.statistics["gateway"]?.calls == GatewayRemote.redirectsMax + 1)
    }

    @Test func noProxyStandsBeforeThisMachine() throws {
        let server = try answering([Reply.whole(200, block.bytes)])
        defer { server.stop() }
        let gateway = try makeGateway("http://localhost:\(server.port)") {
            $0.environment = HTTPEnvironment(["http_proxy": "http://127.0.0.1:1"])
        }
        #expect(try gateway.get(block.cid) == block.bytes)
    }

    @Test func aGatewayElsewhereIsReachedByTheProxy() throws {
        let proxy = try answering([Reply.whole(200, block.bytes)])
        defer { proxy.stop() }
        let gateway = try makeGateway("http://gateway.test/sub") {
            $0.environment = HTTPEnvironment(["http_proxy": "http://\(proxy.address)"])
        }
        #expect(try gateway.get(block.cid) == block.bytes)
        #expect(
            proxy.requests.first?.line
                == "GET http://gateway.test/sub/ipfs/\(block.cid)?format=raw HTTP/1.1")
    }
}
