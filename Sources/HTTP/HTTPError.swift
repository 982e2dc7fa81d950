internal import Base

/// Why a request has no reply.
///
/// A reply of any status is a reply and no error. Texts that come from the other side or from libcurl
/// are cut to `HTTPError.messageLengthMax` bytes and freed of control characters; headers and queries, which
/// may hold credentials, are never part of an error.
public struct HTTPError: Error, Sendable, CustomStringConvertible {
    /// What a caller can decide upon.
    public enum Kind: String, Sendable, CaseIterable {
        /// Nobody answers at the address, or the connection ended before the reply did.
        case offline
        /// One of the limits of time passed.
        case timeout
        /// The request's `Cancellation` was used.
        case cancelled
        /// The other side, or a proxy, could not show whom TLS is to trust; or nothing is there to check
        /// it against.
        case untrusted
        /// The reply, or its head, is longer than it may be.
        case tooLarge
        /// What came is not HTTP, or not an answer to this request.
        case protocolViolation
        /// The request cannot be sent as it is: its URL or a header is malformed.
        case invalidRequest
        /// Anything else, such as a lack of memory.
        case failed
    }

    /// The longest `message`, in bytes.
    public static let messageLengthMax = 500

    public var kind: Kind
    /// The method and the URL without its query.
    public var request: String
    /// One line: what was seen.
    public var message: String
    /// Whether any byte of the request left this process. Where none did, the same request may be made
    /// again whatever it changes.
    public var wasSent: Bool

    /// Makes an error; `request` and `message` are cut and cleaned.
    public init(_ kind: Kind, request: String, message: String, wasSent: Bool) {
        self.kind = kind
        self.request = Self.line(request)
        self.message = Self.line(message)
        self.wasSent = wasSent
    }

    init(_ kind: Kind, _ request: HTTPRequest, _ message: String, wasSent: Bool = false) {
        self.init(kind, request: request.subject, message: message, wasSent: wasSent)
    }

    /// One line: the request and what happened.
    public var description: String { "http: \(request): \(message) (\(kind.rawValue))" }

    /// A text of somebody else's on one line of bounded length, for people: control characters and what
    /// ends a line become spaces.
    public static func line(_ text: String) -> String {
        oneLine(text, lengthMax: messageLengthMax)
    }
}

/// Why a request failed that works together with a closure of the caller's.
public enum HTTPStreamError<Failure: Error>: Error {
    /// The other side, or the way to it.
    case http(HTTPError)
    /// The closure threw.
    case source(Failure)
}
