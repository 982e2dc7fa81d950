import Base
import HTTP
import HTTPScript
import Testing

/// Streams, limits of time, cancellation, and connections.
struct TransferTests {
    // MARK: Streams

    @Test func replyIsLentPieceByPieceWithItsHead() throws {
        let pieces = (0..<20).map { [UInt8](repeating: UInt8($0), count: 100_000) }
        let server = try ScriptedServer { _, _ in
            [.send(Reply.head(200, ["Content-Length: 2000000", "X-A: b"]))]
                + pieces.map { .send($0) }
        }
        defer { server.stop() }
        var taken: [UInt8] = []
        let reply = try makeHTTPClient().download(server.request()) { (head, piece) throws(Never) in
            #expect(head.status == 200 && head.headers["X-A"] == "b")
            taken += piece
        }
        #expect(taken == pieces.flatMap { $0 })
        #expect(reply.body == [])
        #expect(reply.headers["X-A"] == "b")
    }

    @Test func allThatCameOfACutReplyIsLentWhereThatIsAskedFor() throws {
        let server = try ScriptedServer { _, _ in
            [.send(Reply.head(200, ["Content-Length: 100"]) + bytes("begin")), .close]
        }
        defer { server.stop() }
        var taken: [UInt8] = []
        let error = failure {
            _ = try makeHTTPClient().download(server.request { $0.lendsCutReply = true }) {
                (_, piece) throws(Never) in taken += piece
            }
        }
        #expect(error?.kind == .offline)
        #expect(taken == bytes("begin"))
    }

    @Test func replyMayBeginBeforeTheRequestHasEnded() throws {
        let server = try ScriptedServer(readsBodies: false) { _, _ in
            [
                .send(
                    Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(bytes("early"))),
                .drip([bytes("0\r\nX-Sum: 1\r\n\r\n")], milliseconds: 200), .hang,
            ]
        }
        defer { server.stop() }
        var (taken, sentCount) = (bytes(""), 0)
        let reply = try makeHTTPClient().exchange(
            server.request(.post, body: .streamed(byteCount: nil))
        ) { () throws(Never) in
            guard taken.isEmpty, sentCount < 4_000 else { return nil }
            Threads.sleep(milliseconds: 5)
            sentCount += 1
            return [bytes("piece")]
        } _: { (_, piece) throws(Never) in
            taken += piece
        }
        #expect(taken == bytes("early"))
        #expect(sentCount < 4_000)
        #expect(reply.trailers["X-Sum"] == "1")
    }

