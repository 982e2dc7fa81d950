internal import NIOCore
internal import NIOHTTP2

/// Looks at the first bytes of a connection: HTTP/2 begins with words that are no request of HTTP/1.1 (RFC 9113, section 3.4).
///
/// So it is with TLS, where ALPN has agreed on one of the two, and without (prior knowledge).
final class ProtocolChooser: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    private let choose: (_ isHTTP2: Bool) throws -> Void
    private var bytes: ByteBuffer?

    /// - Parameter choose: adds the handlers behind this one.
    init(_ choose: @escaping (_ isHTTP2: Bool) throws -> Void) {
        self.choose = choose
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var next = unwrapInboundIn(data)
        if var bytes {
            bytes.writeBuffer(&next)
            self.bytes = bytes
        } else {
            bytes = next
        }
        guard let bytes else { return }
        let view = bytes.readableBytesView
        let isPreface = zip(view, Self.preface).allSatisfy { $0 == $1 }
        if isPreface && view.count < Self.preface.count { return }
        self.bytes = nil
        do {
            try choose(isPreface)
        } catch {
            context.close(promise: nil)
            return
        }
        context.fireChannelRead(wrapInboundOut(bytes))
        context.fireChannelReadComplete()
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // Nobody has asked for anything yet.
        if event is ChannelShouldQuiesceEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

/// Closes an HTTP/2 connection that went wrong as a whole.
final class ConnectionErrors: ChannelInboundHandler {
    typealias InboundIn = Any

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // One of a stream ends that stream.
        if error is NIOHTTP2Errors.StreamError { return }
        context.close(promise: nil)
    }
}
