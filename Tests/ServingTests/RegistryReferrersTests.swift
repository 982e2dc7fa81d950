import Base
import HTTPTypes
import Serving
import Testing

@Suite struct RegistryReferrersTests {
    private static let empty =
        "{\"schemaVersion\":2,\"mediaType\":\"\(Manifests.indexType)\",\"manifests\":[]}"

    /// The descriptor of a manifest as it is to be listed.
    private func listed(
        _ manifest: String, type: String = Manifests.imageType, artifactType: String?,
        annotations: String? = nil
    ) -> String {
        let digest = RegistryDouble.digest(Array(manifest.utf8))
        return "{\"mediaType\":\"\(type)\",\"size\":\(manifest.utf8.count),\"digest\":\"\(digest)\""
            + (artifactType.map { ",\"artifactType\":\"\($0)\"" } ?? "")
            + (annotations.map { ",\"annotations\":\($0)" } ?? "") + "}"
    }

    /// The list of some referrers, which stand in the order of their digests.
    private func list(_ manifests: [(manifest: String, listed: String)]) -> String {
        let sorted = manifests.sorted {
            RegistryDouble.digest(Array($0.manifest.utf8))
                < RegistryDouble.digest(Array($1.manifest.utf8))
        }
        return "{\"schemaVersion\":2,\"mediaType\":\"\(Manifests.indexType)\",\"manifests\":["
            + sorted.map(\.listed).joined(separator: ",") + "]}"
    }

    @Test func referrersOfAllKindsAreListed() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let signature = Manifests.image(
            configType: "application/vnd.example.signature.config", subject: subject)
        let artifact = Manifests.image(
            artifactType: "application/vnd.example.sbom", subject: subject,
            annotations: "{\"z\":\"1\",\"a\":\"\\u00e9\\\"\"}")
        let index = Manifests.index(
            [subject], artifactType: "application/vnd.example.list", subject: subject)
        let plain = Manifests.index(subject: subject, annotations: "{}")
        let old =
            "{\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\",\"artifactType\":\"x/y\","
            + "\"blobs\":[],\"subject\":\(Manifests.descriptor(subject))}"
        for manifest in [signature, artifact, index, plain, old] {
            stand.double.push("a", manifest)
        }
        // What refers to something else, and what refers to it in another repository.
        stand.double.push("a", Manifests.image(subject: RegistryDouble.digest([1])))
        stand.double.push("b", Manifests.image(subject: subject, note: "b"))

        let all: [(String, String)] = [
            (
                signature,
                listed(signature, artifactType: "application/vnd.example.signature.config")
            ),
            (
                artifact,
                listed(
                    artifact, artifactType: "application/vnd.example.sbom",
                    annotations: "{\"a\":\"\u{e9}\\\"\",\"z\":\"1\"}")
            ),
            (
                index,
                listed(
                    index, type: Manifests.indexType, artifactType: "application/vnd.example.list")
            ),
            (plain, listed(plain, type: Manifests.indexType, artifactType: nil)),
            (
                old,
                listed(
                    old, type: "application/vnd.oci.artifact.manifest.v1+json", artifactType: "x/y")
            ),
        ]
        let target = "/v2/a/referrers/\(subject)"
        let answer = try stand.ask(target)
        #expect(answer.status == 200 && answer.text == list(all))
        #expect(answer["Content-Type"] == Manifests.indexType)
        #expect(answer["OCI-Filters-Applied"] == nil && answer["Link"] == nil)
        #expect(try stand.ask(target, method: .head).status == 200)

