internal import HTTPTypes
internal import MerkleDAG
internal import Multiformats

/// The path gateway: what is below /ipfs/CID and /ipns/NAME as files, pages and listings, for browsers.
///
/// What it answers it has checked itself, but its clients cannot: those who want to ask for raw blocks and archives, which
/// it hands on to the trustless gateway.
///
/// Source: https://specs.ipfs.tech/http-gateways/path-gateway/
public struct PathGateway: RequestHandler {
    let content: any ServedContent
    let scope: BlockScope
    let names: (any NameLookup)?
    let trustless: any RequestHandler
    let redirects: Bool

    /// - Parameters:
    ///   - names: nil where nothing below /ipns/ is served.
    ///   - trustless: answers what asks for raw, car and ipns-record.
    ///   - redirects: whether what is behind `/ipfs/CID` or `/ipns/NAME` is the root of a host, whose name somebody else
    ///     has put there: then `_redirects` counts, and links and redirects begin at that root. On plain paths, which share
    ///     one origin, it must not (https://specs.ipfs.tech/http-gateways/web-redirects-file/, "Same-Origin Requirement").
    public init(
        content: any ServedContent, scope: BlockScope, names: (any NameLookup)?,
        trustless: any RequestHandler, redirects: Bool = false
    ) {
        self.content = content
        self.scope = scope
        self.names = names
        self.trustless = trustless
        self.redirects = redirects
    }

    public func respond(to request: ServeRequest) -> ServeResponse {
        var response = answer(request)
        CORS.add(to: &response.fields)
        return response
    }

    private func answer(_ request: ServeRequest) -> ServeResponse {
        switch request.method {
        case .get, .head: break
        case .options: return CORS.preflight()
        default:
            return Self.plain(405, "this is read only", [.allow: Self.methods])
        }
        guard let space = request.names.first.flatMap(Namespace.init), request.names.count >= 2
        else { return Self.plain(404, "paths here begin with /ipfs/CID or /ipns/NAME") }
        // Whoever writes one root must not get hold of the requests for all others.
        if request.names.count == 2, !request.hasTrailingSlash,
            HTTPField.Name("Service-Worker").flatMap({ request.fields[$0] }) == "script"
        {
            return Self.plain(400, "a service worker cannot be registered for all of \(space)")
        }
        let format = PathFormat(request)
        if format == .trustless { return trustless.respond(to: request) }

        var asked = Asked(request, space: space, format: format, isHost: redirects)
        var response: ServeResponse
        do throws(ServeFault) {
            response = try respond(&asked)
        } catch {
            response = Self.refusal(error, isHereOnly: asked.reach == .here)
        }
        let path = asked.path
        // Encoded it can be three times as long as the target was: too long a field would end the answer for some clients.
        if path.utf8.count <= Self.shownPathLengthMax { response.fields[.ipfsPath] = path }
        return response
    }

    private func respond(_ asked: inout Asked) throws(ServeFault) -> ServeResponse {
        let text = String(validating: asked.request.names[1], as: UTF8.self)
        var walk = PathWalk(content, scope: scope, reach: asked.reach)
        switch asked.space {
        case .ipfs:
            guard let text, let cid = CID(ofRequest: text) else {
                return Self.plain(400, "what stands behind /ipfs/ is no CID")
            }
            asked.root = cid
        case .ipns:
            guard let text, let names, let found = try names.root(of: text),
                let result = try walk.follow(found.path, from: found.cid, followsLast: true)
            else { return Self.nothing }
            asked.ttlSeconds = found.ttlSeconds
            asked.root = result.cid
        }
        let result = try walk.follow(
            asked.names, from: asked.root, followsLast: asked.request.hasTrailingSlash)
        if let result { return try answer(asked, result) }
        if redirects, asked.format == .web, let response = try redirected(asked) { return response }
        return Self.nothing
    }

