import HTTPTypes
import Multiformats
import Serving
import Testing

@Suite struct RegistryPullTests {
    private static let forever = "max-age=31536000, immutable"

    @Test(arguments: ["/v2", "/v2/"]) func aRegistrySaysThatItIsOne(_ target: String) throws {
        let stand = RegistryStand()
        for method in [HTTPRequest.Method.get, .head] {
            let answer = try stand.ask(target, method: method)
            #expect(answer.status == 200 && answer.count == 2)
            #expect(answer["Content-Type"] == "application/json")
            #expect(answer["Docker-Distribution-Api-Version"] == "registry/2.0")
            #expect(method == .head || answer.text == "{}")
        }
    }

    @Test func aManifestComesByTagAndByDigestAsItWasPushed() throws {
        let stand = RegistryStand()
        let manifest = Manifests.image() + "\n"
        let digest = stand.double.push("library/alpine", manifest, tag: "3.20")
        for (reference, cacheControl) in [("3.20", "max-age=1"), (digest, Self.forever)] {
            for method in [HTTPRequest.Method.get, .head] {
                let answer = try stand.ask(
                    "/v2/library/alpine/manifests/\(reference)", method: method)
                #expect(answer.status == 200)
                #expect(answer["Content-Type"] == Manifests.imageType)
                #expect(answer["Docker-Content-Digest"] == digest)
                #expect(answer["ETag"] == "\"\(digest)\"")
                #expect(answer["Cache-Control"] == cacheControl)
                #expect(answer["Docker-Distribution-Api-Version"] == "registry/2.0")
                #expect(answer["X-Content-Type-Options"] == "nosniff")
                #expect(answer["OCI-Namespace"] == nil)
                #expect(answer.count == UInt64(manifest.utf8.count))
                #expect(method == .head || answer.text == manifest)
            }
        }
    }

    @Test func whatAcceptSaysChangesNothing() throws {
        let stand = RegistryStand()
        let manifest = Manifests.index()
        stand.double.push("a", manifest, tag: "t")
        for accept in ["*/*", "application/vnd.docker.distribution.manifest.v2+json", "text/html"] {
            let answer = try stand.ask("/v2/a/manifests/t", [("Accept", accept)])
            #expect(answer.status == 200 && answer.text == manifest)
            #expect(answer["Content-Type"] == Manifests.indexType)
        }
    }

    @Test func aTagThatMovesLeadsToTheNewManifest() throws {
        let stand = RegistryStand()
        let first = stand.double.push("a", Manifests.image(note: "1"), tag: "latest")
        #expect(try stand.ask("/v2/a/manifests/latest")["Docker-Content-Digest"] == first)
        let second = stand.double.push("a", Manifests.image(note: "2"), tag: "latest")
        #expect(try stand.ask("/v2/a/manifests/latest")["Docker-Content-Digest"] == second)
        #expect(try stand.ask("/v2/a/manifests/\(first)").status == 200)
    }