        let filtered = try stand.ask("\(target)?artifactType=application%2Fvnd.example.sbom")
        #expect(filtered.text == list([all[1]]))
        #expect(filtered["OCI-Filters-Applied"] == "artifactType")
        let byConfig = try stand.ask(
            "\(target)?artifactType=application/vnd.example.signature.config")
        #expect(byConfig.text == list([all[0]]))
        let none = try stand.ask("\(target)?artifactType=other")
        #expect(none.text == Self.empty && none["OCI-Filters-Applied"] == "artifactType")
        #expect(try stand.ask("\(target)?artifactType=")["OCI-Filters-Applied"] == nil)
    }

    @Test func whatHasNoReferrersHasAnEmptyList() throws {
        let stand = RegistryStand()
        let image = stand.double.push("a", Manifests.image(), tag: "t")
        stand.double.pushBlob("layers", [1])
        for target in [
            "a/referrers/\(image)", "a/referrers/sha256:\(String(repeating: "a", count: 64))",
            "a/referrers/sha512:\(String(repeating: "a", count: 128))", "layers/referrers/\(image)",
        ] {
            let answer = try stand.ask("/v2/\(target)")
            #expect(answer.status == 200 && answer.text == Self.empty, "\(target)")
        }
    }

    @Test func whatWasPushedMeanwhileIsNoticed() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let target = "/v2/a/referrers/\(subject)"
        #expect(try stand.ask(target).text == Self.empty)
        var all: [(String, String)] = []
        for number in 0..<3 {
            let manifest = Manifests.image(artifactType: "x/y", subject: subject, note: "\(number)")
            stand.double.push("a", manifest)
            all.append((manifest, listed(manifest, artifactType: "x/y")))
            #expect(try stand.ask(target).text == list(all))
        }
    }

    @Test func manifestsAreReadOnce() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        for number in 0..<50 { stand.double.push("a", Manifests.image(note: "\(number)")) }
        stand.double.push("a", Manifests.image(artifactType: "x/y", subject: subject))
        let target = "/v2/a/referrers/\(subject)"
        _ = try stand.ask(target)
        _ = stand.double.takeCalls()
        #expect(try stand.ask(target).text != Self.empty)
        // Two listings, and whether the one is still linked.
        #expect(stand.double.takeCalls().count <= 3)
        stand.double.push("a", Manifests.image(note: "new"))
        #expect(try stand.ask(target).text != Self.empty)
        #expect(stand.double.takeCalls().count <= 5)
    }

    @Test func whatWasDeletedIsNotListed() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let first = stand.double.push("a", Manifests.image(subject: subject, note: "1"))
        let second = stand.double.push("a", Manifests.image(subject: subject, note: "2"))
        let target = "/v2/a/referrers/\(subject)"
        #expect(try stand.ask(target).text.contains(first))
        // The stock registry leaves the directory; then somebody takes it away as well.
        stand.double.remove(RegistryDouble.manifestPath("a", first))
        #expect(try !stand.ask(target).text.contains(first))
        #expect(try stand.ask(target).text.contains(second))
        let path = RegistryDouble.manifestPath("a", first)
        stand.double.remove(path.split(separator: "/").dropLast().joined(separator: "/"))
        #expect(try !stand.ask(target).text.contains(first))
        stand.double.push("a", Manifests.image(subject: subject, note: "1"))
        #expect(try stand.ask(target).text.contains(first))
    }

    @Test func brokenManifestsAreNoReferrersAndHoldUpNobody() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        for (number, manifest) in [
            "garbage", String(repeating: "[", count: 10_000), "{\"subject\":7}",
            "{\"subject\":{\"digest\":\"sha256:no\"}}",
            "{\"subject\":{\"digest\":[\"\(subject)\"]}}",
            "{\"subject\":[{\"digest\":\"\(subject)\"}]}",
        ].enumerated() {
            stand.double.push("a", manifest, tag: "b\(number)")
        }
        let damaged = stand.double.push("a", Manifests.image(subject: subject, note: "damaged"))
        stand.double.write([1], to: RegistryDouble.dataPath(damaged))
        let gone = stand.double.push("a", Manifests.image(subject: subject, note: "gone"))
        stand.double.remove(RegistryDouble.dataPath(gone))
        let good = stand.double.push("a", Manifests.image(subject: subject, note: "good"))
        let answer = try stand.ask("/v2/a/referrers/\(subject)")
        #expect(answer.status == 200 && answer.text.contains(good))
        #expect(!answer.text.contains(damaged) && !answer.text.contains(gone))
        #expect(stand.logged.count == 1 && stand.logged[0].contains(damaged))
    }

    @Test func bytesThatComeLaterAreLookedAtThen() throws {
        var limits = RegistryLimits()
        limits.absenceMilliseconds = 0
        let stand = RegistryStand(limits: limits)
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let manifest = Manifests.image(subject: subject)
        let digest = stand.double.push("a", manifest)
        stand.double.remove(RegistryDouble.dataPath(digest))
        #expect(try stand.ask("/v2/a/referrers/\(subject)").text == Self.empty)
        stand.double.push("a", manifest)
        #expect(try stand.ask("/v2/a/referrers/\(subject)").text.contains(digest))
    }

    @Test func aDaemonThatIsAwayIsNoEmptyList() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let digest = stand.double.push("a", Manifests.image(subject: subject))
        stand.double.fail("blobs/", .unavailable)
        #expect(try stand.ask("/v2/a/referrers/\(subject)").status == 503)
        stand.double.fail("blobs/", nil)
        #expect(try stand.ask("/v2/a/referrers/\(subject)").text.contains(digest))
    }

    @Test func whatWasReadBeforeAFaultIsNotReadAgain() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        var all = [subject]
        for number in 0..<20 {
            all.append(stand.double.push("a", Manifests.image(subject: subject, note: "\(number)")))
        }
        let last = RegistryDouble.dataPath(try #require(all.max()))
        stand.double.fail(last, .timedOut)
        #expect(try stand.ask("/v2/a/referrers/\(subject)").status == 504)
        stand.double.fail(last, nil)
        _ = stand.double.takeCalls()
        #expect(try stand.ask("/v2/a/referrers/\(subject)").status == 200)
        #expect(stand.double.takeCalls().count { $0.hasPrefix("whole") } == 1)
    }

    @Test func manyReferrersComeInPages() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        var digests: Set<String> = []
        for number in 0..<25 {
            digests.insert(
                stand.double.push(
                    "a", Manifests.image(artifactType: "x/y", subject: subject, note: "\(number)")))
        }
        stand.double.push("a", Manifests.image(artifactType: "z/z", subject: subject))
        for count in [1, 7, 24, 25, 26] {
            var next: String? = "/v2/a/referrers/\(subject)?artifactType=x%2Fy&n=\(count)"
            var found: [String] = []
            var pages = 0
            while let target = next {
                let answer = try stand.ask(target)
                #expect(answer["OCI-Filters-Applied"] == "artifactType")
                let page = answer.text.split(separator: "\"digest\":\"").dropFirst().map {
                    String($0.prefix(71))
                }
                #expect(page.count <= count)
                found += page
                pages += 1
                next = pages > 30 ? nil : try answer.next
            }
            #expect(found.count == 25 && Set(found) == digests)
            #expect(pages == (25 + count - 1) / count)
        }
    }

    @Test func largeAnnotationsMakeShortPages() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let text = String(repeating: "a", count: 60_000)
        for number in 0..<60 {
            stand.double.push(
                "a",
                Manifests.image(
                    subject: subject, annotations: "{\"a\":\"\(text)\"}", note: "\(number)"))
        }
        // Annotations beyond their bound are left out.
        let larger = stand.double.push(
            "a", Manifests.image(subject: subject, annotations: "{\"a\":\"\(text + text)\"}"))
        var next: String? = "/v2/a/referrers/\(subject)"
        var count = 0
        var pages = 0
        while let target = next, pages < 10 {
            let answer = try stand.ask(target)
            #expect(answer.bytes.count < 3 << 20)
            count += answer.text.split(separator: "\"digest\":\"").count - 1
            pages += 1
            next = try answer.next
            if answer.text.contains(larger) {
                #expect(!answer.text.contains(text + text))
            }
        }
        #expect(count == 61 && pages == 2)
    }

    @Test func aRepositoryBeyondTheBoundsHasNoLists() throws {
        var limits = RegistryLimits()
        limits.manifestsMax = 10
        limits.repositoryBytesMax = 2_000
        let stand = RegistryStand(limits: limits)
        let subject = stand.double.push("many", Manifests.image(), tag: "t")
        for number in 0..<20 { stand.double.push("many", Manifests.image(note: "\(number)")) }
        for number in 0..<8 {
            stand.double.push("large", Manifests.image(subject: subject, note: "\(number)"))
        }
        for name in ["many", "large"] {
            let answer = try stand.ask("/v2/\(name)/referrers/\(subject)")
            // Not NAME_UNKNOWN: clients look for the tag then.
            #expect(answer.status == 404 && answer.code == "UNSUPPORTED")
            _ = stand.double.takeCalls()
            #expect(try stand.ask("/v2/\(name)/referrers/\(subject)").status == 404)
            #expect(stand.double.takeCalls().count <= 3)
        }
        #expect(stand.logged.count == 2)
        // The tag that stands for it is an ordinary one.
        let tag = subject.split(separator: ":").joined(separator: "-")
        stand.double.push("many", Manifests.index(), tag: tag)
        #expect(try stand.ask("/v2/many/manifests/\(tag)")["Content-Type"] == Manifests.indexType)
    }

    @Test func whatIsRememberedIsBounded() throws {
        var limits = RegistryLimits()
        limits.repositoriesMax = 3
        let stand = RegistryStand(limits: limits)
        var digests: [String] = []
        for number in 0..<6 {
            let subject = stand.double.push("r\(number)", Manifests.image(note: "\(number)"))
            digests.append(
                stand.double.push(
                    "r\(number)", Manifests.image(subject: subject, note: "\(number)")))
            _ = try stand.ask("/v2/r\(number)/referrers/\(subject)")
        }
        func calls(_ number: Int) throws -> Int {
            _ = stand.double.takeCalls()
            let subject = RegistryDouble.digest(Array(Manifests.image(note: "\(number)").utf8))
            #expect(
                try stand.ask("/v2/r\(number)/referrers/\(subject)").text.contains(digests[number]))
            return stand.double.takeCalls().count
        }
        #expect(try calls(5) == 3)
        #expect(try calls(0) > 3)
        #expect(try calls(0) == 3)
    }

    @Test func aReadingThatTakesTooLongIs504() throws {
        var limits = RegistryLimits()
        limits.millisecondsMax = 0
        let stand = RegistryStand(limits: limits)
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        let answer = try stand.ask("/v2/a/referrers/\(subject)")
        #expect(answer.status == 504 && answer.code == "UNAVAILABLE")
        #expect(stand.logged.isEmpty)
    }

    @Test func manyRequestsAtOnceReadOnce() throws {
        let stand = RegistryStand()
        let subject = stand.double.push("a", Manifests.image(), tag: "t")
        for number in 0..<200 {
            stand.double.push("a", Manifests.image(subject: subject, note: "\(number)"))
        }
        let answers = Monitor<[String]>([])
        let threads = try (0..<8).map { _ in
            try Threads.start(name: "referrers") {
                let text = (try? stand.ask("/v2/a/referrers/\(subject)").text) ?? ""
                answers.withLock { $0.append(text) }
            }
        }
        for thread in threads { thread.join() }
        let all = answers.withLock { $0 }
        #expect(all.count == 8 && Set(all).count == 1 && all[0] != Self.empty)
        #expect(stand.double.takeCalls().count { $0.hasPrefix("whole") } == 201)
    }
}
