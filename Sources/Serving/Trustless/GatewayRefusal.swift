internal import Base
internal import HTTPTypes

/// Why a gateway does not give what it was asked.
struct GatewayRefusal: Error {
    var status: Int
    /// One line for the client; nothing in it is of the server's own.
    var reason: String

    init(_ status: Int, _ reason: String) {
        self.status = status
        self.reason = reason
    }

    /// - Parameter reach: what is not here has a status of its own where nobody else was to be asked.
    init(_ fault: ServeFault, reach: BlockReach) {
        switch fault {
        case .notFound where reach == .here:
            self.init(412, "not here, and only-if-cached was asked")
        case .notFound: self.init(404, "not found")
        case .unavailable: self.init(503, "the volume is away; try again soon")
        case .timedOut: self.init(504, "it took too long to get")
        case .damaged(let cid): self.init(502, "the bytes of \(cid) are not those that it names")
        case .unsuitable(let reason): self.init(400, reason)
        case .tooLarge(let reason): self.init(501, "too large: \(reason)")
        case .failed: self.init(500, "it could not be read")
        }
    }

    var response: ServeResponse {
        var fields: HTTPFields = [
            .contentType: "text/plain; charset=utf-8", .cacheControl: "no-cache",
            .xContentTypeOptions: "nosniff",
        ]
        if [502, 503, 504].contains(status) { fields[.retryAfter] = status == 503 ? "1" : "10" }
        return ServeResponse(
            status, fields, .bytes(Array("\(oneLine(reason, lengthMax: 300))\n".utf8)))
    }
}
