// Delegated routing: tells who has a block, which is this server for what it has.
//
//   GET /routing/v1/providers/CID     who has it
//   GET /routing/v1/peers/ID          where a peer is
//   GET /routing/v1/ipns/NAME         the record of a name
//
// Unknown paths are 400, what is known and not offered (records put here, the DHT) 501. Nobody is told of no result by
// 404: an empty answer says that, as specified.
// Source: https://specs.ipfs.tech/routing/http-routing-v1/

public import Base
internal import HTTPTypes
internal import Multiformats
public import Naming

/// Answers who has blocks, out of served content.
///
/// Blocks the thread for as long as the content does.
public struct DelegatedRouting: RequestHandler {
    private static let methods = "GET, HEAD, OPTIONS"
    /// The name of what this server speaks: a trustless gateway.
    static let transfer = "transport-ipfs-gateway-http"
    /// For how long answers are kept, in seconds: with something in them, and without.
    private static let keptSeconds = (found: 300, nothing: 15)
    /// For how long, in seconds, a cache may give an answer while it asks for another one: as long as records of providers
    /// hold elsewhere.
    private static let staleSeconds = 172_800

    private let content: any ServedContent
    private let scope: BlockScope
    private let peer: IPNSName
    private let addresses: [ProviderAddress]
    private let records: (any NameRecords)?
    private let now: @Sendable () -> Timestamp

    /// - Parameters:
    ///   - peer: whom answers name as the provider. Nobody speaks to it by this key.
    ///   - addresses: where this server's gateway is found; without any, nobody is told that it has something.
    ///   - records: who has the records of names; nil for nobody.
    ///   - now: the time by which records age.
    public init(
        content: any ServedContent, scope: BlockScope, peer: IPNSName,
        addresses: [ProviderAddress], records: (any NameRecords)? = nil,
        now: @escaping @Sendable () -> Timestamp = { .now() }
    ) {
        self.content = content
        self.scope = scope
        self.peer = peer
        self.addresses = addresses
        self.records = records
        self.now = now
    }

    public func respond(to request: ServeRequest) -> ServeResponse {
        if request.method == .options { return CORS.preflight(methods: Self.methods) }
        var response: ServeResponse
        do throws(GatewayRefusal) {
            response = try answer(request)
        } catch {
            response = error.response
        }
        response.fields[.vary] = "Accept"
        CORS.add(to: &response.fields, methods: Self.methods)
        return response
    }

    private func answer(_ request: ServeRequest) throws(GatewayRefusal) -> ServeResponse {
        let names = request.names.map { String(decoding: $0, as: UTF8.self) }
        guard names.count >= 4, names[0] == "routing", names[1] == "v1" else {
            throw GatewayRefusal(400, "no such path")
        }
        if names[2] == "dht" { throw GatewayRefusal(501, "there is no DHT here") }
        guard names.count == 4, ["providers", "peers", "ipns"].contains(names[2]) else {
            throw GatewayRefusal(400, "no such path")
        }
        guard request.method == .get || request.method == .head else {
            throw GatewayRefusal(501, "there are GET, HEAD and OPTIONS here: nothing can be put")
        }
        switch names[2] {
        case "providers":
            guard let cid = CID(ofRequest: names[3]) else {
                throw GatewayRefusal(422, "what stands behind providers/ is not a CID")
            }
            return list("Providers", try has(cid) ? peer(for: request) : nil, request)
        case "peers":
            let asked = try name(names[3])
            return list("Peers", asked == peer ? peer(for: request) : nil, request)
        default:
            return try record(of: try name(names[3]), request)
        }
    }

    private func has(_ cid: CID) throws(GatewayRefusal) -> Bool {
        // Whoever has the CID has the block.
        if cid.multihash.code == .identity { return false }
        do throws(ServeFault) {
            return try content.has(cid, scope: scope)
        } catch {
            if error == .notFound { return false }
            throw GatewayRefusal(error, reach: .everywhere)
        }
    }

    private func name(_ text: String) throws(GatewayRefusal) -> IPNSName {
        do throws(NamingError) {
            return try IPNSName(text)
        } catch {
            throw GatewayRefusal(422, "what stands last in the path is not the name of a key")
        }
    }

    /// This server as JSON; nil where a filter leaves it out.
    private func peer(for request: ServeRequest) -> String? {
        let left = ProviderFilter(request).addresses(of: addresses, transfer: Self.transfer)
        guard let left else { return nil }
        // Neither the alphabet of peer ids nor that of addresses has a character that JSON escapes.
        let shown = left.map { "\"\($0)\"" }.joined(separator: ",")
        return "{\"Schema\":\"peer\",\"ID\":\"\(peer.peerID)\",\"Addrs\":[\(shown)],"
            + "\"Protocols\":[\"\(Self.transfer)\"]}"
    }

    private func list(_ key: String, _ entry: String?, _ request: ServeRequest) -> ServeResponse {
        let isStream = AcceptedType.parse(request.fields[.accept]).contains {
            $0.weight > 0 && $0.type == "application/x-ndjson"
        }
        let fields: HTTPFields = [
            .contentType: isStream ? "application/x-ndjson" : "application/json",
            .cacheControl: Self.caching(
                entry == nil ? Self.keptSeconds.nothing : Self.keptSeconds.found),
            .xContentTypeOptions: "nosniff",
        ]
        let text = isStream ? entry.map { $0 + "\n" } ?? "" : "{\"\(key)\":[\(entry ?? "")]}\n"
        return ServeResponse(200, fields, .bytes(Array(text.utf8)))
    }

    private static func caching(_ seconds: Int) -> String {
        "public, max-age=\(seconds), stale-while-revalidate=\(staleSeconds), "
            + "stale-if-error=\(staleSeconds)"
    }

    private func record(
        of name: IPNSName, _ request: ServeRequest
    ) throws(GatewayRefusal) -> ServeResponse {
        let type = TrustlessFormat.ipnsRecord.mediaType
        let isTaken = AcceptedType.parse(request.fields[.accept]).contains {
            $0.weight > 0 && [type, "application/*", "*/*"].contains($0.type)
        }
        guard isTaken else {
            throw GatewayRefusal(406, "records are given as they are: ask with Accept: \(type)")
        }
        let record: IPNSRecord?
        do throws(ServeFault) {
            record = try records?.record(of: name)
        } catch {
            guard error == .notFound else { throw GatewayRefusal(error, reach: .everywhere) }
            record = nil
        }
        guard let record else {
            // Another type than that of records says that there is none.
            let fields: HTTPFields = [
                .contentType: "text/plain; charset=utf-8",
                .cacheControl: Self.caching(Self.keptSeconds.nothing),
                .xContentTypeOptions: "nosniff",
            ]
            return ServeResponse(200, fields, .bytes(Array("no record\n".utf8)))
        }
        let etag = "\"\(TrustlessGateway.digest(record.bytes))\""
        let (valid, kept) = (record.validSeconds(at: now()), record.keptSeconds(at: now()))
        let maxAge = record.ttlNanoseconds == 0 ? min(60, valid) : kept
        let fields: HTTPFields = [
            .contentType: type, .eTag: etag, .xContentTypeOptions: "nosniff",
            .cacheControl:
                "public, max-age=\(maxAge), stale-while-revalidate=\(valid), stale-if-error=\(valid)",
            .contentDisposition: FieldText.attachment("\(name).ipns-record"),
        ]
        if let response = EntityTag.unmet(request, etag: etag, fields: fields) { return response }
        return ServeResponse(200, fields, .bytes(record.bytes))
    }
}
