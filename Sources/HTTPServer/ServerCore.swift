internal import Base
internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Serving

/// What all connections of a server have in common.
final class ServerCore: Sendable {
    let configuration: ServerConfiguration
    let handler: any RequestHandler
    let log: Logger
    /// The threads that handlers block.
    let pool: NIOThreadPool
    /// The threads that reads of files block.
    let readers: NIOThreadPool
    let connections: Connections
    let slots: RequestSlots
    /// Streams of all HTTP/2 connections. Few of them are ever in flight: these are bounded because a client may open
    /// streams that it neither ends nor reads.
    let streams: RequestSlots
    /// What answers have in memory that handlers have made, in bytes.
    private let bodyBytes = Monitor(0)

    init(_ configuration: ServerConfiguration, _ handler: any RequestHandler, _ log: Logger) {
        self.configuration = configuration
        self.handler = handler
        self.log = log
        pool = NIOThreadPool(numberOfThreads: configuration.handlerThreadCount)
        readers = NIOThreadPool(numberOfThreads: configuration.readerThreadCount)
        connections = Connections(countMax: configuration.connectionsMax)
        slots = RequestSlots(countMax: configuration.requestsMax)
        streams = RequestSlots(countMax: configuration.requestsMax * Self.streamsForEachRequest)
    }

    private static let streamsForEachRequest = 4

    /// Whether there is room for an answer. Short ones always have some: their number is bounded.
    func hasRoom(forBody count: Int) -> Bool {
        count <= 64 << 10 || bodyBytes.withLock { $0 + count <= configuration.bodyBytesMax }
    }

    /// Counts what an answer has in memory now.
    func hold(_ count: Int, for exchange: Exchange) {
        guard count != exchange.heldBytes else { return }
        bodyBytes.withLock { $0 += count - exchange.heldBytes }
        exchange.heldBytes = count
    }

    /// How long a piece may be now, in bytes: each request in flight may have two.
    var pieceBytes: Int {
        min(configuration.pieceBytes, max(share, 16 << 10))
    }

    /// Whether there is room for the second one, which is made while the first is written.
    var readsAhead: Bool { share >= configuration.pieceBytes }

    private var share: Int { configuration.piecesBytesMax / (2 * max(1, slots.count)) }
}

/// The open connections.
final class Connections: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var isStopping = false
    }

    private let countMax: Int
    private let state = Monitor(State())

    init(countMax: Int) {
        self.countMax = countMax
    }

    var isStopping: Bool { state.withLock { $0.isStopping } }

    /// Takes a connection in; false where there are as many as there may be, or the server is being stopped.
    func add(_ channel: any Channel) -> Bool {
        let key = ObjectIdentifier(channel)
        let isIn = state.withLock { state in
            guard !state.isStopping, state.channels.count < countMax else { return false }
            state.channels[key] = channel
            return true
        }
        guard isIn else { return false }
        channel.closeFuture.whenComplete { [self] _ in
            state.withLock { _ = $0.channels.removeValue(forKey: key) }
        }
        return true
    }

    /// Takes no further one in, and has those that do nothing end, and the others when they have answered.
    ///
    /// - Returns: those that are open still.
    func stop() -> [any Channel] {
        let open = state.withLock { state in
            state.isStopping = true
            return Array(state.channels.values)
        }
        for channel in open {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
        return open
    }
}

/// Counts what may be there at once: requests in flight, or streams.
final class RequestSlots: Sendable {
    /// One of them, until nobody has this any more: neither its connection nor the thread that works at it.
    final class Slot: Sendable {
        private let slots: RequestSlots

        fileprivate init(_ slots: RequestSlots) {
            self.slots = slots
        }

        deinit { slots.state.withLock { $0 -= 1 } }
    }

    private let countMax: Int
    private let state = Monitor(0)

    init(countMax: Int) {
        self.countMax = countMax
    }

    var count: Int { state.withLock { $0 } }

    /// Nil where there are as many as there may be.
    func take() -> Slot? {
        let isFree = state.withLock { count in
            guard count < countMax else { return false }
            count += 1
            return true
        }
        return isFree ? Slot(self) : nil
    }
}
