internal import Foundation
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// The head of a request.
struct RequestHead: Sendable {
    var method: String
    var target: String
    var headers: [(name: String, value: String)]

    /// The first header of that name, whatever its case.
    func header(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

/// One exchange, as who answers it sees it: a head, a body to read, and a reply to write.
///
/// Belongs to the thread that answers; writing blocks until the kernel has the bytes.
final class Exchange {
    let head: RequestHead
    private let body: BodyPipe
    private let channel: any Channel
    private let isKeepAlive: Bool
    private var isClosing = false
    private(set) var isStarted = false

    init(head: RequestHead, body: BodyPipe, channel: any Channel, isKeepAlive: Bool) {
        self.head = head
        self.body = body
        self.channel = channel
        self.isKeepAlive = isKeepAlive
    }

    /// Whether the client is gone.
    var isGone: Bool { !channel.isActive }

    func nextBodyPiece() throws(Halt) -> [UInt8]? { try body.next() }

    /// Sends the head. The length of the body is chunked unless the headers have it.
    func start(status: Int, headers: [(String, String)]) throws(Halt) {
        isStarted = true
        // As Go does: what was not read by now is not worth being read.
        isClosing = !isKeepAlive || !body.isEnded
        var fields = HTTPHeaders(headers)
        if isClosing { fields.add(name: "Connection", value: "close") }
        if !fields.contains(name: "Content-Length") {
            fields.add(name: "Transfer-Encoding", value: "chunked")
        }
        fields.add(name: "Date", value: Self.date())
        try send(
            .head(
                HTTPResponseHead(
                    version: .http1_1, status: HTTPResponseStatus(statusCode: status),
                    headers: fields)), isLast: false)
    }

    func write(_ bytes: some Sequence<UInt8>) throws(Halt) {
        let buffer = channel.allocator.buffer(bytes: bytes)
        guard buffer.readableBytes > 0 else { return }
        try send(.body(.byteBuffer(buffer)), isLast: false)
    }

    func end(trailers: [(String, String)]) throws(Halt) {
        try send(.end(trailers.isEmpty ? nil : HTTPHeaders(trailers)), isLast: true)
        guard isClosing else { return }
        body.discard()
        if body.isEnded {
            channel.close(promise: nil)
        } else {
            // Closed at once, what is still on its way would reset the connection, and the client
            // would lose the reply.
            let channel = channel
            channel.eventLoop.scheduleTask(in: .milliseconds(500)) { channel.close(promise: nil) }
        }
    }

    /// Closes the connection in the middle of whatever is going on.
    func cut() {
        body.discard()
        channel.close(promise: nil)
    }

    private func send(_ part: HTTPServerResponsePart, isLast: Bool) throws(Halt) {
        do {
            try channel.writeAndFlush(part).wait()
        } catch {
            throw Halt.gone
        }
    }

    private static func date() -> String {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        var text = [CChar](repeating: 0, count: 64)
        let count = strftime(&text, text.count, "%a, %d %b %Y %H:%M:%S GMT", &parts)
        return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// Listens, and answers every request on a thread of its own.
///
/// `@unchecked Sendable`: what changes is read and written with `lock` locked.
final class HTTPServer: @unchecked Sendable {
    enum Address: Sendable {
        /// Of an IPv4 address of this machine; 0 for any port that is free.
        case port(Int, host: String = "127.0.0.1")
        case unix(String)
    }

    private let answer: @Sendable (Exchange) -> Void
    private let lock = NSLock()
    /// Held while `listen` or `refuse` waits for the event loop, whose callbacks take `lock`.
    private let turns = NSLock()
    private var listener: (any Channel)?
    private var connections: [ObjectIdentifier: any Channel] = [:]
    private var address: Address

    init(
        _ address: Address, answer: @escaping @Sendable (Exchange) -> Void
    ) throws {
        self.address = address
        self.answer = answer
        try listen()
    }

    /// 0 on a unix socket.
    var port: Int {
        lock.lock()
        defer { lock.unlock() }
        if case .port(let port, _) = address { return port }
        return 0
    }

    /// Listens again, on the same port as before.
    func listen() throws {
        turns.lock()
        defer { turns.unlock() }
        let (isListening, wanted) = locked { (listener != nil, address) }
        guard !isListening else { return }
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { [weak self] channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let self else { throw ChannelError.ioOnClosedChannel }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                        withPipeliningAssistance: false, withErrorHandling: true)
                    try channel.pipeline.syncOperations.addHandler(
                        ConnectionHandler(answer: self.answer))
                    self.add(channel)
                }
            }
        switch wanted {
        case .port(let port, let host):
            let made = try bind(bootstrap, host, port)
            locked {
                listener = made
                address = .port(made.localAddress?.port ?? port, host: host)
            }
        case .unix(let path):
            let made = try bootstrap.bind(
                unixDomainSocketPath: path, cleanupExistingSocketFile: true
            ).wait()
            locked { listener = made }
        }
    }

    private func bind(_ bootstrap: ServerBootstrap, _ host: String, _ port: Int) throws
        -> any Channel
    {
        // While nobody listened on a port, the kernel may have lent it to somebody's connection.
        var attempts = port == 0 ? 1 : 100
        while true {
            attempts -= 1
            do {
                return try bootstrap.bind(host: host, port: port).wait()
            } catch let error as IOError where error.errnoCode == EADDRINUSE && attempts > 0 {
                usleep(100_000)
            }
        }
    }

    private func locked<Result>(_ body: () -> Result) -> Result {
        lock.lock()
        defer { lock.unlock() }
        return body()
    }

    /// Listens no more, and ends every connection.
    func refuse() {
        turns.lock()
        defer { turns.unlock() }
        let channels = locked {
            defer { (listener, connections) = (nil, [:]) }
            return [listener].compactMap { $0 } + connections.values
        }
        for channel in channels { try? channel.close().wait() }
    }

    private func add(_ channel: any Channel) {
        let key = ObjectIdentifier(channel)
        lock.lock()
        connections[key] = channel
        lock.unlock()
        channel.closeFuture.whenComplete { [weak self] _ in
            guard let self else { return }
            self.lock.lock()
            self.connections[key] = nil
            self.lock.unlock()
        }
    }
}

/// One connection; on its event loop only.
private final class ConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let answer: @Sendable (Exchange) -> Void
    private var body: BodyPipe?
    /// Held by whoever answers: a client that has all bytes of a reply may ask again before the server has
    /// ended that reply.
    private let turn = NSLock()

    init(answer: @escaping @Sendable (Exchange) -> Void) {
        self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            begin(head, context.channel)
        case .body(let buffer):
            guard let body else { return }
            if !body.push(Array(buffer.readableBytesView)) {
                context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
            }
        case .end:
            body?.finish(.whole)
        }
    }

    private func begin(_ head: HTTPRequestHead, _ channel: any Channel) {
        let body = BodyPipe {
            channel.setOption(.autoRead, value: true).whenComplete { _ in }
        }
        self.body = body
        let request = RequestHead(
            method: head.method.rawValue, target: head.uri,
            headers: head.headers.map { ($0.name, $0.value) })
        let isKeepAlive = head.isKeepAlive
        if head.headers.contains(name: "Expect") {
            let reply = HTTPResponseHead(version: .http1_1, status: .continue)
            channel.writeAndFlush(HTTPServerResponsePart.head(reply), promise: nil)
        }
        let (answer, turn) = (answer, turn)
        let thread = Thread {
            turn.lock()
            defer { turn.unlock() }
            answer(
                Exchange(head: request, body: body, channel: channel, isKeepAlive: isKeepAlive))
        }
        thread.stackSize = 2 << 20
        thread.start()
    }

    func channelInactive(context: ChannelHandlerContext) {
        body?.finish(.cut)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
