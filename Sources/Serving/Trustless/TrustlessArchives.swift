internal import HTTPTypes
internal import MerkleDAG
internal import Multiformats

// CARs of what a path leads to.
extension TrustlessGateway {
    /// - Parameter place: the block at the end of the path.
    func car(
        _ request: ServeRequest, _ question: TrustlessQuestion, _ target: NameTarget,
        _ path: TrustlessPath, _ place: BytesPlace, _ fields: HTTPFields
    ) throws(GatewayRefusal) -> ServeResponse {
        let options = question.car
        let first = (cid: path.end, place: place)
        let part = try self.part(question, path, first)
        let codec = path.end.codec
        guard part != .all || codec == .dagPB || codec == .dagCBOR || codec.hasNoLinks else {
            throw GatewayRefusal(
                501, "the links of a block of codec \(codec) are not known: ask for dag-scope=block"
            )
        }
        var fields = fields
        fields[.contentType] = options.mediaType
        fields[.contentDisposition] = FieldText.attachment(question.fileName ?? "\(path.end).car")
        fields[.acceptRanges] = "none"
        let etag = Self.etag(target, options)
        fields[.eTag] = etag
        if let response = EntityTag.unmet(request, etag: etag, fields: fields) { return response }

        let roots: [CID]
        if let links = path.innerLinks {
            roots = part == .all ? links : []
        } else {
            roots = [path.end]
        }
        let traversal = DAGTraversal(
            roots: roots, part: part, hasDuplicates: options.hasDuplicates,
            seen: path.way.map(\.cid))
        let body = CARBody(
            roots: [path.end], way: path.way, traversal: traversal,
            first: path.innerLinks == nil ? first : nil, content: content, scope: scope,
            reach: question.reach, cancellation: request.cancellation)
        return ServeResponse(200, fields, .producer(body, count: nil))
    }

    private func part(
        _ question: TrustlessQuestion, _ path: TrustlessPath, _ end: (cid: CID, place: BytesPlace)
    ) throws(GatewayRefusal) -> DAGPart {
        switch question.car.scope {
        case .block: return .block
        case .all: return .all
        case .entity: break
        }
        guard let bytes = question.car.bytes, path.innerLinks == nil,
            let size = try fileSize(question, end)
        else { return .entity }
        switch bytes.place(in: size) {
        case .range(let range): return .bytes(range)
        // The root tells the client how long the file is.
        case .empty: return .block
        case .outside:
            throw GatewayRefusal(400, "entity-bytes is outside of the file's \(size) bytes")
        }
    }

    /// How long the file at the end of a path is, by its root's block; nil where it is no file.
    private func fileSize(
        _ question: TrustlessQuestion, _ end: (cid: CID, place: BytesPlace)
    ) throws(GatewayRefusal) -> UInt64? {
        if end.cid.codec == .raw { return end.place.count }
        let source = FirstBlocks(
            first: end, blocks: ServedBlocks(content, scope: scope, reach: question.reach))
        do throws(DAGReadError) {
            guard case .file(let size, _) = try source.unixfsEntry(end.cid) else { return nil }
            return size
        } catch {
            // What is no UnixFS is no bytes.
            if error.isOfContent { return nil }
            throw GatewayRefusal(ServeFault(error), reach: question.reach)
        }
    }

    /// A weak tag, for another server may write the same blocks in another order. It says all that the blocks depend on.
    private static func etag(_ target: NameTarget, _ options: CAROptions) -> String {
        var text = options.hasDuplicates ? "dups" : "once"
        if let bytes = options.bytes {
            text += ";\(bytes.from):\(bytes.to.map(String.init) ?? "*")"
        }
        for name in target.path { text += "/" + FieldText.escaped(name) }
        return "W/\"\(target.cid).car.\(options.scope.rawValue).\(digest(Array(text.utf8)))\""
    }

    /// A short text of what was hashed.
    static func digest(_ bytes: [UInt8]) -> String {
        Multibase.base32.encodeWithoutPrefix(Array(Multihash.sha256(of: bytes).digest.prefix(16)))
    }
}
