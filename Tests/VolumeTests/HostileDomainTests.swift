import Base
import Foundation
import GRDB
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

private let manifest = Array("{\"schemaVersion\":2}".utf8)
private let other = Array("{\"schemaVersion\":2,\"layers\":[]}".utf8)
private let layer = content(seed: 7, count: 2_500_000)
private let repositories = "docker/registry/v2/repositories"

private func blobPath(_ digits: String) -> String {
    "docker/registry/v2/blobs/sha256/\(digits.prefix(2))/\(digits)/data"
}

@Suite struct HostileDomainTests {
    @Test func aBlobThatOneDomainHasWrongComesFromAnother() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(layer)
        // Of several leaves, so that no CID tells the digest.
        let wrong = content(seed: 8, count: 2_500_000)
        for domain in ["a.example", "b.example"] {
            let registry = try stand.registry { volume in
                try volume.push("\(domain)/app", "latest", manifest: manifest)
                try volume.putFile(blobPath(digits), wrong)
            }
            try stand.publish(domain, registry)
            _ = try stand.volume.walk("\(repositories)/\(domain)")
        }
        _ = try stand.volume.walk(blobPath(digits))
        #expect(errno { () throws(Errno) in _ = try stand.volume.blob(digits) } == .ioError)
        // Whoever is wrong, and whoever came later.
        let honest = try stand.registry { volume in
            try volume.push("c.example/app", "latest", manifest: manifest, layer: layer)
        }
        try stand.publish("c.example", honest)
        _ = try stand.volume.walk("\(repositories)/c.example")
        #expect(errno { () throws(Errno) in _ = try stand.volume.blob(digits) } == .ioError)
        #expect(try stand.volume.blob(digits) == layer)
        stand.blocks.goAway()
        try stand.reopen()
        #expect(try stand.volume.blob(digits) == layer)
        try stand.volume.close()
        try expectClean(stand.directory)
    }

    @Test func symlinksAndLargeLinksOfADomainAreLeftOut() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
            let own = try volume.makePath("\(repositories)/a.example")
            _ = try volume.makeSymlink(
                FileName("secret"), in: own, target: Array("../secret/app".utf8), caller: root)
            try volume.putFile(
                "\(repositories)/a.example/app/_manifests/tags/large/current/link",
                content(seed: 1, count: 100_000))
        }
        try stand.publish("a.example", registry)
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        let top = try stand.volume.walk("\(repositories)/a.example")
        #expect(try stand.volume.names(in: top) == ["app"])
        let large = "\(repositories)/a.example/app/_manifests/tags/large/current"
        #expect(try stand.volume.names(in: stand.volume.walk(large)).isEmpty)
        // Nor do they come later.
        let app = try registry.volume.makePath("\(repositories)/a.example/app")
        _ = try registry.volume.makeSymlink(
            FileName("_uploads"), in: app, target: Array("/etc".utf8), caller: root)
        try registry.volume.push("a.example/app", "next", manifest: other)
        try stand.publish("a.example", registry)
        _ = try stand.volume.refreshGraft("a.example")
        #expect(try stand.volume.pulled("a.example/app", "next") == other)
        #expect(try stand.volume.names(in: top) == ["app"])
        let names = try stand.volume.names(in: stand.volume.walk("\(repositories)/a.example/app"))
        #expect(!names.contains("_uploads") && names.contains("_manifests"), "\(names)")
        // One's own may be there.
        _ = try stand.volume.makeSymlink(
            FileName("own"), in: top, target: Array("app".utf8), caller: root)
        try stand.volume.close()
        try expectClean(stand.directory)
    }

    @Test func whatOnePartOfAStaticRegistryLacksAnotherMayHave() throws {
        let stand = try DomainStand()
        let (first, second) = (CID.raw(sha256: manifest), CID.raw(sha256: other))
        stand.blocks.add([first: manifest, second: other])
        let tree = try stand.tree(
            [
                "v2/a.example/app/manifests/latest": first,
                "v2/a.example/app/manifests/sha256:\(sha256Digits(manifest))": first,
                "v2/b.example/app/manifests/latest": second,
                "v2/b.example/app/manifests/sha256:\(sha256Digits(other))": second,
            ],
            sizes: [first: UInt64(manifest.count), second: UInt64(other.count)])
        stand.table.set("a.example", tree)
        stand.table.set("b.example", tree)
        _ = try stand.volume.walk("\(repositories)/b.example")
        #expect(
            errno { () throws(Errno) in
                _ = try stand.volume.blob(sha256Digits(manifest))
            } == .noSuchFileOrDirectory)
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        #expect(try stand.volume.pulled("b.example/app", "latest") == other)
    }

    @Test func aBlobThatASnapshotBringsBackIsComparedStill() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(manifest)
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
            try volume.putFile(blobPath(digits), layer)
        }
        try stand.publish("a.example", registry)
        _ = try stand.volume.walk("\(repositories)/a.example")
        _ = try stand.volume.walk(blobPath(digits))
        _ = try stand.volume.createSnapshot(named: "before")
        try stand.volume.removeGraft("a.example")
        try stand.volume.removeAll(
            FileName("blobs"), in: stand.volume.walk("docker/registry/v2"))
        _ = try stand.volume.createSnapshot(named: "after")
        _ = try stand.volume.restore("before")
        #expect(stand.volume.grafts().isEmpty)
        #expect(errno { () throws(Errno) in _ = try stand.volume.blob(digits) } == .ioError)
    }

    @Test func aBlobThatClaimsPetabytesIsNotTaken() throws {
        let stand = try DomainStand()
        let digits = sha256Digits(layer)
        let leaf = CID.raw(sha256: [1])
        let claim = UInt64(1) << 50
        let node = DAGNode(
            links: [DAGLink(cid: leaf, treeSize: claim)],
            data: UnixFSData(kind: .file, fileSize: claim, blockSizes: [claim]).encoded()
        ).encoded()
        let huge = CID.dagPB(sha256: node, version: 1)
        stand.blocks.add([huge: node, leaf: [1]])
        let link = Array("sha256:\(digits)".utf8)
        let file = CID.raw(sha256: link)
        stand.blocks.add([file: link])
        let tree = try stand.tree(
            [
                blobPath(digits): huge,
                "\(repositories)/a.example/app/_manifests/tags/latest/current/link": file,
            ], sizes: [huge: claim, file: UInt64(link.count)])
        stand.table.set("a.example", tree)
        _ = try stand.volume.walk("\(repositories)/a.example")
        #expect(
            errno { () throws(Errno) in _ = try stand.volume.walk(blobPath(digits)) } == .ioError)
        try stand.volume.close()
        try expectClean(stand.directory)
    }

    /// A registry's garbage collection goes through all repositories, and would end at the first domain that is away.
    @Test func whatIsAwayListsNothingForAWalkAndIsAnErrorForAllElse() throws {
        let stand = try DomainStand()
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
            try volume.push("a.example/late", "latest", manifest: other)
        }
        try stand.publish("a.example", registry)
        #expect(try stand.volume.pulled("a.example/app", "latest") == manifest)
        let late = try stand.volume.walk("\(repositories)/a.example/late")
        stand.blocks.goAway()
        // What was noted of its node is gone then.
        try stand.reopen()
        let again = try stand.volume.walk("\(repositories)/a.example/late")
        #expect(again == late)
        var listed: [[UInt8]] = []
        try stand.volume.readDirectory(again, from: 0, isForWalk: true) { entry in
            listed.append(entry.name.bytes)
            return true
        }
        #expect(listed == [[0x2e], [0x2e, 0x2e]])
        #expect(stand.volume.namesChangeUnseen(in: again))
        #expect(
            errno { () throws(Errno) in
                try stand.volume.readDirectory(again, from: 0) { _ in true }
            } == .ioError)
        #expect(
            errno { () throws(Errno) in
                _ = try stand.volume.walk("\(repositories)/a.example/late/_manifests")
            } == .ioError)
        let app = try stand.volume.walk("\(repositories)/a.example/app")
        #expect(!stand.volume.namesChangeUnseen(in: app))
        stand.blocks.goAway(false)
        try stand.reopen()
        #expect(try stand.volume.pulled("a.example/late", "latest") == other)
        try stand.volume.close()
    }

    @Test func aClockThatWasSetBackHoldsUpNoLook() throws {
        let stand = try DomainStand { $0.lifetimeSeconds = 1...2 }
        let registry = try stand.registry { volume in
            try volume.push("a.example/app", "latest", manifest: manifest)
        }
        try stand.publish("a.example", registry)
        _ = try stand.volume.walk("\(repositories)/a.example")
        try stand.volume.close()
        let database = try DatabaseQueue(path: stand.directory.state + "/manifest.sqlite")
        try database.inDatabase { db in
            let year: Int64 = 365 * 86_400 * 1_000_000_000
            try db.execute(
                sql: "UPDATE graft SET time = time + ?, until = until + ?", arguments: [year, year])
        }
        try database.close()
        try registry.volume.push("a.example/app", "next", manifest: other)
        try stand.publish("a.example", registry)
        let volume = try openVolume(stand.directory, stand.options)
        defer { try? volume.close() }
        #expect(eventually { (try? volume.pulled("a.example/app", "next")) == other })
    }
}
