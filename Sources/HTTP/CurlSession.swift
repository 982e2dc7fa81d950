internal import Base
internal import CCurl
internal import Glibc

/// A curl handle with the connection that it keeps.
///
/// Sendable although unchecked: the pool of an `HTTPClient` hands a session to one request at a time,
/// and libcurl allows a handle to be used by one thread after the other (libcurl-thread(3)).
/// `wake` alone is called by other threads meanwhile, which curl_multi_wakeup(3) allows; whoever may
/// call it holds a reference.
final class CurlSession: @unchecked Sendable {
    /// What curl asks for and sends at a time.
    static let uploadBufferBytes = 512 << 10
    /// What curl receives at a time.
    private static let receiveBufferBytes = 256 << 10
    /// How long the next bytes of a long reply gather before they are received. A node on this machine
    /// writes 32 KiB at a time; to be woken for each cost a quarter of what a block costs here.
    private static let gatherMicroseconds: UInt32 = 300
    /// The longest nap between two looks at the clock.
    private static let napMillisecondsMax: Int64 = 1000

    private let easy: UnsafeMutableRawPointer
    private let multi: UnsafeMutableRawPointer
    private let errorText: UnsafeMutablePointer<CChar>
    /// The server of the last request, to which a connection may be kept; empty for none.
    private(set) var origin = ""
    /// Whether an address of the last transfer's server was passed over because it is none of the public ones.
    var hasRefusedAddress = false

    /// Libraries below curl are not to be initialised by two threads at once.
    private static let isLibraryReady: Bool = rfs_curl_global_init() == CURLE_OK

