/// The begin of a reply: what is known before its body comes.
public struct HTTPReplyHead: Sendable, Hashable {
    /// 200 to 999; interim replies (1xx) are passed over.
    public var status: Int
    public var headers: HTTPHeaders

    /// Which part of the resource comes; nil for all of it, and for errors.
    public var part: HTTPContentRange? {
        status == 206 ? headers["Content-Range"].flatMap { HTTPContentRange($0) } : nil
    }
}

/// A reply of any status.
public struct HTTPReply: Sendable {
    public var head: HTTPReplyHead
    /// What came behind a chunked body.
    public var trailers: HTTPHeaders
    /// Empty for HEAD, and for a reply that was streamed.
    public var body: [UInt8]
    /// Whether body and trailers are all that was sent. False only for a status that the request does
    /// not accept, whose text may be cut.
    public var isWhole: Bool
    /// Whether the reply has a length, so that its end was seen. True unless the request takes an
    /// unknown end, or does not accept the status.
    public var isDelimited: Bool
    /// Where it comes from, after redirects.
    public var url: String

    public var status: Int { head.status }
    public var headers: HTTPHeaders { head.headers }
}
