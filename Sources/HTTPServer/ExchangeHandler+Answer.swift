internal import Base
internal import Glibc
internal import HTTPTypes
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Serving

internal import struct SystemPackage.Errno

// Of a body one piece is written and, where there is room, the next one is made; what is neither waits where it lies. So a client that is
// slow holds two pieces in memory at most, or none where its bytes go from file to socket.

extension ExchangeHandler {
    /// What is seen of the progress of an HTTP/2 stream, in bytes.
    private static var sliceBytes: Int { 64 << 10 }
    /// What of a file is sent at a time, in bytes.
    private static var regionBytes: UInt64 { 8 << 20 }

    // MARK: Head

    /// Sends an answer, at once its head and then its body as it comes.
    func answer(_ exchange: Exchange, _ response: ServeResponse) {
        guard current === exchange, let context else { return }
        var response = response
        // Interim answers are the transport's, and what is none is the handler's error.
        if !(200...999).contains(response.status) {
            response = ServeResponse(500)
        }
        let head = exchange.head
        if head.method != .HEAD, !server.hasRoom(forBody: response.body.bytesInMemory) {
            response = refusal(of: exchange, 429, [.retryAfter: "1"])
        }
        let mayHaveBody = response.status != 204 && response.status != 304
        let sendsBody = mayHaveBody && head.method != .HEAD && response.body.count != 0
        if sendsBody {
            exchange.body = BodySource(response.body)
            server.hold(response.body.bytesInMemory, for: exchange)
        }
        exchange.status = response.status
        let isChunked = sendsBody && response.body.count == nil && !isHTTP2
        if server.connections.isStopping || !head.isKeepAlive || head.version.isOld
            || head.method == .CONNECT || head.headers.contains(name: "upgrade")
        {
            // Behind an upgrade that was asked for, NIO's decoder reads nothing.
            exchange.closes = true
        }
        var fields = headers(of: response, to: exchange, mayHaveBody: mayHaveBody)
        if !isHTTP2 {
            if exchange.closes { fields.add(name: "Connection", value: "close") }
            if isChunked && !head.version.isOld {
                fields.add(name: "Transfer-Encoding", value: "chunked")
            }
        }
        let version: HTTPVersion = isHTTP2 ? .http2 : .http1_1
        let status = HTTPResponseStatus(statusCode: response.status)
        context.write(
            wrapOutboundOut(
                .head(HTTPResponseHead(version: version, status: status, headers: fields))),
            promise: nil)
        if !sendsBody { exchange.body.isDrained = true }
        exchange.rate = TakingRate(server.configuration, at: Self.now)
        pump(exchange)
        if current === exchange { watch(exchange) }
    }

    private func headers(
        of response: ServeResponse, to exchange: Exchange, mayHaveBody: Bool
    ) -> HTTPHeaders {
        var headers = HTTPHeaders()
        headers.add(name: "Server", value: "registryfs")
        headers.add(name: "Date", value: HTTPDate.now)
        let isRestricted = server.configuration.access.isRestricted
        if isRestricted, response.fields[.cacheControl] == nil {
            headers.add(name: "Cache-Control", value: "private")
        }
        for field in response.fields {
            switch field.name {
            case .server, .date, .connection, .transferEncoding, .contentLength: continue
            case .cacheControl where isRestricted:
                headers.add(name: "Cache-Control", value: AccessRules.caching(field.value))
            default: headers.add(name: field.name.rawName, value: field.value)
            }
        }
        if response.fields[.xContentTypeOptions] == nil {
            headers.add(name: "X-Content-Type-Options", value: "nosniff")
        }
        guard mayHaveBody else { return headers }
        if case .none = response.body, exchange.head.method == .HEAD {
            // A handler that makes no body for HEAD says itself what there would be.
            if let length = response.fields[.contentLength], let count = UInt64(length) {
                headers.add(name: "Content-Length", value: String(count))
            }
        } else if let count = response.body.count {
            headers.add(name: "Content-Length", value: String(count))
        }
        return headers
    }

    // MARK: Body