    @Test func aManifestThatTheClientHasIsNotSentAgain() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        for reference in ["t", digest] {
            for method in [HTTPRequest.Method.get, .head] {
                let answer = try stand.ask(
                    "/v2/a/manifests/\(reference)", method: method,
                    [("If-None-Match", "\"\(digest)\"")])
                #expect(answer.status == 304 && answer.bytes.isEmpty)
                #expect(answer["ETag"] == "\"\(digest)\"")
            }
            let other = try stand.ask("/v2/a/manifests/\(reference)", [("If-None-Match", "\"x\"")])
            #expect(other.status == 200)
        }
    }

    @Test func aBlobComesWithItsFields() throws {
        let stand = RegistryStand()
        let bytes = Array("a layer".utf8)
        let digest = stand.double.pushBlob("a/b", bytes)
        for method in [HTTPRequest.Method.get, .head] {
            let answer = try stand.ask("/v2/a/b/blobs/\(digest)", method: method)
            #expect(answer.status == 200 && answer.count == 7)
            #expect(answer["Content-Type"] == "application/octet-stream")
            #expect(answer["Docker-Content-Digest"] == digest)
            #expect(answer["Accept-Ranges"] == "bytes")
            #expect(answer["ETag"] == "\"\(digest)\"")
            #expect(answer["Cache-Control"] == Self.forever)
            #expect(method == .head || answer.bytes == bytes)
        }
    }

    @Test(arguments: [
        (401, "UNAUTHORIZED"), (403, "DENIED"), (413, "UNSUPPORTED"), (429, "TOOMANYREQUESTS"),
        (503, "UNAVAILABLE"),
    ])
    func whatAServerRefusesBeforeHasTheErrorsOfOCI(_ status: Int, _ code: String) throws {
        for target in ["/v2", "/v2/", "/v2/a/manifests/t?ns=b", "/v2?a"] {
            let response = try #require(RegistryAPI.refusal(of: target, status: status))
            var answer = RegistryAnswer(status: response.status, fields: response.fields)
            answer.bytes = try RegistryStand.bytes(of: response.body)
            #expect(answer.status == status && answer.code == code)
            #expect(answer["Docker-Distribution-Api-Version"] == "registry/2.0")
        }
        for target in ["/", "/v20", "/ipfs/v2/", "/?/v2/", ""] {
            let response = RegistryAPI.refusal(of: target, status: status)
            #expect(response?.status == nil)
        }
        #expect(RegistryAPI.refusal(of: "/v2/", status: 414)?.status == nil)
    }

    @Test func anEmptyBlobIsOne() throws {
        let stand = RegistryStand()
        let digest = stand.double.pushBlob("a", [])
        let answer = try stand.ask("/v2/a/blobs/\(digest)")
        #expect(answer.status == 200 && answer.bytes.isEmpty && answer.count == 0)
    }

    @Test func rangesOfABlob() throws {
        let stand = RegistryStand()
        let digest = stand.double.pushBlob("a", Array("0123456789".utf8))
        let target = "/v2/a/blobs/\(digest)"
        for (range, text, place) in [
            ("bytes=0-1", "01", "bytes 0-1/10"), ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"), ("bytes=0-", "0123456789", "bytes 0-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
        ] {
            let answer = try stand.ask(target, [("Range", range)])
            #expect(answer.status == 206 && answer.text == text, "\(range)")
            #expect(answer["Content-Range"] == place)
            #expect(answer["Docker-Content-Digest"] == digest)
        }
        let beyond = try stand.ask(target, [("Range", "bytes=10-")])
        #expect(beyond.status == 416 && beyond.code == "RANGE_INVALID")
        #expect(beyond["Content-Range"] == "bytes */10")
        let stale = try stand.ask(target, [("Range", "bytes=0-1"), ("If-Range", "\"other\"")])
        #expect(stale.status == 200 && stale.bytes.count == 10)
    }

    /// As stargz-snapshotter and zstd:chunked ask.
    @Test func severalRangesOfABlobComeInOneAnswer() throws {
        let stand = RegistryStand()
        let digest = stand.double.pushBlob("a", Array("0123456789".utf8))
        let answer = try stand.ask("/v2/a/blobs/\(digest)", [("Range", "bytes=0-1,4-5,8-9")])
        #expect(answer.status == 206 && answer.count == UInt64(answer.bytes.count))
        let type = try #require(answer["Content-Type"])
        #expect(type.hasPrefix("multipart/byteranges; boundary="))
        for part in ["0-1/10\r\n\r\n01\r\n", "4-5/10\r\n\r\n45\r\n", "8-9/10\r\n\r\n89\r\n"] {
            #expect(answer.text.contains("Content-Range: bytes \(part)"))
        }
    }

    @Test func sha512IsServedAsSha256() throws {
        let stand = RegistryStand()
        let manifest = Manifests.index()
        let manifestDigest =
            "sha512:9aae944bbf9b4ac0e315830fe8c71f9cb51d9d9f40551cc110542f30eccc8d24"
            + "d4a7dc45070ac288d5cbd766596fd852016cc45ac91a9ce61303c66197064913"
        let blobDigest =
            "sha512:aac66980c9216f9efe407338be3cde85d069392ffc36054272bafd0236c86646"
            + "e2e9fc3547856e39f5b16fb1a175baeaaddcff28b28fefbdd299aa5586755593"
        stand.double.push("a", manifest, tag: "t", digest: manifestDigest)
        stand.double.pushBlob("a", Array("a blob".utf8), digest: blobDigest)
        for reference in ["t", manifestDigest] {
            let answer = try stand.ask("/v2/a/manifests/\(reference)")
            #expect(answer.status == 200 && answer.text == manifest)
            #expect(answer["Docker-Content-Digest"] == manifestDigest)
        }
        #expect(try stand.ask("/v2/a/blobs/\(blobDigest)").text == "a blob")
        // Another manifest under that digest.
        stand.double.push("b", Manifests.image(), digest: manifestDigest)
        #expect(try stand.ask("/v2/b/manifests/\(manifestDigest)").status == 500)
    }

    /// The stock registry keeps what is pushed by another digest under its SHA-256.
    @Test func aBlobThatIsLinkedByAnotherDigestComesFromWhereItIsKept() throws {
        let stand = RegistryStand()
        let bytes = Array("a blob".utf8)
        let blobDigest =
            "sha512:aac66980c9216f9efe407338be3cde85d069392ffc36054272bafd0236c86646"
            + "e2e9fc3547856e39f5b16fb1a175baeaaddcff28b28fefbdd299aa5586755593"
        let kept = stand.double.pushBlob("other", bytes)
        stand.double.write(
            Array(kept.utf8),
            to: RegistryDouble.blobPath("a", blobDigest, base: RegistryDouble.base))
        let answer = try stand.ask("/v2/a/blobs/\(blobDigest)")
        #expect(answer.status == 200 && answer.text == "a blob")
        #expect(answer["Docker-Content-Digest"] == blobDigest)
        // Linked by that digest alone.
        #expect(try stand.ask("/v2/a/blobs/\(kept)").status == 404)
    }

    // MARK: What is not there

    @Test func whatIsNotThereIs404WithItsCode() throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        let nothing = "sha256:" + String(repeating: "a", count: 64)
        for (target, code) in [
            ("/v2/a/manifests/other", "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/\(nothing)", "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/.INVALID_MANIFEST_NAME", "MANIFEST_UNKNOWN"),
            ("/v2/a/blobs/\(nothing)", "BLOB_UNKNOWN"),
            ("/v2/b/manifests/t", "NAME_UNKNOWN"), ("/v2/b/blobs/\(nothing)", "NAME_UNKNOWN"),
            ("/v2/b/tags/list", "NAME_UNKNOWN"),
            ("/v2/b/referrers/\(nothing)?ns=registry.example", "NAME_UNKNOWN"),
            ("/v2/a/blobs/uploads/0d7b", "BLOB_UPLOAD_UNKNOWN"),
        ] {
            let answer = try stand.ask(target)
            #expect(answer.status == 404 && answer.code == code, "\(target)")
            #expect(answer["Cache-Control"] == "no-store")
            #expect(answer["Docker-Distribution-Api-Version"] == "registry/2.0")
            #expect(try stand.ask(target, method: .head).status == 404)
        }
    }

    /// There is no 404 for the referrers of one digest, also where nobody knows the repository.
    @Test func nobodyRefersToWhatIsInNoRepository() throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        let answer = try stand.ask(
            "/v2/b/referrers/sha256:" + String(repeating: "a", count: 64))
        #expect(answer.status == 200)
        #expect(answer["Content-Type"] == "application/vnd.oci.image.index.v1+json")
        #expect(answer.text.contains(#""manifests":[]"#))
    }

    @Test func anotherRepositorysContentIsNotGiven() throws {
        let stand = RegistryStand()
        let manifest = stand.double.push("secret", Manifests.image(), tag: "t")
        let blob = stand.double.pushBlob("secret", Array("a key".utf8))
        stand.double.push("open", Manifests.index(), tag: "t")
        #expect(try stand.ask("/v2/secret/manifests/\(manifest)").status == 200)
        #expect(try stand.ask("/v2/open/manifests/\(manifest)").code == "MANIFEST_UNKNOWN")
        #expect(try stand.ask("/v2/secret/blobs/\(blob)").status == 200)
        #expect(try stand.ask("/v2/open/blobs/\(blob)").code == "BLOB_UNKNOWN")
        // A manifest is no blob, and a blob no manifest, as in the stock registry.
        #expect(try stand.ask("/v2/secret/blobs/\(manifest)").code == "BLOB_UNKNOWN")
        #expect(try stand.ask("/v2/secret/manifests/\(blob)").code == "MANIFEST_UNKNOWN")
    }

    @Test func whatGarbageCollectionLeftIs404() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        let blob = stand.double.pushBlob("a", [1])
        stand.double.remove(RegistryDouble.dataPath(digest))
        stand.double.remove(RegistryDouble.dataPath(blob))
        for target in ["manifests/t", "manifests/\(digest)", "blobs/\(blob)"] {
            #expect(try stand.ask("/v2/a/\(target)").status == 404)
            #expect(try stand.ask("/v2/a/\(target)", method: .head).status == 404)
        }
    }

    @Test func aManifestThatWasDeletedIsNotFoundByItsTagEither() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        #expect(try stand.ask("/v2/a/manifests/t").status == 200)
        stand.double.remove(RegistryDouble.manifestPath("a", digest))
        #expect(try stand.ask("/v2/a/manifests/t").code == "MANIFEST_UNKNOWN")
        #expect(try stand.ask("/v2/a/manifests/\(digest)").code == "MANIFEST_UNKNOWN")
    }

    @Test(arguments: ["", "sha256:", "sha256:xyz", "md5:00", "../../../../etc/passwd"])
    func aLinkThatIsNoneLeadsNowhere(_ link: String) throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        stand.double.write(Array(link.utf8), to: RegistryDouble.tagPath("a", "t"))
        #expect(try stand.ask("/v2/a/manifests/t").code == "MANIFEST_UNKNOWN")
    }

    // MARK: Damage

    @Test func aManifestWhoseBytesHaveAnotherDigestIsNeverGiven() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        stand.double.write(
            Array(Manifests.index().utf8), to: RegistryDouble.dataPath(digest))
        for _ in 0..<2 {
            for reference in ["t", digest] {
                let answer = try stand.ask("/v2/a/manifests/\(reference)")
                #expect(answer.status == 500 && answer.code == "UNKNOWN")
                #expect(try stand.ask("/v2/a/manifests/\(reference)", method: .head).status == 500)
            }
        }
        #expect(stand.logged.contains { $0.contains("/v2/a/manifests/\(digest)") })
    }

    @Test func aSmallBlobWhoseBytesHaveAnotherDigestIsNeverGiven() throws {
        let stand = RegistryStand()
        let digest = stand.double.pushBlob("a", [1, 2, 3])
        stand.double.write([1, 2, 4], to: RegistryDouble.dataPath(digest))
        let answer = try stand.ask("/v2/a/blobs/\(digest)")
        #expect(answer.status == 500 && answer.code == "UNKNOWN")
        #expect(!stand.logged.isEmpty)
    }

    @Test func aManifestBeyondFourMebibytesIsRefused() throws {
        let stand = RegistryStand()
        let head = Manifests.image()
        func padded(_ count: Int) -> String {
            head + String(repeating: " ", count: count - head.utf8.count)
        }
        stand.double.push("a", padded(4 << 20), tag: "fits")
        stand.double.push("a", padded(5 << 20), tag: "large")
        let fits = try stand.ask("/v2/a/manifests/fits")
        #expect(fits.status == 200 && fits.bytes.count == 4 << 20)
        let large = try stand.ask("/v2/a/manifests/large")
        #expect(large.status == 500 && large.code == "UNKNOWN")
        #expect(stand.logged.count == 1)
    }

    // MARK: Faults

    @Test func faultsOfTheContentBecomeStatuses() throws {
        let digest = RegistryDouble.digest(Array("a layer".utf8))
        for (fault, status, code) in [
            (ServeFault.unavailable, 503, "UNAVAILABLE"), (.timedOut, 504, "UNAVAILABLE"),
            (.failed(reason: "/secret/path: I/O error"), 500, "UNKNOWN"),
            (.damaged(.raw(sha256: [0])), 500, "UNKNOWN"),
            (.tooLarge(reason: "more than 3"), 500, "UNKNOWN"),
        ] {
            for target in [
                "manifests/t", "blobs/\(digest)", "tags/list", "referrers/\(digest)",
            ] {
                let stand = RegistryStand()
                stand.double.push("a", Manifests.image(), tag: "t")
                stand.double.pushBlob("a", Array("a layer".utf8))
                stand.double.fail("repositories/a/", fault)
                let answer = try stand.ask("/v2/a/\(target)")
                #expect(answer.status == status && answer.code == code, "\(target) \(fault)")
                #expect(answer["Retry-After"] == (status == 503 ? "1" : nil))
                #expect(!answer.text.contains("secret"))
                if status == 500 {
                    #expect(stand.logged.contains { $0.contains("/v2/a/\(target)") })
                } else {
                    #expect(stand.logged.isEmpty)
                }
            }
        }
    }

    @Test func whatNobodyHasTheBytesOfIsNotFound() throws {
        for fault in [ServeFault.notFound, .unsuitable(reason: "no UnixFS")] {
            let stand = RegistryStand()
            stand.double.push("a", Manifests.image(), tag: "t")
            let blob = stand.double.pushBlob("a", [1])
            stand.double.fail("whole \(CID.raw(sha256: Array(Manifests.image().utf8)))", fault)
            stand.double.fail("whole \(CID.raw(sha256: [1]))", fault)
            #expect(try stand.ask("/v2/a/manifests/t").code == "MANIFEST_UNKNOWN")
            #expect(try stand.ask("/v2/a/blobs/\(blob)").code == "BLOB_UNKNOWN")
            #expect(stand.logged.isEmpty)
        }
    }

    @Test func aMessageForTheLogIsOneLine() throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        stand.double.fail("tags/t/", .failed(reason: "one\ntwo\r\u{1b}[2J"))
        _ = try stand.ask("/v2/a/manifests/t")
        #expect(stand.logged.count == 1)
        let allPlain = stand.logged.allSatisfy { line in
            line.unicodeScalars.allSatisfy { $0.value >= 0x20 }
        }
        #expect(allPlain)
    }

    // MARK: Writes

    @Test(arguments: ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    func writesAreRefused(_ method: String) throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        let requestMethod = try #require(HTTPRequest.Method(method))
        for target in [
            "/v2/", "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/?mount=\(digest)&from=b",
            "/v2/a/blobs/uploads/0d7b", "/v2/a/manifests/t", "/v2/a/blobs/\(digest)",
            "/v2/_catalog",
            "/v2/../a",
        ] {
            let answer = try stand.ask(target, method: requestMethod)
            #expect(answer.status == 405 && answer.code == "UNSUPPORTED", "\(target)")
            #expect(answer["Allow"] == "GET, HEAD")
        }
        #expect(stand.double.takeCalls().isEmpty)
    }
}
