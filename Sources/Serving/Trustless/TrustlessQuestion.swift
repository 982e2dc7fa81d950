internal import HTTPTypes

/// The formats of answers that can be checked by whoever gets them.
enum TrustlessFormat: String, CaseIterable {
    case raw
    case car
    case ipnsRecord = "ipns-record"

    var mediaType: String {
        switch self {
        case .raw: "application/vnd.ipld.raw"
        case .car: "application/vnd.ipld.car"
        case .ipnsRecord: "application/vnd.ipfs.ipns-record"
        }
    }
}

/// How a CAR is to be.
struct CAROptions: Hashable {
    enum Scope: String {
        case block, entity, all
    }

    var scope: Scope
    var bytes: EntityBytes?
    var hasDuplicates: Bool

    var mediaType: String {
        "\(TrustlessFormat.car.mediaType); version=1; order=dfs; dups=\(hasDuplicates ? "y" : "n")"
    }
}

/// What a request asks of the gateway beside the path: the query before the fields.
struct TrustlessQuestion {
    var format: TrustlessFormat
    var car = CAROptions(scope: .all, bytes: nil, hasDuplicates: false)
    /// Where this very answer is by a URL alone; nil where the request's own is one.
    var location: String?
    var fileName: String?
    var reach: BlockReach

    init(_ request: ServeRequest) throws(GatewayRefusal) {
        let accepted = AcceptedType.parse(request.fields[.accept]).filter { $0.weight > 0 }
        let named = accepted.lazy.compactMap { type in
            TrustlessFormat.allCases.first { $0.mediaType == type.type }
        }
        if let text = request.value("format") {
            guard let format = TrustlessFormat(rawValue: text) else {
                throw GatewayRefusal(
                    406, "format is not raw, car or ipns-record, and nothing else is given here")
            }
            self.format = format
        } else if let format = named.first {
            self.format = format
        } else if accepted.contains(where: { $0.isExact }),
            !accepted.contains(where: { !$0.isExact })
        {
            throw GatewayRefusal(
                406, "none of the types in Accept is given here: \(Self.offered)")
        } else {
            throw GatewayRefusal(
                400, "nothing is rendered here: ask with ?format=raw, or Accept: \(Self.offered)")
        }
        reach = Self.isOnlyIfCached(request) ? .here : .everywhere
        fileName = request.value("filename").flatMap { $0.isEmpty ? nil : $0 }
        var extra: [(name: String, value: String)] = []
        if format == .car { car = try Self.car(request, accepted, &extra) }
        if let first = named.first, first != format || request.value("format") == nil {
            location = Self.location(of: request, format, extra)
        }
    }

    private static var offered: String {
        TrustlessFormat.allCases.map(\.mediaType).joined(separator: ", ")
    }

    private static func isOnlyIfCached(_ request: ServeRequest) -> Bool {
        (request.fields[.cacheControl] ?? "").split(separator: ",").contains { directive in
            directive.filter { $0 != " " && $0 != "\t" }.lowercased() == "only-if-cached"
        }
    }

    /// - Parameter extra: gets what the fields said and the query did not.
    private static func car(
        _ request: ServeRequest, _ accepted: [AcceptedType],
        _ extra: inout [(name: String, value: String)]
    ) throws(GatewayRefusal) -> CAROptions {
        var options = CAROptions(scope: .all, bytes: nil, hasDuplicates: false)
        if let text = request.value("dag-scope") {
            guard let scope = CAROptions.Scope(rawValue: text) else {
                throw GatewayRefusal(400, "dag-scope is not block, entity or all")
            }
            options.scope = scope
        }
        if let text = request.value("entity-bytes") {
            guard let bytes = EntityBytes(text) else {
                throw GatewayRefusal(
                    400, "entity-bytes is not FROM:TO, two whole numbers of 64 bits, or * as TO")
            }
            options.bytes = bytes
            options.scope = .entity
        }
        let inQuery = request.query.filter { $0.name.hasPrefix("car-") }
        func value(_ name: String, _ type: AcceptedType?) -> String? {
            inQuery.first { $0.name == "car-\(name)" }?.value ?? type?.parameters[name]
        }
        func isKnown(_ type: AcceptedType?) -> Bool {
            [nil, "1"].contains(value("version", type))
                && [nil, "dfs", "unk"].contains(value("order", type))
                && [nil, "y", "n"].contains(value("dups", type))
        }
        // What the query says holds for every type, so a wrong word there is a wrong request.
        guard isKnown(nil) else {
            throw GatewayRefusal(
                400, "car-version is not 1, car-order not dfs or unk, or car-dups not y or n")
        }
        let types = accepted.filter { $0.type == TrustlessFormat.car.mediaType }
        let type = types.first { isKnown($0) }
        guard type != nil || types.isEmpty else {
            throw GatewayRefusal(406, "CARs are of version=1, order=dfs or unk, dups=y or n")
        }
        options.hasDuplicates = value("dups", type) == "y"
        for name in ["version", "order", "dups"] {
            guard let text = type?.parameters[name], value(name, nil) == nil else { continue }
            extra.append(("car-\(name)", text))
        }
        return options
    }

    private static func location(
        of request: ServeRequest, _ format: TrustlessFormat,
        _ extra: [(name: String, value: String)]
    ) -> String {
        var pairs = request.query.filter { $0.name != "format" }
        pairs.append(("format", format.rawValue))
        pairs += extra
        let query = pairs.map { name, value in
            FieldText.escaped(Array(name.utf8)) + "=" + FieldText.escaped(Array(value.utf8))
        }
        return FieldText.path(request.rawPath) + "?" + query.joined(separator: "&")
    }
}