    @Test func readerThatIsSlowHoldsBackTheServerAndCostsNoTime() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                .flood(Reply.chunk([UInt8](repeating: 1, count: 1 << 20))),
            ]
        }
        defer { server.stop() }
        struct Enough: Error {}
        var (count, largest) = (0, 0)
        #expect(throws: HTTPStreamError<Enough>.self) {
            _ = try makeHTTPClient().download(
                server.request {
                    $0.limits.stallMilliseconds = 1_000
                    $0.limits.firstByteMilliseconds = 10_000
                }
            ) { (_, piece) throws(Enough) in
                largest = max(largest, piece.count)
                Threads.sleep(milliseconds: count < 2 ? 1_100 : 0)
                count += 1
                if count == 10 { throw Enough() }
            }
        }
        #expect(count == 10)
        // What is kept at the most, and what curl receives at a time.
        #expect(largest <= (1 << 20) + (256 << 10))
    }

    @Test func errorOfAClosureComesThroughAndTheNextRequestPasses() throws {
        struct Failure: Error {}
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "fine")] }
        defer { server.stop() }
        let client = try makeHTTPClient()
        #expect(throws: HTTPStreamError<Failure>.self) {
            _ = try client.upload(server.request(.put, body: .streamed(byteCount: nil))) {
                () throws(Failure) in throw Failure()
            }
        }
        #expect(throws: HTTPStreamError<Failure>.self) {
            _ = try client.download(server.request()) { (_, _) throws(Failure) in throw Failure() }
        }
        #expect(text(try client.send(server.request())) == "fine")
    }

    @Test func limitOfUploadsHoldsBackAndCostsNoTime() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { server.stop() }
        let client = try makeHTTPClient { $0.uploadRate = UploadRate(bytesPerSecond: 30_000) }
        let start = MonotonicClock.milliseconds
        _ = try client.send(
            server.request(.put, body: .whole([[UInt8](repeating: 1, count: 60_000)])) {
                $0.limits.transferMilliseconds = 1_000
                $0.limits.firstByteMilliseconds = 10_000
                $0.limits.stallMilliseconds = 10_000
            })
        // A tenth of a second is free.
        #expect(MonotonicClock.milliseconds - start >= 1_500)
        #expect(server.requests.first?.body.count == 60_000)
    }

    // MARK: Limits of time

    @Test func serverThatDoesNotAnswerIsATimeout() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeHTTPClient { $0.server = "the gateway" }
        let error = failure {
            _ = try client.send(server.request { $0.limits.firstByteMilliseconds = 200 })
        }
        #expect(error?.kind == .timeout)
        #expect(error?.wasSent == true)
        #expect(error?.message == "the gateway did not answer for 200 ms")
    }

    @Test func replyThatStandsStillIsATimeout() throws {
        let server = try ScriptedServer { _, _ in
            [.send(Reply.head(200, ["Content-Length: 12"]) + bytes("hello")), .hang]
        }
        defer { server.stop() }
        let error = failure {
            _ = try makeHTTPClient().send(server.request { $0.limits.stallMilliseconds = 200 })
        }
        #expect(error?.kind == .timeout)
        #expect(error?.message == "the reply stood still for 200 ms")
    }

    @Test func requestThatNobodyTakesIsATimeout() throws {
        let server = try ScriptedServer(readsBodies: false) { _, _ in [.hang] }
        defer { server.stop() }
        let body = [[UInt8](repeating: 1, count: 64 << 20)]
        let error = failure {
            _ = try makeHTTPClient().send(
                server.request(.put, body: .whole(body)) { $0.limits.stallMilliseconds = 300 })
        }
        #expect(error?.kind == .timeout)
        #expect(error?.message == "the server took no byte for 300 ms")
    }

    @Test(arguments: ["rate", "transfer", "deadline"])
    func replyThatDripsHasAnEnd(_ limit: String) throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Content-Length: 100000"])),
                .drip([[UInt8]](repeating: [0x61], count: 100_000), milliseconds: 20),
            ]
        }
        defer { server.stop() }
        let error = failure {
            _ = try makeHTTPClient().send(
                server.request {
                    switch limit {
                    case "rate":
                        $0.limits.connectMilliseconds = 100
                        $0.limits.firstByteMilliseconds = 800
                        $0.limits.stallMilliseconds = 800
                    case "transfer": $0.limits.transferMilliseconds = 500
                    default: $0.limits.end(inMilliseconds: 500)
                    }
                })
        }
        #expect(error?.kind == .timeout)
        let words = [
            "rate": "bytes a second", "transfer": "not done within", "deadline": "is over",
        ]
        #expect(error?.message.contains(words[limit] ?? "") == true, "\(error?.message ?? "")")
    }

    /// However fast it comes.
    @Test(arguments: ["transfer", "deadline"])
    func replyThatNeverEndsHasAnEnd(_ limit: String) throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                .flood(Reply.chunk([UInt8](repeating: 1, count: 1 << 16))),
            ]
        }
        defer { server.stop() }
        let error = failure {
            _ = try makeHTTPClient().download(
                server.request {
                    if limit == "transfer" {
                        $0.limits.transferMilliseconds = 500
                    } else {
                        $0.limits.end(inMilliseconds: 500)
                    }
                }
            ) { (_, _) throws(Never) in }
        }
        #expect(error?.kind == .timeout)
    }

    // MARK: Cancellation

    @Test(arguments: [false, true])
    func requestIsCancelledFromAnotherThread(_ hasBegun: Bool) throws {
        let server = try ScriptedServer { _, _ in
            hasBegun
                ? [.send(Reply.head(200, ["Content-Length: 12"]) + bytes("hello")), .hang]
                : [.hang]
        }
        defer { server.stop() }
        let cancellation = Cancellation()
        let thread = try Threads.start(name: "cancel") {
            server.waitForRequests(1)
            cancellation.cancel()
        }
        let client = try makeHTTPClient()
        let start = MonotonicClock.milliseconds
        let error = failure {
            _ = try client.send(server.request { $0.cancellation = cancellation })
        }
        #expect(error?.kind == .cancelled)
        #expect(MonotonicClock.milliseconds - start < 15_000)
        thread.join()
        // One that begins cancelled is not sent.
        #expect(
            failure { _ = try client.send(server.request { $0.cancellation = cancellation }) }?
                .wasSent == false)
        #expect(server.requestCount == 1)
    }

    @Test func requestThatWaitsForAConnectionEndsByItsCancellationOrDeadline() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeHTTPClient { $0.connectionsMax = 1 }
        let (first, second) = (Cancellation(), Cancellation())
        let thread = try Threads.start(name: "first") {
            _ = try? client.send(server.request { $0.cancellation = first })
        }
        server.waitForRequests(1)
        let late = failure {
            _ = try client.send(server.request { $0.limits.end(inMilliseconds: 100) })
        }
        #expect(late?.kind == .timeout)
        #expect(late?.wasSent == false)
        let canceller = try Threads.start(name: "cancel") {
            Threads.sleep(milliseconds: 50)
            second.cancel()
        }
        #expect(
            failure { _ = try client.send(server.request { $0.cancellation = second }) }?.kind
                == .cancelled)
        first.cancel()
        thread.join()
        canceller.join()
        #expect(server.requestCount == 1)
    }

    // MARK: Connections

    @Test func connectionIsKeptForEachServer() throws {
        let servers = try (0..<2).map { _ in
            try ScriptedServer { _, _ in [Reply.whole(200, "fine")] }
        }
        defer { for server in servers { server.stop() } }
        let client = try makeHTTPClient()
        for round in 0..<10 {
            let method: HTTPRequest.Method = round % 2 == 0 ? .get : .delete
            for server in servers { _ = try client.send(server.request(method)) }
        }
        #expect(servers.map(\.requestCount) == [10, 10])
        #expect(servers.map(\.connectionCount) == [1, 1])
    }

    @Test func connectionsThatAreKeptAreBounded() throws {
        let servers = try (0..<3).map { _ in
            try ScriptedServer { _, _ in [Reply.whole(200, "fine")] }
        }
        defer { for server in servers { server.stop() } }
        let client = try makeHTTPClient { $0.idleConnectionsMax = 2 }
        for _ in 0..<4 {
            for server in servers {
                _ = try client.send(server.request())
                // curl closes the connection that is idle for longest, in whole milliseconds.
                Threads.sleep(milliseconds: 2)
            }
        }
        #expect(servers.allSatisfy { $0.connectionCount == 4 })
    }

    @Test func noMoreRequestsThanAllowedAreUnderWay() throws {
        let server = try ScriptedServer { _, _ in
            [.drip([Reply.head(200, ["Content-Length: 2"])], milliseconds: 20), .send(bytes("{}"))]
        }
        defer { server.stop() }
        let client = try makeHTTPClient { $0.connectionsMax = 3 }
        let threads = try (0..<9).map { _ in
            try Threads.start(name: "request") {
                for _ in 0..<3 { _ = try? client.send(server.request()) }
            }
        }
        for thread in threads { thread.join() }
        #expect(server.requestCount == 27)
        #expect(server.openCountMax == 3)
    }

    @Test func requestIsSentTwiceOnlyWhereItMayBe() throws {
        // The second request of a connection is read and not answered.
        let server = try ScriptedServer { index, _ in
            index == 1 ? [.close] : [Reply.whole(200, "fine")]
        }
        defer { server.stop() }
        let client = try makeHTTPClient()
        _ = try client.send(server.request())
        // curl does so by itself where a kept connection turns out to be closed.
        #expect(text(try client.send(server.request())) == "fine")
        #expect(server.requestCount == 3)

        let other = try ScriptedServer { index, _ in
            index == 1 ? [.close] : [Reply.whole(200, "fine")]
        }
        defer { other.stop() }
        _ = try client.send(other.request())
        #expect(failure { _ = try client.send(other.request(.post)) }?.kind == .offline)
        #expect(other.requestCount == 2)
    }
}
