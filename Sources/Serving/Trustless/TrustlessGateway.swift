// A trustless gateway: blocks, archives of blocks and signed records, which whoever gets them checks.
//
//   GET /ipfs/CID[/NAME…]?format=raw|car     content
//   GET /ipns/NAME[/NAME…]?format=raw|car    what a name leads to
//   GET /ipns/KEY?format=ipns-record         the record of a key
//
// HEAD answers the same without a body, OPTIONS for browsers.
// Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/, ipfs/gateway-conformance v0.13.2

public import Base
internal import HTTPTypes
internal import MerkleDAG
internal import Multiformats
internal import Naming

/// Answers what a trustless gateway is asked, out of served content.
///
/// Blocks the thread for as long as the content does. Never answers 410: what is not to be served is not found.
public struct TrustlessGateway: RequestHandler {
    /// For how long what can never change is kept.
    static let immutable = "public, max-age=29030400, immutable"
    /// Answers for longer paths do not tell over which CIDs they led, for the sake of who bounds fields to 8 KiB.
    private static let rootsShownMax = 64

    let content: any ServedContent
    let scope: BlockScope
    let records: (any NameRecords)?
    let names: (any NameLookup)?
    let now: @Sendable () -> Timestamp

    /// - Parameters:
    ///   - records: who has the records of names; nil for nobody.
    ///   - names: who knows what names lead to; nil for nobody.
    ///   - now: the time by which records age.
    public init(
        content: any ServedContent, scope: BlockScope, records: (any NameRecords)? = nil,
        names: (any NameLookup)? = nil, now: @escaping @Sendable () -> Timestamp = { .now() }
    ) {
        self.content = content
        self.scope = scope
        self.records = records
        self.names = names
        self.now = now
    }

    /// Whether a request is for this gateway where one that renders content has the same paths: it names one of the
    /// formats, in the query, or in Accept where the query names none.
    public static func isAsked(by request: ServeRequest) -> Bool {
        if let format = request.value("format") { return TrustlessFormat(rawValue: format) != nil }
        return AcceptedType.parse(request.fields[.accept]).contains { type in
            type.weight > 0 && TrustlessFormat.allCases.contains { $0.mediaType == type.type }
        }
    }

    public func respond(to request: ServeRequest) -> ServeResponse {
        var response: ServeResponse
        switch request.method {
        case .options: return CORS.preflight()
        case .get, .head:
            do throws(GatewayRefusal) {
                response = try answer(request)
            } catch {
                response = error.response
            }
        default:
            response = GatewayRefusal(405, "there are GET, HEAD and OPTIONS here").response
            response.fields[.allow] = "GET, HEAD, OPTIONS"
        }
        CORS.add(to: &response.fields)
        return response
    }

    private func answer(_ request: ServeRequest) throws(GatewayRefusal) -> ServeResponse {
        guard request.names.count >= 2 else { throw GatewayRefusal(404, "not found") }
        let first = String(decoding: request.names[1], as: UTF8.self)
        let below = Array(request.names.dropFirst(2))
        if request.names[0].elementsEqual("ipfs".utf8) {
            guard let cid = CID(ofRequest: first) else {
                throw GatewayRefusal(400, "what stands behind /ipfs/ is not a CID")
            }
            let question = try TrustlessQuestion(request)
            return try answer(
                request, question, NameTarget(cid, path: below), caching: Self.immutable)
        }
        guard request.names[0].elementsEqual("ipns".utf8) else {
            throw GatewayRefusal(404, "not found")
        }
        let question = try TrustlessQuestion(request)
        if question.format == .ipnsRecord {
            guard below.isEmpty else {
                throw GatewayRefusal(400, "a record is of a name, without a path")
            }
            return try record(of: first, request, question)
        }
        var target = try question.telling { () throws(ServeFault) in
            guard let target = try names?.root(of: first) else { throw .notFound }
            return target
        }
        target.path += below
        return try answer(
            request, question, target, caching: target.ttlSeconds.map { "public, max-age=\($0)" })
    }

    private func answer(
        _ request: ServeRequest, _ question: TrustlessQuestion, _ target: NameTarget,
        caching: String?
    ) throws(GatewayRefusal) -> ServeResponse {
        guard question.format != .ipnsRecord else {
            throw GatewayRefusal(400, "records are of what stands behind /ipns/")
        }
        let blocks = ServedBlocks(content, scope: scope, reach: question.reach)
        let (path, place) = try question.telling { () throws(ServeFault) in
            let path = try TrustlessPath(root: target.cid, names: target.path, blocks: blocks)
            return (path, try block(path.end, question.reach))
        }
        var fields = commonFields(request, question)
        fields[.cacheControl] = caching
        if path.roots.count <= Self.rootsShownMax {
            fields[.ipfsRoots] = path.roots.map { "\($0)" }.joined(separator: ",")
        }
        switch question.format {
        case .car:
            return try car(request, question, target, path, place, fields)
        case .raw, .ipnsRecord:
            // A value within a block is no block.
            guard path.innerLinks == nil else { throw GatewayRefusal(404, "not found") }
            fields[.contentDisposition] = FieldText.attachment(
                question.fileName ?? "\(path.end).bin")
            return try question.telling { () throws(ServeFault) in
                try .ranged(
                    request, size: place.count, etag: "\"\(path.end).raw\"", fields: fields
                ) { (range) throws(ServeFault) in
                    .pieces([place.part(range)])
                }
            }
        }
    }

    /// A block, or where it lies.
    ///
    /// - Throws: `tooLarge` for more than IPFS peers transfer.
    private func block(_ cid: CID, _ reach: BlockReach) throws(ServeFault) -> BytesPlace {
        if cid.multihash.code == .identity { return .bytes(cid.multihash.digest) }
        let place = try content.block(cid, scope: scope, reach: reach)
        guard place.count <= UInt64(DAGNode.blockSizeMax) else {
            throw .tooLarge(reason: "\(cid) has more than 2 MiB")
        }
        return place
    }

    /// The fields of all answers of one format but those that depend on what is there.
    func commonFields(_ request: ServeRequest, _ question: TrustlessQuestion) -> HTTPFields {
        var fields: HTTPFields = [
            .contentType: question.format.mediaType, .xContentTypeOptions: "nosniff",
            .ipfsPath: FieldText.path(request.rawPath), .vary: "Accept",
        ]
        if let location = question.location { fields[.contentLocation] = location }
        return fields
    }
}

extension TrustlessQuestion {
    /// Does what may fail; a failure becomes what the client is told.
    func telling<Result>(
        _ body: () throws(ServeFault) -> Result
    ) throws(GatewayRefusal) -> Result {
        do throws(ServeFault) {
            return try body()
        } catch {
            throw GatewayRefusal(error, reach: reach)
        }
    }
}

extension BytesPlace {
    /// A range of it.
    ///
    /// - Precondition: it is within.
    func part(_ range: Range<UInt64>) -> BytesPlace {
        if range == 0..<count { return self }
        return switch self {
        case .bytes(let bytes):
            .bytes(Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        case .file(let whole):
            .file(
                FileRange(
                    whole.file, offset: whole.offset + range.lowerBound,
                    count: range.upperBound - range.lowerBound))
        }
    }
}
