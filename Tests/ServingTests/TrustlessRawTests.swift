import HTTPTypes
import Multiformats
import Serving
import Testing

/// Blocks as they are: the cases of ipfs/gateway-conformance v0.13.2 (`TestTrustlessRaw`, `TestTrustlessRawRanges`,
/// `TestGatewayBlock`), and what its texts ask beside them.
@Suite struct TrustlessRawTests {
    private let content: FixtureContent
    private let gateway: TrustlessGateway
    private let raw: HTTPFields = [.accept: "application/vnd.ipld.raw"]
    private let immutable = "public, max-age=29030400, immutable"

    init() throws {
        content = try FixtureContent("gateway-raw-block")
        gateway = TrustlessGateway(content: content, scope: .tree)
    }

    private func block(_ text: String) throws -> [UInt8] {
        try #require(content.stored(try CID(parsing: text)))
    }

    @Test func aBlockIsGivenByQueryAndByAccept() throws {
        let expected = try block(Known.rawDir)
        let byQuery = try gateway.ask("/ipfs/\(Known.rawDir)?format=raw")
        #expect(byQuery.status == 200)
        #expect(try byQuery.bytes() == expected)
        #expect(byQuery.field("Content-Location") == nil)
        let byAccept = try gateway.ask("/ipfs/\(Known.rawDir)", raw)
        #expect(byAccept.status == 200)
        #expect(try byAccept.bytes() == expected)
        #expect(byAccept.field("Content-Location") == "/ipfs/\(Known.rawDir)?format=raw")
    }