    /// Writes what is ready, and has the next piece made. What it does last may end the exchange.
    func pump(_ exchange: Exchange) {
        guard let context, current === exchange, !exchange.hasFailed else { return }
        while !exchange.isEndWritten {
            if exchange.writeCount == 0, let piece = exchange.ready {
                exchange.ready = nil
                write(piece, of: exchange, context)
            } else if exchange.ready == nil, !exchange.isProducing, !exchange.body.isDrained,
                exchange.writeCount == 0 || readsAhead(exchange)
            {
                guard prepare(exchange, context) else { return fail(exchange) }
            } else {
                break
            }
        }
        if exchange.body.isDrained, exchange.ready == nil, !exchange.isProducing,
            !exchange.isEndWritten
        {
            // Fewer bytes than was said cannot be told from a connection that broke, and are the same to the client.
            guard exchange.body.remaining ?? 0 == 0 else {
                context.flush()
                return fail(exchange)
            }
            exchange.isEndWritten = true
            let promise = context.eventLoop.makePromise(of: Void.self)
            promise.futureResult.assumeIsolated().whenSuccess { self.finish(exchange) }
            context.write(wrapOutboundOut(.end(nil)), promise: promise)
        }
        context.flush()
    }

    /// Whether the next piece may be made before the one that is written is through. Whether there is one costs nothing to see,
    /// nor does one that is sent as it lies.
    private func readsAhead(_ exchange: Exchange) -> Bool {
        if exchange.body.place == nil, exchange.body.pieces.isEmpty, exchange.body.producer == nil {
            return true
        }
        if case .http1(_, canSendFiles: true) = kind, case .file = exchange.body.place {
            return true
        }
        return server.readsAhead
    }

    /// Makes the next piece, or has a thread make it, or sees that there is none.
    ///
    /// - Returns: false where it cannot be made.
    private func prepare(_ exchange: Exchange, _ context: ChannelHandlerContext) -> Bool {
        guard let place = exchange.body.place else {
            if let next = exchange.body.pieces.popFirst() {
                return exchange.body.begin(next)
            }
            if let producer = exchange.body.producer {
                produce(exchange, producer, context)
            } else {
                exchange.body.isDrained = true
            }
            return true
        }
        let offset = exchange.body.placeOffset
        let left = place.count - offset
        let count = Int(min(left, UInt64(server.pieceBytes)))
        switch place {
        case .bytes(let bytes):
            let start = Int(offset)
            exchange.ready = .buffer(
                context.channel.allocator.buffer(bytes: bytes[start..<start + count]))
            exchange.body.advance(by: UInt64(count))
        case .file(let range):
            if case .http1(_, canSendFiles: true) = kind {
                return prepareRegion(range, offset, of: exchange, context)
            } else {
                readFile(range, offset, count, of: exchange, context)
                exchange.body.advance(by: UInt64(count))
            }
        }
        return true
    }

    /// A part of a file to be sent as it lies. The kernel is asked for its bytes before, by another thread, while the part before
    /// it is sent: sendfile(2) would wait for a disk, and all connections of the event loop with it.
    private func prepareRegion(
        _ range: FileRange, _ offset: UInt64, of exchange: Exchange,
        _ context: ChannelHandlerContext
    ) -> Bool {
        guard range.isWithinFile else { return false }
        let count = min(range.count - offset, Self.regionBytes)
        let part = FileRange(range.file, offset: range.offset + offset, count: count)
        exchange.body.advance(by: count)
        guard count > Self.sliceBytes else {
            exchange.ready = .region(part)
            return true
        }
        exchange.isProducing = true
        let job = server.readers.runIfActive(eventLoop: context.eventLoop) { part.expect() }
        job.assumeIsolated().whenComplete { _ in
            guard self.current === exchange else { return }
            exchange.isProducing = false
            exchange.ready = .region(part)
            self.pump(exchange)
        }
        return true
    }

