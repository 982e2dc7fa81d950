internal import Base
internal import HTTP
internal import Remotes

/// One request: the command, its options, and what it needs.
struct Call {
    /// Whether a call may be made twice.
    enum Repetition {
        /// The second time changes nothing.
        case harmless
        /// Only where the first request certainly was not sent.
        case onlyUnsent
    }

    /// As in `block/get`.
    var command: String
    /// What errors name.
    var subject: String?
    /// Escaped, without the `?`.
    private(set) var query: [UInt8] = []
    var repetition: Repetition
    /// Whether the node may work long before it answers.
    var isLongWork = false
    /// The longest reply, in bytes.
    var replyBytesMax = Call.replyBytesMaxDefault
    /// The limit of the whole call with its repetitions; nil where each attempt has the time of its
    /// bytes (`KuboConfiguration.bytesPerSecondMin`).
    var deadlineMilliseconds: Int?
    /// The limit of one attempt, in place of the time of its bytes: for replies that tell of progress
    /// and have few.
    var attemptMilliseconds: Int?
    var cancellation: Cancellation?
    /// Whether the request has a body.
    var isUpload = false
    /// The body of an upload; nil where it is streamed.
    var body: [[UInt8]]?
    /// The value of Content-Type, if there is a body.
    var contentType: String?
    /// Whether the node may ask its peers before it answers, for as long as it is let.
    var asksPeers = false
    /// On whose behalf: calls that have the node ask its peers are shared out by it.
    var user: UInt32?
    /// What the reply is received into; nil for memory of its own.
    var memory: ReplyMemory?

    /// Enough for any reply but listings.
    static let replyBytesMaxDefault = 1 << 20
    /// For listings: some 500,000 lines.
    static let listingBytesMax = 64 << 20

    init(_ command: String, _ repetition: Repetition, subject: String? = nil) {
        self.command = command
        self.repetition = repetition
        self.subject = subject
    }

    /// Adds a positional argument.
    mutating func add(argument: MFSPath) {
        add("arg", bytes: argument.bytes)
    }

    /// Adds a positional argument.
    mutating func add(argument: String) {
        add("arg", bytes: Array(argument.utf8))
    }

    /// Adds an option. The node takes `true` and `false` for switches.
    mutating func add(_ name: String, _ value: some CustomStringConvertible) {
        add(name, bytes: Array(value.description.utf8))
    }

    /// Sets the limit of the whole call, and has the node give up a moment before us, which
    /// keeps the connection.
    mutating func limit(toMilliseconds limit: Int?) {
        guard let limit else { return }
        deadlineMilliseconds = limit
        add("timeout", "\(max(1, limit - min(limit / 10, 100)))ms")
    }

    private mutating func add(_ name: String, bytes: [UInt8]) {
        if !query.isEmpty { query.append(UInt8(ascii: "&")) }
        query += Array(name.utf8)
        query.append(UInt8(ascii: "="))
        Percent.append(bytes, to: &query)
    }

    func error(_ kind: KuboError.Kind, _ message: String) -> KuboError {
        KuboError(kind, call: command, argument: subject, message: message)
    }

    /// What a failure on the way to the node means for the call.
    func error(_ error: HTTPError) -> KuboError {
        let kind: KuboError.Kind =
            switch error.kind {
            case .offline: .offline
            case .timeout: .timeout
            case .cancelled: .cancelled
            case .untrusted: .refused
            case .tooLarge, .protocolViolation: .protocolViolation
            case .invalidRequest, .failed: .failed
            }
        return self.error(kind, error.message)
    }
}
