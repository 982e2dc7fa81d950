/// Replies for scripts.
public enum Reply {
    /// A reply with its length.
    public static func whole(
        _ status: Int = 200, _ body: String = "", headers: [String] = []
    ) -> ScriptedServer.Step {
        whole(status, Array(body.utf8), headers: headers)
    }

    /// A reply with its length.
    public static func whole(
        _ status: Int = 200, _ body: [UInt8], headers: [String] = []
    ) -> ScriptedServer.Step {
        .send(head(status, headers + ["Content-Length: \(body.count)"]) + body)
    }

    /// A body in one chunk, and what stands behind it.
    public static func chunked(
        _ status: Int = 200, _ body: String, trailers: [String] = []
    ) -> ScriptedServer.Step {
        .send(
            head(status, ["Transfer-Encoding: chunked", "Trailer: X-Stream-Error"])
                + chunk(Array(body.utf8))
                + Array(("0\r\n" + trailers.map { $0 + "\r\n" }.joined() + "\r\n").utf8))
    }

    /// Its lines and the empty one behind them.
    public static func head(_ status: Int, _ headers: [String]) -> [UInt8] {
        Array(
            ("HTTP/1.1 \(status) Some\r\n" + headers.map { $0 + "\r\n" }.joined() + "\r\n").utf8)
    }

    /// A part of a chunked body; none for no bytes, which would end it.
    public static func chunk(_ bytes: [UInt8]) -> [UInt8] {
        bytes.isEmpty
            ? []
            : Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + Array("\r\n".utf8)
    }
}
