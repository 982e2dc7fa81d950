import HTTPTypes
import Multiformats
import Serving
import Testing

/// Files, as ipfs/gateway-conformance v0.13.2 asks for them in `path_gateway_unixfs_test.go` and more.
@Suite struct PathGatewayFileTests {
    private static let directory = "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy"
    private static let ascii = "bafkreifkam6ns4aoolg3wedr4uzrs3kvq66p4pecirz6y2vlrngla62mxm"
    private static let immutable = "public, max-age=29030400, immutable"

    @Test func fileHasItsTypeTagPathAndRoots() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.directory)/ascii.txt")
        #expect(answer.status == 200)
        #expect(answer.text == "hello application/vnd.ipld.car\n")
        #expect(answer["Content-Type"] == "text/plain; charset=utf-8")
        #expect(answer["Etag"] == "\"\(Self.ascii)\"")
        #expect(answer["Accept-Ranges"] == "bytes")
        #expect(answer["Cache-Control"] == Self.immutable)
        #expect(answer["X-Ipfs-Path"] == "/ipfs/\(Self.directory)/ascii.txt")
        #expect(answer["X-Ipfs-Roots"] == "\(Self.directory),\(Self.ascii)")
        #expect(answer.response.body.count == 31)
    }

    @Test func fileOfSeveralBlocksIsWhole() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.directory)/multiblock.txt")
        #expect(answer.status == 200)
        #expect(answer.bytes.count == 1026)
        #expect(answer.text.hasPrefix("Lorem ipsum") && answer.text.hasSuffix("t."))
        #expect(answer.response.body.count == 1026)
    }

    @Test(arguments: [
        ("bytes=6-16", "bytes 6-16/31", "application"), ("bytes=-3", "bytes 28-30/31", "ar\n"),
    ])
    func rangeOfAFileIsGiven(range: String, place: String, text: String) throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask(
            "/ipfs/\(Self.directory)/ascii.txt", ["Range": range])
        #expect(answer.status == 206)
        #expect(answer["Content-Range"] == place)
        #expect(answer.text == text)
    }

    @Test func severalRangesOfAFileAreParts() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask(
            "/ipfs/\(Self.directory)/multiblock.txt", ["Range": "bytes=1020-1025,250-260"])
        #expect(answer.status == 206)
        #expect(answer["Content-Type"]?.hasPrefix("multipart/byteranges") == true)
        #expect(answer.text.contains("Content-Range: bytes 1020-1025/1026\r\n"))
        #expect(answer.text.contains("Content-Range: bytes 250-260/1026\r\n"))
        #expect(answer.response.body.count == UInt64(answer.bytes.count))
    }

    @Test func rangeBeyondTheEndIs416() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.ascii)", ["Range": "bytes=31-"])
        #expect(answer.status == 416)
        #expect(answer["Content-Range"] == "bytes */31")
    }

    /// The file has three leaves, of which nobody has the second.
    @Test(arguments: [(997, 1000), (2200, 2201), (0, 0)])
    func rangeIsGivenAlthoughAnotherBlockIsMissing(first: Int, last: Int) throws {
        let stand = PathStand(try PathContent("file-3k-and-3-blocks-missing-block"))
        let answer = try stand.ask(
            "/ipfs/QmYhmPjhFjYFyaoiuNzYv8WGavpSRDwdHWe5B4M5du5Rtk",
            ["Range": "bytes=\(first)-\(last)"])
        #expect(answer.status == 206)
        #expect(answer["Content-Range"] == "bytes \(first)-\(last)/3072")
        #expect(answer.bytes.count == last - first + 1)
    }

    @Test func rangeInAMissingBlockIs404() throws {
        let stand = PathStand(try PathContent("file-3k-and-3-blocks-missing-block"))
        let answer = try stand.ask(
            "/ipfs/QmYhmPjhFjYFyaoiuNzYv8WGavpSRDwdHWe5B4M5du5Rtk", ["Range": "bytes=1024-1030"])
        #expect(answer.status == 404)
    }

    @Test func fileThatBreaksOffLaterFailsAndDoesNotEndAsIfWhole() throws {
        let stand = PathStand(try PathContent("file-3k-and-3-blocks-missing-block"))
        #expect(throws: ServeFault.notFound) {
            try stand.ask("/ipfs/QmYhmPjhFjYFyaoiuNzYv8WGavpSRDwdHWe5B4M5du5Rtk")
        }
    }

    @Test func headOfAFileReadsItsRootOnly() throws {
        let content = try PathContent("dir-with-files")
        let stand = PathStand(content)
        let answer = try stand.ask("/ipfs/\(Self.directory)/multiblock.txt", method: .head)
        #expect(answer.status == 200)
        #expect(answer.response.body.count == 1026)
        #expect(answer["Content-Type"] == "text/plain; charset=utf-8")
        #expect(answer.bytes.isEmpty)
        let leaves = content.asked.filter { $0.codec == .raw }
        #expect(leaves.isEmpty)
    }

    @Test func headOfAFileWithoutAnEndingReadsNoMoreThanItsFirstLeaf() throws {
        let content = try PathContent()
        let file = content.file(Array(repeating: UInt8(ascii: "x"), count: 5000))
        let answer = try PathStand(content).ask("/ipfs/\(file)", method: .head)
        #expect(answer["Content-Type"] == "text/plain; charset=utf-8")
        #expect(Set(content.asked.filter { $0.codec == .raw }).count == 1)
    }

    @Test func requestForLaterBytesDoesNotFetchTheBeginningForItsType() throws {
        let content = try PathContent()
        let file = content.file((0..<3000).map { UInt8($0 / 1024) })
        let beginning = CID.raw(sha256: Array(repeating: 0, count: 1024))
        content.moveAway(beginning)
        let answer = try PathStand(content).ask("/ipfs/\(file)", ["Range": "bytes=2048-2050"])
        #expect(answer.status == 206)
        #expect(answer["Content-Type"] == "application/octet-stream")
        #expect(answer.bytes == [2, 2, 2])
    }

    @Test func emptyFileIsGiven() throws {
        let content = try PathContent()
        let root = try content.directory(["empty.txt": content.file("")])
        for fields in [[:], ["Range": "bytes=0-"]] as [KeyValuePairs<String, String>] {
            let answer = try PathStand(content).ask("/ipfs/\(root)/empty.txt", fields)
            #expect(answer.status == 200)
            #expect(answer.bytes.isEmpty)
        }
    }

    @Test func identityContentIsGiven() throws {
        let answer = try PathStand(try PathContent()).ask("/ipfs/bafkqabtimvwgy3yk")
        #expect(answer.status == 200)
        #expect(answer.text == "hello\n")
    }

    @Test func nameWithPercentSignsIsDecodedOnce() throws {
        let stand = PathStand(try PathContent("dir-with-percent-encoded-filename"))
        let root = "bafybeig675grnxcmshiuzdaz2xalm6ef4thxxds6o6ypakpghm5kghpc34"
        let answer = try stand.ask(
            "/ipfs/\(root)/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt")
        #expect(answer.text == "hello from a percent encoded filename\n")
        #expect(
            answer["X-Ipfs-Path"]
                == "/ipfs/\(root)/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt")
    }

    @Test(arguments: [
        "\"\(ascii)\"", "W/\"\(ascii)\"", "*", "\"fakeEtag1\", \"fakeEtag2\", \"\(ascii)\"",
    ])
    func fileThatTheClientHasIs304(condition: String) throws {
        let content = try PathContent("dir-with-files")
        let answer = try PathStand(content).ask(
            "/ipfs/\(Self.directory)/ascii.txt", ["If-None-Match": condition])
        #expect(answer.status == 304)
        #expect(answer["Etag"] == "\"\(Self.ascii)\"")
        #expect(answer["Cache-Control"] == Self.immutable)
        #expect(answer["X-Ipfs-Path"] != nil)
        #expect(answer["Access-Control-Allow-Origin"] == "*")
    }

    @Test func rangeCountsWithIfRangeOfThisFileOnly() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        func ask(_ tag: String) throws -> Int {
            try stand.ask("/ipfs/\(Self.ascii)", ["Range": "bytes=0-3", "If-Range": tag]).status
        }
        #expect(try ask("\"\(Self.ascii)\"") == 206)
        #expect(try ask("\"\(Self.directory)\"") == 200)
    }

    // MARK: Types and names

    @Test func filenameDecidesTypeAndName() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.ascii)?filename=a%20b.css")
        #expect(answer["Content-Type"] == "text/css; charset=utf-8")
        #expect(
            answer["Content-Disposition"]
                == "inline; filename=\"a b.css\"; filename*=UTF-8''a%20b.css")
    }

    @Test func nameThatIsNoASCIIStandsBesideItsPlainForm() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask(
            "/ipfs/\(Self.ascii)?filename=test%D1%82%D0%B5%D1%81%D1%82.png&download=true")
        #expect(
            answer["Content-Disposition"]
                == "attachment; filename=\"test____.png\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.png"
        )
        #expect(answer["Content-Type"] == "image/png")
    }

    @Test func nameEncodedTwiceAsInKubosListingsIsDecodedTwice() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.ascii)?filename=file-%25C5%25BA%25C5%2582.txt")
        #expect(
            answer["Content-Disposition"]
                == "inline; filename=\"file-__.txt\"; filename*=UTF-8''file-%C5%BA%C5%82.txt")
    }

    @Test(arguments: ["a\"b", "a%0D%0AX-Evil:%201", "..%2F..%2Fetc%2Fpasswd", "%FF%00", "%5C"])
    func hostileFilenameStaysInItsQuotes(name: String) throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.ascii)?filename=\(name)")
        let value = try #require(answer["Content-Disposition"])
        let plain = value.dropFirst("inline; filename=\"".count).prefix { $0 != "\"" }
        #expect(value.hasPrefix("inline; filename=\"\(plain)\"; filename*=UTF-8''"))
        #expect(!plain.contains("/") && !plain.contains("\\"))
        #expect(value.unicodeScalars.allSatisfy { (0x20...0x7e).contains($0.value) })
        #expect(answer["X-Evil"] == nil)
    }

    @Test func downloadNeedsNoName() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let answer = try stand.ask("/ipfs/\(Self.directory)/ascii.txt?download=true")
        #expect(
            answer["Content-Disposition"]?.hasPrefix("attachment; filename=\"ascii.txt\"") == true)
        let bare = try stand.ask("/ipfs/\(Self.ascii)?download=true")
        #expect(bare["Content-Disposition"]?.contains(Self.ascii) == true)
    }

    @Test func withoutEitherNoNameIsGiven() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        #expect(try stand.ask("/ipfs/\(Self.ascii)")["Content-Disposition"] == nil)
    }

    @Test func fileOfJSONIsToldByItsBytes() throws {
        let stand = PathStand(try PathContent("gateway-json-cbor"))
        let file = "bafkreibrppizs3g7axs2jdlnjua6vgpmltv7k72l7v7sa6mmht6mne3qqe"
        for (query, accept) in [
            ("", ""), ("", "application/json"), ("?format=json", "application/vnd.ipld.raw"),
        ] {
            let answer = try stand.ask("/ipfs/\(file)\(query)", ["Accept": accept])
            #expect(answer.status == 200)
            #expect(answer["Content-Type"] == "application/json")
            #expect(answer.text == "{ \"test\": \"i am a plain json file\" }\n")
        }
    }

    // MARK: Other codecs

    @Test(arguments: ["", "?format=json"])
    func plainJSONIsGivenAsItIs(query: String) throws {
        let stand = PathStand(try PathContent("plain-json"))
        let cid = "bagaaierajjsnhsxqlgfrvknlt7z2heoljcgfv37cn45tu7mhmr23x3ekiboq"
        let answer = try stand.ask("/ipfs/\(cid)\(query)")
        #expect(answer.status == 200)
        #expect(answer["Content-Type"] == "application/json")
        #expect(
            answer["Content-Disposition"]?.hasPrefix("inline; filename=\"\(cid).json\"") == true)
        #expect(answer["X-Content-Type-Options"] == "nosniff")
        #expect(answer.bytes.count == 26)
        let range = try stand.ask("/ipfs/\(cid)\(query)", ["Range": "bytes=2-4"])
        #expect(range.status == 206)
        #expect(range["Content-Range"] == "bytes 2-4/26")
    }

    @Test func plainCBORIsAnAttachment() throws {
        let stand = PathStand(try PathContent("plain-cbor"))
        let cid = "bafireif3aymeikgfbofx533yf5vlx4kimzq6zmzmpra2mnzfsfnmv4hchm"
        let answer = try stand.ask("/ipfs/\(cid)", ["Accept": "application/cbor"])
        #expect(answer["Content-Type"] == "application/cbor")
        #expect(
            answer["Content-Disposition"]?.hasPrefix("attachment; filename=\"\(cid).cbor\"") == true
        )
    }

    @Test(
        arguments: [
            ("", 200, "application/vnd.ipld.dag-cbor"),
            ("?format=dag-cbor", 200, "application/vnd.ipld.dag-cbor"),
            ("?format=cbor", 200, "application/cbor"), ("?format=dag-json", 406, nil),
            ("?format=json", 406, nil), ("?format=tar", 406, nil),
        ] as [(String, Int, String?)])
    func contentIsNotConverted(query: String, status: Int, type: String?) throws {
        let stand = PathStand(try PathContent("dag-cbor-traversal"))
        let cid = "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim"
        let answer = try stand.ask("/ipfs/\(cid)\(query)")
        #expect(answer.status == status)
        if let type { #expect(answer["Content-Type"] == type) }
    }

    @Test(arguments: ["?format=dag-json", "?format=dag-cbor", "?format=tar"])
    func fileIsNotConverted(query: String) throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        #expect(try stand.ask("/ipfs/\(Self.ascii)\(query)").status == 406)
        #expect(
            try stand.ask(
                "/ipfs/\(Self.ascii)", ["Accept": "application/vnd.ipld.dag-json"]
            ).status == 406)
    }

    @Test func pathThroughAnotherCodecIsNotImplemented() throws {
        let stand = PathStand(try PathContent("dag-cbor-traversal"))
        let cid = "bafyreibs4utpgbn7uqegmd2goqz4bkyflre2ek2iwv743fhvylwi4zeeim"
        #expect(try stand.ask("/ipfs/\(cid)/foo").status == 501)
    }

    @Test func unknownCodecIs406() throws {
        let content = try PathContent()
        let cid = CID(codec: Multicodec(rawValue: 0x78), multihash: .sha256(of: [1]))
        content.put(cid, [1])
        #expect(try PathStand(content).ask("/ipfs/\(cid)").status == 406)
    }
}