    /// Nil where libcurl has no memory or cannot be initialised.
    init?() {
        guard Self.isLibraryReady, let easy = curl_easy_init() else { return nil }
        guard let multi = curl_multi_init() else {
            curl_easy_cleanup(easy)
            return nil
        }
        self.easy = easy
        self.multi = multi
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        _ = rfs_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 1)
    }

    deinit {
        curl_easy_cleanup(easy)
        curl_multi_cleanup(multi)
        errorText.deallocate()
    }

    /// How a transfer ended.
    enum Ending {
        /// By itself; CURLE_OK means that a reply is there.
        case ended(CURLcode)
        /// By its cancellation.
        case cancelled
        /// By a limit; the text says which.
        case tooLate(String)
    }

    /// Ends the nap of the thread that transfers, from any other thread.
    func wake() {
        curl_multi_wakeup(multi)
    }

    /// Whether any byte of the last request left.
    var wasSent: Bool { rfs_curl_long(easy, CURLINFO_REQUEST_SIZE) > 0 }

    /// What curl says of the last transfer's end.
    func explanation(of code: CURLcode) -> String {
        if hasRefusedAddress, code == CURLE_COULDNT_CONNECT {
            return "the server is at no public address, and is not asked elsewhere"
        }
        return errorText.pointee != 0
            ? String(cString: errorText) : String(cString: curl_easy_strerror(code))
    }

    /// Where the reply to the last request has the next one go; nil where it is no redirect.
    var redirect: String? {
        rfs_curl_text(easy, CURLINFO_REDIRECT_URL).map { String(cString: $0) }
    }

    /// Makes one request and receives the reply.
    ///
    /// - Parameters:
    ///   - url: that of the request.
    ///   - lines: the whole lines of its head, besides those that curl makes.
    ///   - limits: within their ranges.
    ///   - server: what the other side is called.
    ///   - serve: called between two steps of the transfer, to feed the request and take from the reply;
    ///     no limit but the deadline counts its time, or that for which the limit of uploads holds back.
    func transfer<Failure: Error>(
        _ exchange: Exchange, of request: HTTPRequest, to url: HTTPURL, lines: [String],
        limits: HTTPLimits, environment: HTTPEnvironment, server: String,
        serve: (Exchange) throws(Failure) -> Void
    ) throws(Failure) -> Ending {
        guard let list = HeaderList(lines) else { return .ended(CURLE_OUT_OF_MEMORY) }
        origin = url.origin
        prepare(request, connectMilliseconds: limits.connectMilliseconds)
        prepareWay(request.route, isEncrypted: url.isEncrypted, environment)
        hasRefusedAddress = false
        prepareMethod(request.method, exchange)
        _ = rfs_curl_set_list(easy, CURLOPT_HTTPHEADER, list.first)
        rfs_curl_set_callbacks(
            easy, curlWrite, curlRead, curlHeader, curlSeek,
            Unmanaged.passUnretained(exchange).toOpaque())
        guard curl_multi_add_handle(multi, easy) == CURLM_OK else {
            return .ended(CURLE_FAILED_INIT)
        }
        defer {
            // Ends the connection too, unless the reply is complete.
            curl_multi_remove_handle(multi, easy)
            rfs_curl_set_callbacks(easy, nil, nil, nil, nil, nil)
            withExtendedLifetime((exchange, list)) {}
        }
        return try run(exchange, limits, request.cancellation, server, serve)
    }

    private func run<Failure: Error>(
        _ exchange: Exchange, _ limits: HTTPLimits, _ cancellation: Cancellation?,
        _ server: String, _ serve: (Exchange) throws(Failure) -> Void
    ) throws(Failure) -> Ending {
        var movedBytes: Int64 = 0
        var movedAt = MonotonicClock.milliseconds
        // The end of what is allowed so far, without the time of the bytes that moved.
        var end = movedAt + Int64(limits.baseMilliseconds)
        while true {
            if exchange.wantsFood || exchange.hasFreshReply {
                let before = MonotonicClock.milliseconds
                try serve(exchange)
                movedAt = MonotonicClock.milliseconds
                end += movedAt - before
            }
            resume(exchange)
            var runningCount: Int32 = 0
            guard curl_multi_perform(multi, &runningCount) == CURLM_OK else {
                return .ended(CURLE_FAILED_INIT)
            }
            var code = CURLE_OK
            if rfs_curl_ended(multi, &code) != 0 {
                exchange.isOver = true
                if code == CURLE_OK || exchange.lendsCutReply, exchange.hasFreshReply {
                    try serve(exchange)
                }
                return .ended(code)
            }
            if cancellation?.isCancelled ?? false { return .cancelled }
            let now = MonotonicClock.milliseconds
            if let deadline = limits.deadline, now >= deadline {
                return .tooLate("the time of the request is over")
            }
            if exchange.wantsFood || exchange.hasFreshReply {
                // What comes without a pause keeps every rate.
                guard limits.transferMilliseconds == nil || now < end else {
                    return .tooLate(limits.slowness)
                }
                continue
            }

            let sum = movedByteCount
            if sum != movedBytes || exchange.throttledUntil != nil {
                movedBytes = sum
                movedAt = now
            }
            var nap = Self.napMillisecondsMax
            if let until = exchange.throttledUntil { nap = min(nap, until > now ? until - now : 0) }
            if let deadline = limits.deadline { nap = min(nap, deadline - now) }
            // Before anything was sent, curl's own limit for connecting holds.
            if wasSent {
                let (limit, what) = limit(of: exchange, limits, server)
                guard now - movedAt < Int64(limit) else {
                    return .tooLate("\(what) for \(limit) ms")
                }
                nap = min(nap, Int64(limit) - (now - movedAt))
            }
            let earned = limits.earnedMilliseconds(byMovedBytes: sum)
            guard now < end + earned else { return .tooLate(limits.slowness) }
            nap = min(nap, end + earned - now)
            let isThrottled = exchange.throttledUntil != nil
            defer { if isThrottled { end += MonotonicClock.milliseconds - now } }
            if exchange.isReplyLong { Threads.sleep(microseconds: Self.gatherMicroseconds) }
            var readyCount: Int32 = 0
            guard
                curl_multi_poll(multi, nil, 0, Int32(clamping: max(nap, 1)), &readyCount)
                    == CURLM_OK
            else { return .ended(CURLE_FAILED_INIT) }
        }
    }

    /// What was sent and received, heads too.
    private var movedByteCount: Int64 {
        rfs_curl_offset(easy, CURLINFO_SIZE_UPLOAD_T)
            &+ rfs_curl_offset(easy, CURLINFO_SIZE_DOWNLOAD_T)
            &+ Int64(rfs_curl_long(easy, CURLINFO_REQUEST_SIZE))
            &+ Int64(rfs_curl_long(easy, CURLINFO_HEADER_SIZE))
    }

    private func limit(
        of exchange: Exchange, _ limits: HTTPLimits, _ server: String
    ) -> (Int, String) {
        if exchange.hasReply { return (limits.stallMilliseconds, "the reply stood still") }
        if exchange.isFed, exchange.pendingByteCount == 0 {
            return (limits.firstByteMilliseconds, "\(server) did not answer")
        }
        return (limits.stallMilliseconds, "\(server) took no byte")
    }

    /// Has curl go on where it waited for the caller or for the upload limit.
    private func resume(_ exchange: Exchange) {
        var goesOn = false
        if exchange.isStarving, exchange.pendingByteCount > 0 || exchange.isFed {
            exchange.isStarving = false
            goesOn = true
        }
        if let until = exchange.throttledUntil, MonotonicClock.milliseconds >= until {
            exchange.throttledUntil = nil
            goesOn = true
        }
        if exchange.isFull, !exchange.hasFreshReply {
            exchange.isFull = false
            goesOn = true
        }
        guard goesOn else { return }
        let stillSends = exchange.isStarving || exchange.throttledUntil != nil
        let waits =
            (stillSends ? CURLPAUSE_SEND : 0) | (exchange.isFull ? CURLPAUSE_RECV : 0)
        curl_easy_pause(easy, waits)
    }

    private func prepare(_ request: HTTPRequest, connectMilliseconds: Int) {
        curl_easy_reset(easy)
        errorText.pointee = 0
        _ = rfs_curl_set_error_buffer(easy, errorText)
        set(CURLOPT_URL, request.url)
        _ = rfs_curl_speak_http_only(easy)
        set(CURLOPT_NOSIGNAL, 1)
        set(CURLOPT_TCP_KEEPALIVE, 1)
        set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        set(CURLOPT_CONNECTTIMEOUT_MS, connectMilliseconds)
        set(CURLOPT_BUFFERSIZE, Self.receiveBufferBytes)
        set(CURLOPT_UPLOAD_BUFFERSIZE, Self.uploadBufferBytes)
        set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        // Over a kept connection that turns out to be closed curl sends a request again on its own.
        let isFresh = !request.mayBeSentTwice || request.isStreamed
        set(CURLOPT_FRESH_CONNECT, isFresh ? 1 : 0)
    }

    private func prepareWay(
        _ route: HTTPRoute, isEncrypted: Bool, _ environment: HTTPEnvironment
    ) {
        switch route.family {
        case .any: break
        case .version4: set(CURLOPT_IPRESOLVE, Int(CURL_IPRESOLVE_V4))
        case .version6: set(CURLOPT_IPRESOLVE, Int(CURL_IPRESOLVE_V6))
        }
        if let path = route.socketPath { set(CURLOPT_UNIX_SOCKET_PATH, path) }
        // Both are set in any case, for curl would look into the environment itself.
        let isDirect = route.isDirect || route.socketPath != nil
        let proxy = isDirect ? "" : environment.proxy(isEncrypted: isEncrypted)
        set(CURLOPT_PROXY, proxy)
        // Hosts that are reached without the proxy are those of one's own networks.
        let unproxied = route.isPublicOnly ? "" : environment.unproxiedHosts
        set(CURLOPT_NOPROXY, isDirect ? "*" : unproxied)
        // The address is the proxy's where there is one.
        if route.isPublicOnly, proxy.isEmpty {
            rfs_curl_set_open_socket(
                easy, curlOpenPublicSocket, Unmanaged.passUnretained(self).toOpaque())
        }
        if let file = environment.authorityFile {
            set(CURLOPT_CAINFO, file.path)
            set(CURLOPT_PROXY_CAINFO, file.path)
        }
        if let directory = environment.authorityDirectory {
            set(CURLOPT_CAPATH, directory.path)
            set(CURLOPT_PROXY_CAPATH, directory.path)
        }
        // The TLS library writes to closed connections.
        if isEncrypted || proxy.hasPrefix("https:") { _ = Self.ignoresBrokenPipes }
    }

    private static let ignoresBrokenPipes: Bool = signal(SIGPIPE, SIG_IGN) != nil

    private func prepareMethod(_ method: HTTPRequest.Method, _ exchange: Exchange) {
        switch method {
        case .get: return
        case .head:
            set(CURLOPT_NOBODY, 1)
            return
        case .delete where exchange.bodyByteCount == 0:
            set(CURLOPT_CUSTOMREQUEST, method.rawValue)
            return
        case .post: break
        case .put, .delete: set(CURLOPT_CUSTOMREQUEST, method.rawValue)
        }
        set(CURLOPT_POST, 1)
        switch exchange.bodyByteCount {
        case 0?: set(CURLOPT_COPYPOSTFIELDS, "")
        case let count?:
            _ = rfs_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, Int64(count))
        case nil: _ = rfs_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, -1)
        }
    }

    private func set(_ option: CURLoption, _ value: Int) {
        _ = rfs_curl_set_long(easy, option, value)
    }

    private func set(_ option: CURLoption, _ value: String) {
        _ = rfs_curl_set_text(easy, option, value)
    }
}
