import HTTPTypes
import Multiformats
import Serving
import Testing

/// Directories, as ipfs/gateway-conformance v0.13.2 asks for them, and names that are meant to harm.
@Suite struct PathGatewayDirectoryTests {
    private static let cacheRoot = "bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui"
    private static let root2 = "bafybeih2w7hjocxjg6g2ku25hvmd53zj7og4txpby3vsusfefw5rrg5sii"
    private static let root3 = "bafybeiawdvhmjcz65x5egzx4iukxc72hg4woks6v6fvgyupiyt3oczk5ja"
    private static let root4 = "bafybeifq2rzpqnqrsdupncmkmhs3ckxxjhuvdcbvydkgvch3ms24k5lo7q"
    private static let listRoot = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i"
    private static let hamtRoot = "bafybeidbclfqleg2uojchspzd4bob56dqetqjsj27gy2cq3klkkgxtpn4i"

    // MARK: Redirects to a slash, and index.html

    @Test func directoryWithoutASlashIsRedirected() throws {
        let stand = PathStand(try PathContent("dir-listing"))
        let answer = try stand.ask("/ipfs/\(Self.listRoot)/%c4%85/%C4%99")
        #expect(answer.status == 301)
        #expect(answer["Location"] == "/ipfs/\(Self.listRoot)/%C4%85/%C4%99/")
        #expect(try stand.ask("/ipfs/\(Self.listRoot)", method: .head).status == 301)
    }

    @Test func redirectKeepsTheQuery() throws {
        let stand = PathStand(try PathContent("dir-listing"))
        let answer = try stand.ask("/ipfs/\(Self.listRoot)/api?a=b%20c&d=%26&format=json")
        #expect(answer["Location"] == "/ipfs/\(Self.listRoot)/api/?a=b%20c&d=%26&format=json")
    }

