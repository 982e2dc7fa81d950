/// The reply to one call, in the words of go-ipfs-cmds: a value, a stream of values, or a stream of
/// bytes; an error before the first of them is a status, one behind it a trailer.
final class Reply {
    private static let common = [
        ("Access-Control-Allow-Headers", "X-Stream-Output, X-Chunked-Output, X-Content-Length"),
        ("Access-Control-Expose-Headers", "X-Stream-Output, X-Chunked-Output, X-Content-Length"),
    ]
    private static let end = [
        ("Server", "kubo/" + kuboDoubleVersion), ("Trailer", "X-Stream-Error"), ("Vary", "Origin"),
    ]

    private let exchange: Exchange
    private let faults: [Fault]
    /// The fault `lostReply`: nothing is sent but an error at the end.
    private let isLost: Bool
    private var body: FaultyBody
    var byteCount: Int { body.byteCount }
    private(set) var isError = false

    init(_ exchange: Exchange, faults: [Fault]) {
        self.exchange = exchange
        self.faults = faults
        body = FaultyBody(exchange, faults: faults)
        isLost = faults.contains { $0.kind == .lostReply }
    }

    var isStarted: Bool { exchange.isStarted }

    /// The only value.
    func emitOnce(_ value: JSON) throws(Halt) {
        try start(type: "application/json", extra: [])
        try write(value.line)
    }

    /// One of several values.
    func emit(_ value: JSON) throws(Halt) {
        try startChunked()
        try write(value.line)
    }

    /// The head of several values, or of none.
    func startChunked() throws(Halt) {
        guard !isStarted else { return }
        try start(type: "application/json", extra: [("X-Chunked-Output", "1")])
    }

    /// The head of a stream of bytes, which `write` gives.
    func startStream(type: String = "text/plain", length: UInt64? = nil) throws(Halt) {
        var extra = length.map { [("X-Content-Length", String($0))] } ?? []
        extra.append(("X-Stream-Output", "1"))
        try start(type: type, extra: extra)
    }

    private func start(type: String, extra: [(String, String)], status: Int = 200) throws(Halt) {
        guard !isLost || status != 200 else { return }
        try exchange.start(
            status: status,
            headers: Self.common + [("Content-Type", type)] + Self.end + extra)
    }

    func write(_ bytes: [UInt8]) throws(Halt) {
        guard !isLost else { return }
        try body.write(bytes)
    }

    /// Ends the reply.
    func finish(_ error: CommandError?) throws(Halt) {
        isError = error != nil
        if let error, !isStarted {
            try fail(error)
            return
        }
        try startChunked()
        try body.finish()
        var trailer = error?.message
        for fault in faults where fault.kind == .trailer {
            trailer = fault.message ?? "an error on purpose"
            isError = true
        }
        // A header field has one line.
        let line = trailer.map { String($0.map { $0.isNewline ? " " : $0 }) }
        try exchange.end(trailers: line.map { [("X-Stream-Error", $0)] } ?? [])
    }

    private func fail(_ error: CommandError) throws(Halt) {
        if error.isText {
            try text(error.status, error.message)
            return
        }
        let status = error.code == 1 ? 400 : error.status
        try start(type: "application/json", extra: [], status: status)
        let value = JSON.object([
            ("Message", .string(error.message)), ("Code", .integer(Int64(error.code))),
            ("Type", .string("error")),
        ])
        try exchange.write(value.line)
        try exchange.end(trailers: [])
    }

    /// What is answered before a command is looked at.
    func text(
        _ status: Int, _ text: String, extra: [(String, String)] = [("Vary", "Origin")]
    ) throws(Halt) {
        isError = true
        let type = [
            ("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"),
        ]
        try exchange.start(
            status: status,
            headers: extra + (text.isEmpty ? [] : type) + [
                ("Content-Length", String(text.utf8.count))
            ])
        try exchange.write(Array(text.utf8))
        try exchange.end(trailers: [])
    }
}

/// The body of a reply on its way out, with what goes wrong there.
struct FaultyBody {
    private let exchange: Exchange
    private let faults: [Fault]
    private var given = 0
    /// What the fault `truncate` holds back.
    private var held: [UInt8] = []
    /// What was sent.
    private(set) var byteCount = 0

    init(_ exchange: Exchange, faults: [Fault]) {
        self.exchange = exchange
        self.faults = faults
    }

    mutating func write(_ bytes: [UInt8]) throws(Halt) {
        var bytes = bytes
        let start = given
        given += bytes.count
        var cutAt: Int?
        for fault in faults {
            let value = fault.value ?? 0
            switch fault.kind {
            case .flip where (start..<given).contains(value):
                bytes[value - start] ^= 0x01
            case .truncate:
                held += bytes
                let count = max(0, held.count - max(1, value))
                bytes = Array(held[..<count])
                held.removeFirst(count)
            case .cutReply where value <= given:
                cutAt = max(0, value - start)
            default: break
            }
        }
        if let cutAt { bytes = Array(bytes.prefix(cutAt)) }
        byteCount += bytes.count
        if let pause = faults.first(where: { $0.kind == .drip }) {
            for byte in bytes {
                pause.rest()
                try exchange.write([byte])
            }
        } else {
            try exchange.write(bytes)
        }
        guard cutAt == nil else {
            exchange.cut()
            throw .gone
        }
    }

    mutating func finish() throws(Halt) {
        for fault in faults {
            switch fault.kind {
            case .extra:
                try exchange.write([UInt8](repeating: 0x2e, count: max(1, fault.value ?? 1)))
            case .cutReply:
                // The body was not long enough to be cut before.
                exchange.cut()
                throw .gone
            default: break
            }
        }
    }
}
