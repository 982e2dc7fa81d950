internal import HTTPTypes

/// In which form a request wants what its path leads to.
///
/// Source: https://specs.ipfs.tech/http-gateways/path-gateway/ (`format`, `Accept`), IPIP-523
enum PathFormat: Equatable {
    /// As a browser wants it: files with their types, index.html, listings.
    case web
    case json
    case cbor
    case dagJSON
    case dagCBOR
    case tar
    /// What the trustless gateway answers: raw, car, ipns-record.
    case trustless

    /// What a request asks for: by `format` of the query, where that is known; else by the type of Accept that it wants
    /// most, the first of those that it wants as much.
    init(_ request: ServeRequest) {
        if let format = request.value("format").flatMap(Self.init(parameter:)) {
            self = format
        } else {
            self = Self.wanted(request.fields[.accept])
        }
    }

    private init?(parameter: String) {
        switch parameter {
        case "raw", "car", "ipns-record": self = .trustless
        case "json": self = .json
        case "cbor": self = .cbor
        case "dag-json": self = .dagJSON
        case "dag-cbor": self = .dagCBOR
        case "tar": self = .tar
        default: return nil
        }
    }

    private init?(type: String) {
        switch type {
        case "application/vnd.ipld.raw", "application/vnd.ipld.car",
            "application/vnd.ipfs.ipns-record":
            self = .trustless
        case "application/json": self = .json
        case "application/cbor": self = .cbor
        case "application/vnd.ipld.dag-json": self = .dagJSON
        case "application/vnd.ipld.dag-cbor": self = .dagCBOR
        case "application/x-tar": self = .tar
        case "text/html", "application/xhtml+xml": self = .web
        default: return nil
        }
    }

    private static func wanted(_ accept: String?) -> PathFormat {
        AcceptedType.parse(accept).lazy.filter { $0.weight > 0 }
            .compactMap { PathFormat(type: $0.type) }.first ?? .web
    }
}
