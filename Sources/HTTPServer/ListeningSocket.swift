internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

/// Who may connect to a unix socket: whoever may write to its file.
public struct SocketAccess: Hashable, Sendable {
    /// Permission bits.
    public var mode: UInt32
    /// The file's group; nil for that of the process.
    public var group: UInt32?

    public init(mode: UInt32 = 0o660, group: UInt32? = nil) {
        self.mode = mode
        self.group = group
    }
}

/// A socket that listens already: bound here, before privileges are given up, or by whoever started this process.
///
/// A server accepts on a copy of the descriptor, so the socket outlives it; connections wait in its backlog from the moment
/// it is made.
public final class ListeningSocket: Sendable {
    /// The file of a unix socket that was made here.
    private struct Name: Sendable {
        var path: String
        var device: UInt64
        var inode: UInt64
    }

    /// The address that it is bound to, with the port that it got.
    public let address: ListenAddress
    private let raw: Int32
    private let isOwn: Bool
    private let backlog: Int32
    private let name: Name?

    private init(
        _ raw: Int32, _ address: ListenAddress, isOwn: Bool, backlog: Int32, name: Name? = nil
    ) {
        self.raw = raw
        self.backlog = backlog
        self.address = address
        self.isOwn = isOwn
        self.name = name
    }

    deinit {
        // What was inherited is for others to use again.
        if isOwn { close(raw) }
    }

    /// The number, for as long as this object lives, for whoever hands the socket to another process.
    public var descriptor: Int32 { raw }

    /// Binds and listens. A name may have several addresses: each that this machine has gets a socket, and all of them the port of
    /// the first one.
    ///
    /// - Parameters:
    ///   - access: to the file of a unix socket. One that nobody listens at any more is replaced.
    ///   - backlog: connections that wait to be accepted (listen(2)); 1 or more.
    /// - Throws: what failed, in one line.
    public static func open(
        _ address: ListenAddress, access: SocketAccess = SocketAccess(), backlog: Int32 = 1024
    ) throws(ServerFailure) -> [ListeningSocket] {
        switch address {
        case .unix(let path):
            return [try openUnix(path, access, backlog: max(1, backlog))]
        case .network(let host, let port):
            var sockets: [ListeningSocket] = []
            var port = port
            var failure: ServerFailure?
            for candidate in try SocketName.resolve(host, port: port) {
                do throws(ServerFailure) {
                    let socket = try openNetwork(
                        candidate, port: port, of: address, backlog: max(1, backlog))
                    if case .network(_, let bound) = socket.address { port = bound }
                    sockets.append(socket)
                } catch {
                    // As of "localhost", where IPv6 is turned off.
                    guard error.isOfAddress else { throw error }
                    failure = error
                }
            }
            if sockets.isEmpty, let failure { throw failure }
            return sockets
        }
    }

    /// The most sockets that a process takes over.
    public static let inheritedMax = 64

    /// The sockets that systemd hands over (sd_listen_fds(3)): LISTEN_FDS of them from descriptor 3 on, where LISTEN_PID is this
    /// process. Whoever starts other processes takes these variables out of its environment.
    ///
    /// - Returns: none, where the variables are not there or are another process's.
    public static func inherited(
        _ environment: [String: String]
    ) throws(ServerFailure) -> [ListeningSocket] {
        guard let process = environment["LISTEN_PID"], Int32(process) == getpid(),
            let text = environment["LISTEN_FDS"]
        else { return [] }
        guard let count = Int32(text), (0...Int32(inheritedMax)).contains(count) else {
            throw ServerFailure("LISTEN_FDS is '\(text.prefix(20))', not 0 to \(inheritedMax)")
        }
        var sockets: [ListeningSocket] = []
        for number in 3..<3 + count { sockets.append(try taking(descriptor: number)) }
        return sockets
    }

