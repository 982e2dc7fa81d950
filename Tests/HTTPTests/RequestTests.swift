import Base
import Glibc
import HTTP
import HTTPScript
import Testing

/// What of a request arrives at the other side.
struct RequestTests {
    @Test(arguments: [HTTPRequest.Method.get, .head, .post, .put, .delete])
    func methodIsSentWithoutABody(_ method: HTTPRequest.Method) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request(method, "/a/b?c=d%20e"))
        #expect(reply.status == 200)
        #expect(reply.body == [])
        let request = try #require(server.requests.first)
        #expect(request.line == "\(method.rawValue) /a/b?c=d%20e HTTP/1.1")
        let length = method == .post || method == .put ? "0" : nil
        #expect(request.header("Content-Length") == length)
        #expect(request.header("User-Agent") == "registryfs/test")
        for name in ["Accept", "Expect", "Content-Type", "Range", "Transfer-Encoding"] {
            #expect(request.header(name) == nil)
        }
    }

    @Test(arguments: [HTTPRequest.Method.post, .put, .delete])
    func bodyAtHandIsSentWhole(_ method: HTTPRequest.Method) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(201, "made")] }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(
            server.request(method, body: .whole([bytes("one "), [], bytes("two")])))
        #expect(reply.status == 201)
        #expect(text(reply) == "made")
        let request = try #require(server.requests.first)
        #expect(request.line == "\(method.rawValue) / HTTP/1.1")
        #expect(request.body == bytes("one two"))
        #expect(request.header("Content-Length") == "7")
    }

    @Test(arguments: [nil, 300_000])
    func bodyIsAskedForPieceByPiece(_ byteCount: UInt64?) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { server.stop() }
        var left = 3
        _ = try makeHTTPClient().upload(
            server.request(.put, body: .streamed(byteCount: byteCount))
        ) { () throws(Never) in
            left -= 1
            return left < 0 ? nil : [[UInt8](repeating: UInt8(left), count: 100_000)]
        }
        let request = try #require(server.requests.first)
        #expect(request.body.count == 300_000)
        #expect(request.body.first == 2 && request.body.last == 0)
        #expect(request.header("Content-Length") == byteCount.map { "\($0)" })
        #expect(request.header("Transfer-Encoding") == (byteCount == nil ? "chunked" : nil))
    }

    /// A file may have become shorter or longer since its length was taken.
    @Test(arguments: [1, 3])
    func bodyOfAnotherLengthThanWasSaidFails(_ count: Int) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { server.stop() }
        var left = count
        let error = failure {
            _ = try makeHTTPClient().upload(
                server.request(.put, body: .streamed(byteCount: 20))
            ) { () throws(Never) in
                left -= 1
                return left < 0 ? nil : [[UInt8](repeating: 0, count: 10)]
            }
        }
        #expect(error?.kind == .failed)
        #expect(error?.message.contains("another length") == true)
    }

    @Test func headersAreSentAsTheyAre() throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { server.stop() }
        var headers: HTTPHeaders = ["Accept": "application/vnd.ipld.raw", "X-Empty": ""]
        headers.append("X-Twice", "1")
        headers.append("X-Twice", "2")
        _ = try makeHTTPClient().send(
            server.request(.post, body: .whole([bytes("{}")])) {
                $0.headers = headers
                $0.headers.append("Content-Type", "application/json")
            })
        let request = try #require(server.requests.first)
        #expect(request.header("Accept") == "application/vnd.ipld.raw")
        #expect(request.header("Content-Type") == "application/json")
        #expect(request.header("X-Empty") == "")
        #expect(request.head.contains("\r\nX-Twice: 1\r\nX-Twice: 2"))
    }

    @Test(
        "What cannot stand in a header is not sent",
        arguments: [
            ("X-A", "b\r\nX-C: d"), ("X-A", "b\nc"), ("X-A", "b\0"), ("X A", "b"), ("", "b"),
            ("X-A:", "b"), ("Content-Length", "5"), ("transfer-encoding", "chunked"),
            ("Host", "elsewhere"),
        ])
    func malformedHeaderIsNotSent(_ name: String, _ value: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { server.stop() }
        let error = failure {
            _ = try makeHTTPClient().send(server.request { $0.headers.append(name, value) })
        }
        #expect(error?.kind == .invalidRequest)
        #expect(error?.wasSent == false)
        #expect(server.connectionCount == 0)
    }

    @Test(
        "What is no URL of http or https is not sent",
        arguments: [
            "", "localhost:1", "ftp://localhost/", "file:///etc/passwd", "http://", "http:///x",
            "http://a b/", "http://host/\r\nX: y", "http://user:pass@host/", "gopher://x/",
        ])
    func malformedURLIsNotSent(_ url: String) throws {
        let error = failure { _ = try makeHTTPClient().send(HTTPRequest(.get, url)) }
        #expect(error?.kind == .invalidRequest)
        #expect(error?.description.contains("\n") == false)
    }

    @Test func errorNamesTheRequestWithoutItsQuery() throws {
        let port = try ScriptedServer.freePort()
        let error = failure {
            _ = try makeHTTPClient().send(
                HTTPRequest(.head, "http://127.0.0.1:\(port)/ipfs/x?token=s3cret"))
        }
        #expect(error?.kind == .offline)
        #expect(error?.wasSent == false)
        #expect(error?.request == "HEAD http://127.0.0.1:\(port)/ipfs/x")
        #expect(error?.description.contains("s3cret") == false)
    }

    @Test func serverIsReachedOverAUnixSocket() throws {
        let path = "/tmp/http-tests-\(UInt64.random(in: .min ... .max))"
        let server = try ScriptedServer(socketPath: path) { _, _ in [Reply.whole(200, "here")] }
        defer {
            server.stop()
            unlink(path)
        }
        let client = try makeHTTPClient {
            // No proxy stands before a unix socket.
            $0.environment = HTTPEnvironment(["all_proxy": "http://127.0.0.1:1"])
        }
        let reply = try client.send(
            HTTPRequest(.get, "http://name/x", route: HTTPRoute(socketPath: path)))
        #expect(text(reply) == "here")
        #expect(server.requests.first?.header("Host") == "name")
    }
}

