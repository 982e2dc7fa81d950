import Foundation
import RegistryLayout
import RegistryNames
import Testing

@Suite struct ContentsTests {
    private func digests(_ contents: RepositoryContents) -> (Set<String>, Set<String>) {
        (Set(contents.manifests.keys.map(\.text)), Set(contents.blobs.map(\.text)))
    }

    @Test func patternsNameWhatTheySay() throws {
        let disk = try RegistryDisk()
        for name in ["a", "a/b", "a/b/c", "team/app", "team-x/app"] {
            _ = try disk.image(name, in: name, tag: "v1")
        }
        func names(_ patterns: String...) throws -> [String] {
            try disk.registry().repositories(
                matching: try patterns.map { try RepositoryPattern($0) })
        }
        #expect(try names("*") == ["a", "a/b", "a/b/c", "team-x/app", "team/app"])
        #expect(try names("a") == ["a"])
        #expect(try names("a/*") == ["a/b", "a/b/c"])
        #expect(try names("*/app:v*") == ["team-x/app", "team/app"])
        #expect(try names("a/*/c", "team/app") == ["a/b/c", "team/app"])
        #expect(try names("none", "none/*") == [])
        for text in [
            "", ":", "a:", "A", "a//b", "/a", "a/", "../a", "a/..", "a:b c", "a/_x", "a:-x",
        ] {
            #expect(throws: LayoutError.self, "\(text)") { try RepositoryPattern(text) }
        }
    }

