internal import FoundationEssentials
internal import HTTP

/// What a node's own errors mean.
///
/// A node answers an error as 500 with JSON `{"Message", "Code", "Type"}`, as 400 to 405 with a
/// text, or, when the reply has begun, as 200 with the trailer X-Stream-Error. The wording is all
/// that tells one error from the other; it was taken from recorded replies of 0.43.
enum ErrorReply {
    private struct Message: Decodable {
        var Message: String
        var Code: Int?
    }

    /// The error of a reply whose status is not 200.
    static func error(of call: Call, status: Int, body: [UInt8]) -> KuboError {
        if let message = try? JSONDecoder().decode(Message.self, from: Data(body)) {
            return call.error(
                kind(status: status, code: message.Code, message.Message), message.Message)
        }
        let text = String(decoding: body, as: UTF8.self)
        var line = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
        // A proxy's page of HTML says nothing to people.
        if line.isEmpty || line.hasPrefix("<") { line = "HTTP status \(status)" }
        return call.error(kind(status: status, code: nil, line), line)
    }

    /// The error of a reply that ends with X-Stream-Error; the body may have the better text, as a
    /// JSON string a line.
    static func error(of call: Call, trailer: String, body: [UInt8]) -> KuboError {
        var texts: [String] = []
        if body.count <= HTTPClient.errorBytesMax {
            for line in body.split(separator: UInt8(ascii: "\n")) {
                if let text = try? JSONDecoder().decode(String.self, from: Data(line)) {
                    texts.append(text)
                }
            }
        }
        let said = texts.isEmpty ? trailer : texts.joined(separator: "; ")
        return call.error(
            kind(status: 500, code: nil, said),
            said.isEmpty ? "the node ended its reply with an error" : said)
    }

    /// The kind of an error by its status, its code and its words.
    static func kind(status: Int, code: Int?, _ message: String) -> KuboError.Kind {
        switch status {
        case 401: return .authorization
        case 403:
            // The other 403 is for a browser's page of another origin.
            return message.contains("Access Denied") ? .authorization : .refused
        case 429, 503: return .busy
        case 502: return .offline
        case 504: return .timeout
        case 507: return .full
        case 500: break
        case 400..<500: return .refused
        case 200..<400: return .protocolViolation
        default: return .failed
        }
        // Code of go-ipfs-cmds: 1 a client's error, 3 rate limited, 4 forbidden.
        switch code {
        case 3: return .busy
        case 4: return .authorization
        default: return kind(of: message.lowercased())
        }
    }

    private static func kind(of text: String) -> KuboError.Kind {
        let phrases: [(KuboError.Kind, [String])] = [
            (
                .full,
                ["no space left on device", "disk quota exceeded", "storage limit", "disk full"]
            ),
            (
                .conflict,
                [
                    "already exists", "already has entry", "cannot unlink existing file",
                    "path is a directory", "was not a file", "not a file", "not a directory",
                    "dag node is a directory", "directory not empty",
                    "was already recursively pinned", "existing ipns record has sequence",
                ]
            ),
            (
                .notFound,
                [
                    "does not exist", "not found locally", "could not find", "not pinned",
                    "not recursively pinned", "no link named", "failed to get config value",
                    "block not found",
                    "merkledag: not found", "key not found", "key with given name not found",
                    "routing: not found", "could not resolve name",
                ]
            ),
            (.timeout, ["deadline exceeded", "timed out", "timeout"]),
            (.offline, ["context canceled", "shutting down", "node is offline"]),
            (
                .busy,
                [
                    "reached limit of", "too many open files", "temporarily unavailable",
                    "resource limit exceeded",
                ]
            ),
            (
                .refused,
                [
                    "invalid path", "invalid cid", "over 2mib", "mismatch in content integrity",
                    "unexpected eof", "paths must start with", "argument", "option",
                ]
            ),
        ]
        for (kind, words) in phrases where words.contains(where: { text.contains($0) }) {
            return kind
        }
        return .failed
    }
}
