internal import Foundation
internal import MerkleDAG
internal import Multiformats

/// The node's gateway: blocks, archives, and files with ranges.
///
/// Source: https://specs.ipfs.tech/http-gateways/trustless-gateway
struct Gateway {
    private static let fetchSeconds = 30.0
    private static let common = [
        ("Access-Control-Allow-Headers", "X-Requested-With"),
        ("Access-Control-Allow-Methods", "OPTIONS"), ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "X-Stream-Output"),
    ]

    let exchange: Exchange
    let node: DoubleNode
    let faults: [Fault]
    private let path: String
    private let query: [String: String]
    private let deadline = Date(timeIntervalSinceNow: Self.fetchSeconds)

    /// Answers one request; whoever cannot be answered is gone.
    static func answer(_ exchange: Exchange, _ node: DoubleNode) {
        let faults = node.switches.take("gateway")
        node.switches.count("gateway") { $0.calls += 1 }
        let gateway = Gateway(exchange, node, faults)
        do throws(Halt) {
            try gateway.answer()
        } catch {
            exchange.cut()
        }
    }

    private init(_ exchange: Exchange, _ node: DoubleNode, _ faults: [Fault]) {
        self.exchange = exchange
        self.node = node
        self.faults = faults
        let target = exchange.head.target.split(separator: "?", maxSplits: 1)
        path = String(
            decoding: URLText.unescaped(Array((target.first ?? "").utf8)), as: UTF8.self)
        var query: [String: String] = [:]
        for pair in (target.count > 1 ? target[1] : "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            query[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
        }
        self.query = query
    }

    private enum Format {
        case raw
        case car
        case file
    }

    private var format: Format {
        switch query["format"] {
        case "raw": return .raw
        case "car": return .car
        case .some: return .file
        case nil: break
        }
        let accept = exchange.head.header("Accept") ?? ""
        if accept.contains("application/vnd.ipld.raw") { return .raw }
        return accept.contains("application/vnd.ipld.car") ? .car : .file
    }

    private func answer() throws(Halt) {
        if try failOnPurpose() { return }
        guard ["GET", "HEAD"].contains(exchange.head.method) else {
            return try fail(405, "method \(exchange.head.method) not allowed")
        }
        let parts = path.split(separator: "/").map { String($0) }
        guard parts.count > 1, ["ipfs", "ipns"].contains(parts[0]) else {
            return try fail(404, "404 page not found")
        }
        guard parts[0] == "ipfs" else {
            return try fail(
                400, "invalid cid: selected encoding not supported", extra: [("X-Ipfs-Path", path)])
        }
        guard let root = try? CID(parsing: parts[1]) else {
            return try fail(
                400,
                "invalid path \"\(path)\": invalid cid: selected encoding not supported")
        }
        do throws(Halt) {
            var roots = [root]
            for name in parts.dropFirst(2) {
                guard let cid = try child(Array(name.utf8), of: roots[roots.count - 1]) else {
                    return try fail(
                        404,
                        "failed to resolve \(path): no link named \"\(name)\" under "
                            + "\(roots[roots.count - 1])", extra: [("X-Ipfs-Path", path)])
                }
                roots.append(cid)
            }
            try serve(roots)
        } catch .error(let error) {
            guard !exchange.isStarted else { throw .gone }
            if exchange.head.header("Cache-Control") == "only-if-cached" {
                return try fail(412, "\"\(path)\" not in local datastore")
            }
            try fail(
                error.message.contains("deadline") ? 504 : 404,
                "failed to resolve \(path): \(error.message)", extra: [("X-Ipfs-Path", path)])
        } catch {
            throw error
        }
    }

    func fail(
        _ status: Int, _ message: String, extra: [(String, String)] = []
    ) throws(Halt) {
        let body = Array((message + "\n").utf8)
        try exchange.start(
            status: status,
            headers: Self.common + extra + [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("X-Content-Type-Options", "nosniff"), ("Content-Length", "\(body.count)"),
            ])
        if exchange.head.method != "HEAD" { try exchange.write(body) }
        try exchange.end(trailers: [])
    }

    // MARK: Blocks

    private func block(_ cid: CID) throws(Halt) -> [UInt8] {
        if cid.multihash.code == .identity { return cid.multihash.digest }
        while true {
            if let block = node.blocks.block(cid.multihash) { return block }
            guard !node.isOffline, exchange.head.header("Cache-Control") != "only-if-cached" else {
                throw .error(.missing(cid))
            }
            let isThere = node.blocks.wait(for: cid.multihash, until: deadline) {
                exchange.isGone || node.isStopped
            }
            if exchange.isGone || node.isStopped { throw .gone }
            guard isThere else { throw .error(.expired) }
        }
    }

    private struct Source: BlockSource {
        let gateway: Gateway

        func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
            do throws(Halt) {
                return try gateway.block(cid)
            } catch {
                throw BlockUnavailable(cid, cause: error)
            }
        }
    }

    private func reading<Result>(
        _ body: (Source) throws(DAGReadError) -> Result
    ) throws(Halt) -> Result {
        do throws(DAGReadError) {
            return try body(Source(gateway: self))
        } catch {
            throw Call.halt(error)
        }
    }

    private func child(_ name: [UInt8], of cid: CID) throws(Halt) -> CID? {
        try reading { (source) throws(DAGReadError) in
            guard case .directory = try source.unixfsEntry(cid) else { return nil }
            return try DirectoryReader(root: cid, source: source).entry(name)?.cid
        }
    }

    // MARK: Replies

    private func serve(_ roots: [CID]) throws(Halt) {
        let cid = roots[roots.count - 1]
        let ends = [
            ("X-Ipfs-Path", path),
            ("X-Ipfs-Roots", roots.map { $0.description }.joined(separator: ",")),
        ]
        let cached = ("Cache-Control", "public, max-age=29030400, immutable")
        func attachment(_ suffix: String) -> (String, String) {
            let name = "\(cid).\(suffix)"
            return (
                "Content-Disposition",
                "attachment; filename=\"\(name)\"; filename*=UTF-8''\(name)"
            )
        }
        switch format {
        case .raw:
            let block = try block(cid)
            var headers =
                Self.common + ends + [
                    cached, attachment("bin"), ("Content-Type", "application/vnd.ipld.raw"),
                    ("Etag", "\"\(cid).raw\""), ("X-Content-Type-Options", "nosniff"),
                ]
            if query["format"] == nil { headers.append(("Content-Location", path + "?format=raw")) }
            try sendRange(UInt64(block.count), headers) { (range, send) throws(Halt) in
                try send(Array(block[Int(range.lowerBound)..<Int(range.upperBound)]))
            }
        case .car:
            // The last thing in the tag is a hash of what was asked for.
            let headers =
                Self.common + ends + [
                    ("Accept-Ranges", "none"), cached, attachment("car"),
                    (
                        "Content-Type",
                        "application/vnd.ipld.car; version=1; order=dfs; dups=n"
                    ), ("Etag", "W/\"\(cid).car.double\""), ("X-Content-Type-Options", "nosniff"),
                ]
            try sendArchive(roots, headers)
        case .file:
            try serveFile(cid, Self.common + ends, cached)
        }
    }

    private func serveFile(
        _ cid: CID, _ headers: [(String, String)], _ cached: (String, String)
    ) throws(Halt) {
        let entry = try reading { (source) throws(DAGReadError) in try source.unixfsEntry(cid) }
        if case .directory = entry {
            guard path.hasSuffix("/") else {
                let body = "<a href=\"\(path)/\">Moved Permanently</a>.\n\n"
                try exchange.start(
                    status: 301,
                    headers: headers + [
                        ("Content-Type", "text/html; charset=utf-8"), ("Location", path + "/"),
                        ("Content-Length", "\(body.utf8.count)"),
                    ])
                try exchange.write(Array(body.utf8))
                return try exchange.end(trailers: [])
            }
            return try fail(501, "the double lists no directories")
        }
        var reader = try reading { (source) throws(DAGReadError) in
            try FileReader(root: cid, source: source)
        }
        try sendRange(
            reader.size, headers + [cached, ("Etag", "\"\(cid)\"")], isSniffing: true
        ) { (range, send) throws(Halt) in
            var offset = range.lowerBound
            while offset < range.upperBound {
                let leaf = try reading { (_) throws(DAGReadError) in try reader.leaf(at: offset) }
                guard let leaf else { return }
                let start = leaf.contentRange.lowerBound + Int(offset - leaf.fileRange.lowerBound)
                let end = min(range.upperBound, leaf.fileRange.upperBound)
                try send(Array(leaf.block[start..<(start + Int(end - offset))]))
                offset = end
            }
        }
    }

    // MARK: Bytes

    private typealias Send = ([UInt8]) throws(Halt) -> Void

    /// Whether the length of what is sent is not what was meant to be sent.
    private var isLengthFaulty: Bool {
        faults.contains { [.truncate, .extra].contains($0.kind) }
    }

    /// Answers with all, or with the range that was asked for.
    private func sendRange(
        _ size: UInt64, _ headers: [(String, String)], isSniffing: Bool = false,
        _ produce: (Range<UInt64>, Send) throws(Halt) -> Void
    ) throws(Halt) {
        var range = 0..<size
        var status = 200
        var headers = headers + [("Accept-Ranges", "bytes")]
        if let text = exchange.head.header("Range") {
            guard let asked = Self.range(text, size) else {
                return try fail(416, "invalid range: failed to overlap")
            }
            (range, status) = (asked, 206)
            headers.append(
                ("Content-Range", "bytes \(asked.lowerBound)-\(asked.upperBound - 1)/\(size)"))
        }
        if !isLengthFaulty { headers.append(("Content-Length", "\(range.count)")) }
        var isStarted = false
        func start(_ first: [UInt8]) throws(Halt) {
            guard !isStarted else { return }
            isStarted = true
            try exchange.start(
                status: status,
                headers: headers + (isSniffing ? [("Content-Type", Self.type(first))] : []))
        }
        var body = FaultyBody(exchange, faults: faults)
        if exchange.head.method != "HEAD" {
            try produce(range) { (piece) throws(Halt) in
                try start(piece)
                try body.write(piece)
            }
        }
        try start([])
        if exchange.head.method != "HEAD" { try body.finish() }
        try exchange.end(trailers: [])
        count(body)
    }

    private func count(_ body: FaultyBody) {
        node.switches.count("gateway") { $0.replyBytes += body.byteCount }
    }

    /// What the first bytes look like, as far as it matters: text or not.
    private static func type(_ bytes: [UInt8]) -> String {
        let isBinary = bytes.prefix(512).contains { byte in
            byte <= 0x08 || byte == 0x0b || (0x0e...0x1a).contains(byte)
                || (0x1c...0x1f).contains(byte)
        }
        return isBinary ? "application/octet-stream" : "text/plain; charset=utf-8"
    }

    /// One range, as `bytes=0-9`, `bytes=5-` or `bytes=-5`; nil if it names no byte.
    private static func range(_ text: String, _ size: UInt64) -> Range<UInt64>? {
        guard text.hasPrefix("bytes=") else { return nil }
        let parts = text.dropFirst(6).split(
            separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        if parts[0].isEmpty {
            guard let count = UInt64(parts[1]), count > 0, size > 0 else { return nil }
            return (size - min(count, size))..<size
        }
        guard let first = UInt64(parts[0]), first < size else { return nil }
        guard !parts[1].isEmpty else { return first..<size }
        guard let last = UInt64(parts[1]), last >= first else { return nil }
        return first..<(min(last, size - 1) + 1)
    }

    // MARK: Archives

    /// Go gives short replies a length.
    private static let shortMax = 2048

    private func sendArchive(_ roots: [CID], _ headers: [(String, String)]) throws(Halt) {
        _ = try block(roots[roots.count - 1])
        var body = FaultyBody(exchange, faults: faults)
        var held: [UInt8] = []
        var isStarted = false
        try Commands.writeArchive(roots[roots.count - 1]) { (bytes) throws(Halt) in
            held += bytes
            guard held.count > Self.shortMax else { return }
            if !isStarted {
                isStarted = true
                try exchange.start(status: 200, headers: headers)
            }
            if exchange.head.method != "HEAD" { try body.write(held) }
            held = []
        } walk: { (emit) throws(Halt) in
            var seen: Set<CID> = []
            try walk(roots, &seen, emit)
        }
        if !isStarted {
            let length = isLengthFaulty ? [] : [("Content-Length", "\(held.count)")]
            try exchange.start(status: 200, headers: headers + length)
        }
        if exchange.head.method != "HEAD" {
            try body.write(held)
            try body.finish()
        }
        try exchange.end(trailers: [])
        count(body)
    }

    /// The blocks that lead to the last of the roots, and what of it was asked for.
    private func walk(
        _ roots: [CID], _ seen: inout Set<CID>, _ emit: (CID, [UInt8]) throws(Halt) -> Void
    ) throws(Halt) {
        func visit(_ cid: CID) throws(Halt) -> [DAGLink] {
            let block = try block(cid)
            if seen.insert(cid).inserted { try emit(cid, block) }
            return cid.codec == .dagPB ? (try? DAGNode(decoding: block))?.links ?? [] : []
        }
        for cid in roots.dropLast() { _ = try visit(cid) }
        let root = roots[roots.count - 1]
        let scope = query["dag-scope"] ?? (query["entity-bytes"] == nil ? "all" : "entity")
        var pending = try visit(root).reversed().map(\.cid)
        guard scope != "block" else { return }
        if scope == "entity" {
            let data = try kind(root, block(root))
            if data == .directory { return }
            if data == .file, let range = query["entity-bytes"] {
                return try walkFile(root, range, visit)
            }
            if data == .shard {
                // Its own shards only, whose links have no names.
                try walkShards(root, visit)
                return
            }
        }
        while let cid = pending.popLast() {
            guard !seen.contains(cid) else { continue }
            pending += try visit(cid).reversed().map(\.cid)
        }
    }

    private enum Kind {
        case file
        case directory
        case shard
    }

    private func kind(_ cid: CID, _ block: [UInt8]) throws(Halt) -> Kind {
        guard cid.codec == .dagPB, let node = try? DAGNode(decoding: block),
            let data = try? UnixFSData(decoding: node.data ?? [])
        else { return .file }
        switch data.kind {
        case .directory: return .directory
        case .hamtShard: return .shard
        default: return .file
        }
    }

    private func walkShards(
        _ root: CID, _ visit: (CID) throws(Halt) -> [DAGLink]
    ) throws(Halt) {
        var pending = [root]
        while let cid = pending.popLast() {
            for link in try visit(cid).reversed() where link.name.count == 2 {
                pending.append(link.cid)
            }
        }
    }

    private func walkFile(
        _ root: CID, _ text: String, _ visit: (CID) throws(Halt) -> [DAGLink]
    ) throws(Halt) {
        var reader = try reading { (source) throws(DAGReadError) in
            try FileReader(root: root, source: source)
        }
        let size = Int64(clamping: reader.size)
        let parts = text.split(separator: ":").map { String($0) }
        guard parts.count == 2, let from = Int64(parts[0]) else {
            throw .failed("invalid entity-bytes")
        }
        var end = size
        if parts[1] != "*" {
            guard let to = Int64(parts[1]) else { throw .failed("invalid entity-bytes") }
            end = min(size, to < 0 ? size + to + 1 : to.addingReportingOverflow(1).partialValue)
        }
        let start = max(0, from < 0 ? size + from : from)
        guard start < end else { return }
        // The nodes above the leaves that hold the range, each before its children.
        func descend(_ cid: CID, _ base: UInt64) throws(Halt) {
            let links = try visit(cid)
            guard !links.isEmpty, let node = try? DAGNode(decoding: try block(cid)),
                let data = try? UnixFSData(decoding: node.data ?? [])
            else { return }
            var offset = base + UInt64(data.data?.count ?? 0)
            for (link, size) in zip(links, data.blockSizes) {
                if offset < UInt64(end), offset + size > UInt64(start) {
                    try descend(link.cid, offset)
                }
                offset += size
            }
        }
        _ = try reading { (_) throws(DAGReadError) in try reader.leaf(at: UInt64(start)) }
        try descend(root, 0)
    }
}
