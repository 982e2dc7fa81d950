import Base
import HTTP
import HTTPScript
import Testing

/// What of a reply arrives here.
struct ReplyTests {
    @Test(arguments: [200, 201, 202, 299, 301, 400, 401, 404, 418, 429, 500, 503, 599])
    func statusIsDataWithItsBody(_ status: Int) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(status, "words")] }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request())
        #expect(reply.status == status)
        #expect(text(reply) == "words")
        #expect(reply.isWhole)
        #expect(reply.isDelimited)
    }

    @Test(arguments: [204, 304])
    func statusWithoutABodyNeedsNoLength(_ status: Int) throws {
        let server = try ScriptedServer { _, _ in [.send(Reply.head(status, ["ETag: \"x\""]))] }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(
            server.request { $0.acceptedStatuses = 200...304 })
        #expect(reply.status == status)
        #expect(reply.headers["etag"] == "\"x\"")
    }

    @Test func replyToHEADHasTheHeadersOfTheBodyThatItHasNot() throws {
        let server = try ScriptedServer { _, request in
            [.send(Reply.head(request.line.hasPrefix("HEAD") ? 200 : 500, ["Content-Length: 7"]))]
        }
        defer { server.stop() }
        let client = try makeHTTPClient()
        for _ in 0..<3 {
            let reply = try client.send(server.request(.head))
            #expect(reply.status == 200)
            #expect(reply.headers["Content-Length"] == "7")
            #expect(reply.body == [])
        }
        #expect(server.connectionCount == 1)
    }

    @Test func headersAreFoundInAnyCaseAndKeepTheirOrder() throws {
        let server = try ScriptedServer { _, _ in
            [
                Reply.whole(
                    200, "",
                    headers: [
                        "X-Ipfs-Path: /ipfs/x", "Via: one", "via:two  ", "X-Empty:",
                        "X Y: z", "X-Colon: a:b",
                    ])
            ]
        }
        defer { server.stop() }
        let headers = try makeHTTPClient().send(server.request()).headers
        #expect(headers["x-ipfs-path"] == "/ipfs/x")
        #expect(headers.values(of: "VIA") == ["one", "two"])
        #expect(headers["X-Empty"] == "")
        #expect(headers["X-Colon"] == "a:b")
        #expect(headers["X Y"] == nil)
        #expect(headers["X-None"] == nil)
        #expect(headers.fields.count == 6)
    }

    @Test func trailersAreNoHeaders() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.chunked(200, "hello", trailers: ["X-Stream-Error: late", "X-Sum: 1"])]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request())
        #expect(text(reply) == "hello")
        #expect(reply.trailers["x-stream-error"] == "late")
        #expect(reply.trailers["X-Sum"] == "1")
        #expect(reply.headers["X-Sum"] == nil)
        #expect(reply.headers["Trailer"] == "X-Stream-Error")
    }

    @Test func trailerThatLooksLikeAHeadIsNone() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.chunked(200, "hello", trailers: ["HTTP/1.1 500: No", "X-Sum: 1"])]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request())
        #expect(reply.status == 200)
        #expect(reply.trailers["X-Sum"] == "1")
    }

    @Test func interimRepliesArePassedOver() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(102, ["X-Interim: 1"])),
                .send(Reply.head(103, ["Link: </x>", "Content-Length: 3"])),
                Reply.whole(200, "done"),
            ]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request())
        #expect(text(reply) == "done")
        #expect(reply.headers["X-Interim"] == nil)
        #expect(reply.trailers.fields == [])
    }

    @Test(
        "A reply that is cut off is none",
        arguments: [
            Reply.head(200, ["Content-Length: 100"]) + bytes("hello"),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(bytes("{}")),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + bytes("a\r\nhe"),
            Reply.head(200, ["Transfer-Encoding: chunked"]) + Reply.chunk(bytes("{}"))
                + bytes("0\r\nX-Sum: 1\r\n"),
            Reply.head(102, []),
            bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"),
            bytes("HTTP/1.1 200 OK"),
            [],
        ])
    func cutReplyIsNone(_ begin: [UInt8]) throws {
        let server = try ScriptedServer { _, _ in [.send(begin), .close] }
        defer { server.stop() }
        let error = failure { _ = try makeHTTPClient().send(server.request(.post)) }
        #expect(error?.kind == .offline)
        #expect(error?.wasSent == true)
        #expect(server.requestCount == 1)
    }

    @Test(arguments: [
        bytes("hello\r\n\r\n"), [UInt8](repeating: 0, count: 1000),
        Reply.head(200, ["Transfer-Encoding: chunked"]) + bytes("zz\r\nhello\r\n"),
        Reply.head(200, []) + bytes("hello"),
        Reply.head(200, ["Transfer-Encoding: identity"]) + bytes("hello"),
    ])
    func whatIsNoReplyBreaksTheProtocol(_ begin: [UInt8]) throws {
        let server = try ScriptedServer { _, _ in [.send(begin), .close] }
        defer { server.stop() }
        let error = failure { _ = try makeHTTPClient().send(server.request(.post)) }
        #expect(error?.kind == .protocolViolation)
    }

    @Test func replyWithoutALengthIsTakenWhereThatIsAskedFor() throws {
        let server = try ScriptedServer { _, _ in
            [.send(Reply.head(200, []) + bytes("hello")), .close]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request { $0.takesUnknownEnd = true })
        #expect(text(reply) == "hello")
        #expect(!reply.isDelimited)
    }

    // MARK: Bounds

    @Test func replyAboveItsBoundIsTooLarge() throws {
        let server = try ScriptedServer { index, _ in
            switch index {
            case 0: [Reply.whole(200, [UInt8](repeating: 1, count: 1000))]
            case 1: [Reply.whole(200, [UInt8](repeating: 1, count: 1001))]
            default:
                [
                    .send(Reply.head(200, ["Transfer-Encoding: chunked"])),
                    .flood(Reply.chunk([UInt8](repeating: 1, count: 500))),
                ]
            }
        }
        defer { server.stop() }
        let client = try makeHTTPClient()
        let request = server.request { $0.replyBytesMax = 1000 }
        #expect(try client.send(request).body.count == 1000)
        for _ in 0..<2 {
            #expect(failure { _ = try client.send(request) }?.kind == .tooLarge)
        }
    }

    @Test(arguments: ["headers", "trailers", "interim"])
    func endlessHeadIsTooLarge(_ part: String) throws {
        let server = try ScriptedServer { _, _ in
            let field = bytes("X-Y: zzzzzzzzzzzzzz\r\n")
            return switch part {
            case "headers": [.send(bytes("HTTP/1.1 200 OK\r\n")), .flood(field)]
            case "trailers":
                [
                    .send(Reply.head(200, ["Transfer-Encoding: chunked"]) + bytes("0\r\n")),
                    .flood(field),
                ]
            default: [.flood(bytes("HTTP/1.1 102 P\r\n\r\n"))]
            }
        }
        defer { server.stop() }
        let error = failure { _ = try makeHTTPClient().send(server.request()) }
        // libcurl has bounds of its own for some of it, which came later.
        #expect(error?.kind == .tooLarge || error?.kind == .protocolViolation)
    }

    @Test func endlessTextOfAnErrorIsCut() throws {
        let server = try ScriptedServer { _, _ in
            [
                .send(Reply.head(403, ["Transfer-Encoding: chunked", "X-Why: no"])),
                .flood(Reply.chunk([UInt8](repeating: 0x61, count: 10_000))),
            ]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request { $0.replyBytesMax = 10 })
        #expect(reply.status == 403)
        #expect(reply.headers["X-Why"] == "no")
        #expect(reply.body.count == HTTPClient.errorBytesMax)
        #expect(!reply.isWhole)
    }

    @Test func textOfAnErrorIsNotStreamed() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(404, "not here")] }
        defer { server.stop() }
        let reply = try makeHTTPClient().download(server.request()) { (_, _) throws(Never) in
            Issue.record("a piece of an error")
        }
        #expect(text(reply) == "not here")
    }

    @Test func memoryOfAReplyServesTheNext() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(200, [UInt8](repeating: 7, count: 200_000))]
        }
        defer { server.stop() }
        let client = try makeHTTPClient()
        let memory = ReplyMemory()
        var places: Set<UInt> = []
        for _ in 0..<3 {
            let body = try client.send(server.request { $0.memory = memory }).body
            #expect(body.count == 200_000)
            places.insert(body.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) })
            memory.keep(consume body)
        }
        // The first grows while it is received.
        #expect(places.count <= 2)
    }
}