    @Test func theFieldsOfABlockAreAsSpecified() throws {
        let response = try gateway.ask("/ipfs/\(Known.rawAscii)", raw)
        #expect(response.field("Content-Type") == "application/vnd.ipld.raw")
        #expect(response.body.count == 31)
        #expect(
            response.field("Content-Disposition")
                == "attachment; filename=\"\(Known.rawAscii).bin\"")
        #expect(response.field("X-Content-Type-Options") == "nosniff")
        #expect(response.field("Etag") == "\"\(Known.rawAscii).raw\"")
        #expect(response.field("X-Ipfs-Path") == "/ipfs/\(Known.rawAscii)")
        #expect(response.field("X-Ipfs-Roots") == Known.rawAscii)
        #expect(response.field("Cache-Control") == immutable)
        #expect(response.field("Accept-Ranges") == "bytes")
        #expect(response.field("Access-Control-Allow-Origin") == "*")
    }

    @Test func aFileNameOfTheQueryIsTaken() throws {
        let named = try gateway.ask("/ipfs/\(Known.rawAscii)?filename=foobar.bin", raw)
        #expect(
            named.field("Content-Disposition") == "attachment; filename=\"foobar.bin\"")
        let hostile = try gateway.ask(
            "/ipfs/\(Known.rawAscii)?filename=a%22%3B%0D%0ASet-Cookie%3A%20x%5C", raw)
        #expect(
            hostile.field("Content-Disposition")
                == "attachment; filename=\"a_;__Set-Cookie: x_\"")
    }

    @Test func aPathLeadsToTheBlockAtItsEnd() throws {
        let response = try gateway.ask("/ipfs/\(Known.rawRoot)/dir/ascii.txt?format=raw")
        #expect(response.status == 200)
        #expect(try response.bytes() == block(Known.rawAscii))
        #expect(response.field("Etag") == "\"\(Known.rawAscii).raw\"")
        #expect(
            response.field("X-Ipfs-Roots")
                == "\(Known.rawRoot),\(Known.rawDir),\(Known.rawAscii)")
        #expect(response.field("X-Ipfs-Path") == "/ipfs/\(Known.rawRoot)/dir/ascii.txt")
        let directory = try gateway.ask("/ipfs/\(Known.rawRoot)/dir/?format=raw")
        #expect(try directory.bytes() == block(Known.rawDir))
    }

    @Test func rangesOfABlockAreGiven() throws {
        let whole = try block(Known.rawDir)
        let one = try gateway.ask(
            "/ipfs/\(Known.rawRoot)/dir",
            [.accept: "application/vnd.ipld.raw", .range: "bytes=6-16"])
        #expect(one.status == 206)
        #expect(one.field("Content-Range") == "bytes 6-16/57")
        #expect(one.field("Content-Type") == "application/vnd.ipld.raw")
        #expect(try one.bytes() == Array(whole[6...16]))
        let several = try gateway.ask(
            "/ipfs/\(Known.rawDir)?format=raw", [.range: "bytes=7-9,1-3"])
        #expect(several.status == 206)
        #expect(
            several.field("Content-Type")?.hasPrefix("multipart/byteranges; boundary=") == true)
        #expect(try several.text().contains("Content-Range: bytes 7-9/57"))
        let beyond = try gateway.ask(
            "/ipfs/\(Known.rawDir)?format=raw", [.range: "bytes=57-"])
        #expect(beyond.status == 416)
        #expect(beyond.field("Content-Range") == "bytes */57")
    }

    @Test func headHasTheFieldsOfGet() throws {
        for target in [
            "/ipfs/\(Known.rawDir)?format=raw", "/ipfs/\(Known.rawRoot)/dir/ascii.txt?format=raw",
            "/ipfs/bafkqaaa?format=raw",
        ] {
            let get = try gateway.ask(target)
            let head = try gateway.ask(target, method: .head)
            #expect(head.status == get.status)
            #expect(head.fields == get.fields)
            #expect(head.body.count == get.body.count)
        }
    }

    @Test(arguments: [
        "\"\(Known.rawDir).raw\"", "W/\"\(Known.rawDir).raw\"",
        "\"other\", \"\(Known.rawDir).raw\"", "*",
    ]) func whoHasTheBlockGets304(_ tags: String) throws {
        let response = try gateway.ask(
            "/ipfs/\(Known.rawDir)?format=raw", [.ifNoneMatch: tags])
        #expect(response.status == 304)
        #expect(response.body.count == 0)
        #expect(response.field("Etag") == "\"\(Known.rawDir).raw\"")
        #expect(response.field("Cache-Control") == immutable)
    }

    @Test(arguments: ["\"\(Known.rawDir)\"", "\"\(Known.rawDir).car\"", "nonsense"])
    func anotherTagGets200(_ tags: String) throws {
        let response = try gateway.ask(
            "/ipfs/\(Known.rawDir)?format=raw", [.ifNoneMatch: tags])
        #expect(response.status == 200)
    }

    @Test func anyTagOfWhatIsMissingIs404() throws {
        content.lose(try CID(parsing: Known.rawDir))
        let response = try gateway.ask(
            "/ipfs/\(Known.rawDir)?format=raw", [.ifNoneMatch: "*"])
        #expect(response.status == 404)
    }

    // MARK: CIDs

    @Test func identityBlocksAreGivenByAnyGateway() throws {
        let probe = try gateway.ask("/ipfs/bafkqaaa?format=raw")
        #expect(probe.status == 200 && probe.body.count == 0)
        #expect(try gateway.ask("/ipfs/bafkqaaa?format=raw", method: .head).status == 200)
        let hello = try gateway.ask("/ipfs/bafkqabtimvwgy3yk?format=raw")
        #expect(hello.status == 200)
        #expect(try hello.text() == "hello\n")
        #expect(content.asked.blocks.isEmpty)
    }

    @Test func aCIDIsKnownInEveryBase() throws {
        let cid = try CID(parsing: Known.rawDir)
        let texts =
            [Multibase.base36, .base58btc, .base16, .base64url].map { cid.encoded(in: $0) }
            + ["\(try #require(cid.asV0))"]
        for text in texts {
            let response = try gateway.ask("/ipfs/\(text)?format=raw")
            #expect(response.status == 200, "\(text)")
            #expect(try response.bytes() == block(Known.rawDir))
        }
    }

    @Test(arguments: [
        "x", "bafy", "Qm", "bafkreihhpc5y2pqvl5rbe5uuyhqjouybfs3rvlmisccgzue2kkt5zq6up", "",
    ])
    func whatIsNoCIDIs400(_ text: String) throws {
        let response = try gateway.ask("/ipfs/\(text)/a?format=raw")
        #expect(response.status == 400)
    }

    // MARK: Formats

    @Test(arguments: [nil, "*/*", "text/html, */*;q=0.8", "application/vnd.ipld.raw;q=0, */*"])
    func withoutAFormatItIs400(_ accept: String?) throws {
        var fields = HTTPFields()
        fields[.accept] = accept
        #expect(try gateway.ask("/ipfs/\(Known.rawDir)", fields).status == 400)
    }

    @Test(arguments: ["text/html", "application/x-tar", "application/vnd.ipld.dag-json"])
    func whatIsNotGivenHereIs406(_ accept: String) throws {
        #expect(try gateway.ask("/ipfs/\(Known.rawDir)", [.accept: accept]).status == 406)
    }

    @Test(arguments: ["tar", "dag-json", "", "RAW"])
    func aFormatThatIsNotGivenHereIs406(_ format: String) throws {
        #expect(try gateway.ask("/ipfs/\(Known.rawDir)?format=\(format)", raw).status == 406)
    }

    @Test func theFormatOfTheQueryComesBeforeAccept() throws {
        let car = try gateway.ask("/ipfs/\(Known.rawDir)?format=car", raw)
        #expect(car.field("Content-Type")?.hasPrefix("application/vnd.ipld.car") == true)
        #expect(car.field("Content-Location") == "/ipfs/\(Known.rawDir)?format=car")
        let block = try gateway.ask(
            "/ipfs/\(Known.rawDir)?format=raw", [.accept: "application/vnd.ipld.car"])
        #expect(block.field("Content-Type") == "application/vnd.ipld.raw")
    }

    @Test func theWeightsOfAcceptDecide() throws {
        let response = try gateway.ask(
            "/ipfs/\(Known.rawDir)",
            [.accept: "application/vnd.ipld.car;q=0.5, application/vnd.ipld.raw;q=0.9"])
        #expect(response.field("Content-Type") == "application/vnd.ipld.raw")
    }

    @Test func recordsAreNotOfContent() throws {
        #expect(try gateway.ask("/ipfs/\(Known.rawDir)?format=ipns-record").status == 400)
    }

    // MARK: What is not there

    @Test func whatIsMissingIs404() throws {
        content.lose(try CID(parsing: Known.rawDir))
        for method in [HTTPRequest.Method.get, .head] {
            for format in ["raw", "car"] {
                let response = try gateway.ask(
                    "/ipfs/\(Known.rawDir)?format=\(format)", method: method)
                #expect(response.status == 404)
                #expect(response.field("Access-Control-Allow-Origin") == "*")
            }
        }
        #expect(try gateway.ask("/ipfs/\(Known.rawRoot)/dir/ascii.txt?format=raw").status == 404)
    }

    @Test func whatIsNotOfTheTreeIs404AndOtherwiseGiven() throws {
        content.hide(try CID(parsing: Known.rawDir))
        let target = "/ipfs/\(Known.rawDir)?format=raw"
        #expect(try gateway.ask(target).status == 404)
        #expect(try gateway.ask("/ipfs/\(Known.rawDir)?format=car").status == 404)
        #expect(try TrustlessGateway(content: content, scope: .any).ask(target).status == 200)
    }

    @Test func onlyIfCachedIs412ForWhatIsElsewhere() throws {
        content.moveAway(try CID(parsing: Known.rawAscii))
        let fields: HTTPFields = [.cacheControl: "no-transform, Only-If-Cached"]
        for method in [HTTPRequest.Method.get, .head] {
            for format in ["raw", "car"] {
                let away = "/ipfs/\(Known.rawAscii)?format=\(format)"
                #expect(try gateway.ask(away, fields, method: method).status == 412)
                #expect(try gateway.ask(away, method: method).status == 200)
                let here = "/ipfs/\(Known.rawDir)?format=\(format)"
                #expect(try gateway.ask(here, fields, method: method).status == 200)
            }
        }
        let below = "/ipfs/\(Known.rawRoot)/dir/ascii.txt?format=raw"
        #expect(try gateway.ask(below, fields).status == 412)
    }

    @Test func faultsHaveTheirStatuses() throws {
        let cid = try CID(parsing: Known.rawDir)
        let statuses: [(ServeFault, Int)] = [
            (.unavailable, 503), (.timedOut, 504), (.damaged(cid), 502),
            (.failed(reason: "/x"), 500),
            (.tooLarge(reason: "x"), 501),
        ]
        for (fault, status) in statuses {
            content.fail(fault)
            let response = try gateway.ask("/ipfs/\(Known.rawDir)?format=raw")
            #expect(response.status == status)
            #expect((response.field("Retry-After") != nil) == [502, 503, 504].contains(status))
            #expect(try !response.text().contains("/x"))
        }
    }

    // MARK: Methods

    @Test func optionsAreForBrowsers() throws {
        let response = try gateway.ask("/ipfs/bafkqabtimvwgy3yk/", method: .options)
        #expect(response.status == 204)
        #expect(response.field("Access-Control-Allow-Origin") == "*")
        #expect(response.field("Access-Control-Allow-Methods") == "GET, HEAD, OPTIONS")
        let allowed = response.field("Access-Control-Allow-Headers")
        #expect(allowed == "Content-Type, Range, User-Agent, X-Requested-With")
        let exposed = response.field("Access-Control-Expose-Headers") ?? ""
        for name in [
            "Content-Range", "Content-Length", "X-Ipfs-Path", "X-Ipfs-Roots", "X-Chunked-Output",
            "X-Stream-Output",
        ] {
            #expect(exposed.split(separator: ", ").contains { $0 == name })
        }
    }

    @Test(arguments: [HTTPRequest.Method.post, .put, .delete, .patch])
    func nothingIsWritten(_ method: HTTPRequest.Method) throws {
        let response = try gateway.ask("/ipfs/\(Known.rawDir)?format=raw", method: method)
        #expect(response.status == 405)
        #expect(response.field("Allow") == "GET, HEAD, OPTIONS")
    }

    @Test(arguments: ["/", "/ipfs", "/ipfs/", "/other/x", "/ipfs?format=raw"])
    func otherPathsAre404(_ target: String) throws {
        #expect(try gateway.ask(target, raw).status == 404)
    }

    @Test func aRequestWithoutAFormatIsForAnotherGateway() throws {
        func isAsked(_ target: String, _ fields: HTTPFields = [:]) throws -> Bool {
            TrustlessGateway.isAsked(
                by: try #require(ServeRequest(method: .get, target: target, fields: fields)))
        }
        #expect(try isAsked("/ipfs/x?format=car"))
        #expect(try isAsked("/ipfs/x", raw))
        #expect(try !isAsked("/ipfs/x"))
        #expect(try !isAsked("/ipfs/x?format=tar", raw))
        #expect(try !isAsked("/ipfs/x", [.accept: "application/vnd.ipld.raw;q=0"]))
    }
}
