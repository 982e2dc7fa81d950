internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

/// One question to one name server, until its deadline or its cancellation. Belongs to one thread.
final class DNSCall {
    private let name: DNSName
    private let endpoint: Endpoint
    private let deadline: Int64
    private let cancellation: Cancellation?
    /// Becomes readable when the question is cancelled.
    private let wakeUp: OwnedDescriptor
    private let waker: Waker
    private let handler: Int?

    /// The other end of `wakeUp`, which may be written to after the call has ended.
    private final class Waker: Sendable {
        private let descriptor: OwnedDescriptor
        init(_ raw: Int32) { descriptor = OwnedDescriptor(raw) }
        func wake() {
            var byte: UInt8 = 0
            _ = Glibc.send(descriptor.raw, &byte, 1, Int32(MSG_NOSIGNAL))
        }
    }

    init(
        _ name: DNSName, _ endpoint: Endpoint, deadline: Int64, _ cancellation: Cancellation?
    ) throws(NamingError) {
        self.name = name
        self.endpoint = endpoint
        self.deadline = deadline
        self.cancellation = cancellation
        // Sockets, not a pipe: a write after the end must not be a signal.
        var ends: [Int32] = [0, 0]
        guard
            socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
                == 0
        else { throw NamingError(.failed, "no socket: \(Errno(rawValue: errno))") }
        wakeUp = OwnedDescriptor(ends[0])
        let waker = Waker(ends[1])
        self.waker = waker
        handler = cancellation?.onCancel { waker.wake() }
    }

    deinit { if let handler { cancellation?.remove(handler: handler) } }

    /// Asks by UDP; an answer that is cut off is one, too.
    func overUDP() throws(NamingError) -> DNSMessage {
        let socket = try connectedSocket(Int32(SOCK_DGRAM.rawValue))
        let id = UInt16.random(in: 0...UInt16.max)
        let question = DNSMessage.question(name, id: id)
        var packet = [UInt8](repeating: 0, count: DNSMessage.byteCountMax)
        var strangers = 0
        for attempt in 0..<ServerResolver.attemptsMax {
            try send(question, to: socket.raw)
            let pause = ServerResolver.firstWaitMilliseconds << Int64(attempt)
            let end = min(deadline, MonotonicClock.milliseconds + pause)
            while try wait(for: socket.raw, POLLIN, until: end) {
                let count = recv(socket.raw, &packet, packet.count, 0)
                guard count >= 0 else {
                    if [EINTR, EAGAIN, EWOULDBLOCK].contains(errno) { continue }
                    throw failure()
                }
                let message = try? DNSMessage(
                    decoding: Array(packet[..<count]), answering: name)
                if let message, message.id == id { return message }
                strangers += 1
                guard strangers < ServerResolver.strangersMax else {
                    throw NamingError(
                        .malformed, "\(endpoint) sends what is no answer for \(name)")
                }
            }
        }
        throw timeout(strangers)
    }

    /// Asks by TCP.
    func overTCP() throws(NamingError) -> DNSMessage {
        let socket = try connectedSocket(Int32(SOCK_STREAM.rawValue))
        let id = UInt16.random(in: 0...UInt16.max)
        let question = DNSMessage.question(name, id: id)
        let length = UInt16(question.count)
        try send(
            [UInt8(length >> 8), UInt8(truncatingIfNeeded: length)] + question, to: socket.raw)
        let head = try receive(2, from: socket.raw)
        let packet = try receive(Int(head[0]) << 8 | Int(head[1]), from: socket.raw)
        do throws(DNSMessageError) {
            let message = try DNSMessage(decoding: packet, answering: name)
            guard message.id == id, !message.isTruncated else { throw .notTheAnswer }
            return message
        } catch {
            throw NamingError(.malformed, "\(endpoint) sends no answer for \(name): \(error)")
        }
    }

    private func connectedSocket(_ type: Int32) throws(NamingError) -> OwnedDescriptor {
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let raw = Glibc.socket(endpoint.family, type | flags, 0)
        guard raw >= 0 else { throw failure() }
        let socket = OwnedDescriptor(raw)
        let code = endpoint.socketAddress.withUnsafeBytes { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) { address in
                Glibc.connect(raw, address.baseAddress, socklen_t(bytes.count))
            }
        }
        guard code == 0 || errno == EINPROGRESS else { throw failure() }
        if code != 0 {
            guard try wait(for: raw, POLLOUT, until: deadline) else { throw timeout(0) }
            var error: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(raw, SOL_SOCKET, SO_ERROR, &error, &length)
            errno = error
            guard error == 0 else { throw failure() }
        }
        return socket
    }

    private func send(_ bytes: [UInt8], to socket: Int32) throws(NamingError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { raw in
                raw.baseAddress.map {
                    Glibc.send(socket, $0 + done, raw.count - done, Int32(MSG_NOSIGNAL))
                } ?? 0
            }
            if count >= 0 {
                done += count
            } else if errno == EAGAIN || errno == EWOULDBLOCK {
                guard try wait(for: socket, POLLOUT, until: deadline) else { throw timeout(0) }
            } else if errno != EINTR {
                throw failure()
            }
        }
    }

    private func receive(_ count: Int, from socket: Int32) throws(NamingError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            guard try wait(for: socket, POLLIN, until: deadline) else { throw timeout(0) }
            let got = bytes.withUnsafeMutableBytes { raw in
                raw.baseAddress.map { recv(socket, $0 + done, raw.count - done, 0) } ?? 0
            }
            if got > 0 {
                done += got
            } else if got == 0 {
                throw NamingError(
                    .malformed, "\(endpoint) ends the connection within its answer for \(name)")
            } else if ![EINTR, EAGAIN, EWOULDBLOCK].contains(errno) {
                throw failure()
            }
        }
        return bytes
    }

    /// Whether the socket is ready before a time.
    private func wait(
        for socket: Int32, _ event: Int32, until end: Int64
    ) throws(NamingError) -> Bool {
        while true {
            if cancellation?.isCancelled ?? false {
                throw NamingError(.cancelled, "\(name): cancelled")
            }
            let left = end - MonotonicClock.milliseconds
            guard left > 0 else { return false }
            var polls = [
                pollfd(fd: socket, events: Int16(event), revents: 0),
                pollfd(fd: wakeUp.raw, events: Int16(POLLIN), revents: 0),
            ]
            let ready = poll(&polls, 2, Int32(clamping: left))
            guard ready >= 0 || errno == EINTR else { throw failure() }
            if ready > 0, polls[0].revents != 0 { return true }
        }
    }

    private func failure() -> NamingError {
        NamingError(
            .unreachable, "\(endpoint) cannot be asked for \(name): \(Errno(rawValue: errno))")
    }

    private func timeout(_ strangers: Int) -> NamingError {
        let what = strangers == 0 ? "" : ", and sent what is no answer"
        return NamingError(.timeout, "\(endpoint) does not answer for \(name) in time\(what)")
    }
}
