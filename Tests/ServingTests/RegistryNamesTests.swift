import Base
import HTTPTypes
import Multiformats
import Serving
import Testing

@Suite struct RegistryNamesTests {
    private static let nothing = "sha256:" + String(repeating: "a", count: 64)

    @Test(arguments: [
        "a", "library/alpine", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", "docker.io/library/x",
        "a/manifests", "manifests/manifests", "a/blobs/b", "tags/list", "a/tags/list",
        "referrers/x",
        "v2", "ipfs", "ipfs/kubo", "ipfs/a/b", "blobs", "uploads/x",
    ])
    func namesMayHaveAnyComponents(_ name: String) throws {
        let stand = RegistryStand()
        let manifest = stand.double.push(name, Manifests.image(), tag: "t")
        let blob = stand.double.pushBlob(name, [1, 2])
        #expect(try stand.ask("/v2/\(name)/manifests/t")["Docker-Content-Digest"] == manifest)
        #expect(try stand.ask("/v2/\(name)/manifests/\(manifest)").status == 200)
        #expect(try stand.ask("/v2/\(name)/blobs/\(blob)").bytes == [1, 2])
        let tags = try stand.ask("/v2/\(name)/tags/list")
        #expect(tags.text == "{\"name\":\"\(name)\",\"tags\":[\"t\"]}")
        #expect(try stand.ask("/v2/\(name)/referrers/\(manifest)").status == 200)
    }