    private func readFile(
        _ range: FileRange, _ offset: UInt64, _ count: Int, of exchange: Exchange,
        _ context: ChannelHandlerContext
    ) {
        exchange.isProducing = true
        let job = server.readers.runIfActive(eventLoop: context.eventLoop) { () -> ByteBuffer? in
            var buffer = ByteBufferAllocator().buffer(capacity: count)
            let (start, overflow) = range.offset.addingReportingOverflow(offset)
            guard !overflow, start <= UInt64(Int64.max) else { return nil }
            try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { room in
                try Sys.read(
                    range.file.raw, at: start,
                    into: UnsafeMutableRawBufferPointer(rebasing: room[..<count]))
            }
            return buffer.readableBytes == count ? buffer : nil
        }
        job.assumeIsolated().whenComplete { result in
            guard self.current === exchange else { return }
            exchange.isProducing = false
            guard case .success(let buffer?) = result else { return self.fail(exchange) }
            exchange.ready = .buffer(buffer)
            self.pump(exchange)
        }
    }

    private func produce(
        _ exchange: Exchange, _ producer: any BodyProducer, _ context: ChannelHandlerContext
    ) {
        exchange.isProducing = true
        let slot = exchange.slot
        let job = server.pool.runIfActive(eventLoop: context.eventLoop) {
            [cancellation = exchange.cancellation] () -> BytesPlace? in
            defer { withExtendedLifetime(slot) {} }
            if cancellation.isCancelled { throw ServeFault.unavailable }
            return try producer.next()
        }
        job.assumeIsolated().whenComplete { result in
            guard self.current === exchange else { return }
            exchange.isProducing = false
            switch result {
            case .success(let place?):
                guard exchange.body.begin(place) else { return self.fail(exchange) }
                self.server.hold(place.bytesInMemory, for: exchange)
            case .success(nil):
                exchange.body.isDrained = true
            case .failure:
                return self.fail(exchange)
            }
            self.pump(exchange)
        }
    }

    private func write(
        _ piece: BodyPiece, of exchange: Exchange, _ context: ChannelHandlerContext
    ) {
        switch piece {
        case .buffer(var buffer):
            while let slice = buffer.readSlice(
                length: min(buffer.readableBytes, Self.sliceBytes)), slice.readableBytes > 0
            {
                write(.byteBuffer(slice), slice.readableBytes, of: exchange, context) {}
            }
        case .region(let range):
            // NIO wants to own the descriptor that it sends from. It never gets to close this one: what owns it is kept by the
            // closure until NIO is done, and then it is taken back.
            let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: range.file.raw)
            let count = Int(range.count)
            let start = Int(range.offset)
            let region = FileRegion(
                fileHandle: handle, readerIndex: start, endIndex: start + count)
            write(.fileRegion(region), count, of: exchange, context) {
                withExtendedLifetime(range.file) { _ = try? handle.takeDescriptorOwnership() }
            }
        }
    }

    private func write(
        _ data: IOData, _ count: Int, of exchange: Exchange, _ context: ChannelHandlerContext,
        whenDone: @escaping () -> Void
    ) {
        exchange.writeCount += 1
        exchange.bytesWritten += UInt64(count)
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { result in
            whenDone()
            exchange.writeCount -= 1
            // Where it failed the channel is closing, and says so.
            guard case .success = result else { return }
            exchange.bytesSent += UInt64(count)
            if exchange.writeCount == 0 { self.pump(exchange) }
        }
        context.write(wrapOutboundOut(.body(data)), promise: promise)
    }

    // MARK: Progress

    /// Looks now and then whether the client takes what waits for it, until the exchange has ended; and whether a stream's
    /// request comes to its end.
    func watch(_ exchange: Exchange) {
        guard let context, exchange.timer == nil else { return }
        let configuration = server.configuration
        var shortest = min(
            configuration.stallMilliseconds, configuration.takingMilliseconds)
        if isHTTP2 { shortest = min(shortest, configuration.requestMilliseconds) }
        let interval = TimeAmount.milliseconds(Int64(min(max(shortest / 4, 5), 5_000)))
        exchange.timer = context.eventLoop.assumeIsolated().scheduleTask(in: interval) {
            exchange.timer = nil
            guard self.current === exchange else { return }
            if self.isTooSlow(exchange) {
                self.fail(exchange)
            } else {
                self.watch(exchange)
            }
        }
    }

    private func isTooSlow(_ exchange: Exchange) -> Bool {
        let now = NIODeadline.now()
        let configuration = server.configuration
        if isHTTP2, !exchange.hasEnded, !exchange.isAnswered {
            return now - exchange.began
                > .milliseconds(Int64(configuration.requestMilliseconds))
        }
        guard exchange.writeCount > 0 || exchange.isEndWritten else {
            // It waits for a handler, which has its own deadlines.
            exchange.rate?.rest(at: Self.now)
            return false
        }
        return exchange.rate?.isTooSlow(taken: bytesTaken(of: exchange), at: Self.now) ?? false
    }

    private static var now: Int64 { Int64(NIODeadline.now().uptimeNanoseconds / 1_000_000) }

    /// What the client has taken, in bytes from any point on. Where the kernel tells it: what the other side has acknowledged, because a
    /// socket with much room tells of room again only when a third of it is free. Else what the socket has taken; of a stream, what
    /// its connection has.
    private func bytesTaken(of exchange: Exchange) -> UInt64 {
        guard !isHTTP2 else { return exchange.bytesSent }
        if let acknowledged = bytesAcknowledged { return acknowledged }
        let waiting = UInt64(clamping: bytesInChannel)
        return exchange.bytesWritten - min(waiting, exchange.bytesWritten)
    }

    /// What the other side of a TCP connection has acknowledged, in bytes; nil where nobody tells.
    private var bytesAcknowledged: UInt64? {
        guard let provider = context?.channel as? any SocketOptionProvider else { return nil }
        var acknowledged: UInt64?
        let answer: EventLoopFuture<TCPInformation> = provider.unsafeGetSocketOption(
            level: .tcp, name: .tcp_info)
        // On the channel's own event loop it is there at once.
        answer.assumeIsolated().whenSuccess { acknowledged = $0.bytesAcknowledged }
        return acknowledged
    }

    /// What the socket has not taken yet, in bytes, files too; 0 for a stream, which does not know.
    private var bytesInChannel: Int {
        guard !isHTTP2, let options = context?.channel.syncOptions else { return 0 }
        return (try? options.getOption(.bufferedWritableBytes)) ?? 0
    }
}

