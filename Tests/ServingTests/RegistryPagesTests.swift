import Base
import HTTPTypes
import Serving
import Testing

@Suite struct RegistryPagesTests {
    private static let bad = ["-1", "a", "1a", "1.5", "+1", "%20", "0x10", "1%2C2", "%D9%A1"]

    // MARK: Tags

    @Test func tagsComeInBytewiseOrder() throws {
        let stand = RegistryStand()
        for tag in ["b", "a", "B", "_", "10", "9", "a-b", "a.b", "ab", "aB"] {
            stand.double.push("x/y", Manifests.image(), tag: tag)
        }
        let answer = try stand.ask("/v2/x/y/tags/list")
        #expect(
            answer.text
                == "{\"name\":\"x/y\",\"tags\":[\"10\",\"9\",\"B\",\"_\",\"a\",\"a-b\",\"a.b\",\"aB\",\"ab\",\"b\"]}"
        )
        #expect(answer["Content-Type"] == "application/json" && answer["Link"] == nil)
        #expect(answer["Cache-Control"] == "max-age=1")
        for count in 1...11 {
            let all = try stand.follow("/v2/x/y/tags/list?n=\(count)", "tags")
            #expect(all.names == ["10", "9", "B", "_", "a", "a-b", "a.b", "aB", "ab", "b"])
            #expect(all.pages == (10 + count - 1) / count)
        }
    }

    @Test func pagesOfTags() throws {
        let stand = RegistryStand()
        for tag in ["a", "b", "c", "d"] { stand.double.push("x", Manifests.image(), tag: tag) }
        for (query, tags, next) in [
            ("", ["a", "b", "c", "d"], nil), ("?n=2", ["a", "b"], "last=b&n=2"),
            ("?n=2&last=b", ["c", "d"], nil), ("?last=b", ["c", "d"], nil),
            ("?n=4", ["a", "b", "c", "d"], nil),
            ("?n=0", [], nil), ("?n=0&last=b", [], nil), ("?last=bb&n=1", ["c"], "last=c&n=1"),
            ("?last=d", [], nil), ("?last=zzz", [], nil), ("?n=", ["a", "b", "c", "d"], nil),
            ("?last=", ["a", "b", "c", "d"], nil), ("?last=%00", ["a", "b", "c", "d"], nil),
            ("?n=99999999999999999999999999", ["a", "b", "c", "d"], nil),
            ("?n=0003", ["a", "b", "c"], "last=c&n=3"),
        ] as [(String, [String], String?)] {
            let answer = try stand.ask("/v2/x/tags/list\(query)")
            #expect(try answer.status == 200 && answer.list("tags") == tags, "\(query)")
            #expect(try answer.next == next.map { "/v2/x/tags/list?\($0)" }, "\(query)")
        }
    }

    @Test(arguments: bad) func aNumberThatIsNoneIsRefused(_ number: String) throws {
        let stand = RegistryStand()
        let digest = stand.double.push("x", Manifests.image(), tag: "t")
        for target in ["x/tags/list", "_catalog", "x/referrers/\(digest)"] {
            let answer = try stand.ask("/v2/\(target)?n=\(number)")
            #expect(answer.status == 400 && answer.code == "PAGINATION_NUMBER_INVALID")
        }
    }

    @Test func manyTagsComeInPagesThatNobodyAskedFor() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("x", Manifests.image())
        let tags = (0..<2_500).map { String($0 + 10_000) }
        for tag in tags { stand.double.tag("x", tag, digest) }
        let first = try stand.ask("/v2/x/tags/list?n=1000000")
        #expect(try first.list("tags") == Array(tags[..<1000]))
        #expect(try first.next == "/v2/x/tags/list?last=10999&n=1000")
        let all = try stand.follow("/v2/x/tags/list", "tags")
        #expect(all.names == tags && all.pages == 3)
    }

    @Test func aTagWithoutALinkIsNone() throws {
        let stand = RegistryStand()
        for tag in ["a", "b", "c"] { stand.double.push("x", Manifests.image(), tag: tag) }
        stand.double.remove(RegistryDouble.tagPath("x", "b"))
        stand.double.remove(RegistryDouble.tagPath("x", "c"))
        stand.double.makeDirectory("\(RegistryDouble.base)/repositories/x/_manifests/tags/.tmp")
        #expect(try stand.ask("/v2/x/tags/list?n=1").text == "{\"name\":\"x\",\"tags\":[\"a\"]}")
        // Nothing comes behind it, so there is no page either.
        #expect(try stand.ask("/v2/x/tags/list?n=1")["Link"] == nil)
    }

    @Test func aRepositoryWithoutTagsHasAnEmptyList() throws {
        let stand = RegistryStand()
        stand.double.push("x", Manifests.image())
        stand.double.pushBlob("y", [1])
        for name in ["x", "y"] {
            #expect(
                try stand.ask("/v2/\(name)/tags/list").text == "{\"name\":\"\(name)\",\"tags\":[]}")
        }
    }

    @Test func tagsThatCostTooMuchComeInParts() throws {
        var limits = RegistryLimits()
        limits.looksMax = 3
        let stand = RegistryStand(limits: limits)
        let digest = stand.double.push("x", Manifests.image())
        for index in 10..<40 { stand.double.tag("x", "t\(index)", digest) }
        for index in 12..<30 { stand.double.remove(RegistryDouble.tagPath("x", "t\(index)")) }
        _ = stand.double.takeCalls()
        #expect(try stand.ask("/v2/x/tags/list").list("tags") == ["t10", "t11"])
        #expect(stand.double.takeCalls().count <= 6)
        let expected = [10, 11] + (30..<40)
        #expect(try stand.follow("/v2/x/tags/list", "tags").names == expected.map { "t\($0)" })
    }

    // MARK: Catalog

    /// Names of which many begin others, and what stands between them in bytewise order.
    private static let repositories = [
        "a", "a-b", "a--b", "a.b", "a/b", "a/b/c", "a/b-c", "a-b/c", "a-b/c/d", "a0", "a_b", "b",
        "b/a/c",
        "docker.io/library/x", "library", "library/x", "z/z/z/z",
    ]

    private func stand(limits: RegistryLimits = RegistryLimits()) -> RegistryStand {
        let stand = RegistryStand(limits: limits)
        for name in Self.repositories { stand.double.push(name, Manifests.image(), tag: "t") }
        let repositories = "\(RegistryDouble.base)/repositories"
        // What is none.
        stand.double.makeDirectory("\(repositories)/_x/_manifests")
        stand.double.makeDirectory("\(repositories)/a/_uploads/b/_layers")
        stand.double.makeDirectory("\(repositories)/empty/_uploads")
        stand.double.makeDirectory("\(repositories)/UPPER/_manifests")
        stand.double.write([1], to: "\(repositories)/file")
        stand.double.write([1], to: "\(repositories)/c/_manifests")
        return stand
    }

    private static var sorted: [String] {
        repositories.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    @Test func repositoriesComeInBytewiseOrder() throws {
        let stand = stand()
        let answer = try stand.ask("/v2/_catalog")
        #expect(try answer.list("repositories") == Self.sorted)
        #expect(answer["Content-Type"] == "application/json" && answer["Link"] == nil)
        for count in 1...Self.sorted.count + 1 {
            let all = try stand.follow("/v2/_catalog?n=\(count)", "repositories")
            #expect(all.names == Self.sorted)
            #expect(all.pages == (Self.sorted.count + count - 1) / count)
        }
    }

    @Test func aCatalogBeginsBehindAnyText() throws {
        let stand = stand()
        let others = [
            "0", "a-", "a/", "a/a", "a/b/", "a/b/0", "a/b/c/d/e", "a.", "aa", "a-b/", "a-b/c/",
            "a-b/c/d/e",
            "b/a", "b/a/", "c", "library/", "library/x/", "z", "z/z", "z/z/z/z/z", "zz", "_", "~",
            "/", "//a",
            "UPPER", "\u{e9}",
        ]
        for last in Self.repositories + others {
            let expected = Self.sorted.filter { last.utf8.lexicographicallyPrecedes($0.utf8) }
            let escaped = last.utf8.map { "%" + RegistryDouble.hex([$0]) }.joined()
            for count in [1, 3, 100] {
                let all = try stand.follow(
                    "/v2/_catalog?last=\(escaped)&n=\(count)", "repositories")
                #expect(all.names == expected, "\(last) \(count)")
            }
        }
        #expect(try stand.ask("/v2/_catalog?n=0").text == "{\"repositories\":[]}")
        #expect(
            try stand.ask("/v2/_catalog?last=a%2Fb&n=1")["Link"]
                == "</v2/_catalog?last=a%2Fb-c&n=1>; rel=\"next\"")
    }

    @Test func aPageDoesNotWalkWhatLiesBeforeIt() throws {
        let stand = RegistryStand()
        for index in 100..<400 { stand.double.push("p\(index)/x", Manifests.image(), tag: "t") }
        _ = try stand.ask("/v2/")
        _ = stand.double.takeCalls()
        let answer = try stand.ask("/v2/_catalog?last=p390%2Fx&n=2")
        #expect(try answer.list("repositories") == ["p391/x", "p392/x"])
        let calls = stand.double.takeCalls()
        #expect(calls.count < 20)
        #expect(!calls.contains { $0.contains("p389") || $0.contains("p395") })
    }

    @Test func aWalkThatCostsTooMuchGoesOnWithTheNextRequest() throws {
        for looks in 1...12 {
            var limits = RegistryLimits()
            limits.looksMax = looks
            let stand = stand(limits: limits)
            for index in 0..<50 {
                stand.double.makeDirectory("\(RegistryDouble.base)/repositories/none\(index)/a/b")
            }
            let all = try stand.follow("/v2/_catalog", "repositories")
            #expect(all.names == Self.sorted && all.pages > 5, "\(looks)")
        }
    }

    @Test func aWalkThatHoldsTooManyNamesIsRefused() throws {
        var limits = RegistryLimits()
        limits.heldNamesMax = 5
        let stand = stand(limits: limits)
        let answer = try stand.ask("/v2/_catalog")
        #expect(answer.status == 500 && answer.code == "UNKNOWN" && stand.logged.count == 1)
    }

    @Test func deepDirectoriesAreWalkedToTheLongestName() throws {
        let stand = RegistryStand()
        let longest = String(repeating: "a/", count: 127) + "a"
        stand.double.push(longest, Manifests.image(), tag: "t")
        stand.double.push(longest + "/a/a", Manifests.image(), tag: "t")
        #expect(try stand.ask("/v2/_catalog").list("repositories") == [longest])
    }

    @Test func aRequestWhoseClientIsGoneEnds() throws {
        let stand = stand()
        let cancellation = Cancellation()
        cancellation.cancel()
        var request = try #require(ServeRequest(method: .get, target: "/v2/_catalog"))
        request.cancellation = cancellation
        _ = stand.double.takeCalls()
        #expect(stand.registry.respond(to: request).status == 200)
        #expect(stand.double.takeCalls().count < 5)
    }
}
