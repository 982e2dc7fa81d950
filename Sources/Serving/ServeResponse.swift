public import HTTPTypes

/// An answer. Its body is sent as it is pulled, so that memory is bounded by what one client takes.
public struct ServeResponse: Sendable {
    public var status: Int
    public var fields: HTTPFields
    public var body: ServeBody

    public init(_ status: Int, _ fields: HTTPFields = [:], _ body: ServeBody = .none) {
        self.status = status
        self.fields = fields
        self.body = body
    }
}

/// The bytes of an answer. For HEAD the server sends none of them, and Content-Length all the same.
public enum ServeBody: Sendable {
    case none
    /// Pieces that are there already; their sum is the answer's Content-Length.
    case pieces([BytesPlace])
    /// Pieces that are made one after the other, on a thread that may block. Without a count the answer is chunked, and one that
    /// fails is cut off without its last chunk.
    case producer(any BodyProducer, count: UInt64?)

    public static func bytes(_ bytes: [UInt8]) -> ServeBody { .pieces([.bytes(bytes)]) }

    /// In bytes; nil for what is chunked.
    public var count: UInt64? {
        switch self {
        case .none: 0
        case .pieces(let pieces): pieces.reduce(0) { $0 + $1.count }
        case .producer(_, let count): count
        }
    }
}

/// Makes a body piece by piece. Asked by one thread at a time, not always the same.
public protocol BodyProducer: AnyObject, Sendable {
    /// The next piece, not empty; nil at the end. May block.
    func next() throws(ServeFault) -> BytesPlace?
}

/// Answers requests of one kind. Blocks the thread; no error leaves it.
public protocol RequestHandler: Sendable {
    func respond(to request: ServeRequest) -> ServeResponse
}
