internal import Base

/// Makes requests over HTTP/1.1, with TLS and without.
///
/// Every request blocks the calling thread until it is done, from any thread of our own; never make one
/// on Swift's cooperative pool. Connections are kept and used again, for any server. What the other side
/// says is not trusted: heads, trailers and replies are bounded, a reply that was cut off is none, and all
/// of it has an end (`HTTPLimits`). Nothing is tried again here: an error says whether anything was sent.
///
/// From the first request over https, or through a proxy that speaks it, the process ignores SIGPIPE.
public final class HTTPClient: Sendable {
    private struct Pool: Sendable {
        var idle: [CurlSession] = []
        var busyCount = 0
    }

    /// The most redirects that are ever followed for one request.
    public static let redirectsMax = 10
    /// The most bytes that the head of a reply and its trailers may have together.
    public static let headerBytesMax = Exchange.headerBytesMax
    /// The most bytes that are kept of the body of a status that a request does not accept.
    public static let errorBytesMax = Exchange.errorBytesMax

    private let configuration: HTTPConfiguration
    private let pool: Monitor<Pool>

    /// Makes a client. Nothing is sent yet.
    ///
    /// - Throws: `failed` where libcurl cannot be initialised.
    public init(_ configuration: HTTPConfiguration = HTTPConfiguration()) throws(HTTPError) {
        var bounded = configuration
        bounded.connectionsMax = max(1, configuration.connectionsMax)
        bounded.idleConnectionsMax = max(0, configuration.idleConnectionsMax)
        bounded.waitMilliseconds = min(max(1, configuration.waitMilliseconds), Int(Int32.max))
        self.configuration = bounded
        guard let session = CurlSession() else {
            throw HTTPError(
                .failed, request: "connect", message: "libcurl cannot be initialised",
                wasSent: false)
        }
        pool = Monitor(Pool(idle: [session]), rank: .connections)
    }

    /// Makes one request and gives the whole reply.
    public func send(_ request: HTTPRequest) throws(HTTPError) -> HTTPReply {
        precondition(!request.isStreamed, "the body of this request is streamed")
        do throws(HTTPStreamError<Never>) {
            return try transact(request, isReplyStreamed: false) { _ in }
        } catch {
            switch error {
            case .http(let error): throw error
            }
        }
    }

    /// Makes one request whose body is asked for piece by piece, and gives the whole reply.
    ///
    /// - Parameter next: the next pieces; nil at the end. Called on the calling thread, and not to the
    ///   end where the server answers before.
    public func upload<Failure: Error>(
        _ request: HTTPRequest, _ next: () throws(Failure) -> [[UInt8]]?
    ) throws(HTTPStreamError<Failure>) -> HTTPReply {
        precondition(request.isStreamed, "the body of this request is not streamed")
        return try transact(request, isReplyStreamed: false) { (exchange) throws(Failure) in
            if exchange.wantsFood { exchange.feed(try next()) }
        }
    }

