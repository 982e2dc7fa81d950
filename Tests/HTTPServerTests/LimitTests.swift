import Base
import HTTPServer
import HTTPTypes
import Serving
import Testing

@Suite struct LimitTests {
    private static let ok: @Sendable (ServeRequest) -> ServeResponse = { _ in plain("x") }

    @Test func longTargetIs414() async throws {
        try await withServer({ $0.targetBytesMax = 100 }, handler: Self.ok) { server in
            let short = try server.ask("/" + String(repeating: "a", count: 99))
            #expect(short.status == 200)
            let long = try server.ask("/" + String(repeating: "a", count: 100))
            #expect(long.status == 414)
        }
    }

    @Test func targetThatIsLongerThanAllFieldsMayBeIs414() async throws {
        try await withServer(
            {
                $0.targetBytesMax = 100
                $0.headerBytesMax = 300
            }, handler: Self.ok
        ) { server in
            let reply = try server.ask("/" + String(repeating: "a", count: 200_000))
            #expect(reply.status == 414)
        }
    }

    @Test func longOrManyFieldsAre431() async throws {
        try await withServer(
            {
                $0.headerBytesMax = 1_000
                $0.headerCountMax = 10
            }, handler: Self.ok
        ) { server in
            let long = "X: " + String(repeating: "a", count: 900)
            #expect(try server.ask("/", long).status == 200)
            #expect(
                try server.ask("/", long, "Y: " + String(repeating: "b", count: 200)).status == 431)
            #expect(
                try server.ask("/", "X: " + String(repeating: "a", count: 200_000)).status == 431)
            let client = try server.connect()
            let many = (0..<20).map { "X\($0): y\r\n" }.joined()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\(many)\r\n")
            #expect(try client.receiveReply().status == 431)
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func aThousandPlacesInAFileCanBeAskedFor() async throws {
        let ranges = (0..<ByteRanges.countMax).map {
            "\(8_000_000_000 + 10 * $0)-\(8_000_000_004 + 10 * $0)"
        }
        let range = "bytes=" + ranges.joined(separator: ",")
        try await withServer(handler: { request in
            guard case .ranges(let ranges) = ByteRanges.parse(request.fields[.range], size: 1 << 40)
            else { return plain("none") }
            return plain("\(ranges.count)")
        }) { server in
            let reply = try server.ask("/", "Range: \(range)")
            #expect(reply.status == 200 && reply.text == "1024")
        }
    }

    @Test(arguments: [
        "GET /%2 HTTP/1.1\r\nHost: test\r\n", "GET /%zz HTTP/1.1\r\nHost: test\r\n",
        "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET relative HTTP/1.1\r\nHost: test\r\n", "OPTIONS * HTTP/1.1\r\nHost: test\r\n",
        "nonsense\r\n", "GET / HTTP/1.1\r\nHost: test\r\nno colon\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n",
    ])
    func malformedRequestIs400(_ head: String) async throws {
        try await withServer(handler: Self.ok) { server in
            let client = try server.connect()
            try client.send(head + "\r\n")
            #expect(try client.receiveReply().status == 400)
            // Whatever becomes of this connection, the next one is served.
            #expect(try server.ask("/").status == 200)
        }
    }

    @Test func bodyIsThrownAwayUpToItsBound() async throws {
        try await withServer({ $0.requestBodyBytesMax = 1_000 }, handler: Self.ok) { server in
            let client = try server.connect()
            for method in ["GET", "PUT"] {
                try client.send(
                    "\(method) / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
                        + String(repeating: "b", count: 1_000))
                #expect(try client.receiveReply().status == 200)
            }
            try client.send("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\r\n")
            let reply = try client.receiveReply()
            #expect(reply.status == 413)
            #expect(reply.field("Connection") == "close")
        }
    }

