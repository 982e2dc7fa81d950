// The body of a request with files.
//
// Layout:   for each part "--" ‖ boundary ‖ CRLF ‖ header lines ‖ CRLF ‖ CRLF ‖ bytes, with CRLF
//           before every boundary but the first; "--" ‖ boundary ‖ "--" ‖ CRLF at the end.
// Validity: the boundary is 128 random bits, so that no content has it.
// Source:   RFC 7578 and RFC 2046, section 5.1.1.

/// The frame around the parts of one request.
struct Multipart {
    private let boundary: String

    init() {
        boundary =
            "registryfs-" + String(UInt64.random(in: .min ... .max), radix: 16) + "-"
            + String(UInt64.random(in: .min ... .max), radix: 16)
    }

    /// The value of the request's Content-Type.
    var contentType: String { "multipart/form-data; boundary=\(boundary)" }

    /// What stands before a part's bytes.
    func head(isFirst: Bool = true) -> [UInt8] {
        Array(
            """
            \(isFirst ? "" : "\r\n")--\(boundary)\r
            Content-Disposition: form-data; name="file"; filename="block"\r
            Content-Type: application/octet-stream\r
            \r\n
            """.utf8)
    }

    /// What stands behind the last part's bytes.
    var end: [UInt8] { Array("\r\n--\(boundary)--\r\n".utf8) }
}