    /// Makes one request and lends the body of the reply piece by piece, where its status is one that
    /// the request accepts.
    ///
    /// What was lent counts only when the call has returned: before that the reply may still turn out
    /// to be cut off.
    ///
    /// - Parameter sink: takes the head of the reply, and a piece that is valid during this call only.
    ///   Called on the calling thread, and not at all for an empty body.
    public func download<Failure: Error>(
        _ request: HTTPRequest,
        _ sink: (HTTPReplyHead, UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(HTTPStreamError<Failure>) -> HTTPReply {
        precondition(!request.isStreamed, "the body of this request is streamed")
        return try transact(request, isReplyStreamed: true) { (exchange) throws(Failure) in
            try exchange.lendReply(to: sink)
        }
    }

    /// Makes one request whose body is asked for, and whose reply is lent, piece by piece: `upload` and
    /// `download` in one. A reply may begin before the request has ended.
    public func exchange<Failure: Error>(
        _ request: HTTPRequest, _ next: () throws(Failure) -> [[UInt8]]?,
        _ sink: (HTTPReplyHead, UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(HTTPStreamError<Failure>) -> HTTPReply {
        precondition(request.isStreamed, "the body of this request is not streamed")
        return try transact(request, isReplyStreamed: true) { (exchange) throws(Failure) in
            if exchange.wantsFood { exchange.feed(try next()) }
            if exchange.hasFreshReply { try exchange.lendReply(to: sink) }
        }
    }

    // MARK: Requests

    /// Makes a request, and those that follow its redirects.
    private func transact<Failure: Error>(
        _ request: HTTPRequest, isReplyStreamed: Bool, serve: (Exchange) throws(Failure) -> Void
    ) throws(HTTPStreamError<Failure>) -> HTTPReply {
        var request = request
        var left = min(request.redirectsMax, Self.redirectsMax)
        while true {
            var target: String?
            let reply = try perform(request, isReplyStreamed, &target, serve)
            guard left > 0, let target, !request.acceptedStatuses.contains(reply.status),
                let next = request.redirected(to: target)
            else { return reply }
            request = next
            left -= 1
        }
    }

    /// Makes one request.
    ///
    /// - Parameter target: set to where the reply sends on to.
    private func perform<Failure: Error>(
        _ request: HTTPRequest, _ isReplyStreamed: Bool, _ target: inout String?,
        _ serve: (Exchange) throws(Failure) -> Void
    ) throws(HTTPStreamError<Failure>) -> HTTPReply {
        let (url, lines, session): (HTTPURL, [String], CurlSession)
        do throws(HTTPError) {
            (url, lines) = try request.checked(userAgent: configuration.userAgent)
            session = try acquire(for: request, url.origin)
        } catch {
            throw .http(error)
        }
        defer { release(session) }
        let exchange = Exchange(
            request, rate: configuration.uploadRate, isReplyStreamed: isReplyStreamed)
        let handler = request.cancellation?.onCancel { session.wake() }
        defer { if let handler { request.cancellation?.remove(handler: handler) } }
        let ending: CurlSession.Ending
        do throws(Failure) {
            ending = try session.transfer(
                exchange, of: request, to: url, lines: lines, limits: request.limits.bounded,
                environment: configuration.environment, server: configuration.server, serve: serve)
        } catch {
            throw .source(error)
        }
        do throws(HTTPError) {
            let reply = try exchange.judge(
                ending, of: request, on: session, configuration.environment)
            if request.redirectsMax > 0 { target = session.redirect }
            return reply
        } catch {
            throw .http(error)
        }
    }

    // MARK: Connections

    private func acquire(
        for request: HTTPRequest, _ origin: String
    ) throws(HTTPError) -> CurlSession {
        let pool = pool
        let handler = request.cancellation?.onCancel {
            // Under the lock, so that nobody is between looking and waiting.
            pool.withLock { _ in pool.wakeAll() }
        }
        defer { if let handler { request.cancellation?.remove(handler: handler) } }
        let deadline =
            request.limits.deadline
            ?? MonotonicClock.milliseconds + Int64(configuration.waitMilliseconds)
        let idle = try pool.withLock { (state) throws(HTTPError) -> CurlSession? in
            while true {
                if request.cancellation?.isCancelled ?? false {
                    throw HTTPError(.cancelled, request, "cancelled")
                }
                if state.busyCount < configuration.connectionsMax {
                    state.busyCount += 1
                    return take(from: &state, for: origin)
                }
                let now = MonotonicClock.milliseconds
                guard now < deadline else {
                    throw HTTPError(
                        .timeout, request, "no connection became free within the request's time")
                }
                pool.wait(&state, milliseconds: Int(clamping: deadline - now))
            }
        }
        if let idle { return idle }
        if let session = CurlSession() { return session }
        release(nil)
        throw HTTPError(.failed, request, "libcurl has no memory")
    }

    /// One with a connection to this server, if there is any; else another, unless a further one may be
    /// kept later on.
    private func take(from state: inout Pool, for origin: String) -> CurlSession? {
        if let place = state.idle.lastIndex(where: { $0.origin == origin || $0.origin.isEmpty }) {
            return state.idle.remove(at: place)
        }
        let isFull = state.idle.count + state.busyCount > configuration.idleConnectionsMax
        return isFull && !state.idle.isEmpty ? state.idle.removeFirst() : nil
    }

    private func release(_ session: CurlSession?) {
        pool.withLock { state in
            state.busyCount -= 1
            if let session, state.idle.count < configuration.idleConnectionsMax {
                state.idle.append(session)
            }
        }
        // All, for one that was cancelled meanwhile would not pass it on.
        pool.wakeAll()
    }
}
