import Base
import Glibc
import HTTP
import HTTPServer
import HTTPTypes
import Serving
import Testing

@Suite struct AnswerTests {
    @Test func requestComesAsItWasSent() async throws {
        let seen = Waited<ServeRequest>()
        try await withServer(handler: { request in
            seen.add(request)
            return plain("yes")
        }) { server in
            let reply = try server.ask("/a/%2e%2E//b%2Fc/?q=%20x&r", "X-One: 1", "X-One: 2")
            #expect(reply.status == 200)
            #expect(reply.text == "yes")
        }
        let request = try #require(seen.all.first)
        #expect(request.rawPath == "/a/%2e%2E//b%2Fc/")
        #expect(
            request.names.map { String(decoding: $0, as: UTF8.self) } == ["a", "..", "", "b/c"])
        #expect(request.hasTrailingSlash)
        #expect(request.value("q") == " x")
        let name = try #require(HTTPField.Name("X-One"))
        #expect(request.fields[values: name] == ["1", "2"])
    }

    @Test func everyAnswerHasTheFieldsOfTheServer() async throws {
        try await withServer(handler: { request in
            request.rawPath == "/own"
                ? ServeResponse(200, [.xContentTypeOptions: "own"], .none) : plain("x", status: 404)
        }) { server in
            let reply = try server.ask("/")
            #expect(reply.status == 404)
            #expect(reply.field("Server") == "registryfs")
            #expect(reply.field("Date")?.hasSuffix(" GMT") == true)
            #expect(reply.field("X-Content-Type-Options") == "nosniff")
            #expect(reply.field("Content-Length") == "1")
            let own = try server.ask("/own")
            #expect(own.field("X-Content-Type-Options") == "own")
            #expect(own.field("Content-Length") == "0")
        }
    }

    @Test func pipelinedRequestsAreAnsweredInTheirOrder() async throws {
        try await withServer(handler: { request in
            // The first takes longest.
            if request.rawPath == "/0" { Threads.sleep(milliseconds: 100) }
            return plain(request.rawPath)
        }) { server in
            let client = try server.connect()
            let texts = (0..<40).map { "GET /\($0) HTTP/1.1\r\nHost: test\r\n\r\n" }
            try client.send(texts.joined())
            for number in 0..<40 {
                #expect(try client.receiveReply().text == "/\(number)")
            }
        }
    }

    @Test func connectionIsKeptForTheNextRequest() async throws {
        try await withServer(handler: { _ in plain("x") }) { server in
            let client = try server.connect()
            for _ in 0..<3 {
                try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                let reply = try client.receiveReply()
                #expect(reply.text == "x")
                #expect(reply.field("Connection") == nil)
            }
            try client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            #expect(try client.receiveReply().field("Connection") == "close")
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func headHasTheLengthAndNoBody() async throws {
        let file = try TestFile(byteCount: 100_000)
        try await withServer(handler: { request in
            switch request.rawPath {
            case "/file":
                return ServeResponse(200, [:], .pieces([file.range(0..<100_000)]))
            case "/chunked":
                return ServeResponse(200, [:], .producer(ClosureProducer { _ in nil }, count: nil))
            default:
                return ServeResponse(200, [.contentLength: "77"], .none)
            }
        }) { server in
            let client = try server.connect()
            for (path, length) in [("/file", "100000"), ("/chunked", nil), ("/own", "77")] {
                try client.send("HEAD \(path) HTTP/1.1\r\nHost: test\r\n\r\n")
                #expect(try client.receiveReply(isHead: true).field("Content-Length") == length)
            }
            // What would have been sent for HEAD would stand before this.
            try client.send("GET /own HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            #expect(try client.receiveReply().status == 200)
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func rangesOfFilesAndBytesAreSentInTheirOrder() async throws {
        let file = try TestFile(byteCount: 3_000_000)
        let middle = Array("between".utf8)
        try await withServer(handler: { _ in
            ServeResponse(
                200, [:],
                .pieces([
                    file.range(1..<2_500_001), .bytes(middle), file.range(5..<5),
                    file.range(2_999_999..<3_000_000), .bytes([]),
                ]))
        }) { server in
            let reply = try server.ask("/")
            let expected = file.bytes[1..<2_500_001] + middle + file.bytes[2_999_999...]
            #expect(reply.field("Content-Length") == "\(expected.count)")
            #expect(reply.body.elementsEqual(expected))
        }
    }

    @Test func fileThatIsShorterThanItsRangeIsCutOff() async throws {
        let file = try TestFile(byteCount: 1_000)
        try await withServer(handler: { request in
            request.rawPath == "/good"
                ? plain("good") : ServeResponse(200, [:], .pieces([file.range(0..<1_001)]))
        }) { server in
            let client = try server.connect()
            try client.send("GET /bad HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(try client.receiveToEnd().count < 1_001)
            let good = try server.ask("/good")
            #expect(good.text == "good")
        }
    }

    @Test func sameFileIsSentToManyAtOnce() async throws {
        let file = try TestFile(byteCount: 1_000_000)
        try await withServer(handler: { _ in
            ServeResponse(200, [:], .pieces([file.range(0..<1_000_000)]))
        }) { server in
            let clients = try (0..<20).map { _ in try server.connect() }
            for client in clients { try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n") }
            for client in clients { #expect(try client.receiveReply().body == file.bytes) }
        }
    }

    @Test func producerWithoutCountIsChunked() async throws {
        let file = try TestFile(byteCount: 700_000)
        try await withServer(handler: { _ in
            ServeResponse(
                200, [:],
                .producer(
                    ClosureProducer { number in
                        switch number {
                        case 0: .bytes(Array("first".utf8))
                        case 1: file.range(0..<700_000)
                        case 2: .bytes(Array("last".utf8))
                        default: nil
                        }
                    }, count: nil))
        }) { server in
            let client = try makeHTTPClient()
            var request = HTTP.HTTPRequest(.get, server.url())
            request.replyBytesMax = 1 << 20
            let reply = try client.send(request)
            #expect(reply.headers["Transfer-Encoding"] == "chunked")
            #expect(
                reply.body.elementsEqual(Array("first".utf8) + file.bytes + Array("last".utf8)))
            // HTTP/1.0 has no chunks: the body ends with its connection.
            let raw = try server.connect()
            try raw.send("GET / HTTP/1.0\r\n\r\n")
            let old = try raw.receiveReply()
            #expect(old.field("Transfer-Encoding") == nil)
            #expect(old.body.count == 700_009)
        }
    }

    @Test(arguments: [nil, UInt64(1_000_000)] as [UInt64?])
    func producerThatFailsMidwayIsAnErrorForTheClient(_ count: UInt64?) async throws {
        try await withServer(handler: { _ in
            ServeResponse(
                200, [:],
                .producer(
                    ClosureProducer { number throws(ServeFault) in
                        guard number < 3 else { throw .failed(reason: "for a test") }
                        return .bytes([UInt8](repeating: 1, count: 1_000))
                    }, count: count))
        }) { server in
            let client = try makeHTTPClient()
            let request = HTTP.HTTPRequest(.get, server.url())
            #expect(throws: HTTPError.self) { try client.send(request) }
            let raw = try server.connect()
            try raw.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            let bytes = try raw.receiveToEnd()
            #expect(!bytes.suffix(5).elementsEqual(Array("0\r\n\r\n".utf8)))
        }
    }

    @Test(arguments: [UInt64(2_999), 3_001])
    func producerThatMakesAnotherCountIsAnErrorForTheClient(_ count: UInt64) async throws {
        try await withServer(handler: { _ in
            ServeResponse(
                200, [:],
                .producer(
                    ClosureProducer { number in
                        number < 3 ? .bytes([UInt8](repeating: 1, count: 1_000)) : nil
                    }, count: count))
        }) { server in
            let client = try makeHTTPClient()
            #expect(throws: HTTPError.self) {
                try client.send(HTTP.HTTPRequest(.get, server.url()))
            }
        }
    }

    @Test func filesAreSentWhileAllHandlersWait() async throws {
        let file = try TestFile(byteCount: 1_000_000)
        let goOn = Semaphore()
        let begun = Waited<Bool>()
        try await withServer(
            { $0.handlerThreadCount = 1 },
            handler: { request in
                if request.rawPath == "/slow" {
                    begun.add(true)
                    goOn.wait()
                }
                return ServeResponse(200, [:], .pieces([file.range(0..<1_000_000)]))
            }
        ) { server in
            let download = try RawClient(to: server.address, receiveBytes: 4_096)
            try download.send("GET /file HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            let head = try download.receiveReply(isHead: true)
            #expect(head.status == 200)
            let slow = try server.connect()
            try slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(begun.first() == true)
            #expect(try download.receiveToEnd() == file.bytes)
            goOn.signal()
        }
    }

    @Test func answersWithoutBodyHaveNone() async throws {
        try await withServer(handler: { request in
            ServeResponse(request.rawPath == "/304" ? 304 : 204, [.eTag: "\"x\""], .none)
        }) { server in
            let client = try server.connect()
            for path in ["/304", "/204", "/304"] {
                try client.send("GET \(path) HTTP/1.1\r\nHost: test\r\n\r\n")
                let reply = try client.receiveReply()
                #expect("/\(reply.status)" == path)
                #expect(reply.field("Content-Length") == nil)
                #expect(reply.field("Transfer-Encoding") == nil)
            }
        }
    }

    @Test func proxysFormOfATargetIsTaken() async throws {
        try await withServer(handler: { plain($0.rawPath) }) { server in
            let whole = try server.ask("http://other:80/a%20b?c")
            #expect(whole.text == "/a%20b")
            let short = try server.ask("HTTP://other")
            #expect(short.text == "/")
        }
    }

    @Test func unixSocketIsServedAndItsNameRemoved() async throws {
        let path = temporaryPath("http")
        try await withServer(
            at: "unix:\(path)",
            {
                // Exempt, for an address is of no network there.
                $0.access.allowed = [try AddressRange("192.0.2.1")]
            }, handler: { _ in plain("by socket") }
        ) { server in
            var status = stat()
            #expect(stat(path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o660)
            let reply = try server.ask("/")
            #expect(reply.text == "by socket")
        }
        #expect(access(path, F_OK) != 0)
    }

    @Test func unixSocketIsForItsGroupAndItsMode() throws {
        let path = temporaryPath("http")
        defer { unlink(path) }
        // Only root gives it to any group.
        let group = geteuid() == 0 ? 12_345 : getegid()
        let sockets = try ListeningSocket.open(
            ListenAddress("unix:\(path)"), access: SocketAccess(mode: 0o606, group: group))
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o7777 == 0o606)
        #expect(status.st_gid == group)
        withExtendedLifetime(sockets) {}
    }

    @Test func addressOfAnotherMachineOrAnotherSocketIsRefused() throws {
        // TEST-NET-1 of RFC 5737.
        #expect(throws: ServerFailure.self) {
            try ListeningSocket.open(ListenAddress("192.0.2.1:0"))
        }
        let taken = try ListeningSocket.open(ListenAddress("127.0.0.1:0"))
        let error = #expect(throws: ServerFailure.self) {
            try ListeningSocket.open(taken[0].address)
        }
        #expect(error?.description.contains("\(taken[0].address)") == true)
    }

    @Test func allAddressesOfANameHaveOnePort() throws {
        let sockets = try ListeningSocket.open(ListenAddress("localhost:0"))
        let ports = sockets.map { socket in
            if case .network(_, let port) = socket.address { return port }
            return 0
        }
        #expect(Set(ports).count == 1 && !ports.contains(0))
    }

    @Test func socketOfADeadProcessIsReplacedAndThatOfALivingOneNot() throws {
        let path = temporaryPath("http")
        defer { unlink(path) }
        let address = try ListenAddress("unix:\(path)")
        do {
            let living = try ListeningSocket.open(address)
            #expect(throws: ServerFailure.self) { try ListeningSocket.open(address) }
            withExtendedLifetime(living) {}
        }
        // Closed, and its name is still there.
        #expect(access(path, F_OK) == 0)
        _ = try ListeningSocket.open(address)
    }

    @Test func inheritedSocketStaysOpen() async throws {
        let own = try ListeningSocket.open(ListenAddress("127.0.0.1:0"))[0]
        let environment = ["LISTEN_PID": "\(getpid() + 1)", "LISTEN_FDS": "1"]
        #expect(try ListeningSocket.inherited(environment).isEmpty)
        #expect(throws: ServerFailure.self) {
            try ListeningSocket.inherited(["LISTEN_PID": "\(getpid())", "LISTEN_FDS": "1000000"])
        }
        do {
            let taken = try ListeningSocket.taking(descriptor: own.descriptor)
            #expect(taken.address == own.address)
        }
        #expect(fcntl(own.descriptor, F_GETFD) >= 0)
        let file = try TestFile(byteCount: 1)
        #expect(throws: ServerFailure.self) {
            try ListeningSocket.taking(descriptor: file.shared.raw)
        }
    }
}

/// A client without proxies.
func makeHTTPClient(
    _ variables: [String: String] = [:]
) throws -> HTTPClient {
    var configuration = HTTPConfiguration()
    configuration.environment = HTTPEnvironment(variables)
    return try HTTPClient(configuration)
}
