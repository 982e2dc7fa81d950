internal import Foundation

/// A client that shows what really came: trailers, and whether the end is missing.
///
/// One connection a request. Blocks; gives up after `timeoutSeconds` without a byte.
public struct RawClient: Sendable {
    /// What came back.
    public struct Response: Sendable {
        /// The status of the reply, as 200.
        public var status: Int
        /// In the order in which they came.
        public var headers: [(name: String, value: String)]
        /// De-chunked.
        public var body: [UInt8]
        public var trailers: [(name: String, value: String)]
        /// Whether the body ended before it said.
        public var isCut: Bool

        /// The first header of that name, whatever its case.
        public func header(_ name: String) -> String? {
            headers.first { $0.name.lowercased() == name.lowercased() }?.value
        }

        /// The body as text.
        public var text: String { String(decoding: body, as: UTF8.self) }
        /// The trailer `X-Stream-Error`.
        public var streamError: String? {
            trailers.first { $0.name.lowercased() == "x-stream-error" }?.value
        }
    }

    /// Why there is no reply.
    public enum Failure: Error {
        case badAddress(String)
        case notConnected(errno: Int32)
        /// The connection ended before the head of the reply did.
        case noReply
    }

    private enum Endpoint: Sendable {
        case port(String, UInt16)
        case unix(String)
    }

    private let endpoint: Endpoint
    private let timeoutSeconds: Int

    /// - Parameter address: `http://127.0.0.1:5001`, `/ip4/127.0.0.1/tcp/5001` or `/unix/PATH`;
    ///   IPv4 only.
    public init(_ address: String, timeoutSeconds: Int = 60) throws(Failure) {
        self.timeoutSeconds = timeoutSeconds
        let parts = address.split(separator: "/").map { String($0) }
        if address.hasPrefix("/unix/") {
            endpoint = .unix(String(address.dropFirst(5)))
        } else if address.hasPrefix("/ip4/"), parts.count >= 4, let port = UInt16(parts[3]) {
            endpoint = .port(parts[1], port)
        } else if address.hasPrefix("http://"), parts.count > 1,
            let colon = parts[1].firstIndex(of: ":"),
            let port = UInt16(parts[1][parts[1].index(after: colon)...])
        {
            let host = String(parts[1][..<colon])
            endpoint = .port(host == "localhost" ? "127.0.0.1" : host, port)
        } else {
            throw .badAddress(address)
        }
    }

    /// Sends a request and reads the reply to its end.
    ///
    /// - Parameter headers: besides Host, Connection and Content-Length.
    public func send(
        _ method: String = "POST", _ target: String, headers: [String: String] = [:],
        body: [UInt8] = []
    ) throws(Failure) -> Response {
        let descriptor = try connect()
        defer { close(descriptor) }
        var head = "\(method) \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        head += "Content-Length: \(body.count)\r\n\r\n"
        // A reply may come before the request is taken, and the connection end then.
        write(Array(head.utf8) + body, to: descriptor)
        return try Self.parse(read(descriptor), isBodiless: method == "HEAD")
    }

    /// A body with one part for each file.
    public static func multipart(
        _ parts: [[UInt8]], name: String = "data"
    ) -> (headers: [String: String], body: [UInt8]) {
        let boundary = "registryfs-test-boundary"
        var body: [UInt8] = []
        for part in parts {
            body +=
                Array(
                    ("--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"; "
                        + "filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\n").utf8)
            body += part
            body += Array("\r\n".utf8)
        }
        body += Array("--\(boundary)--\r\n".utf8)
        return (["Content-Type": "multipart/form-data; boundary=\(boundary)"], body)
    }

    private func connect() throws(Failure) -> Int32 {
        let descriptor: Int32
        let result: Int32
        switch endpoint {
        case .port(let host, let port):
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = inet_addr(host)
            result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        case .unix(let path):
            descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let bytes = Array(path.utf8)
            guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
                close(descriptor)
                throw .badAddress(path)
            }
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
            result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        }
        guard result == 0 else {
            let error = errno
            close(descriptor)
            throw .notConnected(errno: error)
        }
        var time = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }

    private func write(_ bytes: [UInt8], to descriptor: Int32) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Foundation.send(
                    descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done,
                    Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            done += count
        }
    }

    private func read(_ descriptor: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            // On the thread that made a mount's rings, work of theirs may interrupt it.
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return bytes }
            bytes += buffer[..<count]
        }
    }

    private static func parse(_ bytes: [UInt8], isBodiless: Bool) throws(Failure) -> Response {
        var rest = bytes[...]
        var lines = try takeHeaders(&rest)
        // What says "go on" is no reply.
        while lines.first?.contains(" 100 ") == true { lines = try takeHeaders(&rest) }
        guard let first = lines.first,
            let status = first.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { throw .noReply }
        var response = Response(
            status: status, headers: fields(lines.dropFirst()), body: [], trailers: [],
            isCut: false)
        if isBodiless { return response }
        if response.header("Transfer-Encoding") == "chunked" {
            response.isCut = !takeChunks(&rest, &response)
        } else if let length = response.header("Content-Length").flatMap({ Int($0) }) {
            response.body = Array(rest.prefix(length))
            response.isCut = rest.count < length
        } else {
            response.body = Array(rest)
        }
        return response
    }

    private static func takeLine(_ rest: inout ArraySlice<UInt8>) -> String? {
        guard let end = rest.firstIndex(of: 0x0a) else { return nil }
        let line = rest[..<end]
        rest = rest[(end + 1)...]
        return String(decoding: line.last == 0x0d ? line.dropLast() : line, as: UTF8.self)
    }

    private static func takeHeaders(_ rest: inout ArraySlice<UInt8>) throws(Failure) -> [String] {
        var lines: [String] = []
        while true {
            guard let line = takeLine(&rest) else { throw .noReply }
            if line.isEmpty { return lines }
            lines.append(line)
        }
    }

    private static func fields(_ lines: some Sequence<String>) -> [(name: String, value: String)] {
        lines.compactMap { line in
            line.firstIndex(of: ":").map { colon in
                (
                    String(line[..<colon]),
                    line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
                )
            }
        }
    }

    /// - Returns: whether the end was there.
    private static func takeChunks(
        _ rest: inout ArraySlice<UInt8>, _ response: inout Response
    ) -> Bool {
        while true {
            guard let line = takeLine(&rest), let count = Int(line, radix: 16) else { return false }
            if count == 0 {
                guard let lines = try? takeHeaders(&rest) else { return false }
                response.trailers = fields(lines)
                return true
            }
            response.body += rest.prefix(count)
            guard rest.count >= count + 2 else { return false }
            rest = rest.dropFirst(count + 2)
        }
    }
}
