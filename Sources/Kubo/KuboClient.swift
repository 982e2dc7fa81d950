internal import Base
internal import HTTP
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
    /// Calls that have the node ask its peers at once, at most. They take long, and so no connection
    /// that others wait for; and one user takes half of them at most.
    static let searchesMax = 256

    /// What the client was made with.
    public let configuration: KuboConfiguration
    private let log: Logger
    private let http: HTTPClient
    private let admission: Admission

    /// The first pause before a call is tried again; each further one is twice as long.
    private static let pauseMilliseconds = 100
    private static let pauseMillisecondsMax = 2_000

    /// Makes a client. Nothing is sent yet. From the first call to an https address, the process ignores
    /// SIGPIPE (`HTTPClient`).
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
        admission = Admission(
            callsMax: bounded.connectionsMax,
            uploadsMax: bounded.connectionsMax - bounded.connectionsMax / 4,
            searchesMax: Self.searchesMax)
        var transport = HTTPConfiguration()
        transport.userAgent = bounded.userAgent
        transport.server = "the node"
        // Who may call is decided here, so that no call waits for another there.
        transport.connectionsMax = bounded.connectionsMax + Self.searchesMax
        transport.idleConnectionsMax = bounded.connectionsMax
        transport.uploadRate = bounded.uploadBytesPerSecond.map { UploadRate(bytesPerSecond: $0) }
        transport.environment = bounded.environment
        do throws(HTTPError) {
            http = try HTTPClient(transport)
        } catch {
            throw KuboError(.failed, call: "connect", message: error.message)
        }
    }

    /// Makes one call and gives the whole reply.
    func perform(_ call: Call) throws(KuboError) -> [UInt8] {
        do throws(KuboStreamError<Never>) {
            return try transact(call) { (request, _) throws(HTTPStreamError<Never>) in
                do throws(HTTPError) {
                    return try http.send(request)
                } catch {
                    throw .http(error)
                }
            }
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
        return try transact(call) { (request, wasServed) throws(HTTPStreamError<Failure>) in
            try http.upload(request) { () throws(Failure) in
                wasServed = true
                return try next()
            }
        }
    }

    /// Makes one call and lends the reply piece by piece.
    func download<Failure: Error>(
        _ call: Call, _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(KuboStreamError<Failure>) {
        precondition(!call.isUpload, "no call streams both ways")
        _ = try transact(call) { (request, wasServed) throws(HTTPStreamError<Failure>) in
            try http.download(request) { (_, bytes) throws(Failure) in
                wasServed = true
                try sink(bytes)
            }
        }
    }

    // MARK: Attempts

    /// Makes a call, again where it may be made again.
    ///
    /// - Parameter send: sends the request once, and says whether a closure of the caller's was used.
    private func transact<Failure: Error>(
        _ call: Call,
        _ send: (HTTPRequest, inout Bool) throws(HTTPStreamError<Failure>) -> HTTPReply
    ) throws(KuboStreamError<Failure>) -> [UInt8] {
        let deadline = call.deadlineMilliseconds.map {
            MonotonicClock.milliseconds + Int64(min(max(0, $0), Int(Int32.max)))
        }
        var attempt = 1
        while true {
            let failure: Attempt.Failure
            switch try self.attempt(call, deadline, send) {
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
        _ call: Call, _ deadline: Int64?,
        _ send: (HTTPRequest, inout Bool) throws(HTTPStreamError<Failure>) -> HTTPReply
    ) throws(KuboStreamError<Failure>) -> Attempt {
        do throws(KuboError) {
            try admission.enter(
                call,
                deadline: deadline
                    ?? MonotonicClock.milliseconds + Int64(configuration.workMilliseconds))
        } catch {
            throw .kubo(error)
        }
        defer { admission.leave(call) }
        var wasServed = false
        do throws(HTTPStreamError<Failure>) {
            let reply = try send(request(for: call, deadline), &wasServed)
            return judge(reply, to: call, mayRepeat: call.repetition == .harmless && !wasServed)
        } catch {
            switch error {
            case .source(let error): throw .source(error)
            case .http(let error):
                // What a closure gave or took cannot be had a second time.
                let mayRepeat =
                    !wasServed && (call.repetition == .harmless || !error.wasSent)
                return judge(error, of: call, mayRepeat: mayRepeat)
            }
        }
    }

    private func request(for call: Call, _ deadline: Int64?) -> HTTPRequest {
        let address = configuration.address
        var request = HTTPRequest(.post, url(of: call), route: address.route)
        if call.isUpload {
            request.body = call.body.map { .whole($0) } ?? .streamed(byteCount: nil)
        }
        if let type = call.contentType { request.headers.append("Content-Type", type) }
        if let credentials = configuration.credentials {
            request.headers.append("Authorization", credentials.header)
        }
        // All that a node says otherwise is an error.
        request.acceptedStatuses = 200...200
        request.replyBytesMax = call.replyBytesMax
        request.mayBeSentTwice = call.repetition == .harmless
        // Told from a cut one in `judge`, after what the node says of its error.
        request.takesUnknownEnd = true
        request.cancellation = call.cancellation
        request.memory = call.memory
        request.limits.connectMilliseconds = configuration.connectMilliseconds
        request.limits.stallMilliseconds = configuration.stallMilliseconds
        request.limits.bytesPerSecondMin = configuration.bytesPerSecondMin
        request.limits.transferMilliseconds = call.attemptMilliseconds
        request.limits.deadline = deadline
        // Where the caller says how long long work may take, that is how long.
        request.limits.firstByteMilliseconds =
            call.isLongWork
            ? call.deadlineMilliseconds ?? configuration.workMilliseconds
            : configuration.firstByteMilliseconds
        return request
    }

    private func url(of call: Call) -> String {
        var url = "\(configuration.address.base)/api/v0/\(call.command)"
        if !call.query.isEmpty { url += "?" + String(decoding: call.query, as: UTF8.self) }
        return url
    }

    private func judge(_ reply: HTTPReply, to call: Call, mayRepeat: Bool) -> Attempt {
        func failure(_ error: KuboError, attemptsMax: Int = 1) -> Attempt {
            .failure(.init(error: error, attemptsMax: mayRepeat ? attemptsMax : 1))
        }
        guard reply.status == 200 else {
            let error = ErrorReply.error(of: call, status: reply.status, body: reply.body)
            // Only what stands before the node answers so without having tried.
            let isPassing = [429, 502, 503, 504].contains(reply.status)
            return failure(error, attemptsMax: isPassing ? .max : 1)
        }
        // As a header or a trailer; one without text is an error all the same.
        let name = "X-Stream-Error"
        if let text = reply.trailers[name] ?? reply.headers[name] {
            return failure(
                ErrorReply.error(of: call, trailer: KuboError.line(text), body: reply.body))
        }
        guard reply.isDelimited else {
            return failure(
                call.error(
                    .protocolViolation, "the reply has no length, so its end cannot be told"))
        }
        return .reply(reply.body)
    }

    private func judge(_ error: HTTPError, of call: Call, mayRepeat: Bool) -> Attempt {
        let attemptsMax =
            switch error.kind {
            case .offline: Int.max
            case .timeout: 2
            case .cancelled, .untrusted, .tooLarge, .protocolViolation, .invalidRequest, .failed: 1
            }
        return .failure(
            .init(error: call.error(error), attemptsMax: mayRepeat ? attemptsMax : 1))
    }

    private func sleep(milliseconds: Int, for call: Call) throws(KuboError) {
        let isCancelled = Monitor(false, rank: .connections)
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
