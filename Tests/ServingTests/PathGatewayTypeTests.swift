import HTTPTypes
import Serving
import Testing

/// Types by names and by bytes, and requests of which nothing makes sense.
@Suite struct PathGatewayTypeTests {
    private func type(_ name: String, _ bytes: [UInt8]) throws -> String? {
        let content = try PathContent()
        let root = try content.directory([(Array(name.utf8), content.file(bytes))])
        let answer = try PathStand(content).ask("/ipfs/\(root)/\(name)")
        #expect(answer.bytes == bytes)
        return answer["Content-Type"]
    }

    @Test(arguments: [
        ("a.html", "text/html"), ("a.HTM", "text/html"), ("a.css", "text/css; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"), ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"), ("a.wasm", "application/wasm"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.tar.gz", "application/gzip"), (".png", "image/png"),
    ])
    func endingDecidesWhateverTheBytesAre(name: String, expected: String) throws {
        #expect(try type(name, Array("%PDF-1.7".utf8)) == expected)
    }

    @Test(arguments: ["name", "name.", "name.unknown", "name.averylongendingthatnobodyhas", "png"])
    func withoutAKnownEndingTheBytesDecide(name: String) throws {
        #expect(try type(name, Array("%PDF-1.7".utf8)) == "application/pdf")
    }

    @Test(arguments: [
        ("", "text/plain; charset=utf-8"), ("hello\n", "text/plain; charset=utf-8"),
        ("  <!DOCTYPE HTML>", "text/html"), ("<p>x", "text/html"), ("<Table\n", "text/html"),
        ("<!-- x", "text/html"), ("<pre>", "text/plain; charset=utf-8"),
        ("<?xml version=\"1.0\"?><a/>", "text/xml; charset=utf-8"),
        ("<?xml version=\"1.0\"?>\n<svg xmlns", "image/svg+xml"), ("<svg>", "image/svg+xml"),
        ("{\"a\":1}", "application/json"), ("\n [ {", "application/json"),
        ("{}", "application/json"),
        ("[1] a footnote", "text/plain; charset=utf-8"), ("{ a", "text/plain; charset=utf-8"),
        ("\u{feff}{\"a\"", "application/json"), ("\u{89}PNG", "text/plain; charset=utf-8"),
        ("GIF89a", "image/gif"), ("a\u{0}b", "application/octet-stream"),
        ("RIFF....WEBPVP8 ", "image/webp"), ("RIFF....WAVE", "audio/wav"),
        ("RIFF", "text/plain; charset=utf-8"),
        ("....ftypavif", "image/avif"), ("....ftypisom", "video/mp4"),
        ("....ftyp", "text/plain; charset=utf-8"),
        ("wOF2", "font/woff2"), ("{\"\u{0}", "application/octet-stream"),
    ])
    func textIsToldByHowItBegins(text: String, expected: String) throws {
        #expect(try type("x", Array(text.utf8)) == expected)
    }

    @Test(
        arguments: [
            ([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], "image/png"),
            ([0xff, 0xd8, 0xff, 0xe0], "image/jpeg"), ([0x1f, 0x8b, 0x08], "application/gzip"),
            ([0x28, 0xb5, 0x2f, 0xfd], "application/zstd"),
            ([0x50, 0x4b, 0x03, 0x04], "application/zip"),
            ([0x00, 0x61, 0x73, 0x6d], "application/wasm"),
            ([0xff, 0xfe, 0x41, 0x00], "text/plain; charset=utf-16le"),
            ([0x00], "application/octet-stream"), ([0xff], "text/plain; charset=utf-8"),
            (Array(repeating: 0x30, count: 257) + Array("ustar".utf8), "application/x-tar"),
            (Array(repeating: 0x30, count: 512) + [0x00], "text/plain; charset=utf-8"),
        ] as [([UInt8], String)])
    func bytesAreToldByTheirSignature(bytes: [UInt8], expected: String) throws {
        #expect(try type("x", bytes) == expected)
    }

    /// Whatever comes in, an answer comes out, and nothing of a tree that was not asked for.
    @Test func randomRequestsAreAnswered() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("seed of randomRequestsAreAnswered: \(seed)")
        var random = SeededRandom(state: seed)
        let content = try PathContent(
            "dir-with-files", "symlink", "dag-cbor-traversal", "redirects")
        let stands = [PathStand(content), PathStand(content, redirects: true)]
        let roots = [
            "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy",
            "QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt",
            "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim",
            "QmYBhLYDwVFvxos9h8CGU2ibaY66QNgv8hpfewxaQrPiZj", "bafkqaaa",
        ]
        let parts = [
            "/", "//", "..", ".", "%2e%2e", "%2F", "%00", "%FF", "ascii.txt", "multiblock.txt",
            "bar",
            "foo", "index.html", "_redirects", "splat", "x", "é", "a\\b", "%25", "+", ":", "*",
        ]
        let queries = [
            "", "?", "?format=json", "?format=dag-cbor", "?format=", "?filename=%00%22",
            "?download=true",
            "?filename=a.html&filename=b", "?&&==&", "?format=tar&x=%FF", "?filename=%25%25%254",
        ]
        let ranges = [
            "bytes=0-", "bytes=-1", "bytes=5-2,1-", "bytes=0-0,2-2,4-4",
            "bytes=99999999999999999999-",
            "x", "bytes=-0,-0", "bytes=0-0,0-0",
        ]
        let tags = ["*", "\"", "W/", "\"a\", W/\"b\"", ",,,", "\"\"", "W/\"DirIndex-1_CID-x\""]
        let accepts = [
            "application/json", "text/html;q=", ";", "*/*;q=2", "application/cbor, ,", "\"",
        ]
        let known: Set<Int> = [
            200, 204, 206, 299, 301, 302, 304, 400, 404, 405, 406, 410, 412, 416, 451, 500, 501,
        ]
        for _ in 0..<3000 {
            func pick(_ list: [String]) -> String { list.randomElement(using: &random) ?? "" }
            var target = "/ipfs/" + pick(roots)
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                target += (Bool.random(using: &random) ? "/" : "") + pick(parts)
            }
            target += pick(queries)
            var fields = HTTPFields()
            if Bool.random(using: &random) { fields[.range] = pick(ranges) }
            if Bool.random(using: &random) { fields[.ifNoneMatch] = pick(tags) }
            if Bool.random(using: &random) { fields[.ifRange] = pick(tags) }
            if Bool.random(using: &random) { fields[.accept] = pick(accepts) }
            if Bool.random(using: &random) { fields[.cacheControl] = "only-if-cached" }
            let method: HTTPRequest.Method = Bool.random(using: &random) ? .get : .head
            guard let request = ServeRequest(method: method, target: target, fields: fields),
                let gateway = stands.randomElement(using: &random)?.gateway
            else { continue }
            let answer = try PathAnswer(gateway.respond(to: request))
            #expect(known.contains(answer.status), "seed \(seed): \(target) \(fields)")
            if let count = answer.response.body.count, method == .get {
                #expect(count == UInt64(answer.bytes.count), "seed \(seed): \(target) \(fields)")
            }
        }
    }
}
