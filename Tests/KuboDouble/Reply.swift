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
    private var written = 0
    /// What the fault `truncate` holds back.
    private var held: [UInt8] = []
    private(set) var byteCount = 0
    private(set) var isError = false

    init(_ exchange: Exchange, faults: [Fault]) {
        self.exchange = exchange
        self.faults = faults
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
        var bytes = bytes
        let start = written
        written += bytes.count
        var cutAt: Int?
        for fault in faults {
            let value = fault.value ?? 0
            switch fault.kind {
            case .flip where (start..<written).contains(value):
                bytes[value - start] ^= 0x01
            case .truncate:
                held += bytes
                let count = max(0, held.count - max(1, value))
                bytes = Array(held[..<count])
                held.removeFirst(count)
            case .cutReply where value <= written:
                cutAt = max(0, value - start)
            default: break
            }
        }
        if let cutAt {
            bytes = Array(bytes.prefix(cutAt))
            try exchange.write(bytes)
            byteCount += bytes.count
            exchange.cut()
            throw .gone
        }
        byteCount += bytes.count
        try exchange.write(bytes)
    }

    /// Ends the reply.
    func finish(_ error: CommandError?) throws(Halt) {
        isError = error != nil
        if let error, !isStarted {
            try fail(error)
            return
        }
        try startChunked()
        var trailer = error?.message
        for fault in faults {
            switch fault.kind {
            case .extra:
                try exchange.write([UInt8](repeating: 0x2e, count: max(1, fault.value ?? 1)))
            case .trailer:
                trailer = fault.message ?? "an error on purpose"
                isError = true
            case .cutReply:
                // The body ended before.
                exchange.cut()
                throw .gone
            default: break
            }
        }
        // A header field has one line.
        let line = trailer.map { String($0.map { $0.isNewline ? " " : $0 }) }
        try exchange.end(trailers: line.map { [("X-Stream-Error", $0)] } ?? [])
    }

    private func fail(_ error: CommandError) throws(Halt) {
        if error.status == 400 {
            try text(400, error.message + "\n")
            return
        }
        try start(type: "application/json", extra: [], status: error.status)
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
        try exchange.start(
            status: status,
            headers: extra + [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Length", String(text.utf8.count)),
            ])
        try exchange.write(Array(text.utf8))
        try exchange.end(trailers: [])
    }
}
