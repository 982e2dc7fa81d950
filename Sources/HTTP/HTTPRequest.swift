public import Base

/// One request, and the bounds of it and of its reply.
///
/// Not Sendable: it may hold memory that its thread receives replies into.
public struct HTTPRequest {
    /// Source: RFC 9110, section 9.3.
    public enum Method: String, Sendable {
        case get = "GET"
        case head = "HEAD"
        case post = "POST"
        case put = "PUT"
        case delete = "DELETE"
    }

    /// What is sent with a request. GET and HEAD have none.
    public enum Body {
        case none
        /// Pieces that are sent one behind the other.
        case whole([[UInt8]])
        /// What the caller's closure gives, for `upload` and `exchange`; chunked where its length is not
        /// known before.
        case streamed(byteCount: UInt64?)
    }

    public var method: Method
    /// `http://` or `https://`, escaped, at most 1 MiB, without a user.
    public var url: String
    public var route: HTTPRoute
    /// Beside those that the transport makes itself: Host, User-Agent, Content-Length,
    /// Transfer-Encoding, and Range for a `range`.
    public var headers = HTTPHeaders()
    /// The part of the resource to get. A part that comes is another's unless it is this one, and a
    /// `protocolViolation`; a server that knows no ranges answers with all, as status 200.
    public var range: HTTPRange?
    public var body: Body
    /// The statuses whose body is the reply: all of it is given, or it is an error. Of any other
    /// status no more than 64 KiB are given, whole or not. Redirects that are followed do not count.
    public var acceptedStatuses: ClosedRange<Int> = 200...299
    /// The longest body of a reply that is not streamed, in bytes.
    public var replyBytesMax = 1 << 20
    public var limits = HTTPLimits()
    /// How many redirects of a GET or HEAD are followed, 0 to `HTTPClient.redirectsMax`. None is from
    /// https to http or off a unix socket; to another server go neither Authorization nor Cookie.
    /// A redirect that is not followed is the reply.
    public var redirectsMax = 0
    /// Whether the request may be sent a second time where a kept connection turns out to be closed.
    /// Where it may not, and for a streamed body, there is a new connection. For a POST it may not unless
    /// this is set.
    public var mayBeSentTwice: Bool
    /// Whether a reply counts that has no length and ends with its connection: one that was cut off looks
    /// the same.
    public var takesUnknownEnd = false
    /// Whether all that came of a streamed reply is lent before the error that says that it was cut off.
    /// Otherwise what came last may be left out.
    public var lendsCutReply = false
    public var cancellation: Cancellation?
    /// What the reply is received into; nil for memory of its own.
    public var memory: ReplyMemory?

    public init(
        _ method: Method, _ url: String, route: HTTPRoute = HTTPRoute(), body: Body = .none
    ) {
        self.method = method
        self.url = url
        self.route = route
        self.body = body
        mayBeSentTwice = method != .post
    }

    /// What errors name: the method, and the URL without its query.
    var subject: String { "\(method.rawValue) \(HTTPURL.shown(url))" }

    /// Whether the body is asked for piece by piece.
    var isStreamed: Bool {
        if case .streamed = body { return true }
        return false
    }

    /// What is sent: the URL, and the whole lines of the head beside those that libcurl makes.
    ///
    /// - Throws: `invalidRequest`.
    func checked(userAgent: String) throws(HTTPError) -> (HTTPURL, lines: [String]) {
        if case .none = body {
        } else {
            precondition(method != .get && method != .head, "a request to get has no body")
        }
        guard let url = HTTPURL(url) else {
            throw HTTPError(
                .invalidRequest, self,
                "the URL is none of http or https, or has a user or what must be escaped")
        }
        // libcurl leaves out a header of its own that is named without a value.
        var lines = ["User-Agent: \(userAgent)", "Expect:"]
        for name in ["Accept", "Content-Type"] where headers[name] == nil {
            lines.append("\(name):")
        }
        if let range { lines.append("Range: \(range.value)") }
        if case .streamed(nil) = body { lines.append("Transfer-Encoding: chunked") }
        for field in headers.fields {
            let isOurs = Self.ownHeaders.contains { HTTPHeaders.isSame($0, field.name) }
            guard HTTPHeaders.isName(field.name), HTTPHeaders.isValue(field.value), !isOurs else {
                throw HTTPError(
                    .invalidRequest, self, "the header \(field.name) cannot be sent like this")
            }
            // With a semicolon libcurl sends a header that has no value.
            lines.append(
                field.value.isEmpty ? "\(field.name);" : "\(field.name): \(field.value)")
        }
        return (url, lines)
    }

    private static let ownHeaders = [
        "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Expect", "Range",
    ]

    /// The request that follows a redirect; nil where it is not followed.
    func redirected(to target: String) -> HTTPRequest? {
        guard method == .get || method == .head, let from = HTTPURL(url),
            let to = HTTPURL(target), to.isEncrypted || !from.isEncrypted
        else { return nil }
        var next = self
        next.url = target
        if to.origin != from.origin {
            guard route.socketPath == nil else { return nil }
            next.route = HTTPRoute(isPublicOnly: route.isPublicOnly)
            next.headers.remove("Authorization")
            next.headers.remove("Cookie")
        }
        return next
    }
}
