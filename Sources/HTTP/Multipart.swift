// The body of a request with files.
//
// Layout:   for each part "--" ‖ boundary ‖ CRLF ‖ header lines ‖ CRLF ‖ CRLF ‖ bytes, with CRLF
//           before every boundary but the first; "--" ‖ boundary ‖ "--" ‖ CRLF at the end.
// Validity: the boundary is 128 random bits, so that no content has it.
// Source:   RFC 7578 and RFC 2046, section 5.1.1.

/// The frame around the parts of one request.
public struct Multipart: Sendable {
    private let boundary: String

    /// Makes a frame with a boundary of its own.
    public init() {
        boundary =
            "registryfs-" + String(UInt64.random(in: .min ... .max), radix: 16) + "-"
            + String(UInt64.random(in: .min ... .max), radix: 16)
    }

    /// The value of the request's Content-Type.
    public var contentType: String { "multipart/form-data; boundary=\(boundary)" }

    /// What stands before a file's bytes.
    ///
    /// - Parameters:
    ///   - name: that of the form's field; like `filename`, of letters and digits.
    ///   - isFirst: whether it is the first part.
    public func head(name: String, filename: String, isFirst: Bool = true) -> [UInt8] {
        Array(
            """
            \(isFirst ? "" : "\r\n")--\(boundary)\r
            Content-Disposition: form-data; name="\(name)"; filename="\(filename)"\r
            Content-Type: application/octet-stream\r
            \r\n
            """.utf8)
    }

    /// What stands behind the last part's bytes.
    public var end: [UInt8] { Array("\r\n--\(boundary)--\r\n".utf8) }
}
