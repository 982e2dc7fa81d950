import HTTPTypes
import Serving
import Testing

/// What the conformance suite of the distribution specification asks of pulls and of content discovery, with content that was there
/// before (its `OCI_RO_DATA_*`): each kind of data, and the order in which it asks.
@Suite struct RegistryConformanceTests {
    private static let repository = "myorg/myrepo"

    /// A manifest with all that it needs, as the suite pushes it.
    private struct Data {
        var name: String
        var manifest: String
        var type: String
        var blobs: [[UInt8]] = []
        /// Other manifests.
        var parts: [String] = []
        var subject: String?
    }

    private static func digest(_ text: String) -> String {
        RegistryDouble.digest(Array(text.utf8))
    }

    private static let data: [Data] = {
        let layers = [[UInt8]]([Array("layer 1".utf8), Array("layer 2".utf8)])
        let layerDigests = layers.map(RegistryDouble.digest)
        let empty = Array("{}".utf8)
        let image = Manifests.image(layers: layerDigests)
        let imageDigest = digest(image)
        let index = Manifests.index([imageDigest])
        let signature = Manifests.image(artifactType: "application/vnd.a", subject: imageDigest)
        let missing = "sha256:" + String(repeating: "0", count: 64)
        return [
            Data(
                name: "image", manifest: image, type: Manifests.imageType, blobs: layers + [empty]),
            Data(
                name: "index", manifest: index, type: Manifests.indexType, blobs: layers + [empty],
                parts: [image]),
            Data(
                name: "nested-index", manifest: Manifests.index([digest(index)]),
                type: Manifests.indexType, parts: [index, image]),
            Data(
                name: "sparse", manifest: Manifests.index([missing, imageDigest]),
                type: Manifests.indexType, parts: [image]),
            Data(
                name: "artifact",
                manifest: Manifests.image(
                    configType: "application/vnd.oci.empty.v1+json",
                    artifactType: "application/vnd.a"),
                type: Manifests.imageType, blobs: [empty]),
            Data(
                name: "subject", manifest: signature, type: Manifests.imageType, blobs: [empty],
                parts: [image], subject: imageDigest),
            Data(
                name: "missing-subject",
                manifest: Manifests.image(artifactType: "application/vnd.a", subject: missing),
                type: Manifests.imageType, blobs: [empty], subject: missing),
            Data(
                name: "subject-list",
                manifest: Manifests.index(
                    [imageDigest], artifactType: "application/vnd.b", subject: imageDigest),
                type: Manifests.indexType, parts: [image], subject: imageDigest),
            Data(
                name: "no-layers", manifest: Manifests.image(note: "none"),
                type: Manifests.imageType, blobs: [empty]),
            Data(
                name: "empty-blob",
                manifest: Manifests.image(layers: [RegistryDouble.digest([])]),
                type: Manifests.imageType, blobs: [[], empty]),
            Data(
                name: "custom-fields",
                manifest:
                    "{\"schemaVersion\":2,\"mediaType\":\"\(Manifests.imageType)\",\"x.y\":[{\"z\":1}],"
                    + "\"config\":\(Manifests.descriptor(RegistryDouble.digest(empty))),\"layers\":[]}",
                type: Manifests.imageType, blobs: [empty]),
        ]
    }()

    private func stand() -> RegistryStand {
        let stand = RegistryStand()
        for data in Self.data {
            for blob in data.blobs { stand.double.pushBlob(Self.repository, blob) }
            for part in data.parts { stand.double.push(Self.repository, part) }
            stand.double.push(Self.repository, data.manifest, tag: data.name)
        }
        return stand
    }

    @Test func pull() throws {
        let stand = stand()
        #expect(try stand.ask("/v2/").status == 200)
        let prefix = "/v2/\(Self.repository)"
        for data in Self.data {
            for blob in data.blobs {
                let digest = RegistryDouble.digest(blob)
                let head = try stand.ask("\(prefix)/blobs/\(digest)", method: .head)
                #expect(head.status == 200 && head.count == UInt64(blob.count))
                let get = try stand.ask("\(prefix)/blobs/\(digest)")
                #expect(get.status == 200 && RegistryDouble.digest(get.bytes) == digest)
                #expect(get["Docker-Content-Digest"] == digest)
                guard blob.count > 1 else { continue }
                let part = try stand.ask("\(prefix)/blobs/\(digest)", [("Range", "bytes=1-")])
                #expect(part.status == 206 && part.bytes == Array(blob[1...]))
            }
            let all = [data.manifest] + data.parts
            for manifest in all {
                let digest = Self.digest(manifest)
                for reference in [digest] + (manifest == data.manifest ? [data.name] : []) {
                    let target = "\(prefix)/manifests/\(reference)"
                    let accept = [("Accept", data.type)]
                    let head = try stand.ask(target, method: .head, accept)
                    #expect(head.status == 200 && head.count == UInt64(manifest.utf8.count))
                    #expect(head["Docker-Content-Digest"] == digest)
                    let get = try stand.ask(target, accept)
                    #expect(get.status == 200 && get.text == manifest)
                    #expect(get["Docker-Content-Digest"] == digest)
                    if manifest == data.manifest { #expect(get["Content-Type"] == data.type) }
                }
            }
        }
    }

    @Test func pullOfWhatIsNotThere() throws {
        let stand = stand()
        let prefix = "/v2/\(Self.repository)"
        let nothing = "sha256:" + String(repeating: "0", count: 64)
        for target in [
            "blobs/\(nothing)", "manifests/\(nothing)", "manifests/.INVALID_MANIFEST_NAME",
        ] {
            for method in [HTTPRequest.Method.get, .head] {
                #expect(try stand.ask("\(prefix)/\(target)", method: method).status == 404)
            }
            let code = try #require(try stand.ask("\(prefix)/\(target)").code)
            #expect(["BLOB_UNKNOWN", "MANIFEST_UNKNOWN"].contains(code))
        }
    }

    @Test func contentDiscovery() throws {
        let stand = stand()
        let target = "/v2/\(Self.repository)/tags/list"
        let names = Self.data.map(\.name).sorted()
        let all = try stand.ask(target)
        #expect(try all.status == 200 && all.list("tags") == names)
        let some = try stand.ask("\(target)?n=4")
        #expect(try some.list("tags") == Array(names[..<4]))
        let last = try #require(try some.list("tags").last)
        #expect(try stand.ask("\(target)?n=4&last=\(last)").list("tags") == Array(names[4..<8]))
        #expect(try stand.ask("\(target)?n=0").list("tags").isEmpty)
        #expect(try stand.follow("\(target)?n=3", "tags").names == names)
        #expect(try stand.ask("/v2/_catalog").list("repositories") == [Self.repository])
    }

    @Test func referrers() throws {
        let stand = stand()
        let prefix = "/v2/\(Self.repository)/referrers"
        for data in Self.data {
            let answer = try stand.ask("\(prefix)/\(data.subject ?? Self.digest(data.manifest))")
            #expect(answer.status == 200 && answer["Content-Type"] == Manifests.indexType)
            let isListed = answer.text.contains(Self.digest(data.manifest))
            #expect(isListed == (data.subject != nil), "\(data.name)")
        }
        let subject = try #require(Self.data.first { $0.name == "subject" }?.subject)
        let filtered = try stand.ask("\(prefix)/\(subject)?artifactType=application%2Fvnd.b")
        #expect(filtered["OCI-Filters-Applied"] == "artifactType")
        #expect(filtered.text.split(separator: "\"digest\":").count == 2)
        #expect(try stand.ask("\(prefix)/sha256:zz").status == 400)
    }
}
