import Base
import Checking
import Foundation
import GRDB
import Glibc
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

private let manifest = Array("{\"schemaVersion\":2}".utf8)
private let other = Array("{\"schemaVersion\":2,\"layers\":[]}".utf8)
private let layer = content(seed: 7, count: 2_500_000)

@Suite struct DomainTests {
    @Test func aDomainComesAtItsFirstLookupAndEachBlockIsAskedForOnce() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest, layer: layer)
        }
        try stand.publish("a.example", registry)
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        let asked = stand.blocks.takeAsked()
        // One round for each level of the tree: no directory twice, and no bytes of the layer.
        #expect(asked.count == Set(asked).count, "\(asked)")
        #expect(stand.table.count("a.example") == 1)
        #expect(asked.count < 40, "\(asked.count)")
        #expect(try stand.volume.blob(sha256Digits(layer)) == layer)
        let status = try #require(stand.volume.grafts().first)
        #expect(status.name == "a.example" && status.layout == "registry")
        #expect(!status.isAhead && !status.isPinned && status.lastError == nil)
        let data = try stand.volume.walk(
            "docker/registry/v2/blobs/sha256/\(sha256Digits(layer).prefix(2))/\(sha256Digits(layer))/data"
        )
        #expect(stand.volume.graftOrigin(of: data) == "a.example")
        #expect(try stand.volume.graftOrigin(of: stand.volume.walk("docker")) == nil)
        #expect(
            try stand.volume.names(in: stand.volume.walk("docker/registry/v2/repositories"))
                == ["a.example"])
        // Without anybody, and after the cache was emptied, what was pulled is here.
        stand.blocks.goAway()
        try stand.reopen()
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        #expect(try stand.volume.blob(sha256Digits(layer)) == layer)
        #expect(stand.volume.grafts().first?.root == status.root)
        try stand.volume.close()
        try expectClean(stand.directory)
    }

    @Test func theFirstByteOfAManifestTakesOneRoundForEachLevelOfTheTree() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest, layer: layer)
            try volume.push("a.example/app", "next", manifest: other)
        }
        try stand.publish("a.example", registry)
        let rounds = try stand.blocks.rounds { () throws in
            let found = try stand.volume.pulled("a.example/app", "latest")
            #expect(found == manifest)
        }
        #expect(stand.table.count("a.example") == 1)
        // The root; docker, registry, v2, repositories, a.example, app, _manifests, tags, latest, current, link; blobs,
        // sha256, two digits, the digits, data.
        #expect(rounds <= 1 + 11 + 5, "\(rounds)")
        #expect(rounds > 5, "\(rounds)")
    }

    @Test func namesThatAreNoDomainsCostNothing() throws {
        let stand = try DomainStand()
        let names = ["docker", "latest", "aa", String(repeating: "a", count: 64), "data"]
        try stand.volume.makePath("somewhere/else")
        for name in names {
            #expect(
                errno { () throws(Errno) in _ = try stand.volume.walk("somewhere/else/\(name)") }
                    == .noSuchFileOrDirectory)
        }
        try stand.volume.makePath("docker/registry/v2/repositories")
        for name in ["app", "a.other", "127.0.0.1"] {
            #expect(
                errno { () throws(Errno) in
                    _ = try stand.volume.walk("docker/registry/v2/repositories/\(name)")
                } == .noSuchFileOrDirectory)
        }
        #expect(stand.blocks.takeAsked().isEmpty)
        #expect(stand.volume.grafts().isEmpty)
    }

    @Test func aDomainThatIsAbsentIsENOENTAndOneThatFailsEIOWithItsCause() throws {
        let stand = try DomainStand()
        stand.table.fail("b.example", DomainError(.failed, "b.example: a loop of 32 names"))
        let top = "docker/registry/v2/repositories"
        try stand.volume.makePath(top)
        for _ in 0..<3 {
            #expect(
                errno { () throws(Errno) in _ = try stand.volume.walk("\(top)/a.example") }
                    == .noSuchFileOrDirectory)
            FailureCause.take()
            #expect(
                errno { () throws(Errno) in _ = try stand.volume.walk("\(top)/b.example") }
                    == .ioError)
            #expect(FailureCause.take()?.contains("a loop of 32 names") == true)
        }
        #expect(stand.table.count("a.example") == 1)
        #expect(stand.table.count("b.example") == 1)
    }

    @Test func aDomainThatNeverAnswersSlowsNoOtherAndIsAskedOnceForAll() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
        }
        try stand.publish("a.example", registry)
        stand.table.silence("b.example", true)
        let volume = stand.volume
        try volume.makePath("docker/registry/v2/repositories")
        let results = Monitor<[Errno?]>([])
        let threads = try (0..<4).map { _ in
            try Threads.start(name: "waiting") {
                let result = errno { () throws(Errno) in
                    _ = try volume.walk("docker/registry/v2/repositories/b.example")
                }
                results.withLock { $0.append(result) }
            }
        }
        #expect(eventually { stand.table.count("b.example") == 1 })
        #expect(try volume.pulled("a.example/app", "latest") == manifest)
        #expect(results.withLock { $0.isEmpty })
        // It answers at last, and all who waited have it.
        stand.table.set("b.example", try registry.root)
        stand.table.silence("b.example", false)
        for thread in threads { thread.join() }
        #expect(results.withLock { $0 } == Array(repeating: .noSuchFileOrDirectory, count: 4))
        #expect(stand.table.count("b.example") == 1)
    }

    @Test func aLookupEndsAtItsDeadline() throws {
        let stand = try DomainStand { $0.lookupMilliseconds = 300 }
        stand.table.silence("a.example", true)
        try stand.volume.makePath("docker/registry/v2/repositories")
        #expect(
            errno { () throws(Errno) in
                _ = try stand.volume.walk("docker/registry/v2/repositories/a.example")
            } == .ioError)
    }

    @Test func bytesThatDoNotHaveTheirDigestAreGivenToNobody() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(manifest)
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
            // Of several leaves, so that no CID tells the digest.
            try volume.putFile(
                "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data", layer)
        }
        try stand.publish("a.example", registry)
        let path = "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data"
        _ = try stand.volume.walk("docker/registry/v2/repositories/a.example")
        func refused() throws {
            let inode = try stand.volume.walk(path)
            FailureCause.take()
            #expect(
                errno { () throws(Errno) in _ = try stand.volume.contents(of: inode) } == .ioError)
            let cause = FailureCause.take() ?? ""
            #expect(cause.contains(digits) && cause.contains("a.example"), "\(cause)")
            // Nor to those who are served.
            #expect(throws: (any Error).self) {
                try stand.volume.liveEntry(at: path.split(separator: "/").map { Array($0.utf8) })
            }
            // Nor by way of another file.
            try stand.volume.putFile("copy", [])
            let from = try stand.volume.open(inode, flags: .read, caller: root)
            let to = try stand.volume.open(
                stand.volume.walk("copy"), flags: .both, caller: root)
            defer {
                stand.volume.release(from.handle)
                stand.volume.release(to.handle)
            }
            _ = errno { () throws(Errno) in
                _ = try stand.volume.copyRange(
                    from: from.handle, at: 0, to: to.handle, at: 0, length: 1 << 30)
            }
            let size = try stand.volume.attributes(of: stand.volume.walk("copy")).size
            let isRefused =
                errno { () throws(Errno) in
                    _ = try stand.volume.read(to.handle, at: 0, count: 10)
                } == .ioError
            #expect(isRefused || size == 0)
            let written = try stand.volume.open(inode, flags: .both, caller: root)
            defer { stand.volume.release(written.handle) }
            #expect(
                errno { () throws(Errno) in
                    _ = try stand.volume.write(written.handle, at: 5, [1])
                } == .ioError)
        }
        _ = try stand.volume.walk(path)
        // Whoever serves is told no CID before somebody has read it.
        #expect(throws: (any Error).self) {
            try stand.volume.liveEntry(at: path.split(separator: "/").map { Array($0.utf8) })
        }
        try refused()
        _ = stand.blocks.takeAsked()
        try refused()
        // It is not fetched again and again.
        #expect(stand.blocks.takeAsked().isEmpty)
        try stand.reopen()
        try refused()
    }

    @Test func aRawBlockOfAnotherDigestIsRefusedAtItsLookup() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(manifest)
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
            try volume.putFile(
                "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data", other)
        }
        try stand.publish("a.example", registry)
        _ = try stand.volume.walk("docker/registry/v2/repositories/a.example")
        FailureCause.take()
        #expect(errno { () throws(Errno) in _ = try stand.volume.blob(digits) } == .ioError)
        #expect(FailureCause.take()?.contains(digits) == true)
        // One that has the true bytes is found all the same.
        let honest = try stand.registry { volume in
            try volume.push("b.example/app", "latest", manifest: manifest)
        }
        try stand.publish("b.example", honest)
        _ = try stand.volume.walk("docker/registry/v2/repositories/b.example")
        #expect(try stand.volume.blob(digits) == manifest)
    }

    @Test func contentThatIsHereUnderAnotherDigestIsNotTrustedEither() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(manifest)
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
            try volume.putFile(
                "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data", layer)
        }
        try stand.publish("a.example", registry)
        try stand.volume.makeFile("own", layer)
        _ = try stand.volume.cid(of: .root)
        _ = try stand.volume.walk("docker/registry/v2/repositories/a.example")
        #expect(errno { () throws(Errno) in _ = try stand.volume.blob(digits) } == .ioError)
        #expect(try stand.volume.contents(of: stand.volume.walk("own")) == layer)
    }

    @Test func aBlobOfAnotherLayoutIsVerifiedAndKept() throws {
        let stand = try DomainStand()
        let foreign = ForeignBlocks()
        let bytes = content(seed: 3, count: 700)
        let file = foreign.bytewise(bytes, width: 100)
        let digits = sha256Digits(bytes)
        stand.blocks.add(foreign.take())
        let link = CID.raw(sha256: Array("sha256:\(digits)".utf8))
        stand.blocks.add([link: Array("sha256:\(digits)".utf8)])
        let root = try stand.tree(
            [
                "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data": file,
                "docker/registry/v2/repositories/a.example/app/_layers/sha256/\(digits)/link": link,
            ], sizes: [link: 71])
        stand.table.set("a.example", root)
        _ = try stand.volume.walk("docker/registry/v2/repositories/a.example")
        #expect(try stand.volume.blob(digits) == bytes)
        // Its DAG is not the profile's, so it becomes a file of the volume's own.
        stand.blocks.goAway()
        let inode = try stand.volume.walk(
            "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data")
        #expect(
            try eventually {
                if case .remote = try stand.volume.report(of: inode).placement {
                    return false
                }
                return true
            })
        try stand.reopen()
        #expect(try stand.volume.blob(digits) == bytes)
    }

    @Test func aNewTagComesWithTheNextLookAndWhatWasPushedHereStays() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "one", manifest: manifest)
            try volume.push("a.example/app", "gone", manifest: manifest)
            try volume.push("a.example/app", "both", manifest: manifest)
        }
        try stand.publish("a.example", registry)
        #expect(try stand.volume.pulled("a.example/app", "one") == manifest)
        #expect(try stand.volume.pulled("a.example/app", "gone") == manifest)
        #expect(try stand.volume.pulled("a.example/app", "both") == manifest)
        let own = Array("own".utf8)
        try stand.volume.push("a.example/app", "both", manifest: own)
        try stand.volume.push("a.example/mine", "x", manifest: own)
        #expect(stand.volume.grafts().first?.isAhead == true)
        try registry.volume.push("a.example/app", "two", manifest: other)
        try registry.volume.push("a.example/app", "both", manifest: other)
        try registry.volume.push("a.example/app", "one", manifest: other)
        let tags = try registry.volume.inode(
            "docker", "registry", "v2", "repositories", "a.example", "app", "_manifests", "tags")
        try registry.volume.removeAll("gone", in: tags)
        try stand.publish("a.example", registry)
        let status = try stand.volume.refreshGraft("a.example")
        #expect(try status.root == registry.root && status.isAhead)
        #expect(try stand.volume.pulled("a.example/app", "two") == other)
        #expect(try stand.volume.pulled("a.example/app", "one") == other)
        #expect(try stand.volume.pulled("a.example/app", "both") == own)
        #expect(try stand.volume.pulled("a.example/mine", "x") == own)
        #expect(
            errno { () throws(Errno) in
                _ = try stand.volume.walk(
                    "docker/registry/v2/repositories/a.example/app/_manifests/tags/gone")
            } == .noSuchFileOrDirectory)
        #expect(throws: VolumeError.self) { try stand.volume.removeGraft("a.example") }
        #expect(try stand.volume.pulled("a.example/mine", "x") == own)
    }

    @Test func aDomainIsLookedAtAgainByItselfAndItsFailureLeavesWhatIsHere() throws {
        let stand = try DomainStand { options in
            options.lifetimeSeconds = 0.05...0.05
            options.absentSeconds = 0.05
        }
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "one", manifest: manifest)
        }
        try stand.publish("a.example", registry)
        #expect(try stand.volume.pulled("a.example/app", "one") == manifest)
        try registry.volume.push("a.example/app", "two", manifest: other)
        try stand.publish("a.example", registry)
        #expect(eventually { (try? stand.volume.pulled("a.example/app", "two")) == other })
        stand.table.set("a.example", nil)
        #expect(eventually { stand.volume.grafts().first?.lastError != nil })
        #expect(try stand.volume.pulled("a.example/app", "two") == other)
        // A mount that pulls nothing through has it as it is, and asks nobody.
        let count = stand.table.count("a.example")
        try stand.reopen { $0.domains = nil }
        let known = stand.table.count("a.example")
        #expect(known >= count)
        #expect(try stand.volume.pulled("a.example/app", "two") == other)
        #expect(stand.volume.grafts().first?.nextLookAt == nil)
        #expect(throws: VolumeError.self) { try stand.volume.refreshGraft("a.example") }
        #expect(stand.table.count("a.example") == known)
    }

    @Test func aGraftThatIsPinnedNeedsNobody() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "one", manifest: manifest, layer: layer)
            try volume.push("a.example/app", "two", manifest: other, layer: [1, 2])
        }
        try stand.publish("a.example", registry)
        let status = try stand.volume.addGraft(domain: "a.example")
        #expect(status.name == "a.example")
        let fetched = try stand.volume.pinGraft("a.example") { _ in true }
        #expect(fetched.bytes > UInt64(layer.count))
        stand.blocks.goAway()
        try stand.reopen()
        #expect(stand.volume.grafts().first?.isPinned == true)
        #expect(try stand.volume.pulled("a.example/app", "one") == manifest)
        #expect(try stand.volume.pulled("a.example/app", "two") == other)
        for bytes in [layer, [1, 2]] {
            #expect(try stand.volume.blob(sha256Digits(bytes)) == bytes)
        }
        try stand.volume.removeGraft("a.example")
        #expect(stand.volume.grafts().isEmpty)
        #expect(
            try stand.volume.names(in: stand.volume.walk("docker/registry/v2/repositories")).isEmpty
        )
    }

    @Test func namesThatAreHereAreNeverLookedUp() throws {
        let stand = try DomainStand()
        stand.table.silence("a.example", true)
        let top = try stand.volume.makePath("docker/registry/v2/repositories")
        _ = try stand.volume.makeDirectory("a.example", in: top)
        try stand.volume.push("a.example/app", "x", manifest: manifest)
        #expect(try stand.volume.pulled("a.example/app", "x") == manifest)
        #expect(stand.table.count("a.example") == 0)
        // Unless somebody asks for it: then both are there.
        let registry = try stand.registry { volume in
            try volume.push("a.example/theirs", "y", manifest: other)
            try volume.push("a.example/app", "x", manifest: other)
        }
        stand.table.silence("a.example", false)
        try stand.publish("a.example", registry)
        #expect(try stand.volume.addGraft(domain: "a.example").isAhead)
        #expect(try stand.volume.pulled("a.example/theirs", "y") == other)
        #expect(try stand.volume.pulled("a.example/app", "x") == manifest)
    }

    @Test func aHundredThousandRepositoriesAreNotListed() throws {
        let stand = try DomainStand()
        var made: [CID: [UInt8]] = [:]
        var builder = DirectoryBuilder(profile: .unixfsV1_2025)
        let inner = try stand.tree(["app/x": CID.raw(sha256: [1])])
        for number in 0..<100_000 {
            builder.add(name: Array("r\(number).example".utf8), cid: inner, treeSize: 100)
        }
        let repositories = try builder.finish { made[$0] = $1 }
        stand.blocks.add(made)
        let root = try stand.tree(["docker/registry/v2/repositories": repositories.cid])
        stand.table.set("r77777.example", root)
        _ = stand.blocks.takeAsked()
        _ = try stand.volume.walk("docker/registry/v2/repositories/r77777.example/app")
        #expect(stand.blocks.takeAsked().count < 15)
    }

    @Test func treesThatAreNoRegistriesAreRefused() throws {
        let stand = try DomainStand()
        let raw = CID.raw(sha256: [1])
        stand.blocks.add([raw: [1]])
        let trees = [
            try stand.tree(["docker/registry/v2/repositories": raw]),
            try stand.tree(["docker/registry/v2/repositories/a.example": raw]),
            try stand.tree(["docker": raw]), try stand.tree(["x": raw]), raw,
            CID.raw(sha256: [9]),
        ]
        for (number, tree) in trees.enumerated() {
            stand.table.set("a\(number).example", tree)
            stand.table.set("a.example", tree)
            let found = errno { () throws(Errno) in
                _ = try stand.volume.walk("docker/registry/v2/repositories/a\(number).example")
            }
            #expect(found == .ioError || found == .noSuchFileOrDirectory, "\(number)")
        }
        #expect(stand.volume.grafts().isEmpty)
    }

    @Test func aStaticRegistryIsARepositoryOfTheStockLayout() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(manifest)
        let layerDigits = sha256Digits(other)
        let (first, second) = (CID.raw(sha256: manifest), CID.raw(sha256: other))
        stand.blocks.add([first: manifest, second: other])
        let sizes = [first: UInt64(manifest.count), second: UInt64(other.count)]
        stand.table.set(
            "a.example",
            try stand.tree(
                [
                    "v2/app/manifests/latest": first,
                    "v2/app/manifests/sha256:\(digits)": first,
                    "v2/app/blobs/sha256:\(layerDigits)": second,
                ], sizes: sizes))
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        #expect(try stand.volume.blob(layerDigits) == other)
        #expect(stand.volume.grafts().first?.layout == "static")
        stand.blocks.goAway()
        try stand.reopen()
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        stand.blocks.goAway(false)
        stand.table.set(
            "a.example",
            try stand.tree(
                [
                    "v2/app/manifests/next": second,
                    "v2/app/manifests/sha256:\(layerDigits)": second,
                ], sizes: sizes))
        _ = try stand.volume.refreshGraft("a.example")
        #expect(try stand.volume.pulled("a.example/app", "next") == other)
        #expect(
            try stand.volume.names(
                in: stand.volume.walk(
                    "docker/registry/v2/repositories/a.example/app/_manifests/tags")) == ["next"])
    }

    @Test func aReferenceBringsAllThatIsAtTheTopOfItsTree() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("one", "x", manifest: manifest)
            try volume.push("two/app", "x", manifest: other)
        }
        let status = try stand.volume.addGraft(
            reference: "/ipfs/\(registry.root)", root: DomainRoot(cid: registry.root))
        #expect(status.nextLookAt == nil)
        #expect(try stand.volume.pulled("one", "x") == manifest)
        #expect(try stand.volume.pulled("two/app", "x") == other)
        #expect(stand.volume.grafts().map(\.name) == ["one", "two"])
    }

    @Test func damagedRowsAreFoundAndMended() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(layer)
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest, layer: layer)
        }
        try stand.publish("a.example", registry)
        _ = try stand.volume.walk("docker/registry/v2/repositories/a.example")
        _ = try stand.volume.walk(
            "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data")
        try stand.volume.close()
        let database = try DatabaseQueue(path: stand.directory.state + "/manifest.sqlite")
        try database.inDatabase { db in
            try db.execute(
                sql: "UPDATE graft SET layout = 9; UPDATE graft_object SET digest = x'00'")
        }
        try database.close()
        let found = try Check.run(stateDirectory: stand.directory.state, repair: true) { _, _ in }
        #expect(found.problems.isEmpty && found.repaired.count == 2, "\(found)")
        try expectClean(stand.directory)
        let volume = try openVolume(stand.directory, stand.options)
        defer { try? volume.close() }
        #expect(volume.grafts().isEmpty)
        // What its bytes have to be is lost, so nobody gets them.
        #expect(errno { () throws(Errno) in _ = try volume.blob(digits) } == .ioError)
    }
}

