internal import CShims
internal import Glibc

public import struct SystemPackage.Errno

/// Stream sockets of unix(7) that never block, and descriptors that go through them.
public enum UnixSocket {
    /// The most descriptors that go with one message.
    public static let descriptorCountMax = Int(RFS_DESCRIPTORS_MAX)

    /// A name in a directory that is known by its descriptor, as an address. Reaches also what lies below a
    /// directory that the process may not enter (proc(5), /proc/self/fd), and paths that are too long for an address.
    public struct Place: Sendable {
        private let path: [UInt8]

        /// - Parameters:
        ///   - directory: stays open for as long as the place is used; O_PATH is enough.
        ///   - name: short, without a slash.
        public init(_ name: String, in directory: Int32) {
            path = Array("/proc/self/fd/\(directory)/\(name)".utf8)
        }

        fileprivate func withAddress<Result>(
            _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
        ) throws(Errno) -> Result {
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            guard path.count < MemoryLayout.size(ofValue: address.sun_path) else {
                throw .fileNameTooLong
            }
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
            return withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        }
    }

    /// What came with bytes of a socket; what is not taken is closed.
    public final class Received: Sendable {
        private let descriptors: Monitor<[Int32]>
        /// How many came.
        public let count: Int
        /// Whether more came than there was room for: in the message, or in the process.
        public let isCut: Bool

        fileprivate init(_ descriptors: [Int32], isCut: Bool) {
            count = descriptors.count
            self.descriptors = Monitor(descriptors)
            self.isCut = isCut
        }

        /// The first that is left.
        public func take() -> OwnedDescriptor? {
            let raw: Int32? = descriptors.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            guard let raw else { return nil }
            return OwnedDescriptor(raw)
        }

        deinit {
            for raw in descriptors.withLock({ $0 }) { close(raw) }
        }
    }

    /// Listens at a place where nothing is, for whoever the mode lets connect.
    public static func listen(
        at place: Place, named name: String, in directory: Int32, mode: UInt32, backlog: Int32
    ) throws(Errno) -> OwnedDescriptor {
        let socket = try make()
        let code = try place.withAddress { bind(socket.raw, $0, $1) == 0 ? 0 : errno }
        guard code == 0 else { throw Errno(rawValue: code) }
        // Nobody can connect before listen(2), so the mode is right in time.
        guard fchmodat(directory, name, mode, 0) == 0, Glibc.listen(socket.raw, backlog) == 0 else {
            throw Errno(rawValue: errno)
        }
        return socket
    }

    /// Connects.
    ///
    /// - Throws: ENOENT or ECONNREFUSED where nobody listens, EAGAIN where too many wait already.
    public static func connect(to place: Place) throws(Errno) -> OwnedDescriptor {
        let socket = try make()
        while true {
            let code = try place.withAddress { Glibc.connect(socket.raw, $0, $1) == 0 ? 0 : errno }
            if code == 0 { return socket }
            guard code == EINTR else { throw Errno(rawValue: code) }
        }
    }

    /// Takes a connection that waits.
    ///
    /// - Throws: EAGAIN where none does, EINVAL once the socket is shut down.
    public static func accept(_ socket: Int32) throws(Errno) -> OwnedDescriptor {
        while true {
            let raw = rfs_accept(socket)
            if raw >= 0 { return OwnedDescriptor(raw) }
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
    }

    /// Two connected sockets.
    public static func pair() throws(Errno) -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
        return (ends[0], ends[1])
    }

    /// The user at the other end, as it was when the connection was made (SO_PEERCRED): of a client's socket,
    /// who listens.
    public static func peer(_ socket: Int32) throws(Errno) -> UInt32 {
        var process: Int32 = 0
        var user: UInt32 = 0
        guard rfs_peer(socket, &process, &user) == 0 else { throw Errno(rawValue: errno) }
        return user
    }

    /// Ends both directions; whoever waits for the socket, here or at the other end, is woken.
    public static func shutDown(_ socket: Int32) {
        _ = Glibc.shutdown(socket, Int32(SHUT_RDWR))
    }

    /// Sends what there is room for, with descriptors beside the first byte.
    ///
    /// - Returns: how many bytes went.
    /// - Throws: EAGAIN where there is no room, EPIPE where the other end is closed.
    public static func send(
        _ bytes: UnsafeRawBufferPointer, with descriptors: [Int32] = [], to socket: Int32
    ) throws(Errno) -> Int {
        while true {
            let sent = rfs_send_with_descriptors(
                socket, bytes.baseAddress, bytes.count, descriptors, Int32(descriptors.count))
            if sent >= 0 { return sent }
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
    }

    /// Receives what there is.
    ///
    /// - Returns: how many bytes came, 0 at the end, and the descriptors beside them, if any.
    /// - Throws: EAGAIN where there is nothing yet.
    public static func receive(
        into room: UnsafeMutableRawBufferPointer, from socket: Int32
    ) throws(Errno) -> (count: Int, received: Received?) {
        var descriptors = [Int32](repeating: -1, count: descriptorCountMax)
        var count: Int32 = 0
        var isCut: Int32 = 0
        while true {
            let received = rfs_receive_with_descriptors(
                socket, room.baseAddress, room.count, &descriptors, &count, &isCut)
            if received >= 0 {
                let hasNone = count == 0 && isCut == 0
                return (
                    received,
                    hasNone
                        ? nil : Received(Array(descriptors.prefix(Int(count))), isCut: isCut != 0)
                )
            }
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
    }

    private static let type = Int32(
        SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)

    private static func make() throws(Errno) -> OwnedDescriptor {
        let raw = socket(AF_UNIX, type, 0)
        guard raw >= 0 else { throw Errno(rawValue: errno) }
        return OwnedDescriptor(raw)
    }
}

extension Sys {
    /// A pipe whose ends never block (pipe2(2)).
    public static func pipe() throws(Errno) -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        guard rfs_pipe(&ends) == 0 else { throw Errno(rawValue: errno) }
        return (ends[0], ends[1])
    }

    /// Waits until one of some descriptors has what is asked for, or its other end is gone (poll(2)).
    ///
    /// - Parameters:
    ///   - descriptors: to read from, or to write to where `writing`.
    ///   - milliseconds: nil for as long as it takes.
    /// - Returns: for each whether it has; none has when the time is over.
    public static func wait(
        for descriptors: [Int32], writing: Bool = false, milliseconds: Int64?
    ) throws(Errno) -> [Bool] {
        let events = Int16(writing ? POLLOUT : POLLIN)
        var entries = descriptors.map { pollfd(fd: $0, events: events, revents: 0) }
        let end = milliseconds.map { MonotonicClock.milliseconds + max(0, $0) }
        while true {
            let left = end.map { Int32(clamping: max(0, $0 - MonotonicClock.milliseconds)) } ?? -1
            if poll(&entries, nfds_t(entries.count), left) >= 0 {
                return entries.map { $0.revents != 0 }
            }
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
    }

    /// Whether a descriptor is open for reading and for nothing else (F_GETFL of fcntl(2)).
    public static func isReadOnly(_ descriptor: Int32) throws(Errno) -> Bool {
        let flags = fcntl(descriptor, F_GETFL)
        guard flags >= 0 else { throw Errno(rawValue: errno) }
        return flags & O_ACCMODE == O_RDONLY && flags & pathOnly == 0
    }
}