    @Test func oneTagBringsWhatItReachesAndNothingElse() throws {
        let disk = try RegistryDisk()
        let one = try disk.image("one", in: "app", tag: "v1")
        let two = try disk.image("two", in: "app", tag: "v2")
        let (manifests, blobs) = digests(try #require(try disk.contents("app:v1").first))
        #expect(manifests == [one.manifest])
        #expect(blobs == [one.config, one.layer])
        let both = try #require(try disk.contents("app:v*").first)
        #expect(both.tags.map(\.tag) == ["v1", "v2"])
        #expect(digests(both).0 == [one.manifest, two.manifest])
        #expect(both.faults == [])
    }

    @Test func indexesBringWhatTheyListDeepDown() throws {
        let disk = try RegistryDisk()
        let image = try disk.image("image", in: "app")
        var list = try disk.manifest(RegistryDisk.index([image.manifest]), in: "app")
        var all: Set = [image.manifest, list]
        for _ in 0..<300 {
            list = try disk.manifest(RegistryDisk.index([list, image.manifest]), in: "app")
            all.insert(list)
        }
        try disk.tag("deep", list, in: "app")
        let (manifests, blobs) = digests(try #require(try disk.contents("app:deep").first))
        #expect(manifests == all)
        #expect(blobs == [image.config, image.layer])
    }

    @Test func signaturesTravelWithTheirImage() throws {
        let disk = try RegistryDisk()
        let image = try disk.image("image", in: "app", tag: "v1")
        let other = try disk.image("other", in: "app", tag: "v2")
        let hex = RegistryDisk.hex(image.manifest)
        let signature = try disk.image("sig", in: "app", tag: "sha256-\(hex).sig")
        let attestation = try disk.image("att", in: "app", subject: image.manifest)
        // Of the attestation, so of the image as well.
        let signed = try disk.image(
            "sig of att", in: "app", tag: "sha256-\(RegistryDisk.hex(attestation.manifest))")
        _ = try disk.image(
            "sig of other", in: "app", tag: "sha256-\(RegistryDisk.hex(other.manifest)).sig")
        _ = try disk.image("att of other", in: "app", subject: other.manifest)

        let contents = try #require(try disk.contents("app:v1").first)
        #expect(
            digests(contents).0 == [
                image.manifest, signature.manifest, attestation.manifest, signed.manifest,
            ])
        #expect(contents.tags.count == 3)
    }

    @Test func whatIsAnotherRepositorysIsNotGiven() throws {
        let disk = try RegistryDisk()
        let secret = try disk.image("secret", in: "secret/app", tag: "v1")
        let config = try disk.layer("{}", in: "app")
        _ = try disk.manifest(
            RegistryDisk.image(config: config, layer: secret.layer), in: "app", tag: "thief")
        _ = try disk.manifest(RegistryDisk.index([secret.manifest]), in: "app", tag: "list")
        try disk.tag("stolen", secret.manifest, in: "app")
        for contents in [try disk.contents("app"), try disk.wholeContents("app")] {
            let contents = try #require(contents.first)
            #expect(!contents.blobs.map(\.text).contains(secret.layer))
            #expect(!contents.manifests.keys.map(\.text).contains(secret.manifest))
            #expect(contents.tags.map(\.tag) == ["list", "thief"])
            #expect(!contents.faults.isEmpty)
        }
    }

    @Test func whatWasDeletedIsNotGiven() throws {
        let disk = try RegistryDisk()
        let gone = try disk.image("gone", in: "app")
        let kept = try disk.image("kept", in: "app", tag: "v1")
        let link =
            "repositories/app/_manifests/revisions/sha256/\(RegistryDisk.hex(gone.manifest))/link"
        try FileManager.default.removeItem(atPath: disk.base + "/" + link)
        let (manifests, blobs) = digests(try #require(try disk.wholeContents("app").first))
        #expect(manifests == [kept.manifest])
        #expect(blobs == [kept.config, kept.layer])
    }

    @Test func missingAndForeignBlobsAreToldApart() throws {
        let disk = try RegistryDisk()
        let config = try disk.layer("{}", in: "app")
        let absent = RegistryDisk.digest(of: Array("absent".utf8))
        let elsewhere = RegistryDisk.digest(of: Array("elsewhere".utf8))
        _ = try disk.manifest(
            "{\"config\":{\"digest\":\"\(config)\"},\"layers\":[{\"digest\":\"\(absent)\"},"
                + "{\"digest\":\"\(elsewhere)\",\"urls\":[\"https://example.org/x\"]}]}",
            in: "app", tag: "v1")
        let contents = try #require(try disk.contents("app").first)
        #expect(contents.blobs.map(\.text) == [config])
        #expect(contents.faults.count == 1)
        #expect(contents.faults.first?.contains(absent) == true)
    }

    @Test func hostileFilesAreLeftOutAndTold() throws {
        let disk = try RegistryDisk()
        let good = try disk.image("good", in: "app", tag: "good")
        // A manifest with other bytes than its digest's, one that is too long, one that is no JSON.
        let forged = try disk.manifest("{\"layers\":[]}", in: "app", tag: "forged")
        try disk.write(Array("{\"layers\":[1]}".utf8), to: disk.blobPath(forged))
        let long = "{\"x\":\"" + String(repeating: "x", count: 4 << 20) + "\"}"
        _ = try disk.manifest(long, in: "app", tag: "long")
        let binary = try disk.manifest("\u{1}binary", in: "app", tag: "binary")
        // Links that are none: too long, no digest, a directory, a symlink, a pipe.
        let tags = "repositories/app/_manifests/tags"
        try disk.write([UInt8](repeating: 0x61, count: 5000), to: "\(tags)/longlink/current/link")
        try disk.write(Array("sha256:zz".utf8), to: "\(tags)/nodigest/current/link")
        try disk.write([], to: "\(tags)/directory/current/link/x")
        try disk.write([], to: "\(tags)/symlink/current/x")
        try disk.write([], to: "\(tags)/pipe/current/x")
        try FileManager.default.createSymbolicLink(
            atPath: disk.base + "/\(tags)/symlink/current/link",
            withDestinationPath: disk.base + "/\(tags)/good/current/link")
        #expect(mkfifo(disk.base + "/\(tags)/pipe/current/link", 0o600) == 0)
        // Names that are no tags and no repositories.
        try disk.tag("..hidden", good.manifest, in: "app")
        try disk.tag("-dash", good.manifest, in: "app")
        try disk.write([], to: "repositories/UPPER/_manifests/tags/v1/current/link")
        try FileManager.default.createSymbolicLink(
            atPath: disk.base + "/repositories/linked",
            withDestinationPath: disk.base + "/repositories/app")

        let all = try disk.contents("*")
        #expect(all.map(\.name) == ["app"])
        let contents = try #require(all.first)
        #expect(contents.tags.map(\.tag) == ["binary", "good"])
        #expect(digests(contents).0 == [good.manifest, binary])
        #expect(contents.faults.contains { $0.contains(forged) && $0.contains("other bytes") })
        #expect(contents.faults.contains { $0.contains("more than a manifest may have") })
    }

    @Test func faultsAreBounded() throws {
        let disk = try RegistryDisk()
        let layers = (0..<1000).map { RegistryDisk.digest(of: Array("\($0)".utf8)) }
        _ = try disk.manifest(
            "{\"layers\":[\(layers.map { "{\"digest\":\"\($0)\"}" }.joined(separator: ","))]}",
            in: "app", tag: "v1")
        #expect(try disk.contents("app").first?.faults.count == 21)
    }

    @Test func referencesAreReadOfAllKinds() {
        let digests = (0..<6).map { RegistryDisk.digest(of: [UInt8($0)]) }
        let references = ManifestReferences(
            Array(
                """
                {"config":{"digest":"\(digests[0])"},"layers":[{"digest":"\(digests[1])","x":[{}]},1,null],
                "blobs":[{"digest":"\(digests[2])"}],"fsLayers":[{"blobSum":"\(digests[3])"}],
                "manifests":[{"digest":"\(digests[4])"},{"digest":7},{"digest":"sha256:ABC"}],"history":[[[]]]}
                """.utf8))
        #expect(references.blobs.map(\.text) == Array(digests[...3]))
        #expect(references.manifests.map(\.text) == [digests[4]])
        for text in ["", "[]", "{", "{\"layers\":[{\"digest\":\"\(digests[0])\"}", "nul"] {
            #expect(ManifestReferences(Array(text.utf8)).blobs == [], "\(text)")
        }
    }
}