/// Parts of resources.
struct RangeTests {
    private let content = bytes("0123456789")

    /// A server that knows ranges, as far as this test asks for them.
    private func makeServer() throws -> ScriptedServer {
        try ScriptedServer { _, request in
            let content = bytes("0123456789")
            guard let range = request.header("Range")?.dropFirst("bytes=".count) else {
                return [Reply.whole(200, content)]
            }
            let ends = range.split(separator: "-").compactMap { Int($0) }
            let (first, last) = (ends[0], min(ends.count > 1 ? ends[1] : 9, 9))
            guard first < 10 else {
                return [Reply.whole(416, "", headers: ["Content-Range: bytes */10"])]
            }
            return [
                Reply.whole(
                    206, Array(content[first...last]),
                    headers: ["Content-Range: bytes \(first)-\(last)/10"])
            ]
        }
    }

    @Test(arguments: [
        (0, 4 as UInt64?, "0123"), (3, 1, "3"), (4, nil, "456789"), (8, 5, "89"), (9, .max, "9"),
    ])
    func partIsWhatWasAskedFor(_ offset: UInt64, _ length: UInt64?, _ expected: String) throws {
        let server = try makeServer()
        defer { server.stop() }
        let reply = try makeHTTPClient().send(
            server.request { $0.range = HTTPRange(offset: offset, length: length) })
        #expect(reply.status == 206)
        #expect(text(reply) == expected)
        #expect(reply.head.part?.first == offset)
        #expect(reply.head.part?.total == 10)
    }

    @Test func partBehindTheEndIsAStatus() throws {
        let server = try makeServer()
        defer { server.stop() }
        let reply = try makeHTTPClient().send(
            server.request { $0.range = HTTPRange(offset: 10, length: 1) })
        #expect(reply.status == 416)
        #expect(reply.head.part == nil)
    }

    @Test func serverThatKnowsNoRangesGivesAllAndSaysSo() throws {
        let server = try ScriptedServer { [content] _, _ in [Reply.whole(200, content)] }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(
            server.request { $0.range = HTTPRange(offset: 3, length: 2) })
        #expect(reply.status == 200)
        #expect(reply.body == content)
        #expect(reply.head.part == nil)
        // Who wants none but the part is spared the rest.
        let part = try makeHTTPClient().download(
            server.request {
                $0.range = HTTPRange(offset: 3, length: 2)
                $0.acceptedStatuses = 206...206
            }
        ) { (_, _) throws(Never) in Issue.record("a piece of another part") }
        #expect(part.status == 200)
    }

    @Test(
        "Another part than was asked for is none",
        arguments: [
            "Content-Range: bytes 2-4/10", "Content-Range: bytes 3-5/10",
            "Content-Range: bytes 3-3/10", "Content-Range: bytes 3-4/4",
            "Content-Range: bytes */10",
            "Content-Range: bytes 4-3/10", "Content-Range: 3-4/10", "Content-Range: bytes 3-4",
            "Content-Range: bytes -3-4/10", "Content-Range: bytes 3-99999999999999999999/*", "X: y",
        ])
    func otherPartBreaksTheProtocol(_ header: String) throws {
        let server = try ScriptedServer { _, _ in [Reply.whole(206, "34", headers: [header])] }
        defer { server.stop() }
        let error = failure {
            _ = try makeHTTPClient().download(
                server.request { $0.range = HTTPRange(offset: 3, length: 2) }
            ) { (_, _) throws(Never) in Issue.record("a piece of another part") }
        }
        #expect(error?.kind == .protocolViolation)
    }

    @Test(arguments: ["3", "345", ""])
    func partOfAnotherLengthThanItSaysBreaksTheProtocol(_ body: String) throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(206, body, headers: ["Content-Range: bytes 3-4/10"])]
        }
        defer { server.stop() }
        let error = failure {
            _ = try makeHTTPClient().send(
                server.request { $0.range = HTTPRange(offset: 3, length: 2) })
        }
        #expect(error?.kind == .protocolViolation)
    }
}
