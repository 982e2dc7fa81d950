public import HTTPTypes

/// What lets pages of other origins read the answers of a gateway.
///
/// Everybody may ask, and nothing is told by a cookie or the like, so every origin may read.
/// Source: https://specs.ipfs.tech/http-gateways/path-gateway/, gateway-conformance `TestCors`.
public enum CORS {
    /// Adds the fields that stand on every answer of a gateway.
    ///
    /// - Parameter methods: the methods that there are.
    public static func add(to fields: inout HTTPFields, methods: String = "GET, HEAD, OPTIONS") {
        fields[.accessControlAllowOrigin] = "*"
        fields[.accessControlAllowMethods] = methods
        fields[.accessControlAllowHeaders] = "Content-Type, Range, User-Agent, X-Requested-With"
        fields[.accessControlExposeHeaders] =
            "Content-Range, Content-Length, X-Ipfs-Path, X-Ipfs-Roots, X-Chunked-Output, X-Stream-Output"
    }

    /// The answer to OPTIONS, as browsers ask before some requests.
    public static func preflight(methods: String = "GET, HEAD, OPTIONS") -> ServeResponse {
        var fields = HTTPFields()
        fields[.allow] = methods
        fields[.accessControlMaxAge] = "86400"
        add(to: &fields, methods: methods)
        return ServeResponse(204, fields)
    }
}