    /// Answers with what a path leads to.
    ///
    /// - Parameter isRewritten: that the path is not the one in the client's address, and so needs no slash at its end.
    func answer(
        _ asked: Asked, _ result: PathResult, isRewritten: Bool = false
    ) throws(ServeFault) -> ServeResponse {
        var asked = asked
        asked.fields[.ipfsRoots] = result.roots
        asked.fields[.cacheControl] = asked.cacheControl(isListing: false)
        // The same path gives blocks and archives to who asks for them so.
        asked.fields[.vary] = "Accept"
        switch (result.end, asked.format) {
        case (.other(let codec), _):
            return try codecBlock(asked, result.cid, codec)
        case (_, .dagJSON), (_, .dagCBOR), (_, .tar), (.directory, .cbor):
            return Self.plain(
                406,
                "the content is of another codec; ask for it with format=raw and convert it there")
        case (.directory, _):
            guard isRewritten || asked.request.hasTrailingSlash else {
                let target = asked.location(slash: true)
                return ServeResponse(301, [.location: target])
            }
            return try directory(asked, result)
        case (.symlink(let target), _):
            asked.fields[.contentType] = "inode/symlink"
            return try .ranged(
                asked.request, size: UInt64(target.count), etag: "\"\(result.cid)\"",
                fields: asked.fields
            ) { range in .bytes(Array(target[Int(range.lowerBound)..<Int(range.upperBound)])) }
        case (.raw, _), (.file, _):
            return try file(asked, result, name: result.names.last, etag: "\"\(result.cid)\"")
        }
    }

    // MARK: What cannot be answered

    /// The longest X-Ipfs-Path, in bytes.
    private static let shownPathLengthMax = 8192
    private static let methods = "GET, HEAD, OPTIONS"

    private static var nothing: ServeResponse { plain(404, "nothing is at this path") }

    static func plain(
        _ status: Int, _ reason: String, _ fields: HTTPFields = [:]
    ) -> ServeResponse {
        var fields = fields
        fields[.contentType] = "text/plain; charset=utf-8"
        fields[.xContentTypeOptions] = "nosniff"
        // What is not here now may be soon; caches keep some of these for minutes where nobody says so.
        fields[.cacheControl] = "no-cache"
        return ServeResponse(status, fields, .bytes(Array("\(status): \(reason)\n".utf8)))
    }

    /// - Parameter isHereOnly: that nothing was to be looked for elsewhere.
    static func refusal(_ fault: ServeFault, isHereOnly: Bool) -> ServeResponse {
        switch fault {
        case .notFound:
            isHereOnly
                ? plain(412, "this is not here, and was to be looked for nowhere else")
                : nothing
        case .unavailable: plain(503, "the volume is away for the moment", [.retryAfter: "1"])
        case .timedOut: plain(504, "nobody gave it in time")
        case .damaged: plain(502, "whoever has it gave other bytes")
        case .unsuitable: plain(501, "this content cannot be given as files")
        case .tooLarge: plain(501, "this is too large to be given so; ask for format=car")
        case .failed: plain(500, "the server failed")
        }
    }
}

/// What a path begins with.
enum Namespace: String {
    case ipfs
    case ipns

    init?(_ name: [UInt8]) { self.init(rawValue: String(decoding: name, as: UTF8.self)) }
}

/// What a request asks for, and what is found of it on the way.
struct Asked {
    let request: ServeRequest
    let space: Namespace
    let format: PathFormat
    let reach: BlockReach
    /// Whether the root is that of a host.
    let isHost: Bool
    /// The names below the root.
    let names: [[UInt8]]
    /// The empty content until it is known.
    var root: CID
    /// For how long a name may be believed to lead to the root.
    var ttlSeconds: UInt64?
    /// Of the answer.
    var fields: HTTPFields = [:]

    init(_ request: ServeRequest, space: Namespace, format: PathFormat, isHost: Bool) {
        self.request = request
        self.space = space
        self.format = format
        self.isHost = isHost
        names = Array(request.names.dropFirst(2))
        root = CID.raw(sha256: [])
        let directives = (request.fields[.cacheControl] ?? "").lowercased().split(separator: ",")
        reach =
            directives.contains { $0.split(separator: " ").first == "only-if-cached" }
            ? .here : .everywhere
    }

    /// The path as it was asked for, encoded anew.
    var path: String {
        URLText.path(request.names) + (request.hasTrailingSlash ? "/" : "")
    }

    /// Where a page of this path is for the client, with its query.
    func location(slash: Bool, adding pair: (name: String, value: String)? = nil) -> String {
        let names = isHost ? names : request.names
        let query = request.query + (pair.map { [$0] } ?? [])
        return URLText.path(names) + (slash || names.isEmpty ? "/" : "") + URLText.query(query)
    }

    /// Cache-Control of an answer; nil where nobody says how long it is right.
    func cacheControl(isListing: Bool) -> String? {
        let stale = isListing ? ", stale-while-revalidate=2678400" : ""
        switch space {
        case .ipfs:
            return isListing
                ? "public, max-age=604800\(stale)" : "public, max-age=29030400, immutable"
        case .ipns:
            guard let ttlSeconds, ttlSeconds > 0 else { return nil }
            return "public, max-age=\(ttlSeconds)\(stale)"
        }
    }
}