@Suite struct DomainModelTests {
    /// Pushes here and there, and looks at the domain, in any order: what was pushed here is never lost, and all else is the
    /// domain's after the next look.
    @Test func whatWasPushedHereWins() throws {
        let seed = testSeed()
        print("whatWasPushedHereWins: REGISTRYFS_TEST_SEED=\(seed)")
        var random = SeededGenerator(seed: seed)
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "t0", manifest: [0])
        }
        var theirs: [String: [UInt8]] = ["t0": [0]]
        var seen = theirs
        var own: [String: [UInt8]] = [:]
        try stand.publish("a.example", registry)
        #expect(try stand.volume.pulled("a.example/app", "t0") == [0])
        for step in 0..<40 {
            let tag = "t\(random.below(5))"
            let bytes = content(seed: random.next(), count: 1 + random.below(40))
            switch random.below(4) {
            case 0:
                try registry.volume.push("a.example/app", tag, manifest: bytes)
                theirs[tag] = bytes
            case 1:
                try stand.volume.push("a.example/app", tag, manifest: bytes)
                own[tag] = bytes
            case 2 where theirs[tag] != nil:
                let tags = try registry.volume.inode(
                    "docker", "registry", "v2", "repositories", "a.example", "app", "_manifests",
                    "tags")
                try registry.volume.removeAll(FileName(tag), in: tags)
                theirs[tag] = nil
            default:
                try stand.publish("a.example", registry)
                _ = try stand.volume.refreshGraft("a.example")
                seen = theirs
            }
            for (tag, bytes) in own {
                #expect(
                    try stand.volume.pulled("a.example/app", tag) == bytes,
                    "seed \(seed), step \(step), \(tag)")
            }
            for (tag, bytes) in seen where own[tag] == nil {
                #expect(
                    try stand.volume.pulled("a.example/app", tag) == bytes,
                    "seed \(seed), step \(step), \(tag)")
            }
        }
        try stand.volume.close()
        try expectClean(stand.directory)
    }
}
