// What gateways, and the proxies that stand before them, answer where they do not do what they are asked: status lines,
// headers and bodies as they come, cut where theirs is cut.
//
// Sources: pages and headers as nginx, Varnish, Cloudflare, Go's net/http and boxo's gateway write them; for what a block
// is asked, https://specs.ipfs.tech/http-gateways/trustless-gateway; for the codings of a body, RFC 9110, sections 8.4
// and 12.5.3, and RFC 1952.

/// An answer to a request for a raw block, for a script of `ScriptedServer`.
public enum RecordedAnswer: String, CaseIterable, Sendable {
    // MARK: Proxies

    /// 504 with nginx's own page.
    case nginxGatewayTimeout
    /// 502 with nginx's own page.
    case nginxBadGateway
    /// 404 with nginx's own page: nobody is configured for the path.
    case nginxNotFound
    /// 400: HTTP was spoken where TLS is expected.
    case plainToEncryptedPort
    /// 503 with Varnish's page, which does not say when to come again.
    case varnishUnavailable
    /// 429 with a date to come again, far away.
    case tooManyRequestsUntilDate
    /// 429 with a number of seconds.
    case cloudflareRateLimit
    /// 403 with a page that wants a browser to do sums.
    case cloudflareChallenge
    /// The same with the status 200.
    case cloudflareChallengeAsSuccess
    /// 524: who stands behind did not answer in time.
    case cloudflareOriginTimeout
    /// 522: who stands behind is not reached.
    case cloudflareOriginUnreachable
    /// 302 to a page where guests of a hotel log in.
    case captivePortal

    // MARK: Gateways

    /// 500 of an older Kubo for a block that it lacks.
    case lackAsServerError
    /// 500 of another server for a block that it lacks.
    case blockNotFoundAsServerError
    /// 500 that says nothing.
    case serverError
    /// 404 of boxo's gateway.
    case boxoNotFound
    /// 504 of boxo's gateway, which has looked for a block for as long as it may.
    case boxoTimeout
    /// 410 of a list of what must not be served.
    case blocked
    /// 403 of a gateway that serves its customers' content alone.
    case customersOnly
    /// 301 to the same block at the subdomain of its CID, which has it.
    case subdomain
    /// 301 to the subdomain of a CID where nobody listens.
    case subdomainOfNobody

    // MARK: Bodies

    /// Another block.
    case otherBlock
    /// 200 and nothing.
    case emptyBody
    /// 200 with an error for programs.
    case errorAsSuccess
    /// The block, compressed although nobody asked for that.
    case compressed
    /// The block, as the part that it is of itself, although no part was asked for.
    case partUnasked
    /// Chunks, and the end of the connection within one.
    case chunksCut
    /// Chunks that end well, and words behind them that say that they did not.
    case errorInTrailer
    /// A chunk without a length.
    case chunksMalformed
    /// Fewer bytes than were announced, and the end of the connection.
    case shorterThanSaid
    /// Fewer bytes than were announced, and then nothing.
    case shorterThanSaidAndOpen
    /// The block, and behind its end more.
    case longerThanSaid
    /// HTTP/1.0: the block ends with the connection.
    case endsWithTheConnection
    /// The same, cut.
    case endsWithTheConnectionCut
    /// The block, after an interim answer.
    case earlyHints
    /// Bytes without end.
    case endless

    // MARK: Connections

    /// The connection ends in the head.
    case headCut
    /// The connection ends at once.
    case hangUp
    /// Another protocol.
    case noHTTP
    /// The request is taken, and nothing comes.
    case silence
    /// A byte now and then.
    case drip

    /// Whether the block is in it, so that whoever understands HTTP has it.
    public var hasBlock: Bool {
        switch self {
        case .subdomain, .longerThanSaid, .endsWithTheConnection, .earlyHints: true
        default: false
        }
    }

    /// Whether it is known only by the time that passes.
    public var isStall: Bool {
        switch self {
        case .shorterThanSaidAndOpen, .silence, .drip: true
        default: false
        }
    }

