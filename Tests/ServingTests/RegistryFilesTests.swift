import Serving
import Testing

/// A tree that is a registry of files, as `export-static` makes it.
@Suite struct RegistryFilesTests {
    /// Puts a manifest where it lies in such a tree, and blobs.
    @discardableResult
    private func put(
        _ manifest: String, in repository: String, tags: [String] = [], blobs: [[UInt8]] = [],
        to double: RegistryDouble, base: String = "v2/"
    ) -> String {
        let bytes = Array(manifest.utf8)
        let digest = RegistryDouble.digest(bytes)
        for name in tags + [digest] {
            double.write(bytes, to: "\(base)\(repository)/manifests/\(name)")
        }
        for blob in blobs {
            double.write(
                blob, to: "\(base)\(repository)/blobs/\(RegistryDouble.digest(blob))")
        }
        double.write(Array("{\"tags\":[]}".utf8), to: "\(base)\(repository)/tags/list")
        double.write(Array("{}".utf8), to: "\(base)_catalog")
        double.write(Array("{}".utf8), to: "\(base)index.html")
        return digest
    }

    @Test(arguments: ["v2/", ""]) func allIsPulledFromFiles(_ base: String) throws {
        let stand = RegistryStand()
        let manifest = Manifests.image()
        let digest = put(
            manifest, in: "team/app", tags: ["v1", "V1"], blobs: [[1, 2, 3]], to: stand.double,
            base: base)
        for reference in ["v1", "V1", digest] {
            let answer = try stand.ask("/v2/team/app/manifests/\(reference)")
            #expect(answer.status == 200 && answer.text == manifest)
            #expect(answer["Content-Type"] == Manifests.imageType)
            #expect(answer["Docker-Content-Digest"] == digest)
        }
        let blob = RegistryDouble.digest([1, 2, 3])
        #expect(try stand.ask("/v2/team/app/blobs/\(blob)").count == 3)
        #expect(
            try stand.ask("/v2/team/app/tags/list").text
                == "{\"name\":\"team/app\",\"tags\":[\"V1\",\"v1\"]}")
        #expect(try stand.ask("/v2/_catalog").text == "{\"repositories\":[\"team/app\"]}")
        for target in [
            "team/app/manifests/v2", "team/app/blobs/\(digest)", "team/manifests/v1",
            "team/app/manifests/manifests/v1",
        ] {
            #expect(try stand.ask("/v2/\(target)").status == 404, "\(target)")
        }
    }

    @Test func aFilesRegistryIsServedByItsRoot() throws {
        let stand = RegistryStand()
        let long = Manifests.image(note: String(repeating: "x", count: 3_000_000))
        let digest = put(long, in: "tags/list", tags: ["v1"], to: stand.double)
        let signature = Manifests.image(subject: digest)
        put(signature, in: "tags/list", to: stand.double)
        let root = try stand.double.seal()
        let path = "/v2/ipfs/\(root)/tags/list"
        // More than one leaf, so that its CID does not tell the digest.
        #expect(try stand.ask("\(path)/manifests/v1")["Docker-Content-Digest"] == digest)
        #expect(
            try stand.ask("/v2/ipfs/\(root)/_catalog").text
                == "{\"repositories\":[\"tags/list\"]}")
        let referrers = try stand.ask("\(path)/referrers/\(digest)").text
        #expect(referrers.contains(RegistryDouble.digest(Array(signature.utf8))))
    }

    @Test func theStockLayoutComesFirst() throws {
        let stand = RegistryStand()
        let manifest = Manifests.image()
        put(manifest, in: "old", tags: ["v1"], to: stand.double)
        stand.double.push("new", manifest, tag: "v1")
        #expect(try stand.ask("/v2/_catalog").text == "{\"repositories\":[\"new\"]}")
        #expect(try stand.ask("/v2/old/manifests/v1").status == 404)
    }

    @Test func aTagWithoutItsDigestIsNone() throws {
        let stand = RegistryStand()
        put(Manifests.image(), in: "a", tags: ["v1"], to: stand.double)
        stand.double.write(Array(Manifests.image(note: "x").utf8), to: "v2/a/manifests/v2")
        stand.double.write(
            Array("other".utf8),
            to: "v2/a/manifests/\(RegistryDouble.digest(Array("these".utf8)))")
        #expect(try stand.ask("/v2/a/manifests/v1").status == 200)
        #expect(try stand.ask("/v2/a/manifests/v2").status == 404)
        let forged = RegistryDouble.digest(Array("these".utf8))
        #expect(try stand.ask("/v2/a/manifests/\(forged)").status >= 500)
    }
}
