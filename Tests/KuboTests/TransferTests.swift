import Base
import Foundation
import Glibc
import HTTPScript
import Kubo
import Logging
import MerkleDAG
import Multiformats
import Remotes
import Testing

/// What becomes of calls when the other side is slow, cut off, wrong or gone.
struct TransferTests {
    private let cid = CID.raw(sha256: Array("hello world\n".utf8))

    // MARK: Nobody there

    @Test func refusedConnectionIsOffline() throws {
        let client = try makeClient("127.0.0.1:\(ScriptedServer.freePort())")
        #expect(failure { _ = try client.version() }?.kind == .offline)
    }

    @Test func missingSocketIsOffline() throws {
        let client = try makeClient("unix:///nonexistent/api.sock")
        #expect(failure { _ = try client.version() }?.kind == .offline)
    }

    @Test func connectionEndedBeforeTheReplyIsOfflineAndTriedAgainSoManyTimes() throws {
        let server = try ScriptedServer { _, _ in [.close] }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.attemptsMax = 3 }
        #expect(failure { _ = try client.version() }?.kind == .offline)
        #expect(server.requestCount == 3)
    }

    @Test func callThatPassesTheSecondTimePasses() throws {
        let server = try ScriptedServer { index, _ in
            index == 0 ? [.close] : [Reply.version]
        }
        defer { server.stop() }
        #expect(try makeClient(server.address).version().version == "0.43.0")
        #expect(server.requestCount == 2)
    }

    @Test(
        "A change that may have been made is not sent twice",
        arguments: ["mv", "cp", "rm", "mkdir", "update", "unpin"])
    func changeIsSentOnce(_ call: String) throws {
        let server = try ScriptedServer { _, _ in [.close] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        let error = failure {
            switch call {
            case "mv": try client.filesMove(from: "/a", to: "/b")
            case "cp": try client.filesCopy(from: "/a", to: "/b")
            case "rm": try client.filesRemove("/a")
            case "mkdir": try client.filesMakeDirectory("/a")
            case "update": try client.pinUpdate(from: cid, to: cid)
            default: try client.pinRemove(cid)
            }
        }
        #expect(error?.kind == .offline)
        #expect(server.requestCount == 1)
    }

    @Test func changeIsNotSentTwiceOverAConnectionThatTheNodeClosedMeanwhile() throws {
        // The node reads the second request of a kept connection, and goes away without a word.
        let server = try ScriptedServer { _, request in
            request.line.contains("version") ? [Reply.version] : [.close]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        _ = try client.version()
        #expect(failure { try client.filesMove(from: "/a", to: "/b") }?.kind == .offline)
        #expect(server.requestCount == 2)
    }

    @Test func changeThatCertainlyWasNotSentIsTriedAgain() throws {
        let port = try ScriptedServer.freePort()
        let started = Monitor<ScriptedServer?>(nil)
        let log = LogHook.logger { line in
            guard line.contains("tried again") else { return }
            started.withLock { server in
                guard server == nil else { return }
                server = try? ScriptedServer(port: port) { _, _ in [Reply.whole()] }
            }
        }
        let client = try makeClient("127.0.0.1:\(port)", log: log)
        try client.filesMove(from: "/a", to: "/b")
        let server = started.withLock { $0 }
        defer { server?.stop() }
        #expect(server?.requestCount == 1)
    }

    // MARK: Busy, failing

    @Test(arguments: [429, 502, 503, 504])
    func nodeThatCannotNowIsAskedAgain(_ status: Int) throws {
        let server = try ScriptedServer { index, _ in
            index < 2 ? [Reply.whole(status, "later")] : [Reply.version]
        }
        defer { server.stop() }
        #expect(try makeClient(server.address).version().version == "0.43.0")
        #expect(server.requestCount == 3)
    }

    @Test func failureThatTheNodeReportsIsFinal() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(500, #"{"Message":"no space left on device","Code":0,"Type":"error"}"#)]
        }
        defer { server.stop() }
        let error = failure { _ = try makeClient(server.address).block(cid) }
        #expect(error?.kind == .full)
        #expect(error?.call == "block/get")
        #expect(error?.argument == cid.description)
        #expect(error?.message == "no space left on device")
        #expect(server.requestCount == 1)
    }

    @Test func redirectIsNotFollowed() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(307, "", headers: ["Location: /api/v0/elsewhere"])]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.version() }?.kind == .protocolViolation)
        #expect(server.requestCount == 1)
    }

    // MARK: Limits of time

    @Test func nodeThatDoesNotAnswerIsATimeoutAndAskedOnceMore() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.firstByteMilliseconds = 1000 }
        #expect(failure { _ = try client.version() }?.kind == .timeout)
        // It may see them later than they were given up.
        server.waitForRequests(2)
        #expect(server.requestCount == 2)
    }

    @Test func replyThatStandsStillIsATimeout() throws {
        let server = try ScriptedServer { _, _ in
            [.send(Reply.head(200, ["Content-Length: 12"]) + Array("hello".utf8)), .hang]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) {
            $0.stallMilliseconds = 200
            $0.attemptsMax = 1
        }
        #expect(failure { _ = try client.block(cid) }?.kind == .timeout)
    }

    @Test func slowReplyThatMovesIsNotATimeout() throws {
        let server = try ScriptedServer { _, _ in
            let pieces = Array("hello world\n".utf8).map { [$0] }
            return [
                .send(Reply.head(200, ["Content-Length: 12"])), .drip(pieces, milliseconds: 500),
            ]
        }
        defer { server.stop() }
        // Twelve pieces take longer than the limit for standing still.
        let client = try makeClient(server.address) {
            $0.stallMilliseconds = 5_000
            $0.firstByteMilliseconds = 5_000
            $0.attemptsMax = 1
        }
        #expect(try client.block(cid) == Array("hello world\n".utf8))
    }

    @Test func wholeCallHasItsDeadlineHoweverOftenItIsTried() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        let error = failure { _ = try client.block(cid, deadlineMilliseconds: 2000) }
        #expect(error?.kind == .timeout)
        server.waitForRequests(1)
        #expect(server.requestCount == 1)
        // The node is told, so that it can stop too.
        #expect(server.requests.first?.line.contains("timeout=1900ms") == true)
    }

    @Test func replyThatDripsForeverEndsAtTheDeadline() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Content-Length: 100000"])),
                .drip([[UInt8]](repeating: [0], count: 100_000), milliseconds: 10),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(
            failure { _ = try client.block(cid, deadlineMilliseconds: 500) }?.kind == .timeout)
    }

    /// Without any deadline of the caller's, and in any part of the reply.
    @Test(arguments: ["body", "head", "interim"])
    func replyThatDripsHasAnEnd(_ part: String) throws {
        let server = try ScriptedServer { _, _ in
            let drip = [[UInt8]](repeating: [0x61], count: 100_000)
            return switch part {
            case "body":
                [
                    .send(Reply.head(200, ["Content-Length: 100000"])),
                    .drip(drip, milliseconds: 50),
                ]
            case "head":
                [.send(Array("HTTP/1.1 200 OK\r\nA: ".utf8)), .drip(drip, milliseconds: 50)]
            default:
                [
                    .drip(
                        [[UInt8]](
                            repeating: Array("HTTP/1.1 102 Wait\r\n\r\n".utf8), count: 10_000),
                        milliseconds: 50)
                ]
            }
        }
        defer { server.stop() }
        let client = try makeClient(server.address) {
            $0.connectMilliseconds = 100
            $0.firstByteMilliseconds = 200
            $0.stallMilliseconds = 200
            $0.attemptsMax = 1
        }
        let error = failure { _ = try client.identity() }
        #expect(error?.kind == .timeout)
        // curl counts whole lines of a head, so one that drips counts as standing still.
        if part != "head" {
            #expect(
                error?.message.contains("bytes a second") == true, "\(String(describing: error))")
        }
    }

    @Test func requestThatIsTakenByDropsHasAnEnd() throws {
        let server = try ScriptedServer(readsBodies: false) { _, _ in
            // The answer comes before the request is whole, and never ends.
            [
                .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                .drip(
                    [[UInt8]](repeating: Array("1\r\n \r\n".utf8), count: 10_000),
                    milliseconds: 50),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) {
            $0.connectMilliseconds = 100
            $0.workMilliseconds = 200
            $0.stallMilliseconds = 200
        }
        var isAsked = false
        let error = failure {
            try client.importBlocks { () throws(KuboError) in
                defer { isAsked = true }
                return isAsked ? nil : (cid, Array("hello world\n".utf8))
            }
        }
        #expect(error?.kind == .timeout)
    }

    /// A reply that has as many bytes as it takes time is none that drips.
    @Test func longReplyThatKeepsTheLeastRateIsNotATimeout() throws {
        let pieces = [[UInt8]](repeating: [UInt8](repeating: 0x20, count: 1_000), count: 20)
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Content-Length: 20013"])), .drip(pieces, milliseconds: 50),
                .send(Array("{\"ID\":\"peer\"}".utf8.prefix(13))),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) {
            $0.connectMilliseconds = 100
            $0.firstByteMilliseconds = 200
            $0.stallMilliseconds = 200
            $0.attemptsMax = 1
        }
        #expect(try client.identity() == "peer")
    }

    /// What the limit of uploads holds back, and what the giver of blocks takes, is not the node's.
    @Test func timeOfOurOwnIsNotTheCalls() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(200, "{\"Stats\":{\"BlockCount\":1}}\n")]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) {
            $0.connectMilliseconds = 100
            $0.workMilliseconds = 300
            $0.stallMilliseconds = 300
            $0.uploadBytesPerSecond = 1_024
            $0.bytesPerSecondMin = 1 << 20
        }
        let block = [UInt8](repeating: 7, count: 2_000)
        let blockCID = CID.raw(sha256: block)
        var isAsked = false
        try client.importBlocks { () throws(KuboError) in
            defer { isAsked = true }
            guard !isAsked else { return nil }
            Threads.sleep(milliseconds: 1_000)
            return (blockCID, block)
        }
    }

    @Test func uploadThatNobodyTakesIsATimeoutAndHoldsFewBlocks() throws {
        let server = try ScriptedServer(readsBodies: false) { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.stallMilliseconds = 300 }
        let block = [UInt8](repeating: 7, count: 1 << 20)
        let blockCID = CID.raw(sha256: block)
        var askedCount = 0
        let error = failure {
            try client.importBlocks { () throws(KuboError) in
                askedCount += 1
                return askedCount > 1000 ? nil : (blockCID, block)
            }
        }
        #expect(error?.kind == .timeout)
        // What two sockets' buffers take at the most, and a few blocks here.
        #expect(askedCount <= 32)
    }

    // MARK: Cancellation

    @Test func cancelledCallEnds() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let cancellation = Cancellation()
        let thread = try Threads.start(name: "cancel") {
            server.waitForRequests(1)
            cancellation.cancel()
        }
        let client = try makeClient(server.address)
        #expect(
            failure { _ = try client.block(cid, cancellation: cancellation) }?.kind == .cancelled)
        thread.join()
        #expect(server.requestCount == 1)
    }

    @Test func callThatBeginsCancelledIsNotSent() throws {
        let server = try ScriptedServer { _, _ in [Reply.version] }
        defer { server.stop() }
        let cancellation = Cancellation()
        cancellation.cancel()
        cancellation.cancel()
        #expect(cancellation.isCancelled)
        let client = try makeClient(server.address)
        #expect(
            failure { _ = try client.version(cancellation: cancellation) }?.kind == .cancelled)
        #expect(server.requestCount == 0)
    }

    @Test func callThatWaitsForAConnectionCanBeCancelled() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.connectionsMax = 1 }
        let first = Cancellation()
        let second = Cancellation()
        let thread = try Threads.start(name: "first") {
            _ = try? client.version(cancellation: first)
        }
        server.waitForRequests(1)
        let canceller = try Threads.start(name: "cancel") {
            Threads.sleep(milliseconds: 50)
            second.cancel()
        }
        #expect(failure { _ = try client.version(cancellation: second) }?.kind == .cancelled)
        first.cancel()
        thread.join()
        canceller.join()
        #expect(server.requestCount == 1)
    }

    @Test func callThatWaitsForAConnectionHasItsDeadline() throws {
        let server = try ScriptedServer { _, _ in [.hang] }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.connectionsMax = 1 }
        let first = Cancellation()
        let thread = try Threads.start(name: "first") {
            _ = try? client.version(cancellation: first)
        }
        server.waitForRequests(1)
        #expect(failure { _ = try client.version(deadlineMilliseconds: 100) }?.kind == .timeout)
        first.cancel()
        thread.join()
        #expect(server.requestCount == 1)
    }

    @Test func pauseBeforeTheNextAttemptCanBeCancelled() throws {
        let server = try ScriptedServer { _, _ in [.close] }
        defer { server.stop() }
        let cancellation = Cancellation()
        let log = LogHook.logger { line in
            if line.contains("tried again") { cancellation.cancel() }
        }
        let client = try makeClient(server.address, log: log)
        #expect(
            failure { _ = try client.version(cancellation: cancellation) }?.kind == .cancelled)
        #expect(server.requestCount == 1)
    }

    @Test func uploadCanBeCancelledBetweenItsBlocks() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole()] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        let cancellation = Cancellation()
        let block = [UInt8](repeating: 7, count: 1 << 20)
        let blockCID = CID.raw(sha256: block)
        var askedCount = 0
        let error = failure {
            try client.importBlocks(cancellation: cancellation) { () throws(KuboError) in
                askedCount += 1
                if askedCount == 20 { cancellation.cancel() }
                return askedCount > 1000 ? nil : (blockCID, block)
            }
        }
        #expect(error?.kind == .cancelled)
        #expect(askedCount == 20)
        server.waitForRequests(1)
        #expect(server.requests.first?.isWhole == false)
    }

    // MARK: Cut and malformed replies

    @Test(
        "A reply that is cut off is no reply, and asked for again",
        arguments: [
            Reply.head(200, ["Content-Length: 100"]) + Array("hello".utf8),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(Array("{}".utf8)),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Array("a\r\nhe".utf8),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(Array("{}".utf8))
                + Array("0\r\n".utf8),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(Array("{}".utf8))
                + Array("0\r\nX-Stream-Er".utf8),
            Array("HTTP/1.1 200 OK\r\nContent-Le".utf8),
            Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".utf8),
            Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: kub".utf8),
            Array("HTTP/1.1 200 OK".utf8),
            Array("HTTP/1.1".utf8),
        ])
    func cutReplyIsNoReply(_ bytes: [UInt8]) throws {
        let server = try ScriptedServer { _, _ in [.send(bytes), .close] }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.attemptsMax = 2 }
        #expect(failure { try client.filesFlush() }?.kind == .offline)
        #expect(server.requestCount == 2)
        // A change whose success is an empty reply.
        #expect(failure { try client.filesMove(from: "/a", to: "/b") }?.kind == .offline)
    }

    @Test(
        "A reply that is not HTTP, or not this call's, breaks the protocol",
        arguments: [
            Array("hello\r\n\r\n".utf8),
            [UInt8](repeating: 0, count: 1000),
            Reply.head(200, []) + Array(#"{"Version":"1"}"#.utf8),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Array("zz\r\nhello\r\n".utf8),
            Reply.head(200, ["Content-Length: 5"]) + Array("hello".utf8),
            Reply.head(200, ["Content-Length: 2"]) + Array("{}".utf8),
            Reply.head(200, ["Content-Length: 13"]) + Array(#"{"Version":1}"#.utf8),
            Reply.head(200, ["Content-Length: 0"]),
            Reply.head(204, []),
            Reply.head(302, ["Content-Length: 0", "Location: http://127.0.0.1:1/"]),
        ])
    func malformedReplyBreaksTheProtocol(_ bytes: [UInt8]) throws {
        let server = try ScriptedServer { _, _ in [.send(bytes), .close] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.version() }?.kind == .protocolViolation)
    }

    @Test func endlessHeadersBreakTheProtocol() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Array("HTTP/1.1 200 OK\r\n".utf8)),
                .flood(Array("X-Y: zzzzzzzzzzzzzz\r\n".utf8)),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.version() }?.kind == .protocolViolation)
    }

    @Test func endlessInterimRepliesBreakTheProtocol() throws {
        let server = try ScriptedServer { _, _ in [.flood(Array("HTTP/1.1 102 P\r\n\r\n".utf8))] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.version() }?.kind == .protocolViolation)
    }

    @Test func endlessTrailersBreakTheProtocol() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(
                    Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(Array("{}".utf8))
                        + Array("0\r\n".utf8)), .flood(Array("X-Y: zzzzzzzzzzzzzz\r\n".utf8)),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.version() }?.kind == .protocolViolation)
    }

    @Test func blockAboveTheLimitBreaksTheProtocol() throws {
        let server = try ScriptedServer { index, _ in
            let megabyte = [UInt8](repeating: 1, count: 1 << 20)
            return index == 0
                ? [
                    .send(Reply.head(200, ["Content-Length: 2097153"]) + megabyte + megabyte + [1]),
                    .hang,
                ]
                : [
                    .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                    .flood(Reply.chunk(megabyte)),
                ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        for _ in 0..<2 {
            #expect(failure { _ = try client.block(cid) }?.kind == .protocolViolation)
        }
    }

    @Test func largestBlockIsTaken() throws {
        let block = [UInt8](repeating: 9, count: DAGNode.blockSizeMax)
        let server = try ScriptedServer { _, _ in [Reply.whole(200, block)] }
        defer { server.stop() }
        #expect(try makeClient(server.address).block(CID.raw(sha256: block)) == block)
    }

    @Test func endlessErrorTextEndsAndKeepsItsKind() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(403, ["Transfer-Encoding: chunked"])),
                .flood(Reply.chunk(Array(repeating: 0x61, count: 10_000))),
            ]
        }
        defer { server.stop() }
        let error = failure { _ = try makeClient(server.address).version() }
        #expect(error?.kind == .refused)
        #expect((error?.message.utf8.count ?? 0) <= KuboError.messageLengthMax)
    }

    @Test func numbersThatCannotBeBreakTheProtocol() throws {
        let server = try ScriptedServer { index, _ in
            let size = ["-1", "1e400", "99999999999999999999999", "1.5", "\"1\""][index]
            return [
                Reply.whole(
                    200,
                    #"{"Hash":"bafkqaaa","Size":\#(size),"CumulativeSize":0,"Type":"file"}"#)
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        for _ in 0..<5 {
            #expect(failure { _ = try client.filesStat("/") }?.kind == .protocolViolation)
        }
    }

    @Test func deeplyNestedJSONBreaksTheProtocol() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(200, #"{"Value":"# + String(repeating: "[", count: 500_000))]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.config("x") }?.kind == .protocolViolation)
    }

    // MARK: Errors in trailers

    @Test func errorInATrailerFailsACallOf200() throws {
        let server = try ScriptedServer { _, _ in
            [
                Reply.chunked(
                    200, #"{"Version":"1"}"#, trailers: ["X-Stream-Error: no space left on device"])
            ]
        }
        defer { server.stop() }
        let error = failure { _ = try makeClient(server.address).version() }
        #expect(error?.kind == .full)
        #expect(error?.message == "no space left on device")
    }

    @Test func trailerWithoutTextFailsTheCallToo() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.chunked(200, #"{"Version":"1"}"#, trailers: ["x-stream-error:"])]
        }
        defer { server.stop() }
        #expect(failure { _ = try makeClient(server.address).version() }?.kind == .failed)
    }

    @Test func errorInATrailerFailsAStreamThatWasGivenAlready() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.chunked(200, "hello", trailers: ["X-Stream-Error: context deadline exceeded"])]
        }
        defer { server.stop() }
        var taken: [UInt8] = []
        let client = try makeClient(server.address)
        let error = failure {
            try client.cat("/ipfs/x") { (bytes) throws(Never) in taken += bytes }
        }
        #expect(error?.kind == .timeout)
        #expect(taken == Array("hello".utf8))
        #expect(server.requestCount == 1)
    }

    // MARK: Lies

    @Test(
        "Bytes that are not the block's are never given, and the block is named",
        arguments: ["hello worle\n", "hello world", "hello world\n\n", ""])
    func wrongBytesAreNeverGiven(_ text: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, text)] }
        defer { server.stop() }
        let error = failure { _ = try makeClient(server.address).block(cid) }
        #expect(error?.kind == .protocolViolation)
        #expect(error?.description.contains(cid.description) == true)
        #expect(server.requestCount == 1)
    }

    @Test func blockInItsCIDIsNotAskedFor() throws {
        let client = try makeClient("127.0.0.1:\(ScriptedServer.freePort())")
        let inline = CID(codec: .raw, multihash: try .identity([1, 2, 3]))
        #expect(try client.block(inline) == [1, 2, 3])
        #expect(try client.hasBlock(inline))
        try client.putBlocks([(inline, [1, 2, 3])])
    }

    @Test func hashFunctionThatIsNotKnownIsRefused() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "x")] }
        defer { server.stop() }
        let strange = CID(
            codec: .raw,
            multihash: try Multihash(code: .murmur3X64_64, digest: [1, 2, 3, 4, 5, 6, 7, 8]))
        let client = try makeClient(server.address)
        #expect(failure { _ = try client.block(strange) }?.kind == .refused)
        #expect(failure { try client.putBlocks([(strange, [])]) }?.kind == .refused)
    }

    @Test(arguments: [
        #"{"Stats":{"BlockCount":1,"BlockBytesCount":12}}"#,
        #"{"Stats":{"BlockCount":3,"BlockBytesCount":12}}"#, "", "{}", "null",
    ])
    func importThatTheNodeCountsOtherwiseFails(_ reply: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, reply)] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        var left = 2
        let error = failure {
            try client.importBlocks { () throws(KuboError) in
                left -= 1
                return left < 0 ? nil : (cid, Array("hello world\n".utf8))
            }
        }
        #expect(error?.kind == .protocolViolation)
        #expect(server.requestCount == 1)
    }

    @Test(arguments: ["", "{}", #"{"Key":"bafkqaaa","Size":12}"#, #"{"Key":"x","Size":12}"#])
    func putThatTheNodeKeysOtherwiseFails(_ reply: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, reply)] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(
            failure { try client.putBlocks([(cid, Array("hello world\n".utf8))]) }?.kind
                == .protocolViolation)
    }

    @Test func pinsThatWereNotAskedForFailTheCall() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, #"{"Pins":["bafkqaaa"]}"#)] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        #expect(failure { try client.pinAdd(cid) }?.kind == .protocolViolation)
        #expect(failure { _ = try client.pin(of: cid) }?.kind == .protocolViolation)
    }

    @Test(arguments: [
        #"{"Progress":7}"#, "{\"Progress\":7}\n{\"Pins\":[]}", "{\"Progress\":7}\n{", "7", "",
    ])
    func pinWithoutItsEndFails(_ reply: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, reply + "\n")] }
        defer { server.stop() }
        #expect(
            failure { try makeClient(server.address).pinAdd(cid) }?.kind == .protocolViolation)
    }

    @Test func pinWhoseProgressStandsStillIsEnded() throws {
        let line = Reply.chunk(Array("{\"Progress\":7}\n".utf8))
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                .drip([[UInt8]](repeating: line, count: 1_000), milliseconds: 20),
            ]
        }
        defer { server.stop() }
        let error = failure {
            try makeClient(server.address).pinAdd(cid, stallMilliseconds: 2000)
        }
        #expect(error?.kind == .timeout)
        #expect(error?.message.contains("after 7") == true, "\(String(describing: error))")
    }

    @Test func pinWhoseProgressNeverEndsHasAnEnd() throws {
        let server = try ScriptedServer { _, _ in
            let lines = (1...10_000).map { number -> [UInt8] in
                let line = "{\"Progress\":\(number)}\n"
                return Array("\(String(line.utf8.count, radix: 16))\r\n\(line)\r\n".utf8)
            }
            return [
                .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                .drip(lines, milliseconds: 20),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.pinMilliseconds = 500 }
        #expect(failure { try client.pinAdd(cid) }?.kind == .timeout)
    }

    /// Wherever the network cuts the lines.
    @Test func progressOfAPinMayComeInAnyPieces() throws {
        let reply = "{\"Progress\":1}\n{\"Progress\":20}\n{\"Pins\":[\"\(cid)\"]}\n"
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(200, ["Content-Length: \(reply.utf8.count)"])),
                .drip(reply.utf8.map { [$0] }, milliseconds: 1),
            ]
        }
        defer { server.stop() }
        try makeClient(server.address).pinAdd(cid)
    }

    // MARK: Requests

    @Test func errorOfTheBlocksGiverEndsTheUploadAndComesThrough() throws {
        struct DiskFailure: Error {}
        let server = try ScriptedServer { _, _ in [Reply.whole()] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        var left = 3
        do {
            try client.importBlocks { () throws(DiskFailure) in
                left -= 1
                guard left > 0 else { throw DiskFailure() }
                return (cid, Array("hello world\n".utf8))
            }
            Issue.record("the import succeeded")
        } catch {
            guard case .source = error else {
                Issue.record("\(error)")
                return
            }
        }
        server.waitForRequests(1)
        #expect(server.requests.first?.isWhole == false)
    }

    @Test func importIsNotTriedAgainOnceABlockWasAskedFor() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(503, "busy")] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        var askedCount = 0
        let error = failure {
            try client.importBlocks { () throws(KuboError) in
                askedCount += 1
                return askedCount > 1 ? nil : (cid, Array("hello world\n".utf8))
            }
        }
        #expect(error?.kind == .busy)
        #expect(server.requestCount == 1)
    }

    @Test func importIsTriedAgainBeforeABlockWasAskedFor() throws {
        let port = try ScriptedServer.freePort()
        let started = Monitor<ScriptedServer?>(nil)
        let log = LogHook.logger { line in
            guard line.contains("tried again") else { return }
            started.withLock { server in
                guard server == nil else { return }
                server = try? ScriptedServer(port: port) { _, _ in
                    [Reply.whole(200, #"{"Stats":{"BlockCount":1,"BlockBytesCount":12}}"#)]
                }
            }
        }
        let client = try makeClient("127.0.0.1:\(port)", log: log)
        var left = 1
        let count = try client.importBlocks { () throws(Never) in
            left -= 1
            return left < 0 ? nil : (cid, Array("hello world\n".utf8))
        }
        started.withLock { $0 }?.stop()
        #expect(count == 1)
    }

    @Test func putIsTriedAgainWithItsWholeBody() throws {
        let server = try ScriptedServer { index, _ in
            index == 0
                ? [.close]
                : [
                    Reply.whole(
                        200,
                        #"{"Key":"bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4","Size":12}"#
                    )
                ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        try client.putBlocks([(cid, Array("hello world\n".utf8))])
        let requests = server.requests
        #expect(requests.count == 2)
        #expect(requests.allSatisfy { $0.isWhole })
        let texts = requests.map { String(decoding: $0.body, as: UTF8.self) }
        #expect(texts.allSatisfy { $0.contains("\r\n\r\nhello world\n\r\n--") })
        #expect(Set(texts.map(\.utf8.count)).count == 1)
        #expect(requests.allSatisfy { $0.header("Content-Length") == "\($0.body.count)" })
    }

    @Test func limitedUploadArrivesWhole() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(200, #"{"Stats":{"BlockCount":1,"BlockBytesCount":1}}"#)]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.uploadBytesPerSecond = 2 << 20 }
        let block = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let blockCID = CID.raw(sha256: block)
        var left = 1
        try client.importBlocks { () throws(Never) in
            left -= 1
            return left < 0 ? nil : (blockCID, block)
        }
        let body = try #require(server.requests.first).body
        let start = try #require(body.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound)
        var archive: [UInt8] = []
        var writer = CARWriter<Never>(roots: []) { archive += $0 }
        writer.write(blockCID, block)
        #expect(Array(body[start...].prefix(archive.count)) == archive)
        #expect(body.count - start - archive.count < 100)
    }

    @Test func connectionIsKeptForTheNextCall() throws {
        let server = try ScriptedServer { _, _ in [Reply.version] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        for _ in 0..<10 { _ = try client.version() }
        #expect(server.requestCount == 10)
        #expect(server.connectionCount == 1)
    }

    @Test func noMoreConnectionsThanAllowedAreOpenAtOnce() throws {
        let server = try ScriptedServer { _, _ in
            [
                .drip([Reply.head(200, ["Content-Length: 2"])], milliseconds: 20),
                .send([0x7b, 0x7d]),
            ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.connectionsMax = 3 }
        let threads = try (0..<9).map { _ in
            try Threads.start(name: "call") {
                for _ in 0..<4 { _ = try? client.version() }
            }
        }
        for thread in threads { thread.join() }
        #expect(server.requestCount == 36)
        #expect(server.openCountMax == 3)
    }

    @Test func uploadsLeaveRoomForReads() throws {
        let server = try ScriptedServer { _, request in
            request.line.contains("version") ? [Reply.version] : [.hang]
        }
        defer { server.stop() }
        let client = try makeClient(server.address) { $0.connectionsMax = 4 }
        let cancellation = Cancellation()
        let threads = try (0..<8).map { _ in
            try Threads.start(name: "upload") { [cid] in
                try? client.putBlocks(
                    [(cid, Array("hello world\n".utf8))], cancellation: cancellation)
            }
        }
        server.waitForRequests(3)
        #expect(try client.version(deadlineMilliseconds: 15_000).version == "0.43.0")
        #expect(server.requestCount == 4)
        cancellation.cancel()
        for thread in threads { thread.join() }
    }

    @Test func requestSaysWhoAsksAndNothingThatTheNodeRefuses() throws {
        let server = try ScriptedServer { _, _ in [Reply.version] }
        defer { server.stop() }
        let client = try makeClient(server.address) {
            $0.credentials = try KuboCredentials("basic:me:pässword")
        }
        _ = try client.version()
        let request = try #require(server.requests.first)
        #expect(request.line == "POST /api/v0/version HTTP/1.1")
        #expect(request.header("User-Agent") == "registryfs/test")
        #expect(request.header("Authorization") == "Basic bWU6cMOkc3N3b3Jk")
        #expect(request.header("Origin") == nil)
        #expect(request.header("Referer") == nil)
        #expect(request.header("Expect") == nil)
        #expect(request.header("Content-Length") == "0")
    }

    @Test func secretIsInNoErrorAndNoLine() throws {
        let server = try ScriptedServer { index, _ in
            index == 0 ? [.close] : [Reply.whole(403, "Kubo RPC Access Denied: no")]
        }
        defer { server.stop() }
        let lines = Monitor("", rank: .log)
        let log = LogHook.logger { line in lines.withLock { $0 += line } }
        let client = try makeClient(server.address, log: log) {
            $0.credentials = try KuboCredentials("bearer:s3cret")
        }
        let error = failure { _ = try client.version() }
        #expect(error?.kind == .authorization)
        #expect(server.requests.allSatisfy { $0.header("Authorization") == "Bearer s3cret" })
        let everything = "\(error.map { "\($0)" } ?? "") " + lines.withLock { $0 }
        #expect(everything.contains("tried again"))
        #expect(!everything.contains("s3cret"))
    }

    @Test func anyByteCanStandInAPath() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole()] }
        defer { server.stop() }
        let client = try makeClient(server.address)
        try client.filesMove(
            from: MFSPath("/a b&c=d#e?f%2F+g/é").appending([0xff, 0x00, 0x0a]), to: "/\u{1F40B}")
        #expect(
            server.requests.first?.line
                == "POST /api/v0/files/mv?arg=%2Fa%20b%26c%3Dd%23e%3Ff%252F%2Bg%2F%C3%A9%2F%FF%00%0A"
                + "&arg=%2F%F0%9F%90%8B HTTP/1.1")
    }

    @Test func prefixOfTheAddressStandsBeforeEveryCall() throws {
        let server = try ScriptedServer { _, _ in [Reply.version] }
        defer { server.stop() }
        _ = try makeClient("http://\(server.address)/some/where/").version()
        #expect(server.requests.first?.line == "POST /some/where/api/v0/version HTTP/1.1")
    }

    @Test func textOfTheNodeIsOneBoundedLine() throws {
        let server = try ScriptedServer { _, _ in
            let message = "a\\nb\\u001b[31m\\u2028" + String(repeating: "é", count: 2000)
            return [Reply.whole(500, "{\"Message\":\"\(message)\",\"Code\":0,\"Type\":\"error\"}")]
        }
        defer { server.stop() }
        let error = try #require(failure { _ = try makeClient(server.address).version() })
        #expect(error.message.hasPrefix("a b [31m é"))
        #expect(error.message.utf8.count <= KuboError.messageLengthMax)
    }
}

/// What the words of a recorded node mean.
struct NodeErrorTests {
    private static let kinds: [String: KuboError.Kind] = [
        "get is refused": .refused,
        "unknown command": .refused,
        "bad option value": .refused,
        "missing argument": .refused,
        "origin refused": .refused,
        "block put too big": .refused,
        "block get missing, offline": .notFound,
        "block get missing, timeout": .timeout,
        "block stat missing offline": .notFound,
        "block get bad cid": .refused,
        "cat missing offline": .notFound,
        "cat directory": .conflict,
        "dag import corrupt block": .refused,
        "dag import truncated": .refused,
        "dag import garbage": .refused,
        "dag export missing offline": .notFound,
        "files mkdir exists": .conflict,
        "files mkdir no parent": .notFound,
        "files cp exists": .conflict,
        "files cp no parent": .notFound,
        "files cp force replace dir": .conflict,
        "files cp missing cid offline": .notFound,
        "files cp missing cid timeout": .timeout,
        "files stat missing": .notFound,
        "files stat no slash": .refused,
        "files ls missing": .notFound,
        "files read missing": .notFound,
        "files read dir": .conflict,
        "files write no create": .notFound,
        "files mv missing": .notFound,
        "files rm missing": .notFound,
        "files rm dir": .conflict,
        "files chroot": .refused,
        "pin rm again": .notFound,
        "pin ls not pinned": .notFound,
        "pin add missing timeout": .timeout,
        "key gen exists": .conflict,
        "name resolve self none": .notFound,
        "unflushed limit reached": .busy,
        "auth: version is open": .authorization,
        "auth: no header": .authorization,
        "auth: wrong secret": .authorization,
        "auth: path not allowed": .authorization,
    ]

    @Test func recordedErrorsAreOfTheirKind() throws {
        let failures = try TranscriptExchange.load().filter {
            $0.request.to == "rpc"
                && ($0.response.status != 200 || $0.response.trailers["X-Stream-Error"] != nil)
        }
        let server = try ScriptedServer { index, _ in
            let response = failures[index].response
            let body = response.body.bytes ?? []
            let trailers = response.trailers.map { "\($0.key): \($0.value)" }
            return trailers.isEmpty
                ? [Reply.whole(response.status, body)]
                : [
                    Reply.chunked(
                        response.status, String(decoding: body, as: UTF8.self), trailers: trailers)
                ]
        }
        defer { server.stop() }
        let client = try makeClient(server.address)
        for exchange in failures {
            let error = failure { try client.filesFlush() }
            #expect(
                error != nil && error?.kind == Self.kinds[exchange.name] ?? .failed,
                "\(exchange.name): \(error.map { "\($0)" } ?? "no error")")
            #expect(error?.message.isEmpty == false)
        }
        #expect(server.requestCount == failures.count)
        let names = Set(failures.map(\.name))
        #expect(Self.kinds.keys.filter { !names.contains($0) } == [])
    }

    @Test(
        "Words that were not recorded are understood too",
        arguments: [
            ("write /data/x: no space left on device", KuboError.Kind.full),
            ("maximum storage limit exceeded", .full),
            ("pin: merkledag: not found", .notFound),
            ("'from' cid was not recursively pinned already", .notFound),
            ("'to' cid was already recursively pinned", .conflict),
            ("cannot access r/x: Not a directory", .conflict),
            ("failed to get config value: \"Nope not found\"", .notFound),
            ("open /data/blocks: too many open files", .busy),
            ("context canceled", .offline),
            ("something else", .failed),
        ])
    func otherWordsAreUnderstood(_ message: String, _ kind: KuboError.Kind) throws {
        let server = try ScriptedServer { _, _ in
            let quoted = message.replacingOccurrences(of: "\"", with: "\\\"")
            return [Reply.whole(500, "{\"Message\":\"\(quoted)\",\"Code\":0,\"Type\":\"error\"}")]
        }
        defer { server.stop() }
        let error = failure { _ = try makeClient(server.address).version() }
        #expect(error?.kind == kind)
        #expect(error?.message == message)
    }

    @Test(arguments: [
        (3, KuboError.Kind.busy), (4, .authorization), (0, .failed), (99, .failed),
    ])
    func codeOfAnErrorIsHeeded(_ code: Int, _ kind: KuboError.Kind) throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(500, "{\"Message\":\"x\",\"Code\":\(code),\"Type\":\"error\"}")]
        }
        defer { server.stop() }
        #expect(failure { _ = try makeClient(server.address).version() }?.kind == kind)
    }
}
