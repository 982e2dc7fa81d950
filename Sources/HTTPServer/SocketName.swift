internal import Glibc

/// What bind(2) and connect(2) take.
struct SocketName: Sendable {
    let family: Int32
    private var bytes: [UInt8]

    private init(_ family: Int32, _ bytes: [UInt8]) {
        self.family = family
        self.bytes = bytes
    }

    /// The name of a unix socket; nil where the path is longer than it can be (unix(7)).
    init?(unixPath path: String) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        family = AF_UNIX
        bytes = withUnsafeBytes(of: &address) { Array($0) }
    }

    /// The addresses of a host, each once; an empty one is all addresses of both families, or of IPv4 where this machine
    /// has no IPv6. Blocks where a name server has to be asked.
    static func resolve(_ host: String, port: UInt16) throws(ServerFailure) -> [SocketName] {
        if host.isEmpty {
            let probe = socket(
                AF_INET6, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            if probe >= 0 { close(probe) }
            return try resolve(probe >= 0 ? "::" : "0.0.0.0", port: port)
        }
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        guard code == 0 else {
            let words = gai_strerror(code).map { String(cString: $0) } ?? "error \(code)"
            throw ServerFailure("host '\(host.prefix(80))': \(words)")
        }
        var names: [SocketName] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ai_next
            guard let address = entry.pointee.ai_addr else { continue }
            let family = entry.pointee.ai_family
            guard family == AF_INET || family == AF_INET6 else { continue }
            let bytes = Array(
                UnsafeRawBufferPointer(start: address, count: Int(entry.pointee.ai_addrlen)))
            if !names.contains(where: { $0.bytes == bytes }) {
                names.append(SocketName(family, bytes))
            }
        }
        guard !names.isEmpty else {
            throw ServerFailure("host '\(host.prefix(80))' has no address")
        }
        return names
    }

    /// Whether it is the IPv6 address that stands for all (`::`).
    var isForBothFamilies: Bool {
        // sockaddr_in6: family, port, flow information, 16 bytes of the address.
        family == AF_INET6 && bytes.count >= 24 && bytes[8..<24].allSatisfy { $0 == 0 }
    }

    /// Runs a body with the address, and a port in it where it is of a network.
    func withAddress(
        port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) throws(ServerFailure) -> Void
    ) throws(ServerFailure) {
        var bytes = bytes
        if family != AF_UNIX, bytes.count >= 4 {
            // Both families have the port behind the family, in the network's order.
            bytes[2] = UInt8(port >> 8)
            bytes[3] = UInt8(port & 0xff)
        }
        var storage = sockaddr_storage()
        let count = min(bytes.count, MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutableBytes(of: &storage) { $0.copyBytes(from: bytes[..<count]) }
        var failure: ServerFailure?
        withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
                do throws(ServerFailure) {
                    try body(general, socklen_t(count))
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
    }

    /// What a socket is bound to; nil for what is neither of a network nor a unix socket with a path.
    static func local(of descriptor: Int32) -> ListenAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(descriptor, $0, &length)
            }
        }
        guard code == 0 else { return nil }
        let bytes = withUnsafeBytes(of: &storage) { Array($0.prefix(Int(length))) }
        switch Int32(storage.ss_family) {
        case AF_UNIX:
            // unix(7): the path follows the family, and may end with a zero byte.
            let path = bytes.dropFirst(2).prefix { $0 != 0 }
            guard !path.isEmpty else { return nil }
            return .unix(path: String(decoding: path, as: UTF8.self))
        case AF_INET where bytes.count >= 8:
            let port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
            return .network(
                host: bytes[4..<8].map { String($0) }.joined(separator: "."), port: port)
        case AF_INET6 where bytes.count >= 24:
            let port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
            var six = in6_addr()
            withUnsafeMutableBytes(of: &six) { $0.copyBytes(from: bytes[8..<24]) }
            var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            guard inet_ntop(AF_INET6, &six, &text, socklen_t(INET6_ADDRSTRLEN)) != nil else {
                return nil
            }
            let characters = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            return .network(host: String(decoding: characters, as: UTF8.self), port: port)
        default:
            return nil
        }
    }
}