    /// What the server does for a request.
    ///
    /// - Parameter block: what was asked for; of one byte or more.
    public func steps(
        for block: [UInt8], _ request: ScriptedServer.Request
    ) -> [ScriptedServer.Step] {
        let half = Array(block[..<(block.count / 2)])
        switch self {
        case .nginxGatewayTimeout: return Self.nginx("504 Gateway Time-out")
        case .nginxBadGateway: return Self.nginx("502 Bad Gateway")
        case .nginxNotFound: return Self.nginx("404 Not Found")
        case .plainToEncryptedPort:
            return [
                Self.whole(
                    "400 Bad Request", [], "Client sent an HTTP request to an HTTPS server.\n",
                    version: "1.0"), .close,
            ]
        case .varnishUnavailable:
            return [
                Self.whole(
                    "503 Backend fetch failed",
                    [
                        "Server: Varnish", "Content-Type: text/html; charset=utf-8",
                        "X-Varnish: 32770",
                    ],
                    "<!DOCTYPE html>\n<html><head><title>503 Backend fetch failed</title></head>\n"
                        + "<body><h1>Error 503 Backend fetch failed</h1>\n<h3>Guru Meditation:</h3>\n"
                        + "<p>XID: 32770</p><hr><p>Varnish cache server</p></body></html>\n")
            ]
        case .tooManyRequestsUntilDate:
            return [
                Self.whole(
                    "429 Too Many Requests",
                    ["Content-Type: text/plain", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"],
                    "Too many requests, please try again later.")
            ]
        case .cloudflareRateLimit:
            return [
                Self.whole(
                    "429 Too Many Requests",
                    Self.cloudflare + [
                        "Retry-After: 86", "Content-Type: text/plain; charset=UTF-8",
                    ],
                    "error code: 1015")
            ]
        case .cloudflareChallenge: return Self.challenge("403 Forbidden")
        case .cloudflareChallengeAsSuccess: return Self.challenge("200 OK")
        case .cloudflareOriginTimeout:
            return [Self.whole("524 ", Self.cloudflare, "error code: 524")]
        case .cloudflareOriginUnreachable:
            return [Self.whole("522 ", Self.cloudflare, "error code: 522")]
        case .captivePortal: return Self.portal(request)
        case .lackAsServerError:
            return [
                Self.text(
                    "500 Internal Server Error",
                    "failed to resolve \(Self.path(of: request)): block was not found locally "
                        + "(offline): ipld: could not find \(Self.cid(of: request))\n")
            ]
        case .blockNotFoundAsServerError:
            return [
                Self.whole(
                    "500 Internal Server Error", ["Content-Type: application/json"],
                    #"{"error":"Block not found","statusCode":500}"#)
            ]
        case .serverError:
            return [Self.text("500 Internal Server Error", "Internal Server Error\n")]
        case .boxoNotFound:
            return [
                Self.text(
                    "404 Not Found",
                    "failed to resolve \(Self.path(of: request)): ipld: could not find "
                        + "\(Self.cid(of: request))\n")
            ]
        case .boxoTimeout:
            return [
                Self.text(
                    "504 Gateway Timeout",
                    "failed to resolve \(Self.path(of: request)): context deadline exceeded\n")
            ]
        case .blocked:
            return [
                Self.text(
                    "410 Gone", "\(Self.cid(of: request)) is blocked and cannot be provided\n")
            ]
        case .customersOnly:
            return [
                Self.whole(
                    "403 Forbidden", ["Content-Type: text/html; charset=utf-8"],
                    "<!DOCTYPE html><title>Error</title>The owner of this gateway does not have this "
                        + "content pinned to their account.\n")
            ]
        case .subdomain:
            return (request.header("Host") ?? "").contains(".ipfs.localhost")
                ? [Reply.whole(200, block, headers: Self.raw)] : Self.toSubdomain(request)
        case .subdomainOfNobody: return Self.toSubdomain(request, port: "1")
        case .otherBlock:
            return [Reply.whole(200, Array("another block".utf8), headers: Self.raw)]
        case .emptyBody: return [Reply.whole(200, "", headers: Self.raw)]
        case .errorAsSuccess:
            return [
                Self.whole(
                    "200 OK", ["Content-Type: application/json"],
                    #"{"Message":"merkledag: not found","Code":0,"Type":"error"}"#)
            ]
        case .compressed:
            return [
                Reply.whole(
                    200, Self.gzip(block),
                    headers: Self.raw + ["Content-Encoding: gzip", "Vary: Accept-Encoding"])
            ]
        case .partUnasked:
            return [
                Reply.whole(
                    206, block,
                    headers: Self.raw + [
                        "Content-Range: bytes 0-\(block.count - 1)/\(block.count)"
                    ])
            ]
        case .chunksCut:
            return [
                .send(
                    Reply.head(200, Self.raw + ["Transfer-Encoding: chunked"])
                        + Reply.chunk(half) + Array("\(String(block.count, radix: 16))\r\n".utf8)
                        + half), .close,
            ]
        case .errorInTrailer:
            return [
                .send(
                    Reply.head(
                        200, Self.raw + ["Transfer-Encoding: chunked", "Trailer: X-Stream-Error"])
                        + Reply.chunk(half)
                        + Array("0\r\nX-Stream-Error: context deadline exceeded\r\n\r\n".utf8))
            ]
        case .chunksMalformed:
            return [
                .send(
                    Reply.head(200, Self.raw + ["Transfer-Encoding: chunked"])
                        + Array("zz\r\n".utf8) + block), .close,
            ]
        case .shorterThanSaid:
            return [
                .send(Reply.head(200, Self.raw + ["Content-Length: \(block.count)"]) + half),
                .close,
            ]
        case .shorterThanSaidAndOpen:
            return [
                .send(Reply.head(200, Self.raw + ["Content-Length: \(block.count + 1)"]) + block),
                .hang,
            ]
        case .longerThanSaid:
            return [
                .send(
                    Reply.head(200, Self.raw + ["Content-Length: \(block.count)"]) + block
                        + Reply.head(200, Self.raw + ["Content-Length: 5"]) + Array("wrong".utf8))
            ]
        case .endsWithTheConnection:
            return [.send(Self.head("200 OK", Self.raw, version: "1.0") + block), .close]
        case .endsWithTheConnectionCut:
            return [.send(Self.head("200 OK", Self.raw, version: "1.0") + half), .close]
        case .earlyHints:
            return [
                .send(
                    Self.head("103 Early Hints", ["Link: </style.css>; rel=preload; as=style"])
                        + Reply.head(200, Self.raw + ["Content-Length: \(block.count)"]) + block)
            ]
        case .endless:
            return [
                .send(Reply.head(200, Self.raw)), .flood([UInt8](repeating: 0x2e, count: 1 << 16)),
            ]
        case .headCut: return [.send(Array("HTTP/1.1 200 OK\r\nContent-Ty".utf8)), .close]
        case .hangUp: return [.close]
        case .noHTTP: return [.send(Array("SSH-2.0-OpenSSH_9.9\r\n\r\n".utf8)), .close]
        case .silence: return [.hang]
        case .drip:
            let bytes = Reply.head(200, Self.raw + ["Content-Length: \(block.count)"]) + block
            return [.drip(bytes.prefix(200).map { [$0] }, milliseconds: 100), .hang]
        }
    }

    // MARK: Parts

    private static let raw = [
        "Content-Type: application/vnd.ipld.raw", "X-Content-Type-Options: nosniff",
        "Cache-Control: public, max-age=29030400, immutable",
    ]
    private static let cloudflare = ["Server: cloudflare", "CF-RAY: 8f1c2d3e4f5a6b7c-FRA"]

    /// The path of a request, without its query.
    private static func path(of request: ScriptedServer.Request) -> Substring {
        let target = request.line.split(separator: " ").dropFirst().first ?? ""
        return target.prefix { $0 != "?" }
    }

    /// The text of the CID that a request is for; empty where it has none.
    public static func cid(of request: ScriptedServer.Request) -> String {
        if let host = request.header("Host"), host.contains(".ipfs.") {
            return String(host.prefix { $0 != "." })
        }
        let parts = path(of: request).split(separator: "/")
        return parts.count > 1 && parts[0] == "ipfs" ? String(parts[1]) : ""
    }

    private static func head(
        _ status: String, _ headers: [String], version: String = "1.1"
    ) -> [UInt8] {
        Array(
            ("HTTP/\(version) \(status)\r\n" + headers.map { $0 + "\r\n" }.joined() + "\r\n").utf8)
    }

    private static func whole(
        _ status: String, _ headers: [String], _ body: String, version: String = "1.1"
    ) -> ScriptedServer.Step {
        let body = Array(body.utf8)
        return .send(
            head(status, headers + ["Content-Length: \(body.count)"], version: version) + body)
    }

    /// As Go's http.Error writes.
    private static func text(_ status: String, _ body: String) -> ScriptedServer.Step {
        whole(
            status,
            ["Content-Type: text/plain; charset=utf-8", "X-Content-Type-Options: nosniff"], body)
    }

    private static func nginx(_ status: String) -> [ScriptedServer.Step] {
        [
            whole(
                status, ["Server: nginx/1.24.0", "Content-Type: text/html"],
                "<html>\r\n<head><title>\(status)</title></head>\r\n<body>\r\n"
                    + "<center><h1>\(status)</h1></center>\r\n"
                    + "<hr><center>nginx/1.24.0</center>\r\n</body>\r\n</html>\r\n")
        ]
    }

    private static func challenge(_ status: String) -> [ScriptedServer.Step] {
        [
            whole(
                status,
                cloudflare + ["cf-mitigated: challenge", "Content-Type: text/html; charset=UTF-8"],
                "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title>"
                    + "<meta name=\"robots\" content=\"noindex,nofollow\"></head><body>"
                    + "<noscript>Enable JavaScript and cookies to continue</noscript></body></html>"
            )
        ]
    }

    private static func portal(_ request: ScriptedServer.Request) -> [ScriptedServer.Step] {
        if path(of: request) == "/login" {
            return [
                whole(
                    "200 OK", ["Content-Type: text/html"],
                    "<html><title>Welcome, guest</title><form action=/login>Room number:</form></html>"
                )
            ]
        }
        return [
            whole(
                "302 Found",
                [
                    "Location: http://\(request.header("Host") ?? "")/login?from=ipfs",
                    "Cache-Control: no-store",
                ], "")
        ]
    }

    /// - Parameter port: where the subdomain is; nil for the server's own.
    private static func toSubdomain(
        _ request: ScriptedServer.Request, port: String? = nil
    ) -> [ScriptedServer.Step] {
        let own = (request.header("Host") ?? "").split(separator: ":").last.map(String.init)
        let place = "http://\(cid(of: request)).ipfs.localhost:\(port ?? own ?? "1")/?format=raw"
        return [
            whole(
                "301 Moved Permanently",
                ["Content-Type: text/html; charset=utf-8", "Location: \(place)"],
                "<a href=\"\(place)\">Moved Permanently</a>.\n\n")
        ]
    }

    /// A gzip file whose content is stored as it is.
    private static func gzip(_ bytes: [UInt8]) -> [UInt8] {
        func littleEndian(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        var file: [UInt8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]
        var rest = bytes[...]
        repeat {
            let piece = rest.prefix(0xffff)
            rest = rest.dropFirst(piece.count)
            file.append(rest.isEmpty ? 1 : 0)
            file += littleEndian(piece.count, 2) + littleEndian(~piece.count, 2) + piece
        } while !rest.isEmpty
        var sum: UInt32 = 0xffff_ffff
        for byte in bytes {
            sum ^= UInt32(byte)
            for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0xedb8_8320 : 0) }
        }
        return file + littleEndian(Int(~sum), 4) + littleEndian(bytes.count, 4)
    }
}