    @Test func indexPageIsServedWithTheTagOfItsDirectory() throws {
        let stand = PathStand(try PathContent("gateway-cache"))
        let answer = try stand.ask("/ipfs/\(Self.cacheRoot)/root2/root3/root4/")
        #expect(answer.status == 200)
        #expect(answer.text == "hello\n")
        #expect(answer["Content-Type"] == "text/html")
        #expect(answer["Etag"] == "\"\(Self.root4)\"")
        #expect(answer["Cache-Control"] == "public, max-age=29030400, immutable")
        #expect(answer["X-Ipfs-Path"] == "/ipfs/\(Self.cacheRoot)/root2/root3/root4/")
        #expect(
            answer["X-Ipfs-Roots"]
                == [Self.cacheRoot, Self.root2, Self.root3, Self.root4].joined(separator: ","))
        let again = try stand.ask(
            "/ipfs/\(Self.cacheRoot)/root2/root3/root4/", ["If-None-Match": "\"\(Self.root4)\""])
        #expect(again.status == 304)
    }

    @Test func directoryNamedIndexIsNoPage() throws {
        let content = try PathContent()
        let root = try content.directory(["index.html": try content.directory([:])])
        let answer = try PathStand(content).ask("/ipfs/\(root)/")
        #expect(answer.text.contains("Index of"))
    }

    @Test func indexPageMayBeASymlinkWithinTheTree() throws {
        let content = try PathContent()
        let site = try content.directory(["index.html": content.symlink("../pages/home.html")])
        let root = try content.directory([
            "site": site,
            "pages": try content.directory(["home.html": content.file("home")]),
        ])
        let stand = PathStand(content)
        #expect(try stand.ask("/ipfs/\(root)/site/").text == "home")
        // Out of the tree of this request nothing is followed.
        #expect(try stand.ask("/ipfs/\(site)/").text.contains("Index of"))
    }

    // MARK: Listings

    @Test func listingHasATagAndIsNotKeptForEver() throws {
        let stand = PathStand(try PathContent("gateway-cache"))
        let target = "/ipfs/\(Self.cacheRoot)/root2/root3/"
        let answer = try stand.ask(target)
        #expect(answer.status == 200)
        #expect(answer["Content-Type"]?.hasPrefix("text/html") == true)
        #expect(
            answer["Cache-Control"]
                == "public, max-age=604800, stale-while-revalidate=2678400")
        let tag = try #require(answer["Etag"])
        #expect(tag.hasPrefix("\"DirIndex-") && tag.hasSuffix("_CID-\(Self.root3)\""))
        #expect(
            answer["X-Ipfs-Roots"]
                == [Self.cacheRoot, Self.root2, Self.root3].joined(separator: ","))
        for condition in [tag, "W/\(tag)"] {
            #expect(try stand.ask(target, ["If-None-Match": condition]).status == 304)
        }
        #expect(try stand.ask(target, ["If-None-Match": "\"\(Self.root3)\""]).status == 200)
    }

    /// What `TestUnixFSDirectoryListing` looks for.
    @Test func listingHasLinksToNamesParentsAndContent() throws {
        let stand = PathStand(try PathContent("dir-listing"))
        let root = Self.listRoot
        let answer = try stand.ask("/ipfs/\(root)/%C4%85/%C4%99/")
        let file = "bafkreialihlqnf5uwo4byh4n3cmwlntwqzxxs2fg5vanqdi3d7tb2l5xkm"
        for wanted in [
            "Index of",
            "/ipfs/<a href=\"/ipfs/\(root)\">\(root)</a>/<a href=\"/ipfs/\(root)/%C4%85\">ą</a>/"
                + "<a href=\"/ipfs/\(root)/%C4%85/%C4%99\">ę</a>",
            "<a href=\"/ipfs/\(root)/%C4%85/%C4%99/..\">..</a>",
            "<a href=\"/ipfs/\(root)/%C4%85/%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>",
            "<a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/\(file)?filename=file-%25C5%25BA%25C5%2582.txt\">",
            "34 B",
        ] {
            #expect(answer.text.contains(wanted))
        }
    }

    @Test func listingOfARootHasNoParent() throws {
        let stand = PathStand(try PathContent("dir-listing"))
        let answer = try stand.ask("/ipfs/\(Self.listRoot)/")
        #expect(answer.text.contains("Index of"))
        #expect(!answer.text.contains(">..<"))
    }

    @Test func listingHasSymlinksByName() throws {
        let stand = PathStand(try PathContent("symlink"))
        let answer = try stand.ask("/ipfs/QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt/")
        #expect(answer.text.contains(">foo<") && answer.text.contains(">bar<"))
    }

    @Test func listingRunsNothing() throws {
        let stand = PathStand(try PathContent("dir-listing"))
        let answer = try stand.ask("/ipfs/\(Self.listRoot)/")
        #expect(!answer.text.contains("<script"))
        #expect(answer["Content-Security-Policy"]?.contains("default-src 'none'") == true)
        #expect(answer["X-Content-Type-Options"] == "nosniff")
    }

    @Test func headOfAListingReadsNoShards() throws {
        let content = try PathContent("single-layer-hamt-with-multi-block-files")
        let answer = try PathStand(content).ask("/ipfs/\(Self.hamtRoot)/", method: .head)
        #expect(answer.status == 200)
        #expect(answer["Content-Type"]?.hasPrefix("text/html") == true)
        // Nobody knows the length before it is made.
        #expect(answer.response.body.count == nil)
        #expect(answer.bytes.isEmpty)
        // The root, and the shard in which index.html would be.
        #expect(Set(content.asked).count <= 2)
    }

    @Test func shardedDirectoryIsListedAndFollowed() throws {
        let stand = PathStand(try PathContent("single-layer-hamt-with-multi-block-files"))
        let listing = try stand.ask("/ipfs/\(Self.hamtRoot)/")
        let rows = listing.text.split(separator: "<tr>").count - 1
        #expect(rows >= 250)
        #expect(listing.text.contains(">470.txt</a>"))
        let file = try stand.ask("/ipfs/\(Self.hamtRoot)/470.txt")
        #expect(file.status == 200)
        #expect(file.bytes.count == 1026)
        // One CID a name, and none for the shard.
        #expect(
            file["X-Ipfs-Roots"]
                == "\(Self.hamtRoot),bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa")
    }

    @Test func longListingIsMadePieceByPiece() throws {
        let content = try PathContent()
        let file = content.file("x")
        let names = (0..<1500).map { Array("name \($0)".utf8) }
        let root = try content.directory(names.map { ($0, file) })
        let answer = try PathStand(content).ask("/ipfs/\(root)/")
        guard case .producer(_, nil) = answer.response.body else {
            Issue.record("1,500 names are too many for one piece")
            return
        }
        #expect(answer.text.split(separator: "<tr>").count - 1 == 1500)
        #expect(answer.text.hasPrefix("<!DOCTYPE html>") && answer.text.hasSuffix("</html>\n"))
        let json = try PathStand(content).ask("/ipfs/\(root)/?format=json")
        #expect(json.text.split(separator: "\"href\"").count - 1 == 1500)
        #expect(json.text.hasSuffix("]}\n"))
    }

    // MARK: JSON

    @Test func listingInJSONHasNamesCIDsAndSizes() throws {
        let stand = PathStand(try PathContent("dir-with-files"))
        let root = "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy"
        let answer = try stand.ask("/ipfs/\(root)/", ["Accept": "application/json"])
        #expect(answer["Content-Type"] == "application/json")
        #expect(answer["Vary"] == "Accept")
        #expect(answer["Content-Location"] == "/ipfs/\(root)/?format=json")
        #expect(answer["Etag"] != (try stand.ask("/ipfs/\(root)/"))["Etag"])
        #expect(
            answer.text == """
                {"path":"/ipfs/\(root)/","cid":"\(root)","entries":[
                {"name":"ascii-copy.txt","href":"ascii-copy.txt","cid":"bafkreifkam6ns4aoolg3wedr4uzrs3kvq66p4pecirz6y2vlrngla62mxm","size":31,"treeSize":31},
                {"name":"ascii.txt","href":"ascii.txt","cid":"bafkreifkam6ns4aoolg3wedr4uzrs3kvq66p4pecirz6y2vlrngla62mxm","size":31,"treeSize":31},
                {"name":"hello.txt","href":"hello.txt","cid":"bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4","size":12,"treeSize":12},
                {"name":"multiblock.txt","href":"multiblock.txt","cid":"bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa","size":null,"treeSize":1271}
                ]}

                """)
        let byQuery = try stand.ask("/ipfs/\(root)/?format=json")
        #expect(byQuery.text == answer.text)
        #expect(byQuery["Content-Location"] == nil)
    }

    @Test func listingInJSONComesBeforeAPage() throws {
        let stand = PathStand(try PathContent("gateway-cache"))
        let answer = try stand.ask("/ipfs/\(Self.root4)/?format=json")
        #expect(answer.text.contains("\"name\":\"index.html\""))
    }

    // MARK: Names that are meant to harm

    private static let hostile: [[UInt8]] =
        [
            "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>",
            "' onmouseover='alert(1)",
            "&lt;b&gt;", "javascript:alert(1)", "a\r\nb", "\u{1b}[31mred", "evil\u{202e}gpj.exe",
            "\u{2028}", "#top", "?query", "%2e%2e", " ", "a\\b",
        ].map { Array($0.utf8) } + [[0xff, 0xfe, 0x3c], [0xc0, 0xae], [0x80]]

    @Test func hostileNamesStayText() throws {
        let content = try PathContent()
        let file = content.file("x")
        let root = try content.directory(Self.hostile.map { ($0, file) })
        let text = try PathStand(content).ask("/ipfs/\(root)/").text
        #expect(text.split(separator: "<tr>").count - 1 == Self.hostile.count)
        for bad in ["<script", "<img", "onmouseover='"] { #expect(!text.contains(bad)) }
        for bad in ["\u{1b}", "\u{202e}", "\u{2028}", "\r"] as [Unicode.Scalar] {
            #expect(!text.unicodeScalars.contains(bad))
        }
        #expect(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"))
        #expect(text.contains("&amp;lt;b&amp;gt;"))
        #expect(text.contains("\\xff\\xfe&lt;"))
        // Each link leads to a path of this tree, whatever the name looks like.
        for link in text.split(separator: "href=\"").dropFirst() {
            #expect(link.hasPrefix("/ipfs/"))
        }
    }

    @Test func linksOfHostileNamesLeadToTheirFiles() throws {
        let content = try PathContent()
        let names = Self.hostile.filter { !$0.contains(UInt8(ascii: "/")) }
        let root = try content.directory(
            names.enumerated().map { ($1, content.file("file \($0)")) })
        let stand = PathStand(content)
        let json = try stand.ask("/ipfs/\(root)/?format=json").text
        let links = json.split(separator: "\"href\":\"").dropFirst().map {
            $0.prefix { $0 != "\"" }
        }
        #expect(links.count == names.count && names.count >= 15)
        var found: Set<String> = []
        for link in links { found.insert(try stand.ask("/ipfs/\(root)/\(link)").text) }
        #expect(found == Set(names.indices.map { "file \($0)" }))
    }

    @Test func hostileNamesAreStringsOfJSON() throws {
        let content = try PathContent()
        let root = try content.directory(
            [(Array("a\"b\\c\n\u{1}".utf8), content.file("x"))])
        let text = try PathStand(content).ask("/ipfs/\(root)/?format=json").text
        #expect(text.contains("\"name\":\"a\\\"b\\\\c\\u000a\\u0001\""))
    }

    @Test(arguments: ["inside-root", "outside-root"])
    func namesThatLeadOutOfTheTreeAreListedWithoutALink(fixture: String) throws {
        let root =
            fixture == "inside-root"
            ? "bafybeiaepusisfkk2vbytkixo56l4l4m3tohrm6t22uyzpl3an3pouwbku/directory"
            : "bafybeicaj7kvxpcv4neaqzwhrqqmdstu4dhrwfpknrgebq6nzcecfucvyu"
        let stand = PathStand(try PathContent(fixture))
        let text = try stand.ask("/ipfs/\(root)/").text
        #expect(text.contains("<td>../f"))
        #expect(!text.contains("href=\"/ipfs/\(root)/.." + "/f") && !text.contains("..%2Ff"))
        #expect(try stand.ask("/ipfs/\(root)/..%2Ffile").status == 404)
        #expect(try stand.ask("/ipfs/\(root)/..%2Ffoo").status == 404)
    }
}
