import HTTPTypes
import Multiformats
import Serving
import Testing

/// `_redirects`, as ipfs/gateway-conformance v0.13.2 asks for it in `redirects_file_test.go` and more.
@Suite struct RedirectsTests {
    private static let examples = "QmYBhLYDwVFvxos9h8CGU2ibaY66QNgv8hpfewxaQrPiZj"
    private static let immutable = "public, max-age=29030400, immutable"

    private func stand() throws -> PathStand {
        PathStand(try PathContent("redirects"), redirects: true)
    }

    /// A site with this file, and a page.
    private func site(
        _ redirects: String, _ target: String, _ fields: KeyValuePairs<String, String> = [:]
    ) throws -> PathAnswer {
        let content = try PathContent()
        let root = try content.directory([
            "_redirects": content.file(redirects),
            "page.html": content.file("page"),
            "sub": try content.directory(["deep.html": content.file("deep")]),
        ])
        return try PathStand(content, redirects: true).ask("/ipfs/\(root)\(target)", fields)
    }

    // MARK: The suite's cases

    @Test(arguments: [
        ("/redirect-one", 301, "/one.html"), ("/301-redirect-one", 301, "/one.html"),
        ("/302-redirect-two", 302, "/two.html"),
        ("/posts/2022/01/01/hello-world", 301, "/articles/2022/01/01/hello-world"),
        ("/splat/one.html", 301, "/redirected-splat/one.html"),
        ("/splat/a/b%20c", 301, "/redirected-splat/a/b%20c"), ("/redirect-one/", 301, "/one.html"),
    ])
    func ruleRedirects(path: String, status: Int, location: String) throws {
        let answer = try stand().ask("/ipfs/\(Self.examples)\(path)")
        #expect(answer.status == status)
        #expect(answer["Location"] == location)
    }

    @Test(arguments: ["/200-index", "/catch-all", "/catch/all/of/it"])
    func ruleRewrites(path: String) throws {
        let answer = try stand().ask("/ipfs/\(Self.examples)\(path)")
        #expect(answer.status == 200)
        #expect(answer.text == "my index\n")
        #expect(answer["Content-Type"] == "text/html")
        #expect(answer["X-Ipfs-Path"] == "/ipfs/\(Self.examples)\(path)")
    }

    @Test(arguments: [
        ("not-found", 404, "my 404\n", "Qmd9GD7Bauh6N2ZLfNnYS3b7QVAijbud83b8GE8LPMNBBP"),
        ("gone", 410, "my 410\n", "QmSmR9NShZ89VEBrn9SBy7Xxvjw8Qe6XArD5GqtHvbtBM3"),
        ("unavail", 451, "my 451\n", "QmVQqj9oZig9tH3ENHo4bxV5pNgssUwFCXUjAJAVcZVbJG"),
    ])
    func ruleGivesAPageOfItsOwn(name: String, status: Int, text: String, cid: String) throws {
        let target = "/ipfs/\(Self.examples)/\(name)/has-no-redirects-entry"
        let answer = try stand().ask(target)
        #expect(answer.status == status)
        #expect(answer.text == text)
        #expect(answer["Content-Type"] == "text/html")
        #expect(answer["Cache-Control"] == Self.immutable)
        #expect(answer["Etag"] == "\"\(cid)\"")
        let head = try stand().ask(target, method: .head)
        #expect(head.status == status)
        #expect(head.response.body.count == 7)
    }

    @Test func pageOfANameIsNotKeptForEver() throws {
        let root = try CID(parsing: Self.examples)
        let stand = PathStand(
            try PathContent("redirects"), name: NameTarget(root), redirects: true)
        let answer = try stand.ask("/ipns/example.org/not-found/x")
        #expect(answer.status == 404)
        #expect(answer.text == "my 404\n")
        #expect(answer["Cache-Control"] == nil)
    }

    @Test func whatIsThereIsGivenWhateverTheRulesSay() throws {
        #expect(try stand().ask("/ipfs/\(Self.examples)/two.html").text == "my two\n")
        #expect(try stand().ask("/ipfs/\(Self.examples)/").text == "my index\n")
        // A file that cannot be used breaks nothing that is there.
        let bad = "QmcBcFnKKqgpCVMxxGsriw9ByTVF6uDdKDMuEBq3m6f1bm"
        #expect(try stand().ask("/ipfs/\(bad)/found.html").text == "my found\n")
    }

