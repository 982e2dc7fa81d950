internal import Base
internal import Foundation
internal import Glibc
internal import Testing

/// A server that reads requests and answers as a script says: cut, slow, wrong or not at all.
public final class ScriptedServer: Sendable {
    public struct Request: Sendable {
        /// The first line.
        public var line: String
        /// All lines, the first too.
        public var head: String
        public var body: [UInt8]
        /// Whether the body came to its end.
        public var isWhole: Bool

        /// The value of its first header of this name.
        public func header(_ name: String) -> String? {
            head.components(separatedBy: "\r\n").dropFirst()
                .first { $0.lowercased().hasPrefix(name.lowercased() + ":") }
                .map { $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces) }
        }
    }

    /// What is done for a request.
    public enum Step: Sendable {
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
    /// Of the loopback; 0 for a unix socket.
    public let port: UInt16
    private let readsBodies: Bool
    private let script: @Sendable (Int, Request) -> [Step]

    public struct SocketFailure: Error {
        public var call: String
    }

    /// - Parameters:
    ///   - port: 0 for a free one.
    ///   - socketPath: where to listen in place of a port.
    ///   - readsBodies: whether a request's body is read before the script is asked.
    ///   - script: gives what to do for the n-th request, counted from 0.
    public init(
        port wanted: UInt16 = 0, socketPath: String? = nil, readsBodies: Bool = true,
        _ script: @escaping @Sendable (Int, Request) -> [Step]
    ) throws {
        self.script = script
        self.readsBodies = readsBodies
        listener = socket(
            socketPath == nil ? AF_INET : AF_UNIX,
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard listener >= 0 else { throw SocketFailure(call: "socket") }
        if let socketPath {
            try Self.bind(listener, to: socketPath)
            port = 0
        } else {
            port = try Self.bind(listener, wanted)
        }
        guard listen(listener, 64) == 0 else { throw SocketFailure(call: "listen") }
        try Threads.startDetached(name: "script") { [self] in accept() }
    }

    /// A port on which nobody listens.
    ///
    /// It is none that the kernel gives to who asks for any (ip_local_port_range of ip(7) begins at 32768), or a
    /// server of another test could have it a moment later.
    public static func freePort() throws -> UInt16 {
        for _ in 0..<1000 {
            let port = UInt16.random(in: 12_000..<32_000)
            guard given.withLock({ $0.insert(port).inserted }) else { continue }
            let descriptor = socket(
                AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            defer { close(descriptor) }
            if (try? bind(descriptor, port)) != nil { return port }
        }
        throw SocketFailure(call: "bind")
    }

    /// The ports that were given.
    private static let given = Monitor<Set<UInt16>>([])

    private static func bind(_ descriptor: Int32, to path: String) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            precondition(path.utf8.count < place.count, "the path of the socket is too long")
            place.copyBytes(from: path.utf8)
        }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                Glibc.bind(descriptor, generic, length) == 0
            }
        }
        guard bound else { throw SocketFailure(call: "bind") }
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

    public var address: String { "127.0.0.1:\(port)" }
    /// All that came so far, an array of their own (.ci/thread-sanitizer).
    public var requests: [Request] { state.withLock { $0.requests.map { $0 } } }
    public var requestCount: Int { state.withLock { $0.requests.count } }
    public var connectionCount: Int { state.withLock { $0.connectionCount } }
    /// The most connections that were open at one time.
    public var openCountMax: Int { state.withLock { $0.openCountMax } }

    /// Blocks until so many requests have come; records an issue where they never do.
    public func waitForRequests(_ count: Int) {
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
    public func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        // Under the lock, under which they are closed: a number may be another's afterwards.
        state.withLock { state in
            state.isOver = true
            for descriptor in state.descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
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
                try Threads.startDetached(name: "script") { [self] in serve(descriptor) }
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
