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
    /// Whether the transfer has ended, perhaps before all of the request was asked for.
    var isOver = false
    /// When curl, which was told to wait, may go on; nil if it was not.
    var throttledUntil: Int64?

    /// The length of the body; nil where it is not known before.
    let bodyByteCount: Int?
    /// What was added to a streamed request so far.
    private var fedByteCount = 0

    // MARK: Reply

    /// Status and headers of the last reply; nil before the status of one has come that is not interim.
    private(set) var head: HTTPReplyHead?
    private(set) var trailers = HTTPHeaders()
    /// Whether anything came back.
    private(set) var hasReply = false
    /// Whether the head of the reply came to its end; curl takes one that is cut off for whole.
    private(set) var isHeadWhole = false
    /// Whether the end of the body can be told from a lost connection.
    private(set) var isDelimited = false
    /// The reply, or its part that nobody has taken yet.
    private(set) var reply: [UInt8]
    /// Whether the reply, or its headers, is larger than allowed.
    private(set) var isTooLarge = false
    /// What is wrong with the exchange, where that was seen here and not by curl.
    private(set) var fault: HTTPError.Kind?
    /// The words for `fault`.
    private(set) var faultText = ""
    /// Whether curl waits for `takeReply`.
    var isFull = false
    private let replyBytesMax: Int
    /// Whether the reply is taken piece by piece, and has no bound as a whole.
    private let isReplyStreamed: Bool
    /// Whether what came last is given on where the reply is cut off.
    let lendsCutReply: Bool
    private let acceptedStatuses: ClosedRange<Int>
    private let range: HTTPRange?
    private let hasNoBody: Bool
    private var headerByteCount = 0
    private var receivedByteCount: UInt64 = 0

    /// - Parameter isReplyStreamed: whether the caller takes the reply piece by piece.
    init(_ request: HTTPRequest, rate: UploadRate?, isReplyStreamed: Bool) {
        reply = request.memory?.take() ?? []
        switch request.body {
        case .none: (pieces, isStreamed, bodyByteCount) = ([], false, 0)
        case .whole(let body):
            (pieces, isStreamed) = (body, false)
            bodyByteCount = body.reduce(0) { $0 + $1.count }
        case .streamed(let count):
            (pieces, isStreamed) = ([], true)
            bodyByteCount = count.map { Int(clamping: $0) }
        }
        isFed = !isStreamed || bodyByteCount == 0
        pendingByteCount = isStreamed ? 0 : bodyByteCount ?? 0
        self.rate = rate
        replyBytesMax = request.replyBytesMax
        lendsCutReply = request.lendsCutReply
        acceptedStatuses = request.acceptedStatuses
        range = request.range
        hasNoBody = request.method == .head
        self.isReplyStreamed = isReplyStreamed
    }

    /// Whether the body of the reply is one that the request accepts.
    var isAccepted: Bool { head.map { acceptedStatuses.contains($0.status) } ?? false }

    /// Whether the caller should feed before curl runs dry.
    var wantsFood: Bool {
        hasBegun && !isFed && !isOver && pendingByteCount < Self.requestBytesAhead
    }

    /// Adds to a streamed request; nil ends it.
    func feed(_ more: [[UInt8]]?) {
        precondition(isStreamed && !isFed, "nothing can be added to this request")
        guard let more else {
            isFed = true
            if let bodyByteCount, fedByteCount < bodyByteCount { blameBody() }
            return
        }
        pieces.removeSubrange(..<pieceIndex)
        pieceIndex = 0
        for piece in more where !piece.isEmpty {
            pieces.append(piece)
            pendingByteCount += piece.count
            fedByteCount += piece.count
        }
        if let bodyByteCount, fedByteCount > bodyByteCount { blameBody() }
    }

    private func blameBody() {
        fault = .failed
        faultText = "the body has another length than was said before"
    }

    /// Gives curl a part of the body; CURL_READFUNC_PAUSE where there is none yet.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        hasBegun = true
        guard fault == nil else { return Int(CURL_READFUNC_ABORT) }
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
        // A trailer is none, whatever it says.
        if !(isHeadWhole && head != nil), bytes.starts(with: "HTTP/".utf8) {
            beginHead(String(decoding: bytes, as: UTF8.self))
            return true
        }
        if bytes.elementsEqual("\r\n".utf8) || bytes.elementsEqual("\n".utf8) {
            isHeadWhole = true
            return checkPart()
        }
        if isHeadWhole {
            if head != nil { _ = trailers.append(line: bytes) }
        } else if let field = head?.headers.append(line: bytes), delimits(field) {
            isDelimited = true
        }
        return true
    }

    /// Also after an interim reply (1xx), whose headers say nothing about this one.
    private func beginHead(_ line: String) {
        let words = line.split(separator: " ", maxSplits: 2)
        let status = words.count > 1 ? Int(words[1].prefix(3)) ?? 0 : 0
        head = status < 200 ? nil : HTTPReplyHead(status: status, headers: HTTPHeaders())
        isHeadWhole = false
        isDelimited = hasNoBody || status == 204 || status == 304
    }

    private func delimits(_ field: HTTPHeaders.Field) -> Bool {
        HTTPHeaders.isSame(field.name, "Content-Length")
            || (HTTPHeaders.isSame(field.name, "Transfer-Encoding")
                && field.value.lowercased().contains("chunked"))
    }

    /// Whether the part that comes is the one that was asked for.
    private func checkPart() -> Bool {
        guard let range, let head, head.status == 206, isAccepted else { return true }
        guard let part = head.part, range.admits(part) else {
            fault = .protocolViolation
            faultText = "the reply is another part than was asked for"
            return false
        }
        return true
    }

    /// Whether as much came as the head of the reply says of the part.
    var isPartWhole: Bool {
        guard range != nil, !hasNoBody, let part = head?.part else { return true }
        return part.count == receivedByteCount
    }

    /// Takes a part of the reply; CURL_WRITEFUNC_PAUSE, or less than all to end the transfer.
    func takeBody(_ bytes: UnsafeRawBufferPointer) -> Int {
        hasReply = true
        if isAccepted, isReplyStreamed {
            guard reply.count < Self.replyBytesAhead else {
                isFull = true
                return Int(CURL_WRITEFUNC_PAUSE)
            }
            receivedByteCount += UInt64(bytes.count)
            reply.append(contentsOf: bytes)
            return bytes.count
        }
        receivedByteCount += UInt64(bytes.count)
        let limit = isAccepted ? replyBytesMax : Self.errorBytesMax
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
        to sink: (HTTPReplyHead, UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        guard let head else { return }
        try reply.withBytes { (bytes) throws(Failure) in try sink(head, bytes) }
        reply.removeAll(keepingCapacity: true)
    }

    /// Whether much has come, and more is to come.
    var isReplyLong: Bool { !isReplyStreamed && reply.count >= Self.longReplyBytes }

    private static let longReplyBytes = 32 << 10

    /// Whether a part of a streamed reply waits to be taken.
    var hasFreshReply: Bool { isReplyStreamed && isAccepted && !reply.isEmpty }
}