    @Test(arguments: [
        ("QmU7ysGXwAtiV7aBarZASJsxKoKyKmd9Xrz2FFamSCbg8S", "forced redirects"),
        ("QmcBcFnKKqgpCVMxxGsriw9ByTVF6uDdKDMuEBq3m6f1bm", "999"),
        ("QmRgpzYQESidTtTojN8zRWjiNs9Cy6o7KHRxh7kDpJm3KH", "missing 'to'"),
        (
            "QmQTfvjGmvTfxFpUcZNLdTLuKV227KJkGiN6xooHVeVZAS",
            "redirects file size cannot exceed 65536 bytes"
        ),
    ])
    func fileThatCannotBeUsedIs500WithItsReason(root: String, reason: String) throws {
        let answer = try stand().ask("/ipfs/\(root)/not-found")
        #expect(answer.status == 500)
        #expect(answer.text.contains("could not parse _redirects:"))
        #expect(answer.text.contains(reason))
    }

    @Test func linesMayEndInTwoCharacters() throws {
        let root = "QmYzMrtPyBv7LKiEAGLLRPtvqm3SjQYLWxwWQ2vnpxQwRd"
        let answer = try stand().ask("/ipfs/\(root)/redirect-one")
        #expect(answer.status == 301)
        #expect(answer["Location"] == "/one.html")
        #expect(try stand().ask("/ipfs/\(root)/200-index").text == "my index\n")
    }

    @Test(arguments: [301, 302, 303, 307, 308])
    func everyStatusOfARedirectIsGiven(status: Int) throws {
        let root = "QmWHn2TunA1g7gQ7q9rwAoWuot2hMpojZ6cZ9ERsNKm5gE"
        let answer = try stand().ask("/ipfs/\(root)/a\(status)")
        #expect(answer.status == status)
        #expect(answer["Location"] == "/b\(status)")
    }

    @Test func rewrittenPageThatTheClientHasIs304() throws {
        let stand = PathStand(try PathContent("redirects-spa"), redirects: true)
        let target =
            "/ipfs/bafybeib5lboymwd6p2eo4qb2lkueaine577flvsjjeuevmp2nlio72xv5q/missing-page"
        let answer = try stand.ask(target, ["Accept": "text/html"])
        #expect(answer.status == 200)
        #expect(answer.text == "hello world\n")
        let tag = try #require(answer["Etag"])
        let again = try stand.ask(target, ["Accept": "text/html", "If-None-Match": tag])
        #expect(again.status == 304)
    }

    // MARK: Beyond the suite

    @Test func plainPathsKnowNoRules() throws {
        let plain = PathStand(try PathContent("redirects"))
        #expect(try plain.ask("/ipfs/\(Self.examples)/redirect-one").status == 404)
        #expect(try plain.ask("/ipfs/\(Self.examples)/catch-all").status == 404)
    }

