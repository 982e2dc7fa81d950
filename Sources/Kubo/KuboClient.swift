internal import Base
internal import CCurl
internal import Glibc
public import Logging

/// Speaks the HTTP RPC of a Kubo node (`/api/v0`).
///
/// Every call blocks the calling thread until it is done, from any thread of our own; never make one
/// on Swift's cooperative pool. Connections are kept and used again. What the node says is not
/// trusted: replies are bounded, blocks are checked against their CIDs, counts and keys against
/// what was sent.
///
/// "Tried again" in a call's comment means: as it changes nothing by being repeated, it is repeated
/// after a short pause when the node is away or busy (`attemptsMax` times in all), and once when a
/// limit of time passed here. Any call is tried again where it certainly did not reach the node.
///
/// Each call has an end: a deadline where one is given, else for each attempt what may pass before an
/// answer, and the time of its bytes at the least rate (`KuboConfiguration`); a pin has a limit of its own.
public final class KuboClient: Sendable {
    private struct Pool: Sendable {
        var idle: [CurlSession] = []
        var busyCount = 0
        var uploadCount = 0
        /// By user.
        var searches = Shares<UInt32?>()
    }

    /// Calls that have the node ask its peers at once, at most. They take long, and so no connection
    /// that others wait for; and one user takes half of them at most.
    static let searchesMax = 256

    /// What the client was made with.
    public let configuration: KuboConfiguration
    private let log: Logger
    private let pool: Guarded<Pool>
    private let rate: UploadRate?
    private let uploadsMax: Int

    /// The first pause before a call is tried again; each further one is twice as long.
    private static let pauseMilliseconds = 100
    private static let pauseMillisecondsMax = 2_000

    /// Makes a client. Nothing is sent yet. For an https address, the process ignores SIGPIPE from
    /// now on, because the TLS library writes to closed connections.
    ///
    /// - Throws: `failed` where libcurl cannot be initialised; `refused` for credentials that would go
    ///   over plain http to another machine.
    public init(_ configuration: KuboConfiguration, log: Logger) throws(KuboError) {
        guard
            configuration.credentials == nil || configuration.address.isPrivate
                || configuration.sendsCredentialsInTheOpen
        else {
            throw KuboError(
                .refused, call: "connect", argument: "\(configuration.address)",
                message: "everyone on the way could read the credentials: it must be https")
        }
        var bounded = configuration
        bounded.connectionsMax = max(1, configuration.connectionsMax)
        bounded.attemptsMax = max(1, configuration.attemptsMax)
        for limit in [
            \KuboConfiguration.connectMilliseconds, \.firstByteMilliseconds, \.workMilliseconds,
            \.stallMilliseconds, \.pinMilliseconds, \.bytesPerSecondMin,
        ] {
            bounded[keyPath: limit] = min(max(1, bounded[keyPath: limit]), Int(Int32.max))
        }
        self.configuration = bounded
        self.log = log
        rate = bounded.uploadBytesPerSecond.map { UploadRate(bytesPerSecond: $0) }
        uploadsMax = bounded.connectionsMax - bounded.connectionsMax / 4
        guard let session = CurlSession() else {
            throw KuboError(.failed, call: "connect", message: "libcurl cannot be initialised")
        }
        pool = Guarded(Pool(idle: [session]), rank: .connections)
        if bounded.address.isEncrypted { signal(SIGPIPE, SIG_IGN) }
    }

    /// Makes one call and gives the whole reply.
    func perform(_ call: Call) throws(KuboError) -> [UInt8] {
        do throws(KuboStreamError<Never>) {
            return try transact(call) { _ in }
        } catch {
            switch error {
            case .kubo(let error): throw error
            }
        }
    }

    /// Makes one call whose body is asked for piece by piece; nil ends it.
    func upload<Failure: Error>(
        _ call: Call, _ next: () throws(Failure) -> [[UInt8]]?
    ) throws(KuboStreamError<Failure>) -> [UInt8] {
        precondition(call.isUpload && call.body == nil, "this call streams no body")
        return try transact(call) { (exchange) throws(Failure) in
            if exchange.wantsFood { exchange.feed(try next()) }
        }
    }

