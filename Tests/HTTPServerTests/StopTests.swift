import Base
import HTTPServer
import HTTPTypes
import Logging
import Serving
import Testing

@Suite struct StopTests {
    @Test func downloadUnderWayMayEnd() async throws {
        let started = Waited<Bool>()
        let goOn = Semaphore()
        try await withServer(
            { $0.stopMilliseconds = 60_000 }, handler: slowBody(started: started, goOn: goOn)
        ) { server in
            let idle = try server.connect()
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(started.first() == true)
            server.service.stop()
            // Who asks for nothing is closed, while the other goes on.
            #expect(try idle.receiveToEnd().isEmpty)
            goOn.signal()
            #expect(try client.receiveReply().text == "beginend")
            #expect(try client.receiveToEnd().isEmpty)
        }
    }

    @Test func downloadThatTakesTooLongIsCutAtAStop() async throws {
        let started = Waited<Bool>()
        let goOn = Semaphore()
        try await withServer(
            { $0.stopMilliseconds = 50 }, handler: slowBody(started: started, goOn: goOn)
        ) { server in
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(started.first() == true)
            server.service.stop()
            let bytes = try client.receiveToEnd()
            #expect(String(decoding: bytes, as: UTF8.self).hasSuffix("begin"))
            goOn.signal()
        }
    }

    @Test func socketCanBeServedAgainAfterAStop() async throws {
        let sockets = try ListeningSocket.open(ListenAddress("127.0.0.1:0"))
        for number in 0..<2 {
            let service = HTTPService(
                ServerConfiguration(), sockets: sockets,
                handler: ClosureHandler { _ in plain("\(number)") },
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let run = Task(executorPreference: ServerExecutor.shared) { try await service.run() }
            let server = RunningServer(service: service, address: sockets[0].address)
            let text = try await onThread { try server.ask("/").text }
            #expect(text == "\(number)")
            service.stop()
            try await run.value
        }
    }

    @Test func cancelledTaskEndsTheServer() async throws {
        let sockets = try ListeningSocket.open(ListenAddress("127.0.0.1:0"))
        let service = HTTPService(
            ServerConfiguration(), sockets: sockets, handler: ClosureHandler { _ in plain("x") },
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let run = Task(executorPreference: ServerExecutor.shared) { try await service.run() }
        let server = RunningServer(service: service, address: sockets[0].address)
        let client = try await onThread {
            let client = try server.connect()
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(try client.receiveReply().text == "x")
            return client
        }
        run.cancel()
        try await run.value
        let rest = try await onThread { try client.receiveToEnd() }
        #expect(rest.isEmpty)
    }
}
