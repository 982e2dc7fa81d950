internal import Base

/// Several ranges as one body: multipart/byteranges (RFC 9110, 14.6), whose length is known before.
final class ByteRangesBody: BodyProducer {
    typealias PartBody = @Sendable (Range<UInt64>) throws(ServeFault) -> ServeBody

    private enum Step {
        case heading(part: Int)
        case bytes(part: Int, PartBytes)
        case end
    }

    private struct State {
        var step: Step
        /// The bytes of the first part, opened before the answer began.
        var first: PartBytes?
    }

    let boundary: String
    /// Of all of it, in bytes.
    let count: UInt64

    private let ranges: [Range<UInt64>]
    private let headings: [[UInt8]]
    private let ending: [UInt8]
    private let body: PartBody
    /// Taken out while it is worked on, for what the parts are read from has locks of its own.
    private let state: Monitor<State?>

    /// - Parameters:
    ///   - ranges: not empty, none of them empty, no two with a byte in common.
    ///   - contentType: of each part.
    /// - Throws: what the bytes of the first range cannot be had for.
    init(
        _ ranges: [Range<UInt64>], of size: UInt64, contentType: String?,
        body: @escaping PartBody
    ) throws(ServeFault) {
        // 128 bits that whoever wrote the content could not know.
        let boundary = (0..<2).map { _ in
            let half = String(UInt64.random(in: .min ... .max), radix: 16)
            return String(repeating: "0", count: 16 - half.count) + half
        }.joined()
        let type = contentType.map { "Content-Type: \($0)\r\n" } ?? ""
        headings = ranges.enumerated().map { index, range in
            let start = index == 0 ? "" : "\r\n"
            let place = "Content-Range: \(Self.contentRange(range, of: size))\r\n\r\n"
            return Array("\(start)--\(boundary)\r\n\(type)\(place)".utf8)
        }
        ending = Array("\r\n--\(boundary)--\r\n".utf8)
        // The ranges have no byte in common: their sum is at most the size.
        count =
            headings.reduce(UInt64(ending.count)) { $0 + UInt64($1.count) }
            + ranges.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) }
        self.boundary = boundary
        self.ranges = ranges
        self.body = body
        state = Monitor(
            State(step: .heading(part: 0), first: try PartBytes(of: ranges[0], body)))
    }

    func next() throws(ServeFault) -> BytesPlace? {
        // After an error nothing comes any more.
        guard var state = state.withLock({ $0.take() }) else { return nil }
        while true {
            switch state.step {
            case .heading(let part):
                if let first = state.first.take() {
                    state.step = .bytes(part: part, first)
                } else {
                    state.step = .bytes(part: part, try PartBytes(of: ranges[part], body))
                }
                putBack(state)
                return .bytes(headings[part])
            case .bytes(let part, var bytes):
                if let piece = try bytes.next() {
                    state.step = .bytes(part: part, bytes)
                    putBack(state)
                    return piece
                }
                guard part + 1 < ranges.count else {
                    state.step = .end
                    putBack(state)
                    return .bytes(ending)
                }
                state.step = .heading(part: part + 1)
            case .end:
                return nil
            }
        }
    }

    private func putBack(_ state: State) { self.state.withLock { $0 = state } }

    /// The value of Content-Range for a range that is not empty.
    static func contentRange(_ range: Range<UInt64>, of size: UInt64) -> String {
        "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)"
    }
}

/// The bytes of one part, held to the length that was promised.
private struct PartBytes: Sendable {
    private var pieces: ArraySlice<BytesPlace> = []
    private var producer: (any BodyProducer)?
    /// In bytes.
    private var left: UInt64

    init(of range: Range<UInt64>, _ body: ByteRangesBody.PartBody) throws(ServeFault) {
        left = range.upperBound - range.lowerBound
        switch try body(range) {
        case .none: break
        case .pieces(let all): pieces = all[...]
        case .producer(let producer, _): self.producer = producer
        }
    }

    mutating func next() throws(ServeFault) -> BytesPlace? {
        var piece = pieces.popFirst()
        if piece == nil { piece = try producer?.next() }
        let count = piece?.count ?? 0
        guard count <= left, piece != nil || left == 0 else {
            throw .failed(reason: "a part of several ranges has not the length that it was to have")
        }
        left -= count
        return piece
    }
}