    @Test func chunkedBodyBeyondItsBoundIs413() async throws {
        try await withServer({ $0.requestBodyBytesMax = 1_000 }, handler: Self.ok) { server in
            let client = try server.connect()
            let chunk = "200\r\n" + String(repeating: "b", count: 512) + "\r\n"
            try client.send(
                "PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            // The third one may meet a closed connection.
            for _ in 0..<3 { client.sendAsFarAsItGoes(chunk) }
            #expect(try client.receiveReply().status == 413)
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func answerDoesNotWaitForABodyThatAwaitsIt() async throws {
        try await withServer(handler: { plain("x", status: $0.method == .put ? 405 : 200) }) {
            server in
            let client = try server.connect()
            try client.send(
                "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            #expect(try client.receiveReply().status == 405)
        }
    }

    @Test func requestThatDoesNotBecomeWholeIsClosed() async throws {
        try await withServer({ $0.requestMilliseconds = 100 }, handler: Self.ok) { server in
            for start in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: test\r\nX: "] {
                let client = try server.connect()
                try client.send(start)
                #expect(try client.receiveToEnd().isEmpty)
            }
            // Nor the second of a connection, nor one whose body is missing.
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(try client.receiveReply().status == 200)
            try client.send("GET / HTTP/1.1\r\nContent-Length: 5\r\nHost: test\r\n\r\nabc")
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func headThatDripsIsClosed() async throws {
        try await withServer({ $0.requestMilliseconds = 200 }, handler: Self.ok) { server in
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n")
            var isOpen = true
            for number in 0..<10_000 where isOpen {
                Threads.sleep(milliseconds: 10)
                isOpen = (try? client.send("X\(number): y\r\n")) != nil
            }
            #expect(!isOpen)
        }
    }

    @Test func idleConnectionIsClosed() async throws {
        try await withServer({ $0.idleMilliseconds = 100 }, handler: Self.ok) { server in
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(try client.receiveReply().status == 200)
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func handlerThatTakesLongIsNoIdleConnection() async throws {
        try await withServer(
            {
                $0.idleMilliseconds = 50
                $0.requestMilliseconds = 50
                $0.stallMilliseconds = 50
            },
            handler: { _ in
                Threads.sleep(milliseconds: 500)
                return plain("late")
            }
        ) { server in
            let reply = try server.ask("/")
            #expect(reply.text == "late")
        }
    }

    @Test func clientThatTakesNothingIsClosed() async throws {
        let gone = Waited<Bool>()
        let lines = Waited<String>()
        let log = try AccessLog(.common) { lines.add(String(decoding: $0, as: UTF8.self)) }
        let file = try TestFile(byteCount: 1 << 20, onEnd: { gone.add(true) })
        let places = (0..<64).map { _ in file.range(0..<1 << 20) }
        try await withServer(
            {
                $0.stallMilliseconds = 200
                $0.accessLog = log
            }, handler: { _ in ServeResponse(200, [:], .pieces(places)) }
        ) { server in
            let client = try RawClient(to: server.address, receiveBytes: 4_096)
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            let line = try #require(lines.first())
            #expect(line.hasSuffix(" cut\n"))
            #expect(try client.receiveToEnd().count < 64 << 20)
        }
    }

    @Test func connectionsBeyondTheBoundAreClosedAtOnce() async throws {
        try await withServer({ $0.connectionsMax = 3 }, handler: Self.ok) { server in
            var kept: [RawClient] = []
            for _ in 0..<3 {
                let client = try server.connect()
                try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                #expect(try client.receiveReply().status == 200)
                kept.append(client)
            }
            let further = try server.connect()
            #expect(try further.receiveToEnd().isEmpty)
            // The others are as they were.
            try kept[0].send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(try kept[0].receiveReply().status == 200)
        }
    }

    @Test func requestsBeyondTheBoundAre429() async throws {
        let started = Waited<Bool>()
        let goOn = Semaphore()
        try await withServer(
            { $0.requestsMax = 1 },
            handler: { request in
                if request.rawPath == "/slow" {
                    started.add(true)
                    goOn.wait()
                }
                return plain("x")
            }
        ) { server in
            let slow = try server.connect()
            try slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(started.first() == true)
            let further = try server.ask("/")
            #expect(further.status == 429)
            #expect(further.field("Retry-After") == "1")
            goOn.signal()
            #expect(try slow.receiveReply().status == 200)
        }
    }

    @Test func answersForWhichMemoryHasNoRoomAre429() async throws {
        let large = [UInt8](repeating: 7, count: 40 << 20)
        try await withServer(
            { $0.bodyBytesMax = 64 << 20 },
            handler: { request in
                request.rawPath == "/large" ? ServeResponse(200, [:], .bytes(large)) : plain("x")
            }
        ) { server in
            let slow = try server.connect()
            try slow.send("GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            // Of forty MiB no socket has room for all.
            #expect(try slow.receiveReply(isHead: true).status == 200)
            let refused = try server.ask("/large")
            #expect(refused.status == 429 && refused.field("Retry-After") == "1")
            let head = try server.ask("/large", method: "HEAD")
            let small = try server.ask("/")
            #expect(head.status == 200 && small.status == 200)
            #expect(try slow.receiveToEnd().count == large.count)
            var status = 0
            for _ in 0..<3_000 where status != 200 {
                status = try server.ask("/large").status
                if status != 200 { Threads.sleep(milliseconds: 10) }
            }
            #expect(status == 200)
        }
    }

    @Test func handlerIsToldThatItsClientIsGone() async throws {
        let started = Waited<Bool>()
        let ended = Waited<Bool>()
        try await withServer(handler: { request in
            let wakes = Semaphore()
            let cancellation = request.cancellation
            _ = cancellation?.onCancel { wakes.signal() }
            started.add(true)
            if cancellation?.isCancelled == false { wakes.wait() }
            ended.add(cancellation?.isCancelled ?? false)
            return plain("x")
        }) { server in
            do {
                let client = try server.connect()
                try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                #expect(started.first() == true)
                withExtendedLifetime(client) {}
            }
            #expect(ended.first() == true)
        }
    }

    @Test func abortedDownloadsLeaveNothingOpen() async throws {
        let made = Waited<Bool>()
        let ended = Waited<Bool>()
        try await withServer(
            {
                // Each that leaked would take one of them.
                $0.connectionsMax = 50
                $0.requestsMax = 50
            },
            handler: { request in
                guard request.rawPath == "/file" else { return plain("x") }
                guard let file = try? TestFile(byteCount: 1 << 10, onEnd: { ended.add(true) })
                else { return plain("no file", status: 500) }
                made.add(true)
                let places = (0..<8_192).map { _ in file.range(0..<1 << 10) }
                return ServeResponse(200, [:], .pieces(places))
            }
        ) { server in
            for _ in 0..<1_000 {
                let client = try RawClient(to: server.address, receiveBytes: 4_096)
                client.sendAsFarAsItGoes("GET /file HTTP/1.1\r\nHost: test\r\n\r\n")
                // Some may be refused, while those before them end.
                _ = try? client.receiveReply(isHead: true)
            }
            var status = 0
            for _ in 0..<3_000 where status != 200 {
                status = (try? server.ask("/").status) ?? 0
                if status != 200 { Threads.sleep(milliseconds: 10) }
            }
            #expect(status == 200)
        }
        // All connections and threads have ended now, and so has what they had open.
        #expect(made.all.count > 100)
        #expect(ended.all.count == made.all.count)
    }

    @Test func randomBytesHarmNothing() async throws {
        let seed = UInt64.random(in: .min ... .max)
        print("randomBytesHarmNothing: seed \(seed)")
        let seen = Waited<[[UInt8]]>()
        try await withServer(
            { $0.requestMilliseconds = 2_000 },
            handler: { request in
                seen.add(request.names)
                return plain("x")
            }
        ) { server in
            var random = SeededGenerator(state: seed)
            for _ in 0..<400 {
                let client = try server.connect()
                try? client.send(Self.randomRequest(&random))
                client.endInput()
                _ = try client.receiveToEnd()
            }
            let reply = try server.ask("/")
            #expect(reply.status == 200)
        }
        // What came through was whole.
        #expect(seen.all.allSatisfy { $0.count < 8_192 })
    }

    private static func randomRequest(_ random: inout SeededGenerator) -> [UInt8] {
        let words = [
            "GET ", "HEAD ", "PUT ", "/", "/a", "%2F", "%", "..", "?", "=", "&", " HTTP/1.1",
            " HTTP/1.0",
            "\r\n", "\r\n\r\n", "\n", "Host: a\r\n", "Host: ", ": ", "\0", "\u{ff}", "*",
            "Transfer-Encoding: chunked\r\n", "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 3\r\n", "Content-Length: -1\r\n", "5\r\nabcde\r\n", "0\r\n\r\n",
            "Expect: 100-continue\r\n", "Upgrade: h2c\r\n", "Connection: close\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http://", "\t",
            String(repeating: "a", count: 9_000),
        ]
        var bytes: [UInt8] = []
        if Bool.random(using: &random) { bytes += "GET / HTTP/1.1\r\nHost: a\r\n".utf8 }
        for _ in 0..<Int.random(in: 1...30, using: &random) {
            if Int.random(in: 0..<8, using: &random) == 0 {
                bytes += (0..<20).map { _ in UInt8.random(in: 0...255, using: &random) }
            } else {
                bytes += (words.randomElement(using: &random) ?? "").utf8
            }
        }
        return bytes
    }
}

/// SplitMix64.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
