internal import Base
public import Logging
internal import NIOCore
internal import NIOPosix
public import ServiceLifecycle
public import Serving

/// Serves what a handler answers, over HTTP/1.1 and HTTP/2, with TLS or without, on any number of sockets.
///
/// The handler blocks threads of a pool; those that move bytes never wait for it. All that comes from clients is bounded
/// (`ServerConfiguration`).
public final class HTTPService: Service, CustomStringConvertible {
    private let core: ServerCore
    private let sockets: [ListeningSocket]
    private let stopped = AsyncStream<Void>.makeStream()

    /// Nothing is accepted before `run`.
    ///
    /// - Parameters:
    ///   - sockets: which listen already; at least one.
    ///   - handler: asked by several threads at once.
    public init(
        _ configuration: ServerConfiguration, sockets: [ListeningSocket],
        handler: any RequestHandler, log: Logger
    ) {
        core = ServerCore(configuration.bounded, handler, log)
        self.sockets = sockets
    }

    /// Where it listens, with the ports that it got.
    public var addresses: [ListenAddress] { sockets.map(\.address) }

    public var description: String { "http server" }

    /// Begins a graceful stop, as ServiceLifecycle does.
    public func stop() {
        stopped.continuation.finish()
    }

    /// Serves until the service is stopped gracefully, or its task is cancelled. Then nothing more is accepted, connections that
    /// do nothing end, and answers on their way have the time that the configuration gives; after a cancellation none.
    ///
    /// - Throws: `ServerFailure` where a socket cannot be used.
    public func run() async throws {
        let configuration = core.configuration
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.loopThreadCount)
        core.pool.start()
        core.readers.start()
        var listeners: [any Channel] = []
        var failure: (any Error)?
        do {
            for socket in sockets { listeners.append(try await accept(socket, on: group)) }
            await serve()
        } catch {
            failure = error
        }
        for listener in listeners { try? await listener.close().get() }
        await drain(on: group.next())
        // It waits for its sink, so not on a thread of Swift's.
        if let log = configuration.accessLog {
            _ = try? await core.readers.runIfActive { log.finish() }
        }
        // It waits for handlers that are at work still: each was told that its client is gone.
        try? await core.pool.shutdownGracefully()
        try? await core.readers.shutdownGracefully()
        try? await group.shutdownGracefully()
        for socket in sockets { socket.removeName() }
        if let failure { throw failure }
    }

    private func serve() async {
        let configuration = core.configuration
        await withTaskGroup(of: Void.self) { tasks in
            if let certificate = configuration.certificate {
                tasks.addTask { [core] in
                    await Self.watch(certificate, for: core)
                }
            }
            await withTaskCancellationOrGracefulShutdownHandler {
                for await _ in stopped.stream {}
            } onCancelOrGracefulShutdown: { [stopped] in
                stopped.continuation.finish()
            }
            tasks.cancelAll()
        }
    }

    private static func watch(_ certificate: CertificateFiles, for core: ServerCore) async {
        let interval = Duration.milliseconds(core.configuration.certificateMilliseconds)
        while !Task.isCancelled {
            do {
                try await Task.sleep(for: interval)
                if try await core.readers.runIfActive({ try certificate.reload() }) {
                    core.log.info("the certificate was read again")
                }
            } catch let failure as ServerFailure {
                core.log.error("the certificate stays as it was", metadata: ["why": "\(failure)"])
            } catch {
                return
            }
        }
    }

    // MARK: Sockets

    private func accept(
        _ socket: ListeningSocket, on group: MultiThreadedEventLoopGroup
    ) async throws -> any Channel {
        let core = core
        var certificate = core.configuration.certificate
        if case .unix = socket.address { certificate = nil }
        let bootstrap = ServerBootstrap(group: group)
            // Requests are small, and of what is read a connection keeps one buffer.
            .childChannelOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 2048)
            )
            .childChannelOption(.maxMessagesPerRead, value: 2)
            .childChannelInitializer { [certificate] channel in
                channel.eventLoop.makeCompletedFuture {
                    guard core.connections.add(channel) else { throw TooManyConnections() }
                    try core.setUp(channel, certificate: certificate)
                }
            }
        // The copy is NIO's to close.
        let channel = try await bootstrap.withBoundSocket(socket.copy()).get()
        socket.restoreBacklog()
        return channel
    }

    /// Waits until all connections have ended, and ends them where their time is over.
    private func drain(on loop: any EventLoop) async {
        let open = core.connections.stop()
        let milliseconds = Task.isCancelled ? 0 : core.configuration.stopMilliseconds
        let timer = loop.scheduleTask(in: .milliseconds(Int64(milliseconds))) {
            for channel in open { channel.close(promise: nil) }
        }
        for channel in open { try? await channel.closeFuture.get() }
        timer.cancel()
    }
}

/// NIO closes the connection that this is thrown for.
private struct TooManyConnections: Error {}
