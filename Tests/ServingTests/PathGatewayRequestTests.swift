import HTTPTypes
import Multiformats
import Serving
import Testing

/// What is asked how, and of what.
@Suite struct PathGatewayRequestTests {
    private static let directory = "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy"
    private static let ascii = "bafkreifkam6ns4aoolg3wedr4uzrs3kvq66p4pecirz6y2vlrngla62mxm"

    private func stand() throws -> PathStand { PathStand(try PathContent("dir-with-files")) }

    @Test(arguments: [
        "?format=raw", "?format=car", "?format=ipns-record", "?format=car&car-dups=n",
    ])
    func formatsThatClientsCheckGoToTheTrustlessGateway(query: String) throws {
        #expect(try stand().ask("/ipfs/\(Self.ascii)\(query)").status == 299)
    }

    @Test(arguments: [
        ("application/vnd.ipld.raw", 299), ("application/vnd.ipld.car; version=1", 299),
        ("application/vnd.ipfs.ipns-record", 299),
        ("text/html, application/vnd.ipld.raw;q=0.5", 200),
        ("text/html;q=0.5, application/vnd.ipld.raw", 299), ("*/*", 200), ("", 200),
        (";;,;q=", 200),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 200),
        ("application/vnd.ipld.raw;q=0", 200),
    ])
    func acceptDecidesBetweenTheGateways(accept: String, status: Int) throws {
        #expect(try stand().ask("/ipfs/\(Self.ascii)", ["Accept": accept]).status == status)
    }

    @Test func formatBeatsAccept() throws {
        #expect(
            try stand().ask("/ipfs/\(Self.ascii)?format=raw", ["Accept": "text/html"]).status == 299
        )
        #expect(
            try stand().ask(
                "/ipfs/\(Self.ascii)?format=json", ["Accept": "application/vnd.ipld.raw"]
            ).status == 200)
    }

    @Test(arguments: ["GET", "HEAD", "OPTIONS"])
    func everyAnswerMayBeReadByScripts(method: String) throws {
        let method = try #require(HTTPRequest.Method(method))
        for target in ["/ipfs/\(Self.ascii)", "/ipfs/\(Self.directory)/none", "/ipfs/nothing"] {
            let answer = try stand().ask(target, method: method)
            #expect(answer["Access-Control-Allow-Origin"] == "*")
            for name in ["GET", "HEAD", "OPTIONS"] {
                #expect(answer["Access-Control-Allow-Methods"]?.contains(name) == true)
            }
            for name in ["Content-Type", "Range", "User-Agent", "X-Requested-With"] {
                #expect(answer["Access-Control-Allow-Headers"]?.contains(name) == true)
            }
            for name in [
                "Content-Range", "Content-Length", "X-Ipfs-Path", "X-Ipfs-Roots",
                "X-Chunked-Output", "X-Stream-Output",
            ] {
                #expect(answer["Access-Control-Expose-Headers"]?.contains(name) == true)
            }
        }
    }

    @Test(arguments: ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
    func otherMethodsAre405(method: String) throws {
        let method = try #require(HTTPRequest.Method(method))
        let answer = try stand().ask("/ipfs/\(Self.ascii)", method: method)
        #expect(answer.status == 405)
        #expect(answer["Allow"] == "GET, HEAD, OPTIONS")
    }

    @Test func optionsReadsNothing() throws {
        let stand = try stand()
        #expect(try stand.ask("/ipfs/\(Self.directory)/", method: .options).status == 204)
        #expect(stand.content.asked.isEmpty)
    }

    @Test func serviceWorkerForAWholeRootIs400() throws {
        let stand = try stand()
        let fields: KeyValuePairs = ["Service-Worker": "script"]
        #expect(try stand.ask("/ipfs/\(Self.ascii)", fields).status == 400)
        #expect(try stand.ask("/ipns/example.org", fields).status == 400)
        #expect(try stand.ask("/ipfs/\(Self.directory)/ascii.txt", fields).status == 200)
    }

    @Test func whatIsNotHereIs412WhereNothingIsToBeFetched() throws {
        let content = try PathContent("dir-with-files")
        let stand = PathStand(content)
        content.moveAway(try CID(parsing: Self.ascii))
        let fields: KeyValuePairs = ["Cache-Control": "max-age=0, Only-If-Cached"]
        for method in [HTTPRequest.Method.get, .head] {
            #expect(try stand.ask("/ipfs/\(Self.ascii)", fields, method: method).status == 412)
            #expect(
                try stand.ask(
                    "/ipfs/QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN", fields, method: method
                ).status == 412)
            #expect(
                try stand.ask("/ipfs/\(Self.directory)/hello.txt", fields, method: method).status
                    == 200)
        }
        #expect(try stand.ask("/ipfs/\(Self.ascii)").status == 200)
    }

    @Test(arguments: [
        "/", "/ipfs", "/ipfs/", "/x/\(directory)", "/IPFS/\(directory)/", "/ipfs//",
        "//ipfs/\(ascii)",
    ])
    func whatIsNoContentPathIsNotAnswered(target: String) throws {
        let status = try stand().ask(target).status
        #expect(status == 404 || status == 400)
    }

    @Test(arguments: [
        "nothing", "%00", "%FF", "Qm", String(repeating: "b", count: 3000), "..", "b%2Fa",
        // A CID behind many zeros, each of which a base 58 has to carry: longer than what is looked at.
        "z" + String(repeating: "1", count: 600),
    ])
    func whatIsNoCIDIs400(text: String) throws {
        #expect(try stand().ask("/ipfs/\(text)").status == 400)
    }

    @Test(arguments: [
        "none", "ascii.txt/below", "ASCII.TXT", "ascii.txt%00", "ascii%2Etxt%2F", "a%2Fb", "..",
        ".",
        "../ascii.txt", "%2e%2e/ascii.txt", "./ascii.txt", "/ascii.txt", "%2Fascii.txt",
        "..%2Fascii.txt", "%C0%AE%C0%AE/ascii.txt", "ascii.txt%20",
    ])
    func whatIsNotInTheTreeIs404(path: String) throws {
        let answer = try stand().ask("/ipfs/\(Self.directory)/\(path)")
        #expect(answer.status == 404)
        #expect(answer["Cache-Control"] == "no-cache")
        #expect(answer["X-Ipfs-Path"]?.hasPrefix("/ipfs/") == true)
    }

    @Test func rootThatNobodyHasIs404() throws {
        let cid = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN"
        #expect(try stand().ask("/ipfs/\(cid)").status == 404)
        #expect(try stand().ask("/ipfs/\(cid)", method: .head).status == 404)
    }

    @Test func damagedBlocksAre502() throws {
        let content = try PathContent("dir-with-files")
        content.put(try CID(parsing: Self.directory), [1, 2, 3])
        #expect(try PathStand(content).ask("/ipfs/\(Self.directory)/").status == 502)
    }

    // MARK: /ipns/

    @Test func nameLeadsToItsRootAndIsKeptForItsTime() throws {
        let content = try PathContent("gateway-cache")
        let root = try CID(parsing: "bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui")
        let stand = PathStand(content, name: NameTarget(root, ttlSeconds: 1800))
        let file = try stand.ask("/ipns/example.org/root2/root3/root4/index.html")
        #expect(file.status == 200)
        #expect(file["Cache-Control"] == "public, max-age=1800")
        #expect(file["X-Ipfs-Path"] == "/ipns/example.org/root2/root3/root4/index.html")
        #expect(file["X-Ipfs-Roots"]?.hasPrefix("\(root),") == true)
        #expect(
            file["Etag"] == "\"bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am\"")
        let listing = try stand.ask("/ipns/example.org/root2/root3/")
        #expect(
            listing["Cache-Control"] == "public, max-age=1800, stale-while-revalidate=2678400")
        #expect(listing.text.contains("Index of /ipns/"))
    }

    @Test func nameOfUnknownTimeHasNoCacheControl() throws {
        let content = try PathContent("gateway-cache")
        let root = try CID(parsing: "bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui")
        let stand = PathStand(
            content, name: NameTarget(root, path: [Array("root2".utf8), Array("root3".utf8)]))
        let answer = try stand.ask("/ipns/example.org/root4/")
        #expect(answer.status == 200)
        #expect(answer.text == "hello\n")
        #expect(answer["Cache-Control"] == nil)
        // What the name leads to is the root; nothing above it is served.
        #expect(answer["X-Ipfs-Roots"]?.split(separator: ",").count == 2)
    }

    @Test func unknownNamesAre404() throws {
        let stand = PathStand(
            try PathContent("gateway-cache"), name: NameTarget(CID.raw(sha256: [])))
        #expect(try stand.ask("/ipns/example.com/").status == 404)
        #expect(try self.stand().ask("/ipns/example.org/").status == 404)
    }
}