extension TakingRate {
    fileprivate init(_ configuration: ServerConfiguration, at now: Int64) {
        self.init(
            stall: Int64(configuration.stallMilliseconds),
            window: Int64(configuration.takingMilliseconds),
            bytesPerSecond: UInt64(configuration.takenBytesPerSecondMin), at: now)
    }
}

/// The beginning of the kernel's `struct tcp_info` (linux/tcp.h), of which glibc knows less: what stands behind its first 120 bytes.
private struct TCPInformation: Sendable {
    private var beginning: InlineArray<15, UInt64> = .init(repeating: 0)
    /// tcpi_bytes_acked, RFC 4898 tcpEStatsAppHCThruOctetsAcked; since Linux 4.2.
    var bytesAcknowledged: UInt64 = 0
}

extension HTTPVersion {
    /// Whether it is older than HTTP/1.1: without chunks, and without Host.
    var isOld: Bool { major < 1 || (major == 1 && minor < 1) }
}

extension BodySource {
    /// Begins to cut a place; false where it is more than was said.
    mutating func begin(_ next: BytesPlace) -> Bool {
        guard take(next.count) else { return false }
        place = next.count > 0 ? next : nil
        placeOffset = 0
        return true
    }

    /// Leaves bytes of the place behind.
    mutating func advance(by count: UInt64) {
        placeOffset += count
        if let place, placeOffset >= place.count { self.place = nil }
    }
}

extension FileRange {
    /// Has the kernel begin to read it (posix_fadvise(2)).
    func expect() {
        _ = posix_fadvise(
            file.raw, off_t(clamping: offset), off_t(clamping: count), POSIX_FADV_WILLNEED)
    }

    /// Whether all of it is there: sendfile(2) would send nothing for ever beyond a file's end.
    var isWithinFile: Bool {
        let (end, overflow) = offset.addingReportingOverflow(count)
        guard !overflow, let status = try? Sys.status(of: file.raw) else { return false }
        return end <= UInt64(max(0, status.size)) && end < 1 << 55
    }
}
