import Glibc
import Synchronization

/// Pushes and pulls images with as little work of its own as can be: ready blobs, six connections
/// that stay open, bodies that are thrown away. What takes time is then the registry and its disk.
///
/// Requests as the OCI distribution specification 1.1 has them (a blob by POST, PATCH and PUT).
struct LeanClient {
    static let connectionCount = 6

    let port: UInt16

    func push(_ image: Image, _ name: String) throws(Failure) {
        try eachBlob(image) { connection, blob throws(Failure) in
            let opened = try connection.exchange(
                "POST", "/v2/\(name)/blobs/uploads/", expecting: 202)
            let sent = try connection.exchange(
                "PATCH", try opened.location(), body: image.bytes(blob),
                type: "application/octet-stream", expecting: 202)
            let location = try sent.location()
            let joint = location.contains("?") ? "&" : "?"
            _ = try connection.exchange(
                "PUT", "\(location)\(joint)digest=sha256%3A\(blob.digest)", expecting: 201)
        }
        let connection = try Connection(port: port)
        var failure: Failure?
        image.manifest.withUnsafeBytes { raw in
            do throws(Failure) {
                _ = try connection.exchange(
                    "PUT", "/v2/\(name)/manifests/latest", body: raw, type: Image.manifestType,
                    expecting: 201)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    func pull(_ image: Image, _ name: String) throws(Failure) {
        let connection = try Connection(port: port)
        let manifest = try connection.exchange(
            "GET", "/v2/\(name)/manifests/latest", expecting: 200)
        guard manifest.bodyCount == image.manifest.count else {
            throw Failure("the manifest of \(name) has \(manifest.bodyCount) bytes")
        }
        try eachBlob(image) { connection, blob throws(Failure) in
            let answer = try connection.exchange(
                "GET", "/v2/\(name)/blobs/sha256:\(blob.digest)", expecting: 200)
            guard answer.bodyCount == blob.count else {
                throw Failure("blob \(blob.digest) has \(answer.bodyCount) bytes")
            }
        }
    }

    /// Each connection takes the next blob that nobody has taken.
    private func eachBlob(
        _ image: Image,
        _ body: @escaping @Sendable (Connection, Image.Blob) throws(Failure) -> Void
    ) throws(Failure) {
        let taken = Counter()
        let port = port
        try onThreads(Self.connectionCount) { _ throws(Failure) in
            let connection = try Connection(port: port)
            while true {
                let index = taken.next()
                guard index < image.blobs.count else { return }
                try body(connection, image.blobs[index])
            }
        }
    }
}

private final class Counter: Sendable {
    private let value = Atomic<Int>(0)

    func next() -> Int { value.add(1, ordering: .relaxed).oldValue }
}

/// A connection to a server on the loopback, which stays open from one request to the next
/// (HTTP/1.1, RFC 9112). One thread uses it.
final class Connection {
    struct Answer {
        let path: String
        let headers: [(name: Substring, value: Substring)]
        var bodyCount = 0

        func header(_ name: String) -> Substring? {
            headers.first { $0.name.lowercased() == name }?.value
        }

        /// Where the server says to go on, as a path with its query.
        func location() throws(Failure) -> String {
            guard let text = header("location") else { throw Failure("\(path): no Location") }
            guard let scheme = text.firstRange(of: "://") else { return String(text) }
            guard let slash = text[scheme.upperBound...].firstIndex(of: "/") else { return "/" }
            return String(text[slash...])
        }
    }

    private let descriptor: Int32
    private let port: UInt16
    private let buffer = Memory(count: 1 << 20)

    init(port: UInt16) throws(Failure) {
        self.port = port
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(call: "socket", "\(port)") }
        var one: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, size)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw Failure(call: "connect", "127.0.0.1:\(port)") }
    }

    deinit {
        close(descriptor)
    }

    /// Sends a request, reads the whole answer, and throws its body away.
    func exchange(
        _ method: String, _ path: String,
        body: UnsafeRawBufferPointer = .init(start: nil, count: 0), type: String? = nil,
        expecting status: Int
    ) throws(Failure) -> Answer {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n"
        head += "Accept: \(Image.manifestType), */*\r\n"
        if let type { head += "Content-Type: \(type)\r\n" }
        if method != "GET" { head += "Content-Length: \(body.count)\r\n" }
        head += "\r\n"
        try send(ContiguousArray(head.utf8), body)
        return try receive("\(method) \(path)", expecting: status)
    }

    private func send(
        _ head: ContiguousArray<UInt8>, _ body: UnsafeRawBufferPointer
    ) throws(Failure) {
        var isSent = head.withUnsafeBytes { sendAll($0, more: !body.isEmpty) }
        if isSent && !body.isEmpty { isSent = sendAll(body, more: false) }
        guard isSent else { throw Failure(call: "send", "127.0.0.1:\(port)") }
    }

    private func sendAll(_ bytes: UnsafeRawBufferPointer, more: Bool) -> Bool {
        let flags = Int32(MSG_NOSIGNAL) | (more ? Int32(MSG_MORE) : 0)
        var done = 0
        while done < bytes.count {
            let count = Glibc.send(
                descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, flags)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            done += count
        }
        return true
    }

    private func receive(_ request: String, expecting status: Int) throws(Failure) -> Answer {
        var filled = 0
        var headCount: Int?
        while headCount == nil {
            guard filled < 1 << 16 else { throw Failure("\(request): the head is too long") }
            filled += try receive(into: filled, request)
            headCount = endOfHead(filled)
        }
        let end = headCount ?? 0
        let text = String(decoding: buffer.bytes[0..<end], as: UTF8.self)
        let lines = text.split(separator: "\r\n")
        let words = (lines.first ?? "").split(separator: " ")
        let headers = lines.dropFirst().compactMap { line -> (Substring, Substring)? in
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            return (line[..<colon], value)
        }
        var answer = Answer(path: request, headers: headers)
        let length = answer.header("content-length").flatMap { Int($0) }
        guard words.count > 1, Int(words[1]) == status else {
            throw Failure("\(request): \(lines.first ?? "no answer"), not \(status)")
        }
        guard let length, length >= 0 else { throw Failure("\(request): no Content-Length") }
        answer.bodyCount = filled - end
        while answer.bodyCount < length {
            answer.bodyCount += try receive(into: 0, request)
        }
        guard answer.bodyCount == length else { throw Failure("\(request): too many bytes") }
        return answer
    }

    private func receive(into offset: Int, _ request: String) throws(Failure) -> Int {
        while true {
            let count = recv(
                descriptor, buffer.bytes.baseAddress?.advanced(by: offset),
                buffer.bytes.count - offset, 0)
            if count > 0 { return count }
            guard count < 0 else { throw Failure("\(request): the server has hung up") }
            guard errno == EINTR else { throw Failure(call: "recv", request) }
        }
    }

    /// How many of the bytes are the head with its empty line, once all of it is there.
    private func endOfHead(_ filled: Int) -> Int? {
        guard filled >= 4 else { return nil }
        let bytes = buffer.bytes
        for end in 4...filled
        where bytes[end - 1] == 10 && bytes[end - 2] == 13 && bytes[end - 3] == 10 {
            return end
        }
        return nil
    }
}