    @Test(arguments: [
        "A", "a/B", "a/_b", "_uploads", "a..b", "a.-b", "a___b", "-a", "a-", ".a", "a.", "a//b",
        "a b",
        "a%2Fb", "%2e%2e/a", "../a", "./a", "a/../b", "a%00", "a:5000", "\u{e9}", "a%FF", "a%0A",
    ])
    func namesThatAreNoneAreRefused(_ name: String) throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        for target in [
            "manifests/t", "blobs/\(Self.nothing)", "tags/list", "referrers/\(Self.nothing)",
        ] {
            let answer = try stand.ask("/v2/\(name)/\(target)")
            #expect(answer.status == 400 && answer.code == "NAME_INVALID", "\(name)/\(target)")
        }
        #expect(stand.double.takeCalls().isEmpty)
    }

    @Test func nameOf256BytesIsRefused() throws {
        let stand = RegistryStand()
        for (name, code) in [
            (String(repeating: "a", count: 255), "NAME_UNKNOWN"),
            (String(repeating: "a", count: 256), "NAME_INVALID"),
            (String(repeating: "a/", count: 127) + "a", "NAME_UNKNOWN"),
            (String(repeating: "a/", count: 128) + "a", "NAME_INVALID"),
            (String(repeating: "a/", count: 30_000) + "a", "NAME_INVALID"),
        ] {
            #expect(try stand.ask("/v2/\(name)/tags/list").code == code)
        }
    }

    @Test(arguments: [
        "sha256:", "sha256:abc", "sha256:\(String(repeating: "A", count: 64))",
        "sha256:\(String(repeating: "a", count: 63))g",
        "sha512:\(String(repeating: "a", count: 64))",
        "sha384:\(String(repeating: "a", count: 96))", ":", "a:b", "sha256:../../x",
        "sha256:\(String(repeating: "a", count: 65))",
        "SHA256:\(String(repeating: "a", count: 64))",
    ])
    func digestsThatAreNoneAreRefused(_ digest: String) throws {
        let stand = RegistryStand()
        let escaped = digest.split(separator: "/", omittingEmptySubsequences: false)
            .joined(separator: "%2F")
        for target in ["manifests", "blobs", "referrers"] {
            let answer = try stand.ask("/v2/a/\(target)/\(escaped)")
            #expect(answer.status == 400 && answer.code == "DIGEST_INVALID", "\(target)/\(digest)")
        }
        #expect(try stand.ask("/v2/a/blobs/latest").code == "DIGEST_INVALID")
        #expect(stand.double.takeCalls().isEmpty)
    }

    @Test(arguments: [
        ".hidden", "-a", "a%2Fb", "..", "%2e%2e", "a%20b", "a%00",
        String(repeating: "a", count: 129),
    ])
    func tagsThatAreNoneAreNotFound(_ tag: String) throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        #expect(try stand.ask("/v2/a/manifests/\(tag)").code == "MANIFEST_UNKNOWN")
        #expect(stand.double.takeCalls().isEmpty)
    }

    @Test func tagsHaveTheirGrammar() throws {
        let stand = RegistryStand()
        for tag in ["_", "A", "0", "v1.2.3-rc_1", String(repeating: "a", count: 128)] {
            let digest = stand.double.push("a", Manifests.image(note: tag), tag: tag)
            #expect(try stand.ask("/v2/a/manifests/\(tag)")["Docker-Content-Digest"] == digest)
        }
    }

    @Test(arguments: [
        "/", "/v1/", "/v2/a", "/v2/a/", "/v2/a/manifests", "/v2/a/manifests/t/", "/v2//",
        "/v2/_catalog/",
        "/v2/a/tags", "/v2/a/tags/other", "/v2/a/other/t", "/v2/ipfs", "/v22/a/manifests/t",
        "/x/v2/",
    ])
    func whatIsNoEndpointIsNotFound(_ target: String) throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        let answer = try stand.ask(target)
        #expect(answer.status == 404 && answer.code == "NAME_UNKNOWN")
    }

    @Test func percentSignsInDigestsAndTagsAreDecodedOnce() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        let escaped = digest.split(separator: ":").joined(separator: "%3A")
        #expect(try stand.ask("/v2/a/manifests/\(escaped)").status == 200)
        #expect(try stand.ask("/v2/%61/manifests/%74").status == 200)
        #expect(try stand.ask("/v2/a/manifests/%2574").status == 404)
    }

    @Test func whatAClientWroteIsEscapedInAnErrorBody() throws {
        let answer = try RegistryStand().ask("/v2/a%22%0A%5C%01/tags/list")
        #expect(answer.code == "NAME_INVALID")
        #expect(answer.text.contains("\"detail\":{\"name\":\"a\\\"\\u000a\\\\\\u0001\"}"))
    }

    @Test func noTargetLeadsOutOfTheRegistry() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("RegistryNamesTests seed \(seed)")
        var generator = RegistrySeeded(state: seed)
        let stand = RegistryStand()
        let digest = stand.double.push("a/b", Manifests.image(), tag: "t")
        stand.double.write(Array("secret".utf8), to: "secret")
        stand.double.write(
            Array("secret".utf8), to: "\(RegistryDouble.base)/repositories/a/b/_uploads/u/data")
        let parts = [
            "a", "b", "v2", "manifests", "blobs", "tags", "list", "referrers", "_catalog", "ipfs",
            "t", digest,
            "..", ".", "%2e%2e", "%2F", "..%2F..", "%00", "_uploads", "_manifests", "u", "data",
            "secret",
            "", "%", "%zz", "?n=1", "?last=../..", "?last=%2F%2E%2E%2F", "&ns=..", "?ns=a", "#",
            "\u{e9}",
        ]
        for _ in 0..<20_000 {
            var target = "/v2"
            for _ in 0..<Int.random(in: 1...7, using: &generator) {
                let part = parts.randomElement(using: &generator) ?? ""
                target += (part.hasPrefix("?") || part.hasPrefix("&") ? "" : "/") + part
            }
            guard let request = ServeRequest(method: .get, target: target) else { continue }
            let response = stand.registry.respond(to: request)
            #expect([200, 400, 404].contains(response.status), "\(target)")
            let body = String(decoding: try RegistryStand.bytes(of: response.body), as: UTF8.self)
            #expect(response.status != 200 || !body.contains("secret"), "\(target)")
            for call in stand.double.takeCalls() where !call.hasPrefix("whole") {
                let path = call.split(separator: " ")[1].split(
                    separator: "/", omittingEmptySubsequences: false)
                let isWithin = path.first == "docker" || path.first == "repositories"
                // A tag may be called so.
                let isPlain = zip([""] + path, path).allSatisfy { parent, name in
                    !["", ".", ".."].contains(name) && (name != "_uploads" || parent == "tags")
                }
                #expect(isWithin && isPlain, "\(target) asked for \(call)")
            }
        }
        #expect(stand.logged.isEmpty)
    }

    // MARK: Namespaces

    @Test func aNamespaceIsLookedAtFirst() throws {
        let stand = RegistryStand()
        let scoped = stand.double.push("docker.io/library/x", Manifests.image(note: "s"), tag: "t")
        let plain = stand.double.push("library/x", Manifests.image(note: "p"), tag: "t")
        let only = stand.double.push("library/x", Manifests.image(note: "o"), tag: "only")
        let blob = stand.double.pushBlob("docker.io/library/x", [1])
        let target = "/v2/library/x/manifests"
        let found = try stand.ask("\(target)/t?ns=docker.io")
        #expect(found["Docker-Content-Digest"] == scoped && found["OCI-Namespace"] == "docker.io")
        #expect(try stand.ask("\(target)/\(scoped)?ns=docker.io")["OCI-Namespace"] == "docker.io")
        let layer = try stand.ask("/v2/library/x/blobs/\(blob)?ns=docker.io")
        #expect(layer.status == 200 && layer["OCI-Namespace"] == "docker.io")
        // What only the plain name has is found as well, and not called the namespace's.
        for (query, tag, digest) in [
            ("?ns=docker.io", "only", only), ("?ns=ghcr.io", "t", plain), ("", "t", plain),
            ("?ns=localhost:5000", "t", plain), ("?ns=", "t", plain),
            ("?ns=../docker.io", "t", plain), ("?ns=docker.io%0d%0aX:1", "t", plain),
            ("?ns=docker.io%2Flibrary", "t", plain),
        ] {
            let answer = try stand.ask("\(target)/\(tag)\(query)")
            #expect(answer["Docker-Content-Digest"] == digest, "\(query)")
            #expect(answer["OCI-Namespace"] == nil)
        }
        #expect(try stand.ask("/v2/library/x/blobs/\(blob)").code == "BLOB_UNKNOWN")
        #expect(try stand.ask("\(target)/none?ns=docker.io").code == "MANIFEST_UNKNOWN")
        #expect(try stand.ask("/v2/other/manifests/t?ns=docker.io").code == "NAME_UNKNOWN")
        let tags = try stand.ask("/v2/library/x/tags/list?ns=docker.io")
        #expect(tags.text == "{\"name\":\"library/x\",\"tags\":[\"t\"]}")
        #expect(tags["OCI-Namespace"] == "docker.io")
        let referrers = try stand.ask("/v2/library/x/referrers/\(scoped)?ns=docker.io")
        #expect(referrers.status == 200 && referrers["OCI-Namespace"] == "docker.io")
    }

    @Test func pagesOfANamespaceLeadToPagesOfIt() throws {
        let stand = RegistryStand()
        for tag in ["a", "b", "c"] {
            stand.double.push("quay.io/x", Manifests.image(), tag: tag)
            stand.double.push("x", Manifests.image(), tag: "z" + tag)
        }
        let first = try stand.ask("/v2/x/tags/list?n=2&ns=quay.io")
        #expect(try first.next == "/v2/x/tags/list?last=b&n=2&ns=quay.io")
        #expect(
            try stand.follow("/v2/x/tags/list?n=2&ns=quay.io", "tags").names == ["a", "b", "c"])
    }

    // MARK: Roots

    @Test func anyRootIsARegistry() throws {
        let stand = RegistryStand()
        let manifest = stand.double.push("library/x", Manifests.image(), tag: "t")
        let large = [UInt8](repeating: 7, count: 3 << 20)
        let blob = stand.double.pushBlob("library/x", large)
        let root = try stand.double.seal()
        stand.double.state.withLock { $0.contents = [:] }
        // The tree as it is now is another.
        let other = RegistryStand()
        let blocks = stand.double.state.withLock { $0.blocks }
        other.double.state.withLock { $0.blocks = blocks }

        let prefix = "/v2/ipfs/\(root)"
        let answer = try other.ask("\(prefix)/library/x/manifests/t")
        #expect(answer.status == 200 && answer.text == Manifests.image())
        #expect(answer["Docker-Content-Digest"] == manifest)
        let layer = try other.ask(
            "\(prefix)/library/x/blobs/\(blob)", [("Range", "bytes=1048570-2097160")])
        #expect(layer.status == 206)
        #expect(layer.bytes == [UInt8](repeating: 7, count: 1_048_591))
        #expect(
            try other.ask("\(prefix)/library/x/tags/list").text
                == "{\"name\":\"ipfs/\(root)/library/x\",\"tags\":[\"t\"]}")
        #expect(try other.ask("\(prefix)/_catalog").text == "{\"repositories\":[\"library/x\"]}")
        #expect(try other.ask("\(prefix)/library/x/referrers/\(manifest)").status == 200)
        #expect(try other.ask("/v2/library/x/manifests/t").code == "NAME_UNKNOWN")
        #expect(try other.ask("/v2/_catalog").text == "{\"repositories\":[]}")
    }

    @Test func aManifestOfSeveralLeavesComesWhole() throws {
        let stand = RegistryStand()
        let manifest = Manifests.image(note: String(repeating: "a", count: 5 << 19))
        let digest = stand.double.push("a", manifest, tag: "t")
        let root = try stand.double.seal()
        stand.double.state.withLock { $0.contents = [:] }
        for _ in 0..<2 {
            let answer = try stand.ask("/v2/ipfs/\(root)/a/manifests/\(digest)")
            #expect(answer.status == 200 && answer.text == manifest)
        }
    }

    @Test func pagesOfARootLeadToPagesOfIt() throws {
        let stand = RegistryStand()
        for name in ["a", "b", "c"] { stand.double.push(name, Manifests.image(), tag: name) }
        let root = try stand.double.seal()
        let first = try stand.ask("/v2/ipfs/\(root)/_catalog?n=2")
        #expect(try first.next == "/v2/ipfs/\(root)/_catalog?last=b&n=2")
        #expect(
            try stand.follow("/v2/ipfs/\(root)/_catalog?n=1", "repositories").names == [
                "a", "b", "c",
            ])
    }

    @Test func aRootThatNobodyMayHaveIsAnUnknownName() throws {
        let stand = RegistryStand()
        stand.double.push("a", Manifests.image(), tag: "t")
        let file = CID.raw(sha256: [1])
        stand.double.state.withLock { $0.blocks[file] = [1] }
        for cid in [CID.raw(sha256: Array("nowhere".utf8)), .dagPB(sha256: [2], version: 0), file] {
            for target in ["a/manifests/t", "a/tags/list", "_catalog", "a/blobs/\(Self.nothing)"] {
                let answer = try stand.ask("/v2/ipfs/\(cid)/\(target)")
                #expect(answer.status == 404 && answer.code == "NAME_UNKNOWN", "\(cid)/\(target)")
            }
        }
        stand.double.fail("block", .unavailable)
        #expect(try stand.ask("/v2/ipfs/\(file)/a/tags/list").status == 503)
    }

    @Test func aRegistryMayBeTheRootOfItsTree() throws {
        let stand = RegistryStand()
        let digest = stand.double.push("a", Manifests.image(), tag: "t", base: "")
        #expect(try stand.ask("/v2/a/manifests/t")["Docker-Content-Digest"] == digest)
        let root = try stand.double.seal()
        #expect(try stand.ask("/v2/ipfs/\(root)/a/manifests/t").status == 200)
    }

    @Test func aRegistryMayLieElsewhere() throws {
        let stand = RegistryStand(directory: [Array("data".utf8), Array("registry".utf8)])
        let digest = stand.double.push("a", Manifests.image(), tag: "t", base: "data/registry")
        #expect(try stand.ask("/v2/a/manifests/t")["Docker-Content-Digest"] == digest)
        #expect(try stand.ask("/v2/_catalog").text == "{\"repositories\":[\"a\"]}")
    }

    @Test func aRegistryThatComesOrMovesIsFound() throws {
        let stand = RegistryStand()
        #expect(try stand.ask("/v2/a/manifests/t").code == "NAME_UNKNOWN")
        #expect(try stand.ask("/v2/_catalog").text == "{\"repositories\":[]}")
        let digest = stand.double.push("a", Manifests.image(), tag: "t")
        #expect(try stand.ask("/v2/a/manifests/t").status == 200)
        // The tree is another one, with the registry at its root.
        let other = RegistryDouble()
        other.push("a", Manifests.image(), tag: "t", base: "")
        let moved = other.state.withLock { $0 }
        stand.double.state.withLock { state in
            state.files = moved.files
            state.children = moved.children
        }
        _ = try stand.ask("/v2/a/manifests/t")
        #expect(try stand.ask("/v2/a/manifests/t")["Docker-Content-Digest"] == digest)
    }
}
