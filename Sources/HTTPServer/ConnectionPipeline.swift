// A connection, from its first byte on:
//
//     [NIOSSLServerHandler] - ConnectionClock - ProtocolChooser
//         - HTTP/1.1: encoder - decoder - ExchangeHandler
//         - HTTP/2:   NIOHTTP2Handler - NIOHTTP2ServerConnectionManagementHandler
//                     and each stream: codec to the parts of HTTP/1.1 - ExchangeHandler
//
// Requests are answered by one handler whatever the protocol, on the event loop, and no task waits for any of them: an idle
// connection costs its channel, a few small handlers and a timer. What NIO calls the part of an answer may be a region of
// a file, which its encoder hands down to sendfile(2) as it is. Hummingbird has neither: its parts of an answer are bytes in memory,
// each of its connections and streams has a task and two queues of its own, and its server binds by name alone, takes no descriptor, and has
// one certificate for its lifetime. With the half of a server that would be left of it there would be two ways to answer.

internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTP2
internal import NIOSSL

extension ServerCore {
    /// Makes a connection ready; called on its event loop, before its first byte.
    func setUp(_ channel: any Channel, certificate: CertificateFiles?) throws {
        let pipeline = channel.pipeline.syncOperations
        if let certificate {
            try pipeline.addHandler(NIOSSLServerHandler(context: certificate.context))
        }
        let clock = ConnectionClock(configuration)
        let client = Client(channel.remoteAddress, configuration.access)
        try pipeline.addHandler(clock)
        try pipeline.addHandler(
            ProtocolChooser { [self] isHTTP2 in
                if isHTTP2 {
                    clock.becameStreams()
                    try addHTTP2(to: channel, client)
                } else {
                    try addHTTP1(to: channel, client, clock, canSendFiles: certificate == nil)
                }
            })
    }

    private func addHTTP1(
        to channel: any Channel, _ client: Client, _ clock: ConnectionClock, canSendFiles: Bool
    ) throws {
        // What frames an answer is set where its body is known.
        var encoder = HTTPResponseEncoder.Configuration()
        encoder.automaticallySetFramingHeaders = false
        // The decoder counts the target as a field; each has its own bound later on.
        var decoder = NIOHTTPDecoderLimitConfiguration()
        decoder.maxHeaderFieldSize = max(
            configuration.headerBytesMax, configuration.targetBytesMax)
        decoder.maxHeaderListSize = configuration.headerBytesMax + configuration.targetBytesMax
        decoder.maxHeaderFieldCount = configuration.headerCountMax
        let pipeline = channel.pipeline.syncOperations
        // Pipelined requests wait in the exchange handler, and what a handler says of fields is valid by its type.
        try pipeline.configureHTTPServerPipeline(
            withPipeliningAssistance: false, withErrorHandling: false,
            withOutboundHeaderValidation: false, withEncoderConfiguration: encoder,
            withDecoderLimitConfiguration: decoder)
        try pipeline.addHandler(
            ExchangeHandler(self, client, .http1(clock, canSendFiles: canSendFiles)))
    }

    private func addHTTP2(to channel: any Channel, _ client: Client) throws {
        var connection = NIOHTTP2Handler.ConnectionConfiguration()
        connection.initialSettings = [
            HTTP2Setting(
                parameter: .maxConcurrentStreams, value: configuration.streamsMax),
            // RFC 9113, section 6.5.2: each field counts 32 bytes more than it has.
            HTTP2Setting(
                parameter: .maxHeaderListSize,
                value: configuration.headerBytesMax + configuration.targetBytesMax + 32 * 16),
        ]
        connection.maximumBufferedControlFrames = 1_000
        let management = NIOHTTP2ServerConnectionManagementHandler(
            eventLoop: channel.eventLoop,
            configuration: .init(
                maxIdleTime: .milliseconds(Int64(configuration.idleMilliseconds)), maxAge: nil,
                maxGraceTime: .milliseconds(Int64(max(1, configuration.stopMilliseconds))),
                keepalive: .init(
                    pingInterval: .milliseconds(Int64(configuration.idleMilliseconds)),
                    ackTimeout: .milliseconds(Int64(configuration.requestMilliseconds)))))
        let pipeline = channel.pipeline.syncOperations
        _ = try pipeline.configureHTTP2Pipeline(
            mode: .server, connectionConfiguration: connection, streamConfiguration: .init(),
            streamDelegate: management.http2StreamDelegate
        ) { [self] stream in
            stream.eventLoop.makeCompletedFuture {
                // One too many is reset.
                guard let slot = streams.take() else { throw TooManyStreams() }
                let pipeline = stream.pipeline.syncOperations
                try pipeline.addHandler(HTTP2FramePayloadToHTTP1ServerCodec())
                try pipeline.addHandler(ExchangeHandler(self, client, .http2(slot)))
            }
        }
        try pipeline.addHandler(management)
        try pipeline.addHandler(ConnectionErrors())
    }
}

private struct TooManyStreams: Error {}

/// Who is at the other end of a connection.
struct Client: Sendable {
    /// As the access log has it: an address without its port, or `unix:`.
    let name: String
    /// Whether it may ask at all.
    let isAllowed: Bool

    init(_ address: SocketAddress?, _ rules: AccessRules) {
        isAllowed = rules.isAllowed(address)
        switch address {
        case .unixDomainSocket: name = "unix:"
        case let address?:
            let text = address.ipAddress ?? "-"
            name =
                text.hasPrefix("::ffff:") && text.contains(".") ? String(text.dropFirst(7)) : text
        case nil: name = "-"
        }
    }
}