    /// Makes one call and lends the reply piece by piece.
    func download<Failure: Error>(
        _ call: Call, _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(KuboStreamError<Failure>) {
        precondition(call.isDownload, "this call's reply is one piece")
        _ = try transact(call) { (exchange) throws(Failure) in
            try exchange.lendReply(to: sink)
        }
    }

    // MARK: Attempts

    private func transact<Failure: Error>(
        _ call: Call, serve: (Exchange) throws(Failure) -> Void
    ) throws(KuboStreamError<Failure>) -> [UInt8] {
        let deadline = call.deadlineMilliseconds.map {
            MonotonicClock.milliseconds + Int64(min(max(0, $0), Int(Int32.max)))
        }
        var attempt = 1
        while true {
            let failure: Attempt.Failure
            switch try self.attempt(call, deadline, serve: serve) {
            case .reply(let bytes): return bytes
            case .failure(let found): failure = found
            }
            let isLast = attempt >= min(failure.attemptsMax, configuration.attemptsMax)
            var pause = min(
                Self.pauseMilliseconds << min(attempt - 1, 10), Self.pauseMillisecondsMax)
            // Many that failed together shall not come back together.
            pause = Int.random(in: pause / 2...pause)
            if let deadline, MonotonicClock.milliseconds + Int64(pause) >= deadline {
                throw .kubo(failure.error)
            }
            guard !isLast else { throw .kubo(failure.error) }
            log.debug("a call to the node is tried again", metadata: ["why": "\(failure.error)"])
            do throws(KuboError) {
                try sleep(milliseconds: pause, for: call)
            } catch {
                throw .kubo(error)
            }
            attempt += 1
        }
    }

    /// How one attempt ended.
    private enum Attempt {
        struct Failure {
            var error: KuboError
            /// How many attempts this failure allows in all.
            var attemptsMax: Int
        }

        case reply([UInt8])
        case failure(Failure)
    }

    private func attempt<Failure: Error>(
        _ call: Call, _ deadline: Int64?, serve: (Exchange) throws(Failure) -> Void
    ) throws(KuboStreamError<Failure>) -> Attempt {
        let session: CurlSession
        do throws(KuboError) {
            session = try acquire(for: call, deadline)
        } catch {
            throw .kubo(error)
        }
        defer { release(session, of: call) }
        let exchange = Exchange(
            body: call.isUpload ? call.body : [], rate: call.isUpload ? rate : nil,
            replyBytesMax: call.replyBytesMax, isReplyStreamed: call.isDownload,
            memory: call.memory?.take() ?? [])
        var headers = ["User-Agent: \(configuration.userAgent)", "Expect:", "Accept:"]
        headers.append("Content-Type:" + (call.contentType.map { " \($0)" } ?? ""))
        if call.isUpload, call.body == nil { headers.append("Transfer-Encoding: chunked") }
        if let credentials = configuration.credentials {
            headers.append("Authorization: \(credentials.header)")
        }
        let handler = call.cancellation?.onCancel { session.wake() }
        defer { if let handler { call.cancellation?.remove(handler: handler) } }
        // Where the caller says how long long work may take, that is how long.
        let firstByte =
            call.isLongWork
            ? min(call.deadlineMilliseconds ?? configuration.workMilliseconds, Int(Int32.max))
            : configuration.firstByteMilliseconds
        let (connect, stall) = (configuration.connectMilliseconds, configuration.stallMilliseconds)
        let limits = CurlSession.Limits(
            connect: connect, firstByte: firstByte, stall: stall, deadline: deadline,
            base: call.attemptMilliseconds ?? connect + firstByte + stall,
            bytesPerSecond: call.attemptMilliseconds == nil ? configuration.bytesPerSecondMin : nil)
        let ending: CurlSession.Ending
        do throws(Failure) {
            ending = try session.transfer(
                exchange, to: configuration.address, url: url(of: call), headers: headers,
                isFresh: call.repetition == .onlyUnsent || (call.isUpload && call.body == nil),
                limits: limits, isCancelled: { call.cancellation?.isCancelled ?? false },
                serve: serve)
        } catch {
            throw .source(error)
        }
        return judge(ending, exchange, session, call)
    }

    private func url(of call: Call) -> [UInt8] {
        var url = Array("\(configuration.address.base)/api/v0/\(call.command)".utf8)
        if !call.query.isEmpty {
            url.append(UInt8(ascii: "?"))
            url += call.query
        }
        return url
    }

    private func judge(
        _ ending: CurlSession.Ending, _ exchange: Exchange, _ session: CurlSession, _ call: Call
    ) -> Attempt {
        let wasSent = session.wasSent
        // What a closure gave or took cannot be had a second time.
        let mayRepeat = !exchange.wasServed && (call.repetition == .harmless || !wasSent)
        func failure(_ error: KuboError, attemptsMax: Int = 1) -> Attempt {
            .failure(.init(error: error, attemptsMax: mayRepeat ? attemptsMax : 1))
        }
        switch ending {
        case .cancelled:
            return failure(call.error(.cancelled, "cancelled"))
        case .tooLate(let what):
            return failure(call.error(.timeout, what), attemptsMax: 2)
        case .ended(let code):
            if exchange.isTooLarge, exchange.status <= 200 {
                return failure(
                    call.error(
                        .protocolViolation,
                        "the reply, or its head, is longer than it may be"))
            }
            if exchange.status != 0, exchange.status != 200 {
                let error = NodeReply.error(of: call, status: exchange.status, body: exchange.reply)
                // Only what stands before the node answers so without having tried.
                let isPassing = [429, 502, 503, 504].contains(exchange.status)
                return failure(error, attemptsMax: isPassing ? .max : 1)
            }
            guard code == CURLE_OK else {
                let kind = TransferFailure.kind(
                    of: code, explanation: session.explanation(of: code))
                let text = TransferFailure.text(
                    of: code, explanation: session.explanation(of: code),
                    hasReply: exchange.hasReply)
                return failure(call.error(kind, text), attemptsMax: kind == .offline ? .max : 1)
            }
            guard exchange.isHeadWhole else {
                return failure(
                    call.error(.offline, "the connection ended in the head of the reply"),
                    attemptsMax: .max)
            }
            if let streamError = exchange.streamError {
                return failure(
                    NodeReply.error(
                        of: call, trailer: streamError, body: exchange.reply))
            }
            guard exchange.isDelimited else {
                return failure(
                    call.error(
                        .protocolViolation, "the reply has no length, so its end cannot be told"))
            }
            return .reply(exchange.takeReply())
        }
    }

    // MARK: Connections

    private func acquire(
        for call: Call, _ deadline: Int64?
    ) throws(KuboError) -> CurlSession {
        let pool = pool
        let handler = call.cancellation?.onCancel {
            // Under the lock, so that nobody is between looking and waiting.
            pool.withLock { _ in pool.wakeAll() }
        }
        defer { if let handler { call.cancellation?.remove(handler: handler) } }
        let deadline =
            deadline ?? MonotonicClock.milliseconds + Int64(configuration.workMilliseconds)
        let idle = try pool.withLock { (state) throws(KuboError) -> CurlSession? in
            while true {
                if call.cancellation?.isCancelled ?? false {
                    throw call.error(.cancelled, "cancelled")
                }
                if call.asksPeers {
                    if state.searches.mayTake(call.user, of: Self.searchesMax) {
                        state.searches.take(call.user)
                        return state.idle.popLast()
                    }
                } else if state.busyCount < configuration.connectionsMax,
                    !call.isUpload || state.uploadCount < uploadsMax
                {
                    state.busyCount += 1
                    if call.isUpload { state.uploadCount += 1 }
                    return state.idle.popLast()
                }
                let now = MonotonicClock.milliseconds
                guard now < deadline else {
                    throw call.error(.timeout, "no connection became free within the call's time")
                }
                pool.wait(&state, milliseconds: Int(clamping: deadline - now))
            }
        }
        if let idle { return idle }
        if let session = CurlSession() { return session }
        release(nil, of: call)
        throw call.error(.failed, "libcurl has no memory")
    }

    private func release(_ session: CurlSession?, of call: Call) {
        pool.withLock { state in
            if call.asksPeers { state.searches.giveBack(call.user) } else { state.busyCount -= 1 }
            if call.isUpload { state.uploadCount -= 1 }
            if let session, state.idle.count < configuration.connectionsMax {
                state.idle.append(session)
            }
        }
        // All, for those that wait are of two kinds.
        pool.wakeAll()
    }

    private func sleep(milliseconds: Int, for call: Call) throws(KuboError) {
        let isCancelled = Guarded(false, rank: .connections)
        let handler = call.cancellation?.onCancel {
            isCancelled.withLock { $0 = true }
            isCancelled.wakeAll()
        }
        defer { if let handler { call.cancellation?.remove(handler: handler) } }
        let end = MonotonicClock.milliseconds + Int64(milliseconds)
        isCancelled.withLock { state in
            while !state, !(call.cancellation?.isCancelled ?? false) {
                let now = MonotonicClock.milliseconds
                guard now < end else { return }
                isCancelled.wait(&state, milliseconds: Int(end - now))
            }
        }
        if call.cancellation?.isCancelled ?? false {
            throw call.error(.cancelled, "cancelled")
        }
    }
}

/// Why a call failed that works together with a closure of the caller's.
public enum KuboStreamError<Failure: Error>: Error {
    /// The node, or the way to it.
    case kubo(KuboError)
    /// The closure threw.
    case source(Failure)
}
