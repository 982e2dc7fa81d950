import Base
import Foundation
import HTTPServer
import HTTPTypes
import Serving
import Testing

@Suite struct AccessTests {
    @Test func tokenIsAskedForAndOpens() async throws {
        try await withServer(
            { $0.access.tokens = ["first-token", "second"] }, handler: { _ in plain("x") }
        ) { server in
            let refused = try server.ask("/")
            #expect(refused.status == 401)
            #expect(
                refused.field("WWW-Authenticate")
                    == "Basic realm=\"registryfs\", charset=\"UTF-8\"")
            #expect(refused.field("Cache-Control") == "private, no-store")
            for value in ["Bearer first-token", "bearer second", "BEARER  second"] {
                #expect(try server.ask("/", "Authorization: \(value)").status == 200)
            }
            for value in [
                "Bearer", "Bearer ", "Bearer first-toke", "Bearer first-token1", "Basic second",
                "Bearer first-token second", "second", "Bearer Second",
                "Bearer " + String(repeating: "a", count: 5_000),
            ] {
                #expect(try server.ask("/", "Authorization: \(value)").status == 401)
            }
            let two = try server.ask("/", "Authorization: Bearer second", "Authorization: Bearer x")
            #expect(two.status == 401)
        }
    }

    @Test(arguments: [
        // user:second, :second, a:b:c (whose password is b:c), and :first-token
        ("dXNlcjpzZWNvbmQ=", 200), ("OnNlY29uZA==", 200), ("YTpiOmM=", 401),
        ("OmZpcnN0LXRva2Vu", 200),
        // second alone, user:, second:, what is no base64, and what is cut off
        ("c2Vjb25k", 401), ("dXNlcjo=", 401), ("c2Vjb25kOg==", 401), ("dXNlcjpzZWNvbmQ", 401),
        ("dXNl!jpzZWNvbmQ=", 401), ("====", 401), ("=", 401), ("dXNlcjpzZW=vbmQ=", 401),
        ("dXNlcjpzZWNvbmQ= x", 401),
    ])
    func tokenIsTakenAsThePasswordOfAnyName(_ pair: String, _ status: Int) async throws {
        try await withServer(
            { $0.access.tokens = ["first-token", "second"] }, handler: { _ in plain("x") }
        ) { server in
            for scheme in ["Basic", "basic "] {
                let reply = try server.ask("/", "Authorization: \(scheme) \(pair)")
                #expect(reply.status == status)
            }
        }
    }

    @Test func refusalsAreInTheWordsOfThoseThatAnswerAtThePath() async throws {
        let refusal: @Sendable (String, Int) -> ServeResponse? = { target, status in
            target.hasPrefix("/own") ? plain("\(target): \(status)", status: 200) : nil
        }
        try await withServer(
            {
                $0.access.tokens = ["token"]
                $0.refusal = refusal
            }, handler: { _ in plain("x") }
        ) { server in
            for target in ["/own/a?b=c", "http://host/own/a?b=c"] {
                let reply = try server.ask(target)
                #expect(reply.status == 401 && reply.text == "/own/a?b=c: 401")
                #expect(reply.field("WWW-Authenticate") != nil)
                #expect(reply.field("Cache-Control") == "private, no-store")
            }
            let other = try server.ask("/other")
            #expect(other.status == 401 && other.text == "a token is needed\n")
            let large = try server.ask("/own", method: "PUT", "Content-Length: 1000000")
            #expect(large.status == 413 && large.text == "/own: 413")
        }
    }

    @Test(arguments: [
        ("127.0.0.0/8", 200), ("::ffff:127.0.0.0/104", 200), ("192.0.2.0/24", 403), ("::1", 403),
    ])
    func addressHasToBeAllowed(_ range: String, _ status: Int) async throws {
        try await withServer(
            { $0.access.allowed = [try AddressRange(range)] }, handler: { _ in plain("x") }
        ) { server in
            let reply = try server.ask("/")
            #expect(reply.status == status)
        }
    }

    @Test(arguments: [
        ("public, max-age=29030400, immutable", "private, max-age=29030400, immutable"),
        ("max-age=1", "private, max-age=1"),
        ("Public ,S-MaxAge=5,,max-age=3", "private, max-age=3"),
        ("no-store", "private, no-store"), ("private", "private"),
    ])
    func answersThatAreNotForEverybodyAreForNoSharedCache(
        _ said: String, _ sent: String
    ) async throws {
        let handler: @Sendable (ServeRequest) -> ServeResponse = { request in
            var response = plain("x")
            if request.rawPath == "/" { response.fields[.cacheControl] = said }
            return response
        }
        try await withServer(handler: handler) { server in
            let (reply, silent) = (try server.ask("/"), try server.ask("/silent"))
            #expect(reply.field("Cache-Control") == said)
            #expect(silent.status == 200 && silent.field("Cache-Control") == nil)
        }
        try await withServer(
            { $0.access.allowed = [try AddressRange("127.0.0.0/8")] }, handler: handler
        ) { server in
            let (reply, silent) = (try server.ask("/"), try server.ask("/silent"))
            #expect(reply.field("Cache-Control") == sent)
            #expect(silent.field("Cache-Control") == "private")
        }
        try await withServer({ $0.access.tokens = ["token"] }, handler: handler) { server in
            let reply = try server.ask("/", "Authorization: Bearer token")
            #expect(reply.status == 200 && reply.field("Cache-Control") == sent)
        }
    }

    @Test func addressIsLookedAtOnASocketForBothFamilies() async throws {
        try await withServer(
            at: "[::]:0", { $0.access.allowed = [try AddressRange("127.0.0.1")] },
            handler: { _ in plain("x") }
        ) { server in
            let reply = try server.ask("/")
            #expect(reply.status == 200)
        }
    }

    @Test func lineOfTheCommonLogHasItsParts() async throws {
        let lines = Waited<String>()
        let log = try AccessLog(.common) { lines.add(String(decoding: $0, as: UTF8.self)) }
        try await withServer({ $0.accessLog = log }, handler: { _ in plain("12345", status: 404) })
        {
            server in
            _ = try server.ask("/a%0Ab?c=\"d\"")
        }
        let line = try #require(lines.all.first)
        let pattern =
            #/127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a%0Ab\?c=\\"d\\" HTTP/1\.1" 404 5 \d+\n/#
        #expect(line.wholeMatch(of: pattern) != nil, "\(line)")
        #expect(lines.all.count == 1)
    }

    @Test func lineInJSONIsAnObject() async throws {
        let lines = Waited<String>()
        let log = try AccessLog(.json) { lines.add(String(decoding: $0, as: UTF8.self)) }
        try await withServer({ $0.accessLog = log }, handler: { _ in plain("12345") }) { server in
            _ = try server.ask("/x\"\\y/%C3%A9")
            // A line comes when an answer is sent, which its client may see before.
            _ = lines.first()
            _ = try server.ask("/second", method: "HEAD")
        }
        try #require(lines.all.count == 2)
        let values = try lines.all.map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        #expect(values[0]["target"] as? String == "/x\"\\y/%C3%A9")
        #expect(values[0]["status"] as? Int == 200)
        #expect(values[0]["bytes"] as? Int == 5)
        #expect(values[0]["remote"] as? String == "127.0.0.1")
        #expect(values[0]["whole"] as? Bool == true)
        #expect(values[1]["method"] as? String == "HEAD")
        #expect(values[1]["bytes"] as? Int == 0)
        #expect((values[1]["time"] as? String)?.hasSuffix("Z") == true)
    }

    @Test func controlCharactersEndNoLineOfTheLog() async throws {
        let lines = Waited<String>()
        let log = try AccessLog(.common) { lines.add(String(decoding: $0, as: UTF8.self)) }
        try await withServer({ $0.accessLog = log }, handler: { _ in plain("x") }) { server in
            let client = try server.connect()
            client.sendAsFarAsItGoes("GET /\u{1b}[2J\u{9b}x HTTP/1.1\r\nHost: test\r\n\r\n")
            _ = try client.receiveToEnd()
        }
        #expect(!lines.all.isEmpty)
        for line in lines.all {
            #expect(line.utf8.dropLast().allSatisfy { (0x20...0x7e).contains($0) }, "\(line)")
        }
    }

    @Test func sinkThatBlocksHoldsUpNoRequest() async throws {
        let goOn = Semaphore()
        let log = try AccessLog(.common) { _ in goOn.wait() }
        try await withServer({ $0.accessLog = log }, handler: { _ in plain("x") }) { server in
            for _ in 0..<20 {
                let reply = try server.ask("/")
                #expect(reply.status == 200)
            }
            for _ in 0..<20 { goOn.signal() }
        }
    }
}
