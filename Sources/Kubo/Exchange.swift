internal import Base
internal import CCurl

/// One request on its way and the reply to it: what curl's callbacks read and write.
///
/// Confined to the thread that makes the call; curl calls back on that thread only.
final class Exchange {
    /// How much of a streamed request is asked for ahead of curl; a block may come on top of it.
    static let requestBytesAhead = CurlSession.uploadBufferBytes
    /// How much of a streamed reply is kept before curl has to wait.
    static let replyBytesAhead = 1 << 20
    /// The most that a reply's headers and trailers may have, in bytes.
    static let headerBytesMax = 256 << 10
    /// The most that is read of the text of an error.
    static let errorBytesMax = 64 << 10

    // MARK: Request

    /// What is to be sent; what was sent stays only where the body is at hand as a whole.
    private var pieces: [[UInt8]]
    private var pieceIndex = 0
    private var pieceOffset = 0
    private let isStreamed: Bool
    private let rate: UploadRate?
    /// Bytes that curl has not taken yet.
    private(set) var pendingByteCount: Int
    /// Whether nothing will be added to the request.
    private(set) var isFed: Bool
    /// Whether curl has begun to ask for the body.
    private(set) var hasBegun = false
    /// Whether curl waits for `feed`.
    var isStarving = false
    /// When curl, which was told to wait, may go on; nil if it was not.
    var throttledUntil: Int64?

    /// The length of the body; nil where it is not known before.
    let bodyByteCount: Int?

    // MARK: Reply

    /// Of the last reply; 0 before one has begun.
    private(set) var status = 0
    /// Whether anything came back.
    private(set) var hasReply = false
    /// Whether the head of the reply came to its end; curl takes one that is cut off for whole.
    private(set) var isHeadWhole = false
    /// Whether the end of the body can be told from a lost connection.
    private(set) var isDelimited = false
    /// X-Stream-Error, as a header or a trailer.
    private(set) var streamError: String?
    /// The reply, or its part that nobody has taken yet.
    private(set) var reply: [UInt8]
    /// Whether the reply, or its headers, is larger than allowed.
    private(set) var isTooLarge = false
    /// Whether curl waits for `takeReply`.
    var isFull = false
    private let replyBytesMax: Int
    /// Whether the reply is taken piece by piece, and has no bound as a whole.
    private let isReplyStreamed: Bool
    private var headerByteCount = 0

    /// Whether the caller's closure was asked for bytes or given some.
    var wasServed = false

    /// - Parameters:
    ///   - body: the whole body; nil where it is streamed.
    ///   - memory: empty, with room for the reply, or without.
    init(
        body: [[UInt8]]?, rate: UploadRate?, replyBytesMax: Int, isReplyStreamed: Bool,
        memory: [UInt8] = []
    ) {
        reply = memory
        pieces = body ?? []
        isStreamed = body == nil
        isFed = body != nil
        pendingByteCount = pieces.reduce(0) { $0 + $1.count }
        bodyByteCount = body == nil ? nil : pendingByteCount
        self.rate = rate
        self.replyBytesMax = replyBytesMax
        self.isReplyStreamed = isReplyStreamed
    }

    /// Whether the caller should feed before curl runs dry.
    var wantsFood: Bool { hasBegun && !isFed && pendingByteCount < Self.requestBytesAhead }

    /// Adds to a streamed request; nil ends it.
    func feed(_ more: [[UInt8]]?) {
        precondition(isStreamed && !isFed, "nothing can be added to this request")
        guard let more else {
            isFed = true
            return
        }
        pieces.removeSubrange(..<pieceIndex)
        pieceIndex = 0
        for piece in more where !piece.isEmpty {
            pieces.append(piece)
            pendingByteCount += piece.count
        }
    }

