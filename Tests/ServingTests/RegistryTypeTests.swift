import HTTPTypes
import Serving
import Testing

/// What a manifest is called, by what it says and by its shape.
@Suite struct RegistryTypeTests {
    private static let docker = "application/vnd.docker.distribution.manifest"

    private func type(of manifest: String) throws -> String? {
        let stand = RegistryStand()
        let digest = stand.double.push("a", manifest, tag: "t")
        let first = try stand.ask("/v2/a/manifests/t")
        #expect(first.status == 200 && first.text == manifest)
        // What is remembered is the same.
        let head = try stand.ask("/v2/a/manifests/\(digest)", method: .head)
        #expect(head.status == 200 && head["Content-Type"] == first["Content-Type"])
        return first["Content-Type"]
    }

    @Test(arguments: [
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.oci.artifact.manifest.v1+json", "application/vnd.example.other+json",
    ])
    func aManifestIsCalledAsItCallsItself(_ name: String) throws {
        #expect(
            try type(of: "{\"schemaVersion\":2,\"mediaType\":\"\(name)\",\"config\":{}}") == name)
        #expect(try type(of: "{ \"config\" : {} ,\n\"media\\u0054ype\":\t\"\(name)\" }") == name)
        #expect(try type(of: "{\"mediaType\":\"\(name); charset=utf-8\"}") == name)
    }

    @Test func aManifestThatDoesNotSayIsCalledByItsShape() throws {
        for (manifest, name) in [
            ("{\"schemaVersion\":2,\"config\":{},\"layers\":[]}", Manifests.imageType),
            ("{\"schemaVersion\":2,\"manifests\":[]}", Manifests.indexType),
            ("{\"layers\":[{}]}", Manifests.imageType),
            (
                "{\"artifactType\":\"x/y\",\"blobs\":[]}",
                "application/vnd.oci.artifact.manifest.v1+json"
            ),
            ("{\"schemaVersion\":1,\"fsLayers\":[],\"history\":[]}", "\(Self.docker).v1+json"),
            (
                "{\"schemaVersion\":1,\"fsLayers\":[],\"signatures\":[{}]}",
                "\(Self.docker).v1+prettyjws"
            ),
            ("{\"signatures\":[]}", "\(Self.docker).v1+prettyjws"),
            ("{\"mediaType\":\"\",\"manifests\":[]}", Manifests.indexType),
            ("{\"mediaType\":7,\"manifests\":[]}", Manifests.indexType),
            ("{\"mediaType\":null,\"config\":{}}", Manifests.imageType),
        ] {
            #expect(try type(of: manifest) == name, "\(manifest)")
        }
    }

    @Test func whatIsBothImageAndIndexIsNeither() throws {
        #expect(
            try type(of: "{\"manifests\":[],\"config\":{},\"layers\":[]}") == "application/json")
    }

    @Test(arguments: [
        "text/html", "application/xhtml+xml", "application/javascript", "text/html+json",
        "application/x\\r\\nSet-Cookie: a+json", "application/ +json", "image/svg+xml",
    ])
    func noManifestHasABrowserTakeItForAPage(_ name: String) throws {
        let stand = RegistryStand()
        stand.double.push("a", "{\"mediaType\":\"\(name)\",\"manifests\":[]}", tag: "t")
        let answer = try stand.ask("/v2/a/manifests/t")
        #expect(answer["Content-Type"] == Manifests.indexType)
        #expect(answer["X-Content-Type-Options"] == "nosniff")
        #expect(answer["Set-Cookie"] == nil)
    }

    @Test func garbageIsGivenAsBytes() throws {
        let deep = String(repeating: "[", count: 10_000) + String(repeating: "]", count: 10_000)
        for manifest in [
            "", "garbage", "[]", "\"a\"", "{", "{}}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
            "{\"a\":01}", "{\"a\":\"\u{1}\"}", "\u{feff}{}", "{\"config\":{},\"a\":\(deep)}",
            String(repeating: "{\"a\":", count: 10_000),
        ] {
            #expect(try type(of: manifest) == "application/octet-stream", "\(manifest.prefix(40))")
        }
        #expect(try type(of: "{}") == "application/json")
        #expect(try type(of: "{\"a\":[[[1e5,-0.5,true,null]]]}") == "application/json")
    }

    @Test func ofMembersThatComeTwiceTheLastCounts() throws {
        #expect(
            try type(
                of:
                    "{\"mediaType\":\"\(Manifests.imageType)\",\"mediaType\":\"\(Manifests.indexType)\"}"
            )
                == Manifests.indexType)
    }
}
