import Base
import Glibc

import struct SystemPackage.Errno

/// The unix socket of a state directory.
enum ControlSocket {
    /// Connects; neither this nor a later read or write takes longer than the protocol allows.
    static func connect(stateDirectory: String) throws(Errno) -> OwnedDescriptor {
        let socket = try make()
        setTimeouts(
            socket.raw, receiveSeconds: ControlProtocol.silenceSecondsMax,
            sendSeconds: ControlProtocol.silenceSecondsMax)
        try withAddress(in: stateDirectory) { (address, length) throws(Errno) in
            while Glibc.connect(socket.raw, address, length) != 0 {
                guard errno == EINTR else { throw Errno(rawValue: errno) }
            }
        }
        return socket
    }

    /// What of a state directory and its socket may be another user's; nil where both are the caller's
    /// or root's. Nothing of them is opened.
    static func distrust(
        stateDirectory: String
    ) throws(Errno) -> (path: String, Distrust)? {
        let directory = try Sys.open(stateDirectory, flags: Sys.pathOnly | O_DIRECTORY)
        if let distrust = try Sys.status(of: directory.raw).distrust(expecting: .directory) {
            return (stateDirectory, distrust)
        }
        let name = ControlProtocol.socketName
        let distrust = try Sys.distrust(of: name, in: directory.raw, expecting: .socket)
        return distrust.map { (stateDirectory + "/" + name, $0) }
    }

    /// Makes the socket and listens, in place of one that a dead daemon left behind.
    ///
    /// - Precondition: the caller holds the lock of the state directory.
    static func listen(stateDirectory: String) throws(Errno) -> OwnedDescriptor {
        let socket = try make()
        try remove(stateDirectory: stateDirectory)
        try withAddress(in: stateDirectory) { (address, length) throws(Errno) in
            guard bind(socket.raw, address, length) == 0 else { throw Errno(rawValue: errno) }
        }
        // Nobody can connect before listen(2), so the mode is right in time.
        let path = stateDirectory + "/" + ControlProtocol.socketName
        guard chmod(path, 0o600) == 0, Glibc.listen(socket.raw, 16) == 0 else {
            throw Errno(rawValue: errno)
        }
        return socket
    }

    /// Removes the socket's name.
    static func remove(stateDirectory: String) throws(Errno) {
        let path = stateDirectory + "/" + ControlProtocol.socketName
        guard unlink(path) == 0 || errno == ENOENT else { throw Errno(rawValue: errno) }
    }

    static func setTimeouts(_ socket: Int32, receiveSeconds: Int, sendSeconds: Int) {
        var receive = timeval(tv_sec: receiveSeconds, tv_usec: 0)
        var send = timeval(tv_sec: sendSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &receive, size)
        setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &send, size)
    }

    /// The process and the user at the other end, by SO_PEERCRED of unix(7).
    static func peer(_ socket: Int32) -> (process: pid_t, user: uid_t)? {
        // struct ucred: pid, uid, gid. Glibc's module does not show it without _GNU_SOURCE.
        var credentials: (pid_t, uid_t, gid_t) = (0, 0, 0)
        var size = socklen_t(MemoryLayout<(pid_t, uid_t, gid_t)>.size)
        let soPeerCredentials: Int32 = 17
        guard getsockopt(socket, SOL_SOCKET, soPeerCredentials, &credentials, &size) == 0 else {
            return nil
        }
        return (credentials.0, credentials.1)
    }

    private static func make() throws(Errno) -> OwnedDescriptor {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let raw = socket(AF_UNIX, type, 0)
        guard raw >= 0 else { throw Errno(rawValue: errno) }
        return OwnedDescriptor(raw)
    }

    /// Runs a body with the socket's address. A path that is too long for sockaddr_un (108 bytes
    /// with its terminator, unix(7)) is reached through a descriptor of its directory.
    private static func withAddress(
        in stateDirectory: String,
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Errno) -> Void
    ) throws(Errno) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        var path = Array((stateDirectory + "/" + ControlProtocol.socketName).utf8)
        var directory: Int32 = -1
        defer { if directory >= 0 { close(directory) } }
        if path.count >= capacity {
            directory = try Sys.open(stateDirectory, flags: Sys.pathOnly | O_DIRECTORY).take()
            path = Array("/proc/self/fd/\(directory)/\(ControlProtocol.socketName)".utf8)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        var failure: Errno?
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
                do throws(Errno) { try body(general, length) } catch { failure = error }
            }
        }
        if let failure { throw failure }
    }
}

/// Reads lines, and the raw bytes between them, from a socket.
struct LineReader {
    /// When a read that is not whole fails with ETIMEDOUT, by the clock of `MonotonicClock` in
    /// milliseconds.
    var deadline: Int64

    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var position = 0

    init(_ descriptor: Int32, deadline: Int64) {
        self.descriptor = descriptor
        self.deadline = deadline
    }

    /// The next line without its end; nil at the end of the stream.
    ///
    /// - Throws: EMSGSIZE where the line is longer than the bound, EAGAIN where nothing came for the
    ///   socket's own timeout, ETIMEDOUT at the deadline.
    mutating func line(countMax: Int) throws(Errno) -> [UInt8]? {
        var searched = position
        while true {
            if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { position = end + 1 }
                return Array(buffer[position..<end])
            }
            guard buffer.count - position <= countMax else { throw Errno(rawValue: EMSGSIZE) }
            let unread = buffer.count - position
            guard try fill() else { return nil }
            searched = position + unread
        }
    }

    /// Exactly `count` bytes.
    ///
    /// - Throws: ECONNRESET where the stream ends before.
    mutating func bytes(count: Int) throws(Errno) -> ArraySlice<UInt8> {
        while buffer.count - position < count {
            guard try fill() else { throw .connectionReset }
        }
        defer { position += count }
        return buffer[position..<position + count]
    }

    private mutating func fill() throws(Errno) -> Bool {
        // What comes byte by byte, or without an end, must not go on for ever.
        guard MonotonicClock.milliseconds < deadline else { throw .timedOut }
        if position > 0 {
            buffer.removeFirst(position)
            position = 0
        }
        let old = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: 256 << 10))
        var received = 0
        defer { buffer.removeLast(buffer.count - old - max(received, 0)) }
        repeat {
            received = buffer.withUnsafeMutableBytes { bytes in
                recv(descriptor, bytes.baseAddress.map { $0 + old }, bytes.count - old, 0)
            }
        } while received < 0 && errno == EINTR
        guard received >= 0 else { throw Errno(rawValue: errno) }
        return received > 0
    }
}
