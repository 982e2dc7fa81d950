internal import HTTPTypes
internal import Multiformats

extension PathGateway {
    /// Answers with a file.
    ///
    /// - Parameters:
    ///   - name: that of the file, or of a page; nil where there is none to tell a type by.
    ///   - etag: with its quotes.
    func file(
        _ asked: Asked, _ result: PathResult, name: [UInt8]?, etag: String
    ) throws(ServeFault) -> ServeResponse {
        let request = asked.request
        let size = try Self.size(result.end)
        var fields = asked.fields
        let given = FileName.given(request.value("filename"))
        let isDownload = request.value("download") == "true"
        if given != nil || isDownload {
            let own = name.map { String(decoding: $0, as: UTF8.self) } ?? "\(result.cid)"
            fields[.contentDisposition] = FileName.disposition(
                isDownload ? "attachment" : "inline", name: given ?? own)
        }
        fields[.eTag] = etag
        if let response = EntityTag.unmet(request, etag: etag, fields: fields) { return response }
        fields[.contentType] = try type(
            of: result, size: size, name: given ?? name.map { String(decoding: $0, as: UTF8.self) },
            asked)
        let (content, scope, reach) = (content, scope, asked.reach)
        return try .ranged(request, size: size, etag: etag, fields: fields) {
            (range) throws(ServeFault) in
            try Self.bytes(of: result, range, in: content, scope: scope, reach: reach)
        }
    }

    /// Answers with the block of a codec that is not that of files, as it is.
    func codecBlock(
        _ asked: Asked, _ cid: CID, _ codec: Multicodec
    ) throws(ServeFault) -> ServeResponse {
        guard let known = CodecType(codec), let type = known.type(for: asked.format) else {
            return Self.plain(
                406,
                "the content is of codec \(codec); ask for it with format=raw and convert it there")
        }
        let place: BytesPlace =
            cid.multihash.code == .identity
            ? .bytes(cid.multihash.digest)
            : try content.block(cid, scope: scope, reach: asked.reach)
        var fields = asked.fields
        fields[.contentType] = type
        fields[.xContentTypeOptions] = "nosniff"
        let isAttachment = known.isBinary || asked.request.value("download") == "true"
        fields[.contentDisposition] = FileName.disposition(
            isAttachment ? "attachment" : "inline",
            name: FileName.given(asked.request.value("filename"))
                ?? "\(cid).\(known.isBinary ? "cbor" : "json")")
        let short = type.utf8.split { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: ".") }.last
        let suffix = short.map { String(decoding: $0, as: UTF8.self) } ?? ""
        return try .ranged(
            asked.request, size: place.count, etag: "\"\(cid).\(suffix)\"", fields: fields
        ) { range in .pieces([place.part(range)]) }
    }

    /// The size of a file in bytes.
    static func size(_ end: PathEnd) throws(ServeFault) -> UInt64 {
        switch end {
        case .raw(let place): place.count
        case .file(let size): size
        case .directory, .symlink, .other: throw .unsuitable(reason: "it is no file")
        }
    }

    static func bytes(
        of result: PathResult, _ range: Range<UInt64>, in content: any ServedContent,
        scope: BlockScope, reach: BlockReach
    ) throws(ServeFault) -> ServeBody {
        if case .raw(let place) = result.end { return .pieces([place.part(range)]) }
        return try .file(result.cid, range: range, in: content, scope: scope, reach: reach)
    }

    /// The first bytes of a file, at most `count`; reads one leaf.
    func beginning(
        of result: PathResult, size: UInt64, count: UInt64, reach: BlockReach
    ) throws(ServeFault) -> [UInt8] {
        let range = 0..<min(size, count)
        var bytes: [UInt8] = []
        switch try Self.bytes(of: result, range, in: content, scope: scope, reach: reach) {
        case .none: break
        case .pieces(let pieces): for piece in pieces { bytes += try piece.read() }
        case .producer(let producer, _):
            while let piece = try producer.next() { bytes += try piece.read() }
        }
        return bytes
    }

    /// The type of a file: by its name, else by how it begins.
    ///
    /// Of a request for bytes behind the beginning, the beginning is looked at only where it is here: it may be nowhere to be had,
    /// and the request does not need it.
    private func type(
        of result: PathResult, size: UInt64, name: String?, _ asked: Asked
    ) throws(ServeFault) -> String {
        if let type = name.flatMap(ContentTypes.type(ofFileNamed:)) { return type }
        var needsBeginning = true
        if asked.request.method == .get,
            case .ranges(let ranges) = ByteRanges.parse(asked.request.fields[.range], size: size)
        {
            needsBeginning = ranges.contains { $0.lowerBound == 0 }
        }
        do throws(ServeFault) {
            let bytes = try beginning(
                of: result, size: size, count: UInt64(TypeSniffer.byteCount),
                reach: needsBeginning ? asked.reach : .here)
            return TypeSniffer.type(of: bytes)
        } catch {
            guard needsBeginning else { return "application/octet-stream" }
            throw error
        }
    }
}

/// What is known of a codec that is not that of files.
private struct CodecType {
    private let format: PathFormat
    private let isDAG: Bool

    init?(_ codec: Multicodec) {
        switch codec {
        case .json: (format, isDAG) = (.json, false)
        case .cbor: (format, isDAG) = (.cbor, false)
        case .dagJSON: (format, isDAG) = (.dagJSON, true)
        case .dagCBOR: (format, isDAG) = (.dagCBOR, true)
        default: return nil
        }
    }

    var isBinary: Bool { format == .cbor || format == .dagCBOR }

    /// The type as which it can be given to who asks for a format; nil where it would have to be converted.
    func type(for asked: PathFormat) -> String? {
        switch (asked, format) {
        case (.web, .json), (.json, .json), (.json, .dagJSON): "application/json"
        case (.web, .cbor), (.cbor, .cbor), (.cbor, .dagCBOR): "application/cbor"
        case (.web, .dagJSON), (.dagJSON, .dagJSON): "application/vnd.ipld.dag-json"
        case (.web, .dagCBOR), (.dagCBOR, .dagCBOR): "application/vnd.ipld.dag-cbor"
        default: nil
        }
    }
}

extension Multicodec {
    /// JSON without links.
    fileprivate static let json = Multicodec(rawValue: 0x0200)
    /// CBOR without links.
    fileprivate static let cbor = Multicodec(rawValue: 0x51)
}
