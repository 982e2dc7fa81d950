internal import NIOCore

/// Ends a connection whose client takes too long to ask.
///
/// It stands before the decoder and sees bytes, because requests that never become whole are seen nowhere else. It looks
/// now and then, rather than set a timer for each request: so a connection may last a quarter longer than it should.
final class ConnectionClock: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private enum Phase {
        /// A request comes, or its connection has just begun.
        case request(since: NIODeadline)
        case idle(since: NIODeadline)
        /// A request is answered: others look after that.
        case busy
        /// All is said, and the client has not closed yet.
        case lingering(since: NIODeadline)
        /// Requests are streams, and have their own times.
        case streams(lastRead: NIODeadline)
    }

    private static let lingerTime = TimeAmount.seconds(1)

    private let requestTime: TimeAmount
    private let idleTime: TimeAmount
    /// Without a byte from the other side, which answers pings in less than that.
    private let silenceTime: TimeAmount
    private let interval: TimeAmount
    private var phase: Phase
    private var hasMoreBytes = false
    private var context: ChannelHandlerContext?
    private var timer: Scheduled<Void>?
    /// Whether what came of a request has not even its first line whole.
    private(set) var isInFirstLine = true

    init(_ configuration: ServerConfiguration) {
        requestTime = .milliseconds(Int64(configuration.requestMilliseconds))
        idleTime = .milliseconds(Int64(configuration.idleMilliseconds))
        silenceTime = .milliseconds(
            Int64(2 * configuration.idleMilliseconds + configuration.requestMilliseconds))
        let shortest = min(configuration.requestMilliseconds, configuration.idleMilliseconds)
        interval = .milliseconds(Int64(min(max(shortest / 4, 5), 2_000)))
        phase = .request(since: .now())
    }

    // MARK: What others say

    /// The request is whole.
    func requestEnded() {
        phase = .busy
        hasMoreBytes = false
    }

    /// The answer is on its way, and the connection is for a next request.
    func answerEnded() {
        phase = hasMoreBytes ? .request(since: .now()) : .idle(since: .now())
        isInFirstLine = true
    }

    func lingers() {
        phase = .lingering(since: .now())
    }

    func becameStreams() {
        phase = .streams(lastRead: .now())
    }

    // MARK: Handler

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        schedule()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        timer?.cancel()
        timer = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch phase {
        case .idle:
            phase = .request(since: .now())
            noteLines(in: unwrapInboundIn(data))
        case .request:
            noteLines(in: unwrapInboundIn(data))
        case .busy: hasMoreBytes = true
        case .streams: phase = .streams(lastRead: .now())
        case .lingering: return
        }
        context.fireChannelRead(data)
    }

    private func noteLines(in buffer: ByteBuffer) {
        if isInFirstLine, buffer.readableBytesView.contains(UInt8(ascii: "\n")) {
            isInFirstLine = false
        }
    }

    private func schedule() {
        guard let context else { return }
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: interval) { self.look() }
    }

    private func look() {
        guard let context else { return }
        let now = NIODeadline.now()
        let isOver =
            switch phase {
            case .request(let since): now - since > requestTime
            case .idle(let since): now - since > idleTime
            case .busy: false
            case .lingering(let since): now - since > Self.lingerTime
            case .streams(let lastRead): now - lastRead > silenceTime
            }
        if isOver { context.close(promise: nil) }
        schedule()
    }
}
