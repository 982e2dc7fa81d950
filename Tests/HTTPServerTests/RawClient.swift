import Base
import Glibc
import HTTPServer

/// An answer as it came.
struct RawReply: Sendable {
    var status: Int
    var head: String
    /// As it came: with its chunks, where it has any.
    var body: [UInt8]

    func field(_ name: String) -> String? {
        for line in head.split(separator: "\r\n").dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == name.lowercased() {
                return String(parts[1].drop { $0 == " " })
            }
        }
        return nil
    }

    var text: String { String(decoding: body, as: UTF8.self) }
}

/// A socket, for what no client library would send. Reads end after a minute at the latest.
final class RawClient: Sendable {
    struct Failure: Error {
        var call: String
        var code: Int32
    }

    private let socket: OwnedDescriptor
    private let unread = Monitor<[UInt8]>([])

    init(to address: ListenAddress, receiveBytes: Int32? = nil) throws {
        switch address {
        case .unix(let path):
            socket = try Self.make(AF_UNIX)
            var name = sockaddr_un()
            name.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
            try Self.connect(socket.raw, &name)
        case .network(_, let port):
            socket = try Self.make(AF_INET)
            if var bytes = receiveBytes {
                setsockopt(
                    socket.raw, SOL_SOCKET, SO_RCVBUF, &bytes,
                    socklen_t(MemoryLayout<Int32>.size))
            }
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = port.bigEndian
            name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            try Self.connect(socket.raw, &name)
        }
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(
            socket.raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    private static func make(_ family: Int32) throws -> OwnedDescriptor {
        let raw = Glibc.socket(
            family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw Failure(call: "socket", code: errno) }
        return OwnedDescriptor(raw)
    }

    private static func connect<Name>(_ raw: Int32, _ name: inout Name) throws {
        let length = socklen_t(MemoryLayout<Name>.size)
        let code = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(raw, $0, length)
            }
        }
        guard code == 0 else { throw Failure(call: "connect", code: errno) }
    }

    func send(_ text: String) throws {
        try send(Array(text.utf8))
    }

    func send(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes {
                Glibc.send(socket.raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure(call: "send", code: errno) }
            done += count
        }
    }

    /// Sends what may be refused midway.
    func sendAsFarAsItGoes(_ text: String) {
        try? send(text)
    }

    /// Says that nothing comes any more.
    func endInput() { shutdown(socket.raw, Int32(SHUT_WR)) }

    /// Some bytes; none at the end, which a reset is too.
    private func receiveSome() throws -> [UInt8] {
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 16) { room, count in
            let got = recv(socket.raw, room.baseAddress, room.count, 0)
            code = got < 0 ? errno : 0
            count = max(0, got)
        }
        guard code == 0 || code == ECONNRESET || code == EPIPE else {
            throw Failure(call: "recv", code: code)
        }
        return bytes
    }

    /// Everything up to the end of the connection.
    ///
    /// - Parameter milliseconds: the pause before each part.
    func receiveToEnd(pausing milliseconds: UInt32 = 0) throws -> [UInt8] {
        var bytes = unread.withLock { $0 }
        unread.withLock { $0 = [] }
        while true {
            if milliseconds > 0 { Threads.sleep(milliseconds: milliseconds) }
            let more = try receiveSome()
            if more.isEmpty { return bytes }
            bytes += more
        }
    }

    /// One answer: its body by its Content-Length, or else up to the end of the connection.
    func receiveReply(isHead: Bool = false) throws -> RawReply {
        var bytes = unread.withLock { $0 }
        let end = Array("\r\n\r\n".utf8)
        var split: Int?
        while split == nil {
            split = bytes.indices.first { bytes[$0...].starts(with: end) }
            if split != nil { break }
            let more = try receiveSome()
            guard !more.isEmpty else { throw Failure(call: "end in head", code: 0) }
            bytes += more
        }
        let headCount = split ?? 0
        let head = String(decoding: bytes[..<headCount], as: UTF8.self)
        let words = head.prefix { $0 != "\r\n" }.split(separator: " ")
        var reply = RawReply(
            status: words.count > 1 ? Int(words[1]) ?? 0 : 0, head: head,
            body: Array(bytes[(headCount + 4)...]))
        if isHead || reply.status == 204 || reply.status == 304 {
            unread.withLock { [body = reply.body] in $0 = body }
            reply.body = []
            return reply
        }
        let length = reply.field("Content-Length").flatMap { Int($0) }
        while length.map({ reply.body.count < $0 }) ?? true {
            let more = try receiveSome()
            if more.isEmpty { break }
            reply.body += more
        }
        let rest = length.map { Array(reply.body.dropFirst($0)) } ?? []
        unread.withLock { $0 = rest }
        if let length { reply.body = Array(reply.body.prefix(length)) }
        return reply
    }
}