    /// Gives curl a part of the body; CURL_READFUNC_PAUSE where there is none yet.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        hasBegun = true
        guard pendingByteCount > 0 else {
            if isFed { return 0 }
            isStarving = true
            return Int(CURL_READFUNC_PAUSE)
        }
        var room = min(buffer.count, pendingByteCount)
        if let rate {
            let (granted, wait) = rate.take(atMost: room)
            guard granted > 0 else {
                throttledUntil = MonotonicClock.milliseconds + wait
                return Int(CURL_READFUNC_PAUSE)
            }
            room = granted
        }
        var done = 0
        while done < room, pieceIndex < pieces.count {
            let piece = pieces[pieceIndex]
            let count = min(room - done, piece.count - pieceOffset)
            piece.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
                    .copyMemory(
                        from: UnsafeRawBufferPointer(
                            rebasing: bytes[pieceOffset..<pieceOffset + count]))
            }
            done += count
            pieceOffset += count
            if pieceOffset == piece.count {
                if isStreamed { pieces[pieceIndex] = [] }
                pieceIndex += 1
                pieceOffset = 0
            }
        }
        pendingByteCount -= done
        return done
    }

    /// Goes back to the begin of the body, for curl to send it again; false where it is gone.
    func rewind() -> Bool {
        guard !isStreamed else { return !hasBegun }
        (pieceIndex, pieceOffset) = (0, 0)
        pendingByteCount = bodyByteCount ?? 0
        return true
    }

    /// Takes a line of the reply's head, or a trailer; false where there are too many.
    func takeHeader(_ bytes: UnsafeRawBufferPointer) -> Bool {
        hasReply = true
        headerByteCount += bytes.count
        guard headerByteCount <= Self.headerBytesMax else {
            isTooLarge = true
            return false
        }
        let line = String(decoding: bytes, as: UTF8.self)
        if line.hasPrefix("HTTP/") {
            // Also after an interim reply (1xx), whose headers say nothing about this one.
            let fields = line.split(separator: " ", maxSplits: 2)
            status = fields.count > 1 ? Int(fields[1].prefix { $0.isNumber }) ?? 0 : 0
            isHeadWhole = false
            isDelimited = status == 204
            streamError = nil
            return true
        }
        if line == "\r\n" || line == "\n" { isHeadWhole = true }
        guard let colon = line.firstIndex(of: ":") else { return true }
        let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
        switch line[..<colon].lowercased() {
        case "content-length", "transfer-encoding": isDelimited = true
        case "x-stream-error":
            // A trailer without text is an error all the same.
            streamError = KuboError.line(String(value.prefix { !$0.isNewline }))
        default: break
        }
        return true
    }

    /// Takes a part of the reply; CURL_WRITEFUNC_PAUSE, or less than all to end the transfer.
    func takeBody(_ bytes: UnsafeRawBufferPointer) -> Int {
        hasReply = true
        if status == 200, isReplyStreamed {
            guard reply.count < Self.replyBytesAhead else {
                isFull = true
                return Int(CURL_WRITEFUNC_PAUSE)
            }
            reply.append(contentsOf: bytes)
            return bytes.count
        }
        let limit = status == 200 ? replyBytesMax : Self.errorBytesMax
        // None where a second head in the same reply lowered the limit.
        let room = max(0, limit - reply.count)
        guard bytes.count <= room else {
            isTooLarge = true
            // The begin of an error's text is enough to tell.
            reply.append(contentsOf: bytes[..<room])
            return bytes.count == 0 ? 0 : bytes.count - 1
        }
        reply.append(contentsOf: bytes)
        return bytes.count
    }

    /// Takes what has come of the reply.
    func takeReply() -> [UInt8] {
        let taken = reply
        reply = []
        return taken
    }

    /// Lends what has come of a streamed reply, and makes room for more.
    func lendReply<Failure: Error>(
        to sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        try reply.withBytes(sink)
        reply.removeAll(keepingCapacity: true)
    }

    /// Whether much has come, and more is to come.
    var isReplyLong: Bool { !isReplyStreamed && reply.count >= Self.longReplyBytes }

    private static let longReplyBytes = 32 << 10

    /// Whether a part of a streamed reply waits to be taken.
    var hasFreshReply: Bool { isReplyStreamed && status == 200 && !reply.isEmpty }
}
