import Foundation
import KuboDouble
import Testing

/// What was recorded from a real node, played to the double.
struct ReplayTests {
    /// What cannot be the same twice, and how it is compared nevertheless.
    private enum Volatile {
        /// As JSON, without these fields; a path of keys joined by dots.
        case fields([String])
        /// As lines in any order.
        case anyOrder
        /// The last line only.
        case lastLine
        /// As a tar file: what is in it, without the headers.
        case archive
    }

    private static let volatiles: [String: Volatile] = [
        // Ports are taken from what is free.
        "config show": .fields(["Addresses.API", "Addresses.Gateway"]),
        // The numbers between depend on how the body came in.
        "add with progress": .lastLine,
        // A tar file holds the time when it was made.
        "get tar": .archive,
        // Keys are random.
        "key gen": .fields(["Id"]),
        "key ls": .fields(["Keys.Id"]),
        "name publish offline allowed": .fields(["Name"]),
        // In the order of a directory on disk.
        "repo gc": .anyOrder,
    ]

    /// What the double does not do, with the reason.
    private static let notReproduced: [String: String] = [:]

    private static let comparedHeaders = [
        "Content-Type", "Trailer", "X-Chunked-Output", "X-Stream-Output", "X-Content-Length",
        "Allow", "Server", "Vary", "X-Content-Type-Options", "Content-Length", "Transfer-Encoding",
        "Access-Control-Allow-Headers", "Access-Control-Expose-Headers", "Accept-Ranges",
        "Cache-Control", "Content-Disposition", "Content-Location", "Content-Range", "Location",
        "X-Ipfs-Path", "X-Ipfs-Roots",
    ]

    @Test func doubleReproducesEveryRecordedExchange() throws {
        let node = try DoubleNode()
        defer { node.stop() }
        let clients = [
            "rpc": try RawClient(node.address), "gateway": try RawClient(node.gatewayAddress),
        ]
        var count = 0
        for exchange in try TranscriptExchange.load() {
            let client = try #require(clients[exchange.request.to])
            if exchange.name.hasPrefix("auth:") {
                // The recorded node was restarted with this in its configuration.
                node.setAuthorizations([
                    DoubleNode.Authorization(
                        secret: "bearer:s3cret", allowedPaths: ["/api/v0/files"])
                ])
            }
            if exchange.name == "unflushed limit reached" {
                // Recorded were the first three of these.
                for index in 3..<255 {
                    let response = try client.send(
                        "POST", "/api/v0/files/mkdir?arg=/u\(index)&flush=false")
                    #expect(response.status == 200, "mkdir /u\(index)")
                }
            }
            let response = try client.send(
                exchange.request.method, exchange.request.target,
                headers: exchange.request.headers, body: exchange.requestBody())
            count += 1
            guard Self.notReproduced[exchange.name] == nil else { continue }
            let problems = Self.differences(exchange, response)
            #expect(problems.isEmpty, "\(exchange.name)")
        }
        // None was forgotten.
        #expect(count == 154)
        #expect(Self.notReproduced.count <= 3)
    }

    private static func differences(
        _ exchange: TranscriptExchange, _ response: RawClient.Response
    ) -> [String] {
        var problems: [String] = []
        let expected = exchange.response
        if response.status != expected.status {
            problems.append("status \(response.status), not \(expected.status)")
        }
        for name in comparedHeaders where response.header(name) != expected.headers[name] {
            problems.append(
                "\(name): \(response.header(name) ?? "nil"), not \(expected.headers[name] ?? "nil")"
            )
        }
        if tag(response.header("Etag")) != tag(expected.headers["Etag"]) {
            problems.append("Etag: \(response.header("Etag") ?? "nil")")
        }
        let trailers = Dictionary(
            response.trailers.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        if trailers != expected.trailers {
            problems.append("trailers \(trailers), not \(expected.trailers)")
        }
        if response.isCut != expected.cut { problems.append("cut \(response.isCut)") }
        if !isSameBody(exchange, response.body) {
            problems.append(
                "body \(response.text.prefix(600)), not \(expected.body.text?.prefix(600) ?? "…")")
        }
        return problems
    }

    /// A tag without what stands behind the last dot of an archive's, a hash of Kubo's own.
    private static func tag(_ text: String?) -> Substring? {
        guard let text else { return nil }
        return text.contains(".car.")
            ? text[..<(text.lastIndex(of: ".") ?? text.endIndex)] : text[...]
    }

    private static func isSameBody(_ exchange: TranscriptExchange, _ body: [UInt8]) -> Bool {
        let expected = exchange.response.body
        switch volatiles[exchange.name] {
        case nil: return expected.matches(body)
        case .archive:
            return [body, expected.bytes ?? []].allSatisfy { $0.count % 512 == 0 }
                && contents(body) == contents(expected.bytes ?? [])
        case .anyOrder: return lines(body).sorted() == lines(expected.bytes ?? []).sorted()
        case .lastLine: return lines(body).last == lines(expected.bytes ?? []).last
        case .fields(let fields):
            return json(body, without: fields) == json(expected.bytes ?? [], without: fields)
        }
    }

    /// The content of the only file in a tar file, and its name; extended headers are skipped.
    private static func contents(_ archive: [UInt8]) -> [UInt8] {
        var rest = archive[...]
        while rest.count >= 512 {
            let header = Array(rest.prefix(512))
            let size = String(decoding: header[124..<135], as: UTF8.self)
            guard let count = Int(size, radix: 8) else { return [] }
            rest = rest.dropFirst(512)
            guard header[156] == UInt8(ascii: "x") else {
                return Array(header[..<100] + rest.prefix(count))
            }
            rest = rest.dropFirst((count + 511) / 512 * 512)
        }
        return []
    }

    private static func lines(_ bytes: [UInt8]) -> [String] {
        String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { String($0) }
    }

    /// The value with sorted keys as text; nil if it is none.
    private static func json(_ bytes: [UInt8], without fields: [String]) -> String? {
        guard var value = try? JSONSerialization.jsonObject(with: Data(bytes)) else { return nil }
        for field in fields { value = removing(field.split(separator: ".")[...], from: value) }
        let data = try? JSONSerialization.data(withJSONObject: value, options: [.sortedKeys])
        return data.map { String(decoding: $0, as: UTF8.self) }
    }

    private static func removing(_ path: ArraySlice<Substring>, from value: Any) -> Any {
        guard let key = path.first.map({ String($0) }) else { return value }
        if let elements = value as? [Any] { return elements.map { removing(path, from: $0) } }
        guard var members = value as? [String: Any] else { return value }
        members[key] =
            path.count == 1 ? nil : members[key].map { removing(path.dropFirst(), from: $0) }
        return members
    }
}