    @Test func rulesAreForPagesOnly() throws {
        #expect(
            try stand().ask("/ipfs/\(Self.examples)/redirect-one?format=json").status == 404)
        #expect(
            try stand().ask("/ipfs/\(Self.examples)/redirect-one?format=raw").status == 299)
    }

    @Test func siteWithoutAFileHasNoRules() throws {
        let content = try PathContent()
        let root = try content.directory(["a": content.file("a")])
        #expect(try PathStand(content, redirects: true).ask("/ipfs/\(root)/b").status == 404)
    }

    @Test func linksAndRedirectsBeginAtTheRootOfTheHost() throws {
        let answer = try site("", "/sub?a=b")
        #expect(answer["Location"] == "/sub/?a=b")
        let listing = try site("", "/sub/")
        #expect(listing.text.contains("href=\"/sub/deep.html\""))
        #expect(!listing.text.contains("href=\"/ipfs/"))
    }

    @Test(arguments: [
        ("/a /page.html 200", "/a", "page"), ("/a/* /:splat 200", "/a/sub/deep.html", "deep"),
        ("/x/:file/y /:file.html 200", "/x/page/y", "page"),
        ("/:one/:two /:one/:two.html 200", "/sub/deep", "deep"),
        ("  /a\t/page.html\t200  ", "/a", "page"), ("# no\n\n/a /page.html 200", "/a", "page"),
        ("/%C4%85 /page.html 200", "/ą", "page"), ("/ą /page.html 200", "/%C4%85", "page"),
        ("/a /page.html?x=y#z 200", "/a", "page"),
    ])
    func rewriteGivesTheContentOfItsTarget(rule: String, path: String, text: String) throws {
        let answer = try site(rule, path)
        #expect(answer.status == 200)
        #expect(answer.text == text)
    }

    @Test(arguments: [
        "/a /none 200", "/a /a 200", "/a /../x 200", "/a /..%2F..%2Fx 200", "/a /%00 200",
        "/b /page.html 200", "/a/b /page.html 200", "/a/* /page.html 200", "/a/:x /page.html 200",
    ])
    func ruleThatLeadsNowhereOrDoesNotFitIs404(rule: String) throws {
        #expect(try site(rule, "/a").status == 404)
    }

    @Test func rewriteToADirectoryIsItsListing() throws {
        let answer = try site("/a /sub 200", "/a")
        #expect(answer.status == 200)
        #expect(answer.text.contains("href=\"/sub/deep.html\""))
    }

    @Test func firstRuleThatFitsDecides() throws {
        #expect(try site("/a/* /one\n/a/b /two", "/a/b")["Location"] == "/one")
        #expect(try site("/a/b /two\n/a/* /one", "/a/b")["Location"] == "/two")
    }

    @Test(arguments: [
        // From the specification's appendix.
        (
            "/source1/* /target-file?static-query1=static-val1&static-query2=static-val2 301",
            "/source1/x?q=1", "/target-file?static-query1=static-val1&static-query2=static-val2&q=1"
        ),
        (
            "/source2/:code/:name /target-file?code=:code&name=:name 301", "/source2/a%26b/c",
            "/target-file?code=a%26b&name=c"
        ),
        (
            "/source3/* https://example.net/target3/:splat 301", "/source3/a/b?x=y",
            "https://example.net/target3/a/b?x=y"
        ),
        ("/a /b?x=1&y=2#part", "/a?x=3", "/b?y=2&x=3#part"),
        ("/a /b", "/a?x=%22%3E", "/b?x=%22%3E"),
        ("/a /ł", "/a", "/%C5%82"), ("/:n/:name /:name/:n", "/1/2", "/2/1"),
        ("/a /x:y/:splat", "/a", "/x:y/"),
    ])
    func locationHasWhatWasFoundAndTheQuery(rule: String, path: String, location: String) throws {
        #expect(try site(rule, path)["Location"] == location)
    }

    @Test(arguments: [
        "/x//evil.example/a", "/x/%2Fevil.example", "/x/%5Cevil.example", "/x//%2Fevil.example",
    ])
    func splatCannotNameAnotherHost(path: String) throws {
        let location = try #require(try site("/x/* /:splat", path)["Location"])
        #expect(location.hasPrefix("/"))
        #expect(!location.hasPrefix("//") && !location.hasPrefix("/\\"))
    }

    @Test func splatCannotEndTheField() throws {
        let location = try #require(try site("/x/* /y/:splat", "/x/a%0D%0AX-Evil:%201")["Location"])
        #expect(location.unicodeScalars.allSatisfy { (0x21...0x7e).contains($0.value) })
    }

    @Test(arguments: [
        "/a", "a /b", "/a b", "/a /b 301!", "/a /b 300", "/a /b 999999999999999999999", "/a /b x",
        "/a /b 301 more", "/a*b /c", "/** /b", "/:x/:x /b", "/a ftp://example.net/",
        "/a javascript:alert(1)", "/a https://example.net/ 200", "/a https://example.net/ 404",
        "\u{0}", "hello",
    ])
    func whatIsNoRuleIs500(line: String) throws {
        let answer = try site("# first\n\(line)", "/none")
        #expect(answer.status == 500)
        #expect(answer.text.contains("could not parse _redirects: line 2: "))
        #expect(!answer.text.dropLast().contains("\n"))
    }

    @Test func fileOfExactly64KiBIsRead() throws {
        let rule = "/a /b\n"
        let text = rule + String(repeating: "#", count: 65536 - rule.utf8.count)
        #expect(try site(text, "/a").status == 301)
        #expect(try site(text + "#", "/a").status == 500)
    }

    @Test func directoryNamedRedirectsIs500() throws {
        let content = try PathContent()
        let root = try content.directory(["_redirects": try content.directory([:])])
        #expect(try PathStand(content, redirects: true).ask("/ipfs/\(root)/b").status == 500)
    }
}