    /// Takes over a descriptor that listens already; it is never closed, for it is for others to use again. A copy of it is not
    /// left to programs that this process starts.
    public static func taking(descriptor: Int32) throws(ServerFailure) -> ListeningSocket {
        var listens: Int32 = 0
        var type: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        var sizeOfType = size
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0,
            getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &sizeOfType) == 0,
            listens != 0, type == Int32(SOCK_STREAM.rawValue),
            let address = SocketName.local(of: descriptor)
        else {
            throw ServerFailure("descriptor \(descriptor) is no stream socket that listens")
        }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        return ListeningSocket(descriptor, address, isOwn: false, backlog: 4096)
    }

    /// A copy of the descriptor, closed by the caller.
    func copy() throws(ServerFailure) -> Int32 {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else {
            throw ServerFailure("listening at \(address): \(Errno(rawValue: errno))")
        }
        return copy
    }

    /// Sets the backlog again, which NIO has set to its own when it took over a copy.
    func restoreBacklog() {
        _ = listen(raw, backlog)
    }

    /// Removes the file of a unix socket that was made here, if it still is that file.
    public func removeName() {
        guard let name else { return }
        guard let status = Self.status(of: name.path), status.device == name.device,
            status.inode == name.inode
        else { return }
        unlink(name.path)
    }

    // MARK: Making

    private static func openNetwork(
        _ candidate: SocketName, port: UInt16, of address: ListenAddress, backlog: Int32
    ) throws(ServerFailure) -> ListeningSocket {
        let descriptor = try make(candidate.family, for: address)
        set(descriptor.raw, SOL_SOCKET, SO_REUSEADDR, 1)
        if candidate.family == AF_INET6 {
            // [::] is for IPv4 too; every other address is one of IPv6 only whatever this says.
            set(
                descriptor.raw, Int32(IPPROTO_IPV6), IPV6_V6ONLY,
                candidate.isForBothFamilies ? 0 : 1)
        }
        try candidate.withAddress(port: port) { (pointer, length) throws(ServerFailure) in
            guard bind(descriptor.raw, pointer, length) == 0 else { throw failure("bind", address) }
        }
        guard listen(descriptor.raw, backlog) == 0 else { throw failure("listen", address) }
        guard let bound = SocketName.local(of: descriptor.raw) else {
            throw failure("getsockname", address)
        }
        return ListeningSocket(descriptor.take(), bound, isOwn: true, backlog: backlog)
    }

    private static func openUnix(
        _ path: String, _ access: SocketAccess, backlog: Int32
    ) throws(ServerFailure) -> ListeningSocket {
        let address = ListenAddress.unix(path: path)
        guard let name = SocketName(unixPath: path) else {
            throw ServerFailure("listening at \(address): the path is longer than 107 bytes")
        }
        try removeDead(path, name, address)
        let descriptor = try make(AF_UNIX, for: address)
        try name.withAddress(port: 0) { (pointer, length) throws(ServerFailure) in
            guard bind(descriptor.raw, pointer, length) == 0 else { throw failure("bind", address) }
        }
        // Nobody can connect before listen(2), so both are right in time.
        if let group = access.group {
            guard lchown(path, uid_t.max, group) == 0 else {
                throw failure("giving it to group \(group)", address)
            }
        }
        guard chmod(path, mode_t(access.mode & 0o777)) == 0 else {
            throw failure("chmod", address)
        }
        guard listen(descriptor.raw, backlog) == 0 else { throw failure("listen", address) }
        let made = status(of: path).map { Name(path: path, device: $0.device, inode: $0.inode) }
        return ListeningSocket(
            descriptor.take(), address, isOwn: true, backlog: backlog, name: made)
    }

    /// Removes a socket that its process has left behind: nobody answers at it.
    private static func removeDead(
        _ path: String, _ name: SocketName, _ address: ListenAddress
    ) throws(ServerFailure) {
        guard let found = status(of: path) else { return }
        guard found.isSocket else {
            throw ServerFailure("listening at \(address): there is a file that is no socket")
        }
        let probe = try make(AF_UNIX, for: address, flags: Int32(SOCK_NONBLOCK.rawValue))
        var code: Int32 = 0
        try name.withAddress(port: 0) { (pointer, length) throws(ServerFailure) in
            if connect(probe.raw, pointer, length) != 0 { code = errno }
        }
        guard code == ECONNREFUSED else {
            throw ServerFailure("listening at \(address): another process listens there")
        }
        guard unlink(path) == 0 else { throw failure("unlink", address) }
    }

    private static func make(
        _ family: Int32, for address: ListenAddress, flags: Int32 = 0
    ) throws(ServerFailure) -> OwnedDescriptor {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | flags
        let raw = socket(family, type, 0)
        guard raw >= 0 else { throw failure("socket", address) }
        return OwnedDescriptor(raw)
    }

    private static func set(_ raw: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(raw, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func failure(_ call: String, _ address: ListenAddress) -> ServerFailure {
        let code = errno
        return ServerFailure(
            "listening at \(address): \(call): \(Errno(rawValue: code))",
            isOfAddress: code == EADDRNOTAVAIL || code == EAFNOSUPPORT)
    }

    private static func status(
        of path: String
    ) -> (device: UInt64, inode: UInt64, isSocket: Bool)? {
        var found = stat()
        guard lstat(path, &found) == 0 else { return nil }
        return (UInt64(found.st_dev), UInt64(found.st_ino), found.st_mode & S_IFMT == S_IFSOCK)
    }
}
