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
            self = Self.wanted(request.fields[.accept] ?? "")
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

    private static func wanted(_ accept: String) -> PathFormat {
        var best: (format: PathFormat, weight: Int)?
        for element in accept.split(separator: ",") {
            let parts = element.split(separator: ";").map { trimmed($0).lowercased() }
            guard let type = parts.first, let format = PathFormat(type: type) else { continue }
            let weight = parts.dropFirst().lazy.compactMap(weight).first ?? 1000
            if weight > best?.weight ?? 0 { best = (format, weight) }
        }
        return best?.format ?? .web
    }

    /// The thousandths of `q=0.8`; nil for another parameter. What is malformed is as if it was not there.
    private static func weight(_ parameter: String) -> Int? {
        guard parameter.hasPrefix("q=") else { return nil }
        let digits = parameter.dropFirst(2)
        guard digits.utf8.count <= 5, let first = digits.first, first == "0" || first == "1" else {
            return nil
        }
        let behind = digits.dropFirst()
        guard behind.isEmpty || behind.first == "." else { return nil }
        let fraction = String(behind.dropFirst())
        guard fraction.isEmpty || fraction.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let thousandths = Int(fraction + String(repeating: "0", count: 3 - fraction.utf8.count))
        else { return nil }
        return min(first == "1" ? 1000 : thousandths, 1000)
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
