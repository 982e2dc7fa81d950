import Base
import Foundation
import Glibc
import Kubo
import Logging
import Testing

/// A server that reads requests and answers as a script says: cut, slow, wrong or not at all.
final class ScriptedServer: Sendable {
    struct Request: Sendable {
        /// The first line.
        var line: String
        /// All lines, the first too.
        var head: String
        var body: [UInt8]
        /// Whether the body came to its end.
        var isWhole: Bool

        func header(_ name: String) -> String? {
            head.components(separatedBy: "\r\n").dropFirst()
                .first { $0.lowercased().hasPrefix(name.lowercased() + ":") }
                .map { $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces) }
        }
    }

    enum Step: Sendable {
        case send([UInt8])
        /// Sends pieces with a pause before each.
        case drip([[UInt8]], milliseconds: UInt32)
        /// Sends the same again and again until the other side is gone.
        case flood([UInt8])
        /// Waits until the client is gone.
        case hang
        /// Ends the connection.
        case close
    }

    private struct State {
        var requests: [Request] = []
        var connectionCount = 0
        var openCount = 0
        var openCountMax = 0
        var descriptors: Set<Int32> = []
        var isOver = false
    }

    private let state = Monitor(State())
    private let listener: Int32
    let port: UInt16
    private let readsBodies: Bool
    private let script: @Sendable (Int, Request) -> [Step]

    struct SocketFailure: Error {
        var call: String
    }

    /// - Parameters:
    ///   - port: 0 for a free one.
    ///   - readsBodies: whether a request's body is read before the script is asked.
    ///   - script: gives what to do for the n-th request, counted from 0.
    init(
        port wanted: UInt16 = 0, readsBodies: Bool = true,
        _ script: @escaping @Sendable (Int, Request) -> [Step]
    ) throws {
        self.script = script
        self.readsBodies = readsBodies
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard listener >= 0 else { throw SocketFailure(call: "socket") }
        port = try Self.bind(listener, wanted)
        guard listen(listener, 64) == 0 else { throw SocketFailure(call: "listen") }
        _ = try Threads.start(name: "script") { [self] in accept() }
    }

    /// A port on which nobody listens.
    static func freePort() throws -> UInt16 {
        let descriptor = socket(
            AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        return try bind(descriptor, 0)
    }

    private static func bind(_ descriptor: Int32, _ port: UInt16) throws -> UInt16 {
        var yes: Int32 = 1
        setsockopt(
            descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = port.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                Glibc.bind(descriptor, generic, length) == 0
                    && getsockname(descriptor, generic, &length) == 0
            }
        }
        guard bound else { throw SocketFailure(call: "bind") }
        return UInt16(bigEndian: address.sin_port)
    }

    var address: String { "127.0.0.1:\(port)" }
    var requests: [Request] { state.withLock { $0.requests } }
    var requestCount: Int { state.withLock { $0.requests.count } }
    var connectionCount: Int { state.withLock { $0.connectionCount } }
    /// The most connections that were open at one time.
    var openCountMax: Int { state.withLock { $0.openCountMax } }

    /// Blocks until so many requests have come; records an issue where they never do.
    func waitForRequests(_ count: Int) {
        let end = ContinuousClock.now + .seconds(300)
        let haveCome = state.withLock { state in
            while state.requests.count < count, ContinuousClock.now < end {
                self.state.wait(&state, milliseconds: 1000)
            }
            return state.requests.count >= count
        }
        if !haveCome { Issue.record("\(count) requests never come") }
    }

    /// Ends the server with all connections.
    func stop() {
        let descriptors = state.withLock { state in
            state.isOver = true
            return state.descriptors
        }
        shutdown(listener, Int32(SHUT_RDWR))
        for descriptor in descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
    }

    private func accept() {
        while true {
            let descriptor = Glibc.accept(listener, nil, nil)
            guard descriptor >= 0 else {
                close(listener)
                return
            }
            let isOver = state.withLock { state in
                state.connectionCount += 1
                state.openCount += 1
                state.openCountMax = max(state.openCountMax, state.openCount)
                state.descriptors.insert(descriptor)
                return state.isOver
            }
            if isOver { shutdown(descriptor, Int32(SHUT_RDWR)) }
            do {
                _ = try Threads.start(name: "script") { [self] in serve(descriptor) }
            } catch {
                end(descriptor)
            }
        }
    }

    private func end(_ descriptor: Int32) {
        state.withLock { state in
            state.openCount -= 1
            state.descriptors.remove(descriptor)
            close(descriptor)
        }
    }

    private func serve(_ descriptor: Int32) {
        defer { end(descriptor) }
        var input = Input(descriptor: descriptor)
        while let request = input.request(readsBody: readsBodies) {
            let index = state.withLock { state in
                state.requests.append(request)
                self.state.wakeAll()
                return state.requests.count - 1
            }
            for step in script(index, request) {
                switch step {
                case .send(let bytes):
                    guard send(descriptor, bytes) else { return }
                case .drip(let pieces, let milliseconds):
                    for piece in pieces {
                        Threads.sleep(milliseconds: milliseconds)
                        guard send(descriptor, piece) else { return }
                    }
                case .flood(let bytes):
                    while send(descriptor, bytes) {}
                    return
                case .hang:
                    // POLLRDHUP, which _GNU_SOURCE hides: the other side's end, not unread bytes.
                    var poll = pollfd(fd: descriptor, events: 0x2000, revents: 0)
                    _ = Glibc.poll(&poll, 1, -1)
                    return
                case .close:
                    return
                }
            }
        }
    }

    private func send(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
        var done = 0
        return bytes.withUnsafeBytes { raw in
            while done < raw.count, let base = raw.baseAddress {
                let count = Glibc.send(
                    descriptor, base + done, raw.count - done, Int32(MSG_NOSIGNAL))
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
    }

    /// What comes over one connection.
    private struct Input {
        let descriptor: Int32
        private var buffer: [UInt8] = []

        init(descriptor: Int32) { self.descriptor = descriptor }

        private mutating func more() -> Bool {
            var piece = [UInt8](repeating: 0, count: 1 << 16)
            let count = recv(descriptor, &piece, piece.count, 0)
            guard count > 0 else { return false }
            buffer += piece[..<count]
            return true
        }

        private mutating func line() -> String? {
            var looked = 0
            while true {
                if let end = buffer[looked...].firstIndex(of: 10) {
                    let line = String(decoding: buffer[..<end], as: UTF8.self)
                    buffer.removeSubrange(...end)
                    return line.trimmingCharacters(in: .newlines)
                }
                looked = buffer.count
                guard more() else { return nil }
            }
        }

        private mutating func take(_ count: Int) -> [UInt8]? {
            while buffer.count < count {
                guard more() else { return nil }
            }
            defer { buffer.removeSubrange(..<count) }
            return Array(buffer[..<count])
        }

        mutating func request(readsBody: Bool) -> Request? {
            guard let first = line() else { return nil }
            var head = first
            var length = 0
            var isChunked = false
            while let next = line(), !next.isEmpty {
                head += "\r\n" + next
                let lower = next.lowercased()
                if lower.hasPrefix("content-length:") {
                    length = Int(next.dropFirst(15).trimmingCharacters(in: .whitespaces)) ?? 0
                }
                if lower.hasPrefix("transfer-encoding:") { isChunked = lower.contains("chunked") }
            }
            var request = Request(line: first, head: head, body: [], isWhole: true)
            guard readsBody else { return request }
            if !isChunked {
                guard let body = take(length) else {
                    request.isWhole = false
                    return request
                }
                request.body = body
                return request
            }
            while true {
                guard let size = line().flatMap({ Int($0, radix: 16) }),
                    let piece = take(size), line() != nil
                else {
                    request.isWhole = false
                    return request
                }
                if size == 0 { return request }
                request.body += piece
            }
        }
    }
}

/// Replies for scripts.
enum Reply {
    static func whole(
        _ status: Int = 200, _ body: String = "", headers: [String] = []
    ) -> ScriptedServer.Step {
        whole(status, Array(body.utf8), headers: headers)
    }

    static func whole(
        _ status: Int = 200, _ body: [UInt8], headers: [String] = []
    ) -> ScriptedServer.Step {
        .send(head(status, headers + ["Content-Length: \(body.count)"]) + body)
    }

    static func chunked(
        _ status: Int = 200, _ body: String, trailers: [String] = []
    ) -> ScriptedServer.Step {
        .send(
            head(status, ["Transfer-Encoding: chunked", "Trailer: X-Stream-Error"])
                + chunk(Array(body.utf8))
                + Array(("0\r\n" + trailers.map { $0 + "\r\n" }.joined() + "\r\n").utf8))
    }

    static func head(_ status: Int, _ headers: [String]) -> [UInt8] {
        Array(
            ("HTTP/1.1 \(status) Some\r\n" + headers.map { $0 + "\r\n" }.joined() + "\r\n").utf8)
    }

    static func chunk(_ bytes: [UInt8]) -> [UInt8] {
        bytes.isEmpty
            ? []
            : Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + Array("\r\n".utf8)
    }

    static let version = whole(200, #"{"Version":"0.43.0","Commit":"c"}"#)
    static let flushed = whole(
        200, #"{"Cid":"bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"}"#)
}

/// A log that calls back at each line, for a test to act at that moment.
struct LogHook: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .trace
    let body: @Sendable (String) -> Void

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        body("\(event.message) \(event.metadata ?? [:])")
    }

    static func logger(_ body: @escaping @Sendable (String) -> Void) -> Logger {
        Logger(label: "test") { _ in LogHook(body: body) }
    }
}

/// A client with short limits, which a test may change.
func makeClient(
    _ address: String, log: Logger = LogHook.logger { _ in },
    _ change: (inout KuboConfiguration) throws -> Void = { _ in }
) throws -> KuboClient {
    var configuration = KuboConfiguration(address: try KuboAddress(address))
    configuration.userAgent = "registryfs/test"
    configuration.connectMilliseconds = 10_000
    configuration.firstByteMilliseconds = 20_000
    configuration.workMilliseconds = 20_000
    configuration.stallMilliseconds = 20_000
    try change(&configuration)
    return try KuboClient(configuration, log: log)
}

/// The error that a call ends with; nil where it does not.
func failure(_ body: () throws -> Void) -> KuboError? {
    do {
        try body()
        return nil
    } catch let error as KuboError {
        return error
    } catch let error as KuboStreamError<KuboError> {
        switch error {
        case .kubo(let error), .source(let error): return error
        }
    } catch let error as KuboStreamError<Never> {
        switch error {
        case .kubo(let error): return error
        }
    } catch {
        return nil
    }
}
