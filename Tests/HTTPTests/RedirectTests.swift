import HTTP
import HTTPScript
import Testing

struct RedirectTests {
    /// Sends on from one path to the next: /0 to /1 and so on.
    private func makeChain(_ status: Int = 302) throws -> ScriptedServer {
        try ScriptedServer { _, request in
            let number = request.line.split(separator: " ")[1].dropFirst().prefix { $0.isNumber }
            let next = (Int(number) ?? 0) + 1
            return next > 5
                ? [Reply.whole(200, "there")]
                : [Reply.whole(status, "on", headers: ["Location: \(next)?q=\(next)"])]
        }
    }

    @Test func redirectIsTheReplyUnlessItIsFollowed() throws {
        let server = try makeChain()
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request(.get, "/0"))
        #expect(reply.status == 302)
        #expect(reply.headers["Location"] == "1?q=1")
        #expect(server.requestCount == 1)
    }

    @Test(arguments: [301, 302, 303, 307, 308])
    func redirectsAreFollowedWithinTheirBound(_ status: Int) throws {
        let server = try makeChain(status)
        defer { server.stop() }
        let client = try makeHTTPClient()
        let reply = try client.send(server.request(.get, "/0") { $0.redirectsMax = 5 })
        #expect(text(reply) == "there")
        #expect(reply.url == "http://\(server.address)/5?q=5")
        #expect(server.requests.last?.line == "GET /5?q=5 HTTP/1.1")
        #expect(server.connectionCount == 1)
        let short = try client.send(server.request(.head, "/0") { $0.redirectsMax = 4 })
        #expect(short.status == status)
        #expect(short.url == "http://\(server.address)/4?q=4")
    }

    @Test func onlyTheLastReplyIsStreamed() throws {
        let server = try makeChain()
        defer { server.stop() }
        var taken: [UInt8] = []
        _ = try makeHTTPClient().download(
            server.request(.get, "/0") { $0.redirectsMax = 10 }
        ) { (head, piece) throws(Never) in
            #expect(head.status == 200)
            taken += piece
        }
        #expect(taken == bytes("there"))
    }

    @Test(arguments: [HTTPRequest.Method.post, .put, .delete])
    func redirectOfAChangeIsTheReply(_ method: HTTPRequest.Method) throws {
        let server = try makeChain()
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request(method, "/0") { $0.redirectsMax = 10 })
        #expect(reply.status == 302)
        #expect(server.requestCount == 1)
    }

    @Test(
        "A redirect to what is no server is the reply",
        arguments: ["file:///etc/passwd", "ftp://127.0.0.1/", "http://user:pass@127.0.0.1/", ""])
    func redirectElsewhereIsTheReply(_ location: String) throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(302, "", headers: ["Location: \(location)"])]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request { $0.redirectsMax = 1 })
        #expect(reply.status == 302)
        #expect(server.requestCount == 1)
    }

    @Test func credentialsStayWithTheirServer() throws {
        let other = try ScriptedServer { _, _ in [Reply.whole(200, "")] }
        defer { other.stop() }
        let server = try ScriptedServer { [address = other.address] _, request in
            [
                Reply.whole(
                    307, "",
                    headers: [
                        request.line.contains("/a")
                            ? "Location: /b" : "Location: http://\(address)/c"
                    ])
            ]
        }
        defer { server.stop() }
        _ = try makeHTTPClient().send(
            server.request(.get, "/a") {
                $0.headers = ["Authorization": "Bearer x", "Cookie": "y", "Accept": "z"]
                $0.redirectsMax = 2
            })
        #expect(server.requests.allSatisfy { $0.header("Authorization") == "Bearer x" })
        #expect(server.requestCount == 2)
        let last = try #require(other.requests.first)
        #expect(last.header("Authorization") == nil)
        #expect(last.header("Cookie") == nil)
        #expect(last.header("Accept") == "z")
    }

    @Test func endlessRedirectsEndByThemselves() throws {
        let server = try ScriptedServer { _, _ in
            [Reply.whole(302, "", headers: ["Location: /"])]
        }
        defer { server.stop() }
        let reply = try makeHTTPClient().send(server.request { $0.redirectsMax = .max })
        #expect(reply.status == 302)
        #expect(server.requestCount == HTTPClient.redirectsMax + 1)
    }
}
