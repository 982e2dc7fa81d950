public import HTTPTypes

extension ServeResponse {
    /// Answers a GET or HEAD for something whose size and entity tag are known: 200, 206 with one range or with several
    /// as multipart/byteranges, 304, 412 or 416, by Range, If-Range, If-Match and If-None-Match.
    ///
    /// HEAD is answered as GET without Range is (RFC 9110, 14.2), with the length of a body that is never made.
    ///
    /// - Parameters:
    ///   - size: in bytes.
    ///   - etag: as it is sent, with its quotes.
    ///   - fields: Content-Type and the rest; those of ranges and the entity tag are added here.
    ///   - body: the bytes of a range, which is within the size. For a range behind the first of several it is called only
    ///     when its turn comes, on a thread that may block, so that many ranges hold no memory.
    /// - Throws: what the first bytes cannot be had for.
    public static func ranged(
        _ request: ServeRequest, size: UInt64, etag: String, fields: HTTPFields,
        body: @escaping @Sendable (Range<UInt64>) throws(ServeFault) -> ServeBody
    ) throws(ServeFault) -> ServeResponse {
        var fields = fields
        fields[.eTag] = etag
        fields[.acceptRanges] = "bytes"
        if let response = EntityTag.unmet(request, etag: etag, fields: fields) { return response }

        let isHead = request.method == .head
        guard !isHead, EntityTag.rangeHolds(request, etag: etag) else {
            return ServeResponse(
                200, fields, isHead ? .unsent(count: size) : try Self.part(0..<size, body))
        }
        switch ByteRanges.parse(request.fields[.range], size: size) {
        case .whole:
            return ServeResponse(200, fields, try part(0..<size, body))
        case .unsatisfiable:
            for name in HTTPField.Name.ofContent { fields[name] = nil }
            fields[.cacheControl] = nil
            fields[.contentRange] = "bytes */\(size)"
            return ServeResponse(416, fields)
        case .ranges(let ranges) where ranges.count == 1:
            fields[.contentRange] = ByteRangesBody.contentRange(ranges[0], of: size)
            return ServeResponse(206, fields, try part(ranges[0], body))
        case .ranges(let ranges):
            let parts = try ByteRangesBody(
                ranges, of: size, contentType: fields[.contentType], body: body)
            fields[.contentType] = "multipart/byteranges; boundary=\(parts.boundary)"
            return ServeResponse(206, fields, .producer(parts, count: parts.count))
        }
    }

    private static func part(
        _ range: Range<UInt64>, _ body: (Range<UInt64>) throws(ServeFault) -> ServeBody
    ) throws(ServeFault) -> ServeBody {
        range.isEmpty ? .none : try body(range)
    }
}

extension ServeBody {
    /// What an answer to HEAD has: the length of a body that nobody makes.
    public static func unsent(count: UInt64) -> ServeBody {
        // Also where it is 0: no body at all would have no length.
        .producer(UnsentBody(), count: count)
    }
}

private final class UnsentBody: BodyProducer {
    func next() throws(ServeFault) -> BytesPlace? { nil }
}

extension HTTPField.Name {
    /// Of what an answer without content must not speak.
    static let ofContent: [HTTPField.Name] = [
        .contentType, .contentLength, .contentEncoding, .contentDisposition, .contentRange,
    ]
}

/// The few comparisons of entity tags that ranges need (RFC 9110, 8.8.3 and 13).
enum EntityTag {
    /// The answer where a condition of a request does not hold: 412, or 304.
    static func unmet(
        _ request: ServeRequest, etag: String, fields: HTTPFields
    ) -> ServeResponse? {
        if let condition = request.fields[.ifMatch],
            !matches(condition, etag: etag, isWeak: false)
        {
            return withoutContent(412, fields)
        }
        if let condition = request.fields[.ifNoneMatch],
            matches(condition, etag: etag, isWeak: true)
        {
            return withoutContent(304, fields)
        }
        return nil
    }

    /// Whether Range is to be looked at: no If-Range, or one with this very tag. Dates never hold, for nothing here has one.
    static func rangeHolds(_ request: ServeRequest, etag: String) -> Bool {
        guard let condition = request.fields[.ifRange] else { return true }
        return tags(condition).first == etag && !etag.hasPrefix("W/")
    }

    /// Whether a list of entity tags, or `*`, has one.
    static func matches(_ list: String, etag: String, isWeak: Bool) -> Bool {
        let isAny = list.utf8.filter { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") }
            .elementsEqual("*".utf8)
        if isAny { return true }
        guard isWeak || !etag.hasPrefix("W/") else { return false }
        let opaque = strong(etag)
        return tags(list).contains { isWeak ? strong($0) == opaque : $0 == etag }
    }

    private static func strong(_ tag: String) -> Substring {
        tag.hasPrefix("W/") ? tag.dropFirst(2) : tag[...]
    }

    /// The tags of a list, up to where it is malformed. A comma may stand within the quotes.
    private static func tags(_ list: String) -> [String] {
        var tags: [String] = []
        var rest = list.utf8[...]
        while true {
            while let byte = rest.first, byte == 0x20 || byte == 0x09 || byte == UInt8(ascii: ",") {
                rest.removeFirst()
            }
            let start = rest.startIndex
            if rest.starts(with: "W/".utf8) { rest.removeFirst(2) }
            guard rest.popFirst() == UInt8(ascii: "\""),
                let quote = rest.firstIndex(of: UInt8(ascii: "\""))
            else { return tags }
            tags.append(String(decoding: list.utf8[start...quote], as: UTF8.self))
            rest = rest[list.utf8.index(after: quote)...]
        }
    }

    private static func withoutContent(_ status: Int, _ fields: HTTPFields) -> ServeResponse {
        var fields = fields
        for name in HTTPField.Name.ofContent { fields[name] = nil }
        if status != 304 { fields[.cacheControl] = nil }
        return ServeResponse(status, fields)
    }
}
