internal import Base
internal import HTTPTypes
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Serving

/// Takes the requests of a connection of HTTP/1.1, or the one of an HTTP/2 stream, and answers them, one after the other.
///
/// Pipelined requests wait here, and while any does nothing more is read.
final class ExchangeHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    enum Kind {
        /// - canSendFiles: whether bytes go to the socket as they are.
        case http1(ConnectionClock, canSendFiles: Bool)
        /// Counted as long as its stream is there.
        case http2(RequestSlots.Slot)
    }

    let server: ServerCore
    let kind: Kind
    private let client: Client
    var context: ChannelHandlerContext?
    var current: Exchange?

    /// What came behind the current request.
    private var waiting = CircularBuffer<HTTPServerRequestPart>(initialCapacity: 0)
    private var isReadHeld = false
    private var isTakingWaiting = false
    /// Whether what comes from the other side cannot be read any more.
    private var inputFailed = false
    /// Whether the connection is being closed: nothing counts any more.
    private var isClosing = false

    init(_ server: ServerCore, _ client: Client, _ kind: Kind) {
        self.server = server
        self.client = client
        self.kind = kind
    }

    var isHTTP2: Bool {
        if case .http2 = kind { return true }
        return false
    }

    private var clock: ConnectionClock? {
        if case .http1(let clock, _) = kind { return clock }
        return nil
    }

    // MARK: Events

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        abandon()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        abandon()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isClosing || inputFailed { return }
        let part = unwrapInboundIn(data)
        if !waiting.isEmpty || current?.hasEnded ?? false {
            waiting.append(part)
        } else {
            take(part)
        }
    }

    func read(context: ChannelHandlerContext) {
        if waiting.isEmpty || isClosing {
            context.read()
        } else {
            isReadHeld = true
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent, !isHTTP2 {
            if let current {
                current.closes = true
            } else {
                context.close(promise: nil)
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !isClosing, !inputFailed else { return }
        guard !isHTTP2, let parserError = error as? HTTPParserError else {
            context.close(promise: nil)
            return
        }
        inputFailed = true
        if let current, current.isAnswered {
            current.closes = true
            return
        }
        let exchange =
            current
            ?? Exchange(
                HTTPRequestHead(version: .http1_1, method: .RAW(value: "-"), uri: "-"))
        current = exchange
        // The decoder has one word for a target and for fields that are too long.
        let isTooLong = parserError == .headerOverflow
        let status = isTooLong ? clock?.isInFirstLine ?? false ? 414 : 431 : 400
        refuse(exchange, status)
    }

    // MARK: Requests

    private func take(_ part: HTTPServerRequestPart) {
        switch part {
        case .head(let head):
            guard current == nil else { return }
            begin(head)
        case .body(let buffer):
            guard let current, !current.isAnswered else { return }
            current.bodyByteCount += buffer.readableBytes
            if current.bodyByteCount > server.configuration.requestBodyBytesMax {
                refuse(current, 413)
            }
        case .end:
            guard let current, !current.hasEnded else { return }
            current.hasEnded = true
            clock?.requestEnded()
            if !current.isAnswered { dispatch(current) }
        }
    }

    private func begin(_ head: HTTPRequestHead) {
        let exchange = Exchange(head)
        current = exchange
        // The time of a stream's request runs here, that of a connection in its clock.
        if isHTTP2 { watch(exchange) }
        let length = head.headers.first(name: "content-length").map { Int($0) ?? .max } ?? 0
        if length > server.configuration.requestBodyBytesMax {
            refuse(exchange, 413)
        } else if !isHTTP2, head.headers.contains(name: "expect") {
            // Its body may never come, because the answer does not depend on it (RFC 9110, section 10.1.1).
            exchange.closes = true
            clock?.requestEnded()
            dispatch(exchange)
        }
    }

    /// Takes the requests that wait, as far as they can be answered now.
    private func takeWaiting() {
        guard !isTakingWaiting else { return }
        isTakingWaiting = true
        while !isClosing, !(current?.hasEnded ?? false), let part = waiting.popFirst() {
            take(part)
        }
        isTakingWaiting = false
        if waiting.isEmpty, isReadHeld {
            isReadHeld = false
            context?.read()
        }
    }

    /// Has a thread make the answer, unless the server itself refuses the request.
    private func dispatch(_ exchange: Exchange) {
        guard let context else { return }
        exchange.isAnswered = true
        let head = exchange.head
        guard head.uri.utf8.count <= server.configuration.targetBytesMax else {
            return refuse(exchange, 414)
        }
        guard let fields = fields(of: head) else { return refuse(exchange, 431) }
        guard let method = HTTPRequest.Method(rawValue: head.method.rawValue),
            isHTTP2 || hasOneHost(head)
        else { return refuse(exchange, 400) }
        guard client.isAllowed else { return refuse(exchange, 403, closes: false) }
        guard server.configuration.access.holdsToken(fields) else {
            let challenge: HTTPFields = [.wwwAuthenticate: AccessRules.challenge]
            return answer(exchange, refusal(of: exchange, 401, challenge))
        }
        guard
            var request = ServeRequest(
                method: method, target: Self.originForm(head.uri), fields: fields)
        else { return refuse(exchange, 400, closes: false) }
        guard let slot = server.slots.take() else {
            return answer(exchange, refusal(of: exchange, 429, [.retryAfter: "1"]))
        }
        exchange.slot = slot
        request.cancellation = exchange.cancellation
        let handler = server.handler
        let job = server.pool.runIfActive(eventLoop: context.eventLoop) {
            [request] () -> ServeResponse in
            // A thread that works for nobody is in flight all the same.
            defer { withExtendedLifetime(slot) {} }
            if request.cancellation?.isCancelled ?? false { return .refusal(503) }
            return handler.respond(to: request)
        }
        job.assumeIsolated().whenComplete { result in
            guard self.current === exchange else { return }
            switch result {
            case .success(let response): self.answer(exchange, response)
            case .failure:
                self.answer(exchange, self.refusal(of: exchange, 503, [.retryAfter: "1"]))
            }
        }
    }

    /// Answers a request that no handler sees.
    private func refuse(_ exchange: Exchange, _ status: Int, closes: Bool = true) {
        exchange.isAnswered = true
        if closes { exchange.closes = true }
        answer(exchange, refusal(of: exchange, status))
    }

    /// An answer of the server's own, in the words of those that answer at its path.
    func refusal(
        of exchange: Exchange, _ status: Int, _ fields: HTTPFields = [:]
    ) -> ServeResponse {
        let target = Self.originForm(exchange.head.uri)
        guard var response = server.configuration.refusal?(target, status) else {
            return .refusal(status, fields)
        }
        response.status = status
        for field in fields { response.fields[field.name] = field.value }
        response.fields[.cacheControl] = "no-store"
        return response
    }

    /// Nil where they are too many or too long; those that are none are left out.
    private func fields(of head: HTTPRequestHead) -> HTTPFields? {
        var count = 0
        var fields = HTTPFields()
        guard head.headers.count <= server.configuration.headerCountMax else { return nil }
        for (name, value) in head.headers {
            count += name.utf8.count + value.utf8.count
            guard let name = HTTPField.Name(name) else { continue }
            fields.append(HTTPField(name: name, value: value))
        }
        return count <= server.configuration.headerBytesMax ? fields : nil
    }

    /// RFC 9112, section 3.2: one Host, but for HTTP/1.0, which may have none.
    private func hasOneHost(_ head: HTTPRequestHead) -> Bool {
        let count = head.headers["host"].count
        return count == 1 || (count == 0 && head.version.isOld)
    }

    /// A target in the form that proxies are sent, which every server takes (RFC 9112, section 3.2.2), without what is before
    /// its path. All others as they are.
    static func originForm(_ target: String) -> String {
        let lowered = target.prefix(8).lowercased()
        let length = lowered.hasPrefix("http://") ? 7 : lowered == "https://" ? 8 : 0
        guard length > 0 else { return target }
        let rest = target.dropFirst(length)
        guard let start = rest.firstIndex(where: { $0 == "/" || $0 == "?" }) else { return "/" }
        return rest[start] == "/" ? String(rest[start...]) : "/" + rest[start...]
    }

    // MARK: Ends

    /// The answer is sent.
    func finish(_ exchange: Exchange) {
        guard current === exchange, let context else { return }
        end(exchange, isWhole: true)
        if isHTTP2 {
            // A stream whose request goes on is reset, else it is over. Not at once: a client that meets the reset while it sends
            // still throws the answer away.
            guard !exchange.hasEnded else { return }
            context.eventLoop.assumeIsolated().scheduleTask(in: .seconds(1)) {
                if !exchange.hasEnded { self.context?.close(promise: nil) }
            }
        } else if exchange.closes {
            close(context, isUnread: !exchange.hasEnded || inputFailed || !waiting.isEmpty)
        } else {
            clock?.answerEnded()
            takeWaiting()
        }
    }

    /// The answer cannot be sent whole: the client has to see that. A stream is reset by this.
    func fail(_ exchange: Exchange) {
        guard current === exchange, !exchange.hasFailed else { return }
        exchange.hasFailed = true
        isClosing = true
        context?.close(promise: nil)
    }

    /// The other side is gone, or this one has closed.
    private func abandon() {
        isClosing = true
        waiting.removeAll()
        guard let exchange = current else { return }
        end(exchange, isWhole: false)
        exchange.cancellation.cancel()
    }

    private func end(_ exchange: Exchange, isWhole: Bool) {
        current = nil
        exchange.timer?.cancel()
        exchange.timer = nil
        exchange.slot = nil
        exchange.ready = nil
        exchange.body = BodySource()
        server.hold(0, for: exchange)
        guard let log = server.configuration.accessLog else { return }
        let elapsed = NIODeadline.now() - exchange.began
        log.add(
            AccessLog.Entry(
                remote: client.name, method: exchange.head.method.rawValue,
                target: exchange.head.uri, version: "\(exchange.head.version)",
                // Who was gone before the answer got none. RFC 9110 has no such status; logs do.
                status: exchange.status == 0 ? 499 : exchange.status,
                bytesSent: exchange.bytesSent, isWhole: isWhole,
                milliseconds: elapsed.nanoseconds / 1_000_000, time: exchange.time))
    }

    /// Where something comes that nobody reads, the answer would be lost with the connection, so the other side has a moment to
    /// read it and close (RFC 9112, section 9.6).
    private func close(_ context: ChannelHandlerContext, isUnread: Bool) {
        isClosing = true
        waiting.removeAll()
        guard isUnread else {
            context.close(promise: nil)
            return
        }
        clock?.lingers()
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenFailure { _ in
            self.context?.close(promise: nil)
        }
        context.close(mode: .output, promise: promise)
        if isReadHeld {
            isReadHeld = false
            context.read()
        }
    }
}
