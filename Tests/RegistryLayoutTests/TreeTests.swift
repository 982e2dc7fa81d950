import Foundation
import RegistryLayout
import Serving
import Testing

@Suite struct TreeTests {
    private func tree(_ disk: RegistryDisk, _ pattern: String = "*") throws -> StaticTree {
        try StaticTree(try disk.contents(pattern))
    }

    private func number(_ path: String) throws -> UInt64 {
        var status = stat()
        try #require(stat(path, &status) == 0, "\(path)")
        return UInt64(status.st_ino)
    }

    @Test func aStaticTreeHasWhatPullingNeeds() throws {
        let disk = try RegistryDisk()
        let image = try disk.image("image", in: "team/app", tag: "v1")
        try disk.tag("V1", image.manifest, in: "team/app")
        let tree = try tree(disk)
        #expect(
            tree.tree.paths
                == [
                    "_redirects", "v2/_404.json", "v2/_catalog", "v2/index.html",
                    "v2/team/app/blobs/\(image.config)", "v2/team/app/blobs/\(image.layer)",
                    "v2/team/app/manifests/V1", "v2/team/app/manifests/\(image.manifest)",
                    "v2/team/app/manifests/v1", "v2/team/app/tags/list",
                ].sorted())
        _ = try disk.syncStatic(tree, .links)
        #expect(disk.made() == tree.tree.paths)
        #expect(disk.content("v2/_catalog") == "{\"repositories\":[\"team/app\"]}")
        #expect(
            disk.content("v2/team/app/tags/list")
                == "{\"name\":\"team/app\",\"tags\":[\"V1\",\"v1\"]}")
        #expect(
            try number(disk.target + "/v2/team/app/manifests/v1")
                == number(disk.base + "/" + disk.blobPath(image.manifest)))
        #expect(
            tree.types.map(\.path).contains("/v2/team/app/manifests/\(image.manifest)")
                && tree.types.allSatisfy { $0.mediaType == RegistryDisk.imageType })
    }

    @Test func referrersAreListedForBothWaysOfAsking() throws {
        let disk = try RegistryDisk()
        let image = try disk.image("image", in: "app", tag: "v1")
        let signature = try disk.image("sig", in: "app", subject: image.manifest)
        let tree = try tree(disk)
        _ = try disk.syncStatic(tree, .copies)
        let list = try #require(disk.content("v2/app/referrers/\(image.manifest)"))
        #expect(list.contains(signature.manifest))
        let tag = "sha256-\(RegistryDisk.hex(image.manifest))"
        #expect(disk.content("v2/app/manifests/\(tag)") == list)
        let digest = RegistryDisk.digest(of: Array(list.utf8))
        #expect(disk.content("v2/app/manifests/\(digest)") == list)
        #expect(disk.content("v2/app/tags/list")?.contains(tag) == true)
        // The repository's own list of that tag stays.
        let own = try disk.manifest(RegistryDisk.index([signature.manifest]), in: "app", tag: tag)
        _ = try disk.syncStatic(try self.tree(disk), .copies)
        #expect(
            RegistryDisk.digest(of: Array((disk.content("v2/app/manifests/\(tag)") ?? "").utf8))
                == own)
    }

    @Test func namesThatNoFileServerCanTellApartAreRefused() throws {
        for name in ["a/manifests", "a/blobs/b", "a/tags", "index.html", "x/referrers"] {
            let disk = try RegistryDisk()
            _ = try disk.image("image", in: name, tag: "v1")
            #expect(throws: LayoutError.self, "\(name)") { try self.tree(disk) }
        }
        let disk = try RegistryDisk()
        _ = try disk.image("image", in: "tags/list", tag: "v1")
        #expect(try tree(disk).tagCount == 1)
    }

    @Test(arguments: [TreeSync.Style.links, .copies])
    func aSecondTimeOnlyWhatDiffersIsMade(_ style: TreeSync.Style) throws {
        let disk = try RegistryDisk()
        for number in 0..<20 {
            _ = try disk.image("\(number)", in: "app\(number % 3)", tag: "v\(number)")
        }
        // What a crash may leave goes with the first look.
        let left = disk.target + "/v2/app1/blobs/\(TreeSync.temporaryName)"
        try FileManager.default.createDirectory(
            atPath: (left as NSString).deletingLastPathComponent,
            withIntermediateDirectories: true)
        try Data([1]).write(to: URL(fileURLWithPath: left))
        #expect(try disk.syncStatic(try StaticTree([]), style).removed == 1)
        try FileManager.default.removeItem(atPath: disk.target + "/v2")
        try FileManager.default.removeItem(atPath: disk.target + "/_redirects")

        let first = try disk.syncStatic(try tree(disk), style)
        #expect(first.made == disk.made().count && first.replaced + first.removed + first.kept == 0)
        let second = try disk.syncStatic(try tree(disk), style)
        #expect(second.isEmpty && second.kept == first.made && second.copiedBytes == 0)

        let new = try disk.image("new", in: "app1", tag: "new")
        let third = try disk.syncStatic(try tree(disk), style)
        // The manifest under both names, config, layer; and the list of tags.
        #expect(third.made == 4 && third.replaced == 1 && third.removed == 0)

        // A tag moves, a tag and a repository go.
        try disk.tag("v1", new.manifest, in: "app1")
        let manifests = disk.base + "/repositories/app1/_manifests/tags"
        try FileManager.default.removeItem(atPath: manifests + "/v4")
        try FileManager.default.removeItem(atPath: disk.base + "/repositories/app2")
        let tree = try tree(disk)
        let fourth = try disk.syncStatic(tree, style)
        #expect(fourth.made == 0 && fourth.replaced == 3 && fourth.removed > 0)
        #expect(disk.made() == tree.tree.paths)
        #expect(!FileManager.default.fileExists(atPath: disk.target + "/v2/app2"))
        #expect(disk.content("v2/app1/manifests/v1") == disk.content("v2/app1/manifests/new"))
    }

    @Test func copiesOfOneDigestAreOneFile() throws {
        let disk = try RegistryDisk()
        let one = try disk.image("same", in: "a", tag: "v1")
        _ = try disk.image("same", in: "b", tag: "v1")
        let changes = try disk.syncStatic(try tree(disk), .copies)
        #expect(changes.copiedBytes < 1000)
        let place = disk.target + "/v2"
        #expect(
            try number("\(place)/a/blobs/\(one.layer)") == number("\(place)/b/blobs/\(one.layer)"))
        #expect(
            try number("\(place)/a/manifests/v1") == number("\(place)/b/manifests/\(one.manifest)"))
        #expect(
            try number("\(place)/a/blobs/\(one.layer)")
                != number(disk.base + "/" + disk.blobPath(one.layer)))
    }

    @Test func whatStandsInTheWayGoesAndOthersStay() throws {
        let disk = try RegistryDisk()
        _ = try disk.image("image", in: "app", tag: "v1")
        let files = FileManager.default
        try files.createDirectory(
            atPath: disk.target + "/v2/app/manifests/v1/deep", withIntermediateDirectories: true)
        try files.createDirectory(
            atPath: disk.target + "/v2/old/blobs", withIntermediateDirectories: true)
        try Data([1]).write(to: URL(fileURLWithPath: disk.target + "/v2/app/blobs"))
        try Data([1]).write(to: URL(fileURLWithPath: disk.target + "/mine"))
        try files.createSymbolicLink(
            atPath: disk.target + "/v2/app/tags", withDestinationPath: disk.path)
        let tree = try tree(disk)
        _ = try disk.syncStatic(tree, .links)
        #expect(disk.made() == (tree.tree.paths + ["mine"]).sorted())
        #expect(!files.fileExists(atPath: disk.path + "/list"))
    }

    @Test func aRegistryAtWorkIsNotSweptAway() throws {
        let disk = try RegistryDisk()
        _ = try disk.image("image", in: "app", tag: "v1")
        let data = disk.target + "/v2/repositories/x/_uploads/1/data"
        try FileManager.default.createDirectory(
            atPath: (data as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data([1]).write(to: URL(fileURLWithPath: data))
        #expect(throws: LayoutError.self) { try disk.syncStatic(try self.tree(disk), .links) }
        #expect(disk.made() == ["v2/repositories/x/_uploads/1/data"])
    }

    @Test func aDomainsTreeHasItsRepositoriesAlone() throws {
        let disk = try RegistryDisk()
        let image = try disk.image("image", in: "a.example/app", tag: "v1")
        let old = try disk.image("old", in: "a.example/app")
        _ = try disk.image("secret", in: "b.example/app", tag: "v1")
        let repository = "repositories/a.example/app"
        try disk.write([1], to: "\(repository)/_uploads/1/data")
        // A blob of a manifest that was deleted: its link stays behind.
        _ = try disk.layer("left behind", in: "a.example/app")
        try disk.link(
            old.manifest,
            "\(repository)/_manifests/tags/v1/index/sha256/\(RegistryDisk.hex(old.manifest))/link")
        let registry = try disk.registry()
        let tree = try WantedTree.ofDomain(try disk.wholeContents("a.example/*"), in: registry)
        let base = "docker/registry/v2"
        let hex = RegistryDisk.hex
        var paths: [String] = []
        for (manifest, config, layer) in [image, old] {
            paths += [manifest, config, layer].map { "\(base)/\(disk.blobPath($0))" }
            paths.append("\(base)/\(repository)/_manifests/revisions/sha256/\(hex(manifest))/link")
            paths.append(
                "\(base)/\(repository)/_manifests/tags/v1/index/sha256/\(hex(manifest))/link")
            paths += [config, layer].map { "\(base)/\(repository)/_layers/sha256/\(hex($0))/link" }
        }
        paths.append("\(base)/\(repository)/_manifests/tags/v1/current/link")
        #expect(tree.paths == paths.sorted())
    }

    @Test func ranksFollowWhatLeadsToWhat() {
        func rank(_ path: String) -> MakingRank {
            StaticTree.rank(path.split(separator: "/").map(String.init))
        }
        // Whoever finds a part of a tree knows by this file whose it is.
        #expect(rank("v2/index.html") == .mark && MakingRank.allCases.first == .mark)
        #expect(rank("v2/a/blobs/sha256:00") == .blobs)
        #expect(rank("v2/a/manifests/sha256:00") == .manifests)
        #expect(rank("v2/a/manifests/v1") == .tags)
        #expect(rank("v2/a/tags/list") == .lists)
        #expect(rank("v2/_catalog") == .lists)
        func domain(_ path: String) -> MakingRank {
            WantedTree.rankInDomain(
                "docker/registry/v2/\(path)".split(separator: "/").map(String.init))
        }
        #expect(domain("blobs/sha256/00/00/data") == .blobs)
        #expect(domain("repositories/blobs/_manifests/revisions/sha256/00/link") == .manifests)
        #expect(domain("repositories/a/_layers/sha256/00/link") == .manifests)
        #expect(domain("repositories/a/_manifests/tags/v1/current/link") == .tags)
    }
}
