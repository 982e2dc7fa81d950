internal import Base
internal import NIOCore
internal import NIOHTTP1
internal import Serving

/// One request and its answer; touched on the event loop of its channel only.
final class Exchange {
    let head: HTTPRequestHead
    let time = Timestamp.now()
    let began = NIODeadline.now()
    /// Ends what a handler does for it, when the client is gone.
    let cancellation = Cancellation()
    var slot: RequestSlots.Slot?

    // MARK: The request

    var bodyByteCount = 0
    /// Whether its last byte has come.
    var hasEnded = false
    /// Whether an answer is made, or sent.
    var isAnswered = false

    // MARK: The answer

    var status = 0
    /// Whether the connection ends with it.
    var closes = false
    var body = BodySource()
    /// The next piece, made while the one before is written.
    var ready: BodyPiece?
    /// Whether a thread makes one.
    var isProducing = false
    /// Writes of the body that are not through.
    var writeCount = 0
    /// Whether the end was written, after which nothing is.
    var isEndWritten = false
    var hasFailed = false
    var bytesSent: UInt64 = 0
    /// What was written, also where that is not through.
    var bytesWritten: UInt64 = 0
    /// What its handler made and is in memory.
    var heldBytes = 0

    // MARK: Progress

    var timer: Scheduled<Void>?
    /// Nil until there is an answer.
    var rate: TakingRate?

    init(_ head: HTTPRequestHead) {
        self.head = head
    }
}

/// A piece of a body that can be written.
enum BodyPiece {
    case buffer(ByteBuffer)
    case region(FileRange)
}

extension ServeBody {
    /// How many of its bytes are in memory now.
    var bytesInMemory: Int {
        guard case .pieces(let pieces) = self else { return 0 }
        return pieces.reduce(0) { $0 + $1.bytesInMemory }
    }
}

extension BytesPlace {
    /// How many of its bytes are in memory now.
    var bytesInMemory: Int {
        guard case .bytes(let bytes) = self else { return 0 }
        return bytes.count
    }
}

/// What of a body is not made yet.
struct BodySource {
    /// What the next piece is cut from.
    var place: BytesPlace?
    /// How much of that place is through, in bytes.
    var placeOffset: UInt64 = 0
    var pieces: ArraySlice<BytesPlace> = []
    var producer: (any BodyProducer)?
    /// What has to come still; nil where nobody knows.
    var remaining: UInt64? = 0
    /// Whether nothing comes any more.
    var isDrained = false

    init() {}

    init(_ body: ServeBody) {
        remaining = body.count
        switch body {
        case .none: break
        case .pieces(let pieces): self.pieces = pieces[...]
        case .producer(let producer, _): self.producer = producer
        }
    }

    /// Takes note of bytes that were made; false where they are more than was said.
    mutating func take(_ count: UInt64) -> Bool {
        guard let left = remaining else { return true }
        guard count <= left else { return false }
        remaining = left - count
        return true
    }
}
