internal import Base
internal import CCurl
internal import Glibc

/// A curl handle with the connection that it keeps.
///
/// Sendable although unchecked: the pool of a `KuboClient` hands a session to one call at a time,
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

    /// The limits of one transfer, in milliseconds, and by `MonotonicClock` for the deadline.
    struct Limits {
        var connect: Int
        var firstByte: Int
        var stall: Int
        var deadline: Int64?
        /// The limit of the transfer without the time of its bytes.
        var base: Int
        /// What has to move on the average beyond that, in bytes a second; nil gives bytes no time.
        var bytesPerSecond: Int?
    }

    /// Ends the nap of the thread that transfers, from any other thread.
    func wake() {
        curl_multi_wakeup(multi)
    }

    /// Whether any byte of the last request left.
    var wasSent: Bool { rfs_curl_long(easy, CURLINFO_REQUEST_SIZE) > 0 }

    /// What curl says of the last transfer's end.
    func explanation(of code: CURLcode) -> String {
        errorText.pointee != 0
            ? String(cString: errorText) : String(cString: curl_easy_strerror(code))
    }

    /// Makes one request and receives the reply.
    ///
    /// - Parameters:
    ///   - headers: whole lines, besides those that curl makes.
    ///   - isFresh: over a new connection, so that curl never sends the request twice on its own, as
    ///     it does where a kept connection turns out to be closed.
    ///   - serve: called between two steps of the transfer, to feed the request and take from the reply;
    ///     no limit but the deadline counts its time, or that for which the limit of uploads holds back.
    func transfer<Failure: Error>(
        _ exchange: Exchange, to address: KuboAddress, url: [UInt8], headers: [String],
        isFresh: Bool, limits: Limits, isCancelled: () -> Bool,
        serve: (Exchange) throws(Failure) -> Void
    ) throws(Failure) -> Ending {
        guard let list = HeaderList(headers) else { return .ended(CURLE_OUT_OF_MEMORY) }
        prepare(address, url: url, isFresh: isFresh, connectMilliseconds: limits.connect)
        _ = rfs_curl_set_list(easy, CURLOPT_HTTPHEADER, list.first)
        switch exchange.bodyByteCount {
        case 0?: _ = rfs_curl_set_text(easy, CURLOPT_COPYPOSTFIELDS, "")
        case let count?: _ = rfs_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, Int64(count))
        case nil: _ = rfs_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, -1)
        }
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
        return try run(exchange, limits, isCancelled, serve)
    }

    private func run<Failure: Error>(
        _ exchange: Exchange, _ limits: Limits, _ isCancelled: () -> Bool,
        _ serve: (Exchange) throws(Failure) -> Void
    ) throws(Failure) -> Ending {
        var movedBytes: Int64 = 0
        var movedAt = MonotonicClock.milliseconds
        // The end of what is allowed so far, without the time of the bytes that moved.
        var end = movedAt + Int64(limits.base)
        while true {
            if exchange.wantsFood || exchange.hasFreshReply {
                exchange.wasServed = true
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
                if code == CURLE_OK, exchange.hasFreshReply {
                    exchange.wasServed = true
                    try serve(exchange)
                }
                return .ended(code)
            }
            if isCancelled() { return .cancelled }
            if exchange.wantsFood || exchange.hasFreshReply { continue }

            let now = MonotonicClock.milliseconds
            let sum =
                rfs_curl_offset(easy, CURLINFO_SIZE_UPLOAD_T)
                &+ rfs_curl_offset(easy, CURLINFO_SIZE_DOWNLOAD_T)
                &+ Int64(rfs_curl_long(easy, CURLINFO_REQUEST_SIZE))
                &+ Int64(rfs_curl_long(easy, CURLINFO_HEADER_SIZE))
            if sum != movedBytes || exchange.throttledUntil != nil {
                movedBytes = sum
                movedAt = now
            }
            var nap = Self.napMillisecondsMax
            if let until = exchange.throttledUntil { nap = min(nap, until > now ? until - now : 0) }
            if let deadline = limits.deadline {
                guard now < deadline else { return .tooLate("the call's time is over") }
                nap = min(nap, deadline - now)
            }
            // Before anything was sent, curl's own limit for connecting holds.
            if wasSent {
                let (limit, what) = limit(of: exchange, limits)
                guard now - movedAt < Int64(limit) else {
                    return .tooLate("\(what) for \(limit) ms")
                }
                nap = min(nap, Int64(limit) - (now - movedAt))
            }
            let earned = limits.bytesPerSecond.map { sum / max(1, Int64($0) / 1000) } ?? 0
            guard now < end + earned else { return .tooLate(Self.slowness(limits)) }
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

    private static func slowness(_ limits: Limits) -> String {
        guard let rate = limits.bytesPerSecond else {
            return "it was not done within \(limits.base / 1000) s"
        }
        return "it moved fewer than \(rate) bytes a second"
    }

    private func limit(of exchange: Exchange, _ limits: Limits) -> (Int, String) {
        if exchange.hasReply { return (limits.stall, "the reply stood still") }
        if exchange.isFed, exchange.pendingByteCount == 0 {
            return (limits.firstByte, "the node did not answer")
        }
        return (limits.stall, "the node took no byte")
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

    private func prepare(
        _ address: KuboAddress, url: [UInt8], isFresh: Bool, connectMilliseconds: Int
    ) {
        curl_easy_reset(easy)
        errorText.pointee = 0
        _ = rfs_curl_set_error_buffer(easy, errorText)
        String(decoding: url, as: UTF8.self).withCString { text in
            _ = rfs_curl_set_text(easy, CURLOPT_URL, text)
        }
        set(CURLOPT_NOSIGNAL, 1)
        set(CURLOPT_POST, 1)
        set(CURLOPT_TCP_KEEPALIVE, 1)
        set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        set(CURLOPT_CONNECTTIMEOUT_MS, connectMilliseconds)
        set(CURLOPT_BUFFERSIZE, Self.receiveBufferBytes)
        set(CURLOPT_UPLOAD_BUFFERSIZE, Self.uploadBufferBytes)
        set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        set(CURLOPT_FRESH_CONNECT, isFresh ? 1 : 0)
        switch address.family {
        case .any: break
        case .version4: set(CURLOPT_IPRESOLVE, Int(CURL_IPRESOLVE_V4))
        case .version6: set(CURLOPT_IPRESOLVE, Int(CURL_IPRESOLVE_V6))
        }
        if let path = address.socketPath {
            _ = rfs_curl_set_text(easy, CURLOPT_UNIX_SOCKET_PATH, path)
        }
        if address.isLocal {
            _ = rfs_curl_set_text(easy, CURLOPT_NOPROXY, "*")
        }
    }

    private func set(_ option: CURLoption, _ value: Int) {
        _ = rfs_curl_set_long(easy, option, value)
    }
}

/// Lines for curl, freed when the list ends.
private final class HeaderList {
    let first: UnsafeMutablePointer<curl_slist>?

    /// Nil where there is no memory.
    init?(_ lines: [String]) {
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines {
            guard let longer = curl_slist_append(list, line) else {
                curl_slist_free_all(list)
                return nil
            }
            list = longer
        }
        first = list
    }

    deinit {
        curl_slist_free_all(first)
    }
}

// curl's callbacks. The context is the exchange, which `transfer` keeps alive.

private func exchange(_ context: UnsafeMutableRawPointer) -> Exchange {
    Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
}

private func curlWrite(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return 0 }
    return exchange(context).takeBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private func curlRead(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return Int(CURL_READFUNC_ABORT) }
    return exchange(context).read(
        into: UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
}

private func curlHeader(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return 0 }
    let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
    return exchange(context).takeHeader(line) ? line.count : 0
}

private func curlSeek(_ context: UnsafeMutableRawPointer?, _ offset: curl_off_t, _ origin: Int32)
    -> Int32
{
    guard let context, offset == 0, origin == SEEK_SET else { return CURL_SEEKFUNC_CANTSEEK }
    return exchange(context).rewind() ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL
}
