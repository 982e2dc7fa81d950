import Base
import HTTPTypes
import Multiformats
import Serving
import Testing

/// What requests cost: what is asked of the content, each perhaps a round trip to another process.
@Suite struct RegistryCallsTests {
    @Test func aManifestByItsTagCostsThreeLooksAndTwoReads() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        _ = try stand.ask("/v2/a/manifests/none")
        _ = stand.double.takeCalls()

        _ = try stand.ask("/v2/a/manifests/t")
        let link = CID.raw(sha256: Array(digest.utf8))
        let manifest = CID.raw(sha256: Array(Manifests.image().utf8))
        #expect(
            stand.double.takeCalls() == [
                "entry \(RegistryDouble.tagPath("a", "t"))", "whole \(link)",
                "entry \(RegistryDouble.manifestPath("a", digest))",
                "entry \(RegistryDouble.dataPath(digest))", "whole \(manifest)",
            ])
        // What was read lately is not read again; where the tag leads to is asked always.
        for method in [HTTPRequest.Method.get, .head] {
            _ = try stand.ask("/v2/a/manifests/t", method: method)
            #expect(
                stand.double.takeCalls() == [
                    "entry \(RegistryDouble.tagPath("a", "t"))",
                    "entry \(RegistryDouble.manifestPath("a", digest))",
                    "entry \(RegistryDouble.dataPath(digest))",
                ])
        }
        _ = try stand.ask("/v2/a/manifests/\(digest)")
        #expect(stand.double.takeCalls().count == 2)
        // The same manifest of another repository is the same bytes.
        stand.double.push("b", Manifests.image())
        _ = try stand.ask("/v2/b/manifests/\(digest)")
        #expect(stand.double.takeCalls().count == 2)
    }

    @Test func theFirstRequestLooksForTheRegistry() throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        _ = try stand.ask("/v2/a/manifests/t")
        #expect(stand.double.takeCalls().count == 6)
    }

    @Test func headOfALargeManifestThatIsKnownReadsNothing() throws {
        let stand = RegistryStand()
        let manifest = Manifests.image(note: String(repeating: "a", count: 1 << 20))
        stand.double.push("a", manifest, tag: "t")
        _ = try stand.ask("/v2/a/manifests/t", method: .head)
        _ = stand.double.takeCalls()
        let head = try stand.ask("/v2/a/manifests/t", method: .head)
        #expect(head.status == 200 && head.count == UInt64(manifest.utf8.count))
        #expect(stand.double.takeCalls().count == 3)
        // Its bytes are too many to be kept.
        #expect(try stand.ask("/v2/a/manifests/t").text == manifest)
        #expect(stand.double.takeCalls().count == 4)
    }

    @Test func aLargeManifestIsSentFromWhereItLies() throws {
        let stand = RegistryStand()
        let manifest = Manifests.image(note: String(repeating: "a", count: 100_000))
        let digest = stand.double.push("a", manifest, tag: "t")
        let cid = CID.raw(sha256: Array(manifest.utf8))
        // Nowhere as one run: so it comes by its leaves, one after the other.
        stand.double.state.withLock { state in
            state.blocks[cid] = state.contents.removeValue(forKey: cid)
        }
        for reference in ["t", digest, digest] {
            let request = try #require(
                ServeRequest(method: .get, target: "/v2/a/manifests/\(reference)"))
            let response = stand.registry.respond(to: request)
            guard case .producer(_, let count) = response.body else {
                Issue.record("all of a large manifest is in memory")
                return
            }
            #expect(response.status == 200 && count == UInt64(manifest.utf8.count))
            #expect(try RegistryStand.bytes(of: response.body) == Array(manifest.utf8))
        }
        stand.double.state.withLock { $0.blocks[cid]?[0] ^= 1 }
        #expect(try stand.ask("/v2/a/manifests/t").status == 500)
    }

    @Test func aBlobCostsTwoLooksAndHeadOpensNothing() throws {
        let stand = RegistryStand()
        let digest = stand.double.pushBlob("a", [1, 2, 3])
        _ = try stand.ask("/v2/a/blobs/\(digest)", method: .head)
        _ = stand.double.takeCalls()
        _ = try stand.ask("/v2/a/blobs/\(digest)", method: .head)
        #expect(
            stand.double.takeCalls() == [
                "entry \(RegistryDouble.blobPath("a", digest))",
                "entry \(RegistryDouble.dataPath(digest))",
            ])
        _ = try stand.ask("/v2/a/blobs/\(digest)", [("Range", "bytes=0-1")])
        #expect(stand.double.takeCalls().count == 3)
        _ = try stand.ask("/v2/a/blobs/\(digest)", [("If-None-Match", "\"\(digest)\"")])
        #expect(stand.double.takeCalls().count == 2)
    }

    @Test func aBaseAsksNothing() throws {
        let stand = RegistryStand()
        _ = try stand.ask("/v2/")
        #expect(stand.double.takeCalls().isEmpty)
    }

    @Test func aPageOfTagsLooksAtItsOwn() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image())
        for index in 100..<400 { stand.double.tag("a", "t\(index)", digest) }
        _ = try stand.ask("/v2/a/tags/list?n=1")
        _ = stand.double.takeCalls()
        _ = try stand.ask("/v2/a/tags/list?n=10&last=t300")
        let calls = stand.double.takeCalls()
        // The listing, ten tags, and the one that makes another page.
        #expect(calls.count == 12 && !calls.contains { $0.contains("t300/") })
    }

    @Test func whatIsKeptOfManifestsIsBounded() throws {
        let stand = RegistryStand()
        let filler = String(repeating: "a", count: 60_000)
        for number in 0..<200 {
            stand.double.push("a", Manifests.image(note: "\(number)" + filler), tag: "t\(number)")
        }
        for number in 0..<200 { _ = try stand.ask("/v2/a/manifests/t\(number)") }
        _ = stand.double.takeCalls()
        // 12 MB went through, and 4 MiB are kept: of the last ones, and none of the first.
        _ = try stand.ask("/v2/a/manifests/t199")
        #expect(stand.double.takeCalls().count == 3)
        _ = try stand.ask("/v2/a/manifests/t0")
        #expect(stand.double.takeCalls().count { $0.hasPrefix("whole") } == 1)
    }
}
