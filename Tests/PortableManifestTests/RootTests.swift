import Base
import MerkleDAG
import Multiformats
import PortableManifest
import Testing

@Suite struct RootTests {
    private static let tree = CID.dagPB(sha256: [1], version: 1)
    private static let directory = CID(codec: .dagCBOR, multihash: .sha256(of: [2]))

    private static func root(_ changed: DAGCBOR.Entry...) -> DAGCBOR {
        var fields: [String: DAGCBOR] = [
            "tree": .link(tree), "profile": .text("unixfs-v1-2025"),
            "directory": .link(directory), "attributes": attributes(),
            "portable-manifest": .unsigned(1),
        ]
        for entry in changed { fields[entry.key] = entry.value }
        return .map(fields.map { DAGCBOR.Entry($0.key, $0.value) })
    }

    private static func attributes(
        mode: UInt64 = 0o755, uid: UInt64 = 0, gid: UInt64 = 0, nanoseconds: UInt64 = 0
    ) -> DAGCBOR {
        .list([
            .unsigned(mode), .unsigned(uid), .unsigned(gid), .negative(5), .unsigned(nanoseconds),
        ])
    }

    private static func without(_ key: String) -> DAGCBOR {
        guard case .map(let fields) = root() else { return .null }
        return .map(fields.filter { $0.key != key })
    }

    private static let raw = CID.raw(sha256: [1])

    private static let bad: [(DAGCBOR, PortableFault)] = [
        (.map([]), .notRoot),
        (.list([]), .notRoot),
        (without("portable-manifest"), .notRoot),
        (root(.init("portable-manifest", .text("1"))), .notRoot),
        (root(.init("portable-manifest", .unsigned(2))), .otherVersion(2)),
        (root(.init("portable-manifest", .unsigned(0))), .otherVersion(0)),
        (without("tree"), .wrongField(found: "profile", wanted: "tree")),
        (without("profile"), .wrongField(found: "directory", wanted: "profile")),
        (without("directory"), .wrongField(found: "attributes", wanted: "directory")),
        (without("attributes"), .wrongField(found: "portable-manifest", wanted: "attributes")),
        (root(.init("time", .unsigned(1))), .wrongField(found: "time", wanted: "tree")),
        (root(.init("zz", .unsigned(1))), .wrongField(found: "zz", wanted: "tree")),
        (root(.init("uuid-of", .unsigned(1))), .wrongField(found: "profile", wanted: "xattrs")),
        (root(.init("tree", .link(raw))), .badTree(raw)),
        (root(.init("tree", .link(directory))), .badTree(directory)),
        (root(.init("directory", .link(tree))), .badRootAttributes(.badLink(tree))),
        (root(.init("profile", .text(""))), .badProfile),
        (root(.init("profile", .text("a\u{1b}[2J"))), .badProfile),
        (root(.init("profile", .text(String(repeating: "a", count: 65)))), .badProfile),
        (root(.init("attributes", .list([]))), .wrongCount(of: "attributes", count: 0)),
        (
            root(.init("attributes", attributes(mode: 0o10000))),
            .badRootAttributes(.badMode(0o10000))
        ),
        (
            root(.init("attributes", attributes(mode: 1 << 40))),
            .badRootAttributes(.badMode(1 << 40))
        ),
        (root(.init("attributes", attributes(uid: 1 << 32))), .badRootAttributes(.badOwner)),
        (root(.init("attributes", attributes(gid: 1 << 32))), .badRootAttributes(.badOwner)),
        (
            root(.init("attributes", attributes(nanoseconds: 1_000_000_000))),
            .badRootAttributes(.badTime(nanoseconds: 1_000_000_000))
        ),
        (root(.init("xattrs", .list([]))), .badRootAttributes(.noAttributes)),
        (root(.init("xattrs", .link(raw))), .badRootAttributes(.badLink(raw))),
    ]

    @Test func aGoodRootIsRead() throws {
        let blocks = Blocks()
        let cid = blocks.put(Self.root())
        let root = try PortableRoot.read(cid, get: blocks.get)
        #expect(root.tree == Self.tree)
        #expect(root.attributes.seconds == -6)
        #expect(try root.write { _, _ in } == cid)
    }

    @Test(arguments: bad.indices)
    func aRootThatBreaksARuleIsNamed(index: Int) throws {
        let (value, expected) = Self.bad[index]
        let blocks = Blocks()
        let cid = blocks.put(value)
        do {
            _ = try PortableRoot.read(cid, get: blocks.get)
            Issue.record("\(expected)")
        } catch PortableReadError<NoSuchBlock>.damaged(let found, let fault) {
            #expect(found == cid)
            #expect(fault == expected)
        }
    }

    @Test func largeAttributesOfTheRootStandApart() throws {
        let blocks = Blocks()
        let root = PortableRoot(
            tree: .dagPB(sha256: [1], version: 0), profile: "custom", directory: Self.directory,
            attributes: .plain,
            extendedAttributes: [.init("trusted.a", [UInt8](repeating: 3, count: 9_000))])
        let cid = try root.write { blocks.put($0, $1) }
        #expect(blocks.order.count == 2)
        #expect(blocks.order.last == cid)
        #expect(try PortableRoot.read(cid, get: blocks.get) == root)
        let set = blocks.order[0]
        let bad = blocks.put([0x80])
        let other = blocks.put(Self.root(.init("xattrs", .link(bad))))
        do {
            _ = try PortableRoot.read(other, get: blocks.get)
            Issue.record("an empty set was read")
        } catch PortableReadError<NoSuchBlock>.damaged(let found, let fault) {
            #expect(found == bad)
            #expect(fault == .badRootAttributes(.noAttributes))
        }
        #expect(set != bad)
    }

    @Test func onlyRootsAreTakenForRoots() throws {
        #expect(PortableRoot.isRoot(Self.root().encoded))
        // So that whoever has one of a later version is told so.
        #expect(PortableRoot.isRoot(Self.root(.init("portable-manifest", .unsigned(7))).encoded))
        #expect(!PortableRoot.isRoot(Self.without("portable-manifest").encoded))
        #expect(!PortableRoot.isRoot([]))
        #expect(!PortableRoot.isRoot([0xff]))
        #expect(!PortableRoot.isRoot([UInt8](repeating: 0x80, count: 60_000)))
        #expect(!PortableRoot.isRoot(Array(Self.root().encoded.dropLast())))
        let blocks = Blocks()
        let directory = try blocks.directory([PortableEntry("a")])
        #expect(!PortableRoot.isRoot(try blocks.get(directory)))
    }

    @Test func whatAManifestCannotHaveIsRefused() throws {
        let blocks = Blocks()
        func fault(_ change: (inout PortableEntry) -> Void) throws -> PortableFault? {
            var entry = PortableEntry("a")
            change(&entry)
            do {
                _ = try blocks.directory([entry])
                return nil
            } catch PortableWriteError<Never>.refused(let fault) {
                return fault
            }
        }
        func named(_ fault: PortableEntryFault, _ name: [UInt8] = [0x61]) -> PortableFault {
            .entry(name, fault)
        }
        #expect(try fault { $0.name = [] } == named(.badName, []))
        #expect(try fault { $0.name = [0x2f] } == named(.badName, [0x2f]))
        #expect(try fault { $0.attributes.mode = 0o100644 } == named(.badMode(0o100644)))
        #expect(
            try fault { $0.attributes.nanoseconds = .max }
                == named(.badTime(nanoseconds: UInt64(UInt32.max))))
        #expect(try fault { $0.kind = .directory } == named(.missingField("dir")))
        #expect(try fault { $0.directory = Self.directory } == named(.misplacedField("dir")))
        #expect(try fault { $0.rdev = 1 } == named(.misplacedField("rdev")))
        #expect(
            try fault {
                $0.kind = .blockDevice
                $0.rdev = 1 << 32
            } == named(.badDevice))
        #expect(
            try fault { $0.hardLinks = PortableHardLinks(group: 0, count: 2) }
                == named(.badHardLinks))
        #expect(
            try fault {
                $0.extendedAttributes = [.init("user.a", []), .init("user.a", [])]
            } == named(.attributeOutOfOrder(Array("user.a".utf8))))
        #expect(
            try fault { $0.extendedAttributes = [.init("system.a", [])] }
                == named(.badAttributeName(Array("system.a".utf8))))
        #expect(
            try fault {
                $0.extendedAttributes = (0..<17).map {
                    .init("user.\(10 + $0)", [UInt8](repeating: 0, count: 65_000))
                }
            } == named(.attributesTooLong(byteCount: 1_105_205)))
    }

    @Test func aBuilderGoesOnAfterWhatItRefused() throws {
        let blocks = Blocks()
        var builder = PortableDirectoryBuilder()
        try builder.add(PortableEntry("b")) { blocks.put($0, $1) }
        for name in ["a", "b"] {
            do {
                try builder.add(PortableEntry(name)) { blocks.put($0, $1) }
                Issue.record("\(name) was taken")
            } catch PortableWriteError<Never>.refused(let fault) {
                #expect(fault == .nameOutOfOrder(Array(name.utf8)))
            }
        }
        try builder.add(PortableEntry("c")) { blocks.put($0, $1) }
        #expect(builder.count == 2)
        let cid = try builder.finish { blocks.put($0, $1) }
        #expect(try blocks.entries(cid) == [PortableEntry("b"), PortableEntry("c")])
    }

    @Test func whatTheSinkThrowsComesThrough() throws {
        let blocks = Blocks()
        var builder = PortableDirectoryBuilder()
        try builder.add(PortableEntry("b")) { blocks.put($0, $1) }
        do {
            _ = try builder.finish { (cid, _) throws(NoSuchBlock) in throw NoSuchBlock(cid: cid) }
            Issue.record("nothing came")
        } catch .sink(let failure) {
            #expect(failure.cid.codec == .dagCBOR)
        } catch {
            Issue.record("\(error)")
        }
    }
}

@Suite struct VerifyTests {
    private func root(_ directory: CID, _ blocks: Blocks) throws -> CID {
        try PortableRoot(
            tree: .dagPB(sha256: [1], version: 1), profile: "custom", directory: directory,
            attributes: .plain
        ).write { blocks.put($0, $1) }
    }

    private func directory(_ name: String, _ cid: CID) -> PortableEntry {
        PortableEntry(
            name: Array(name.utf8), kind: .directory, attributes: .plain, directory: cid)
    }

    @Test func eachDirectoryIsReadOnceHoweverManyPathsLeadToIt() throws {
        let blocks = Blocks()
        var cid = try blocks.directory([PortableEntry("file")])
        for _ in 0..<60 {
            cid = try blocks.directory([directory("a", cid), directory("b", cid)])
        }
        let manifest = try root(cid, blocks)
        let totals = try PortableManifest.verify(manifest, get: blocks.get).totals
        #expect(totals == PortableManifest.Totals(directoryCount: 61, entryCount: 121))
        var bounds = PortableReadBounds()
        bounds.directoryCountMax = 60
        do {
            _ = try PortableManifest.verify(manifest, bounds: bounds, get: blocks.get)
            Issue.record("61 directories are more than 60")
        } catch .damaged(let found, let fault) {
            #expect(found == manifest)
            #expect(fault == .tooManyDirectories(limit: 60))
        } catch {
            Issue.record("\(error)")
        }
    }

    @Test func directoriesDoNotStandInEachOtherWithoutEnd() throws {
        let blocks = Blocks()
        var cid = try blocks.directory([])
        let deepest = cid
        for _ in 1..<PortableManifest.depthMax { cid = try blocks.directory([directory("a", cid)]) }
        let totals = try PortableManifest.verify(root(cid, blocks), get: blocks.get).totals
        #expect(totals.directoryCount == PortableManifest.depthMax)
        cid = try blocks.directory([directory("a", cid)])
        do {
            _ = try PortableManifest.verify(root(cid, blocks), get: blocks.get)
            Issue.record("one level more was read")
        } catch PortableReadError<NoSuchBlock>.damaged(let found, let fault) {
            #expect(found == deepest)
            #expect(fault == .tooDeep)
        }
    }

    @Test func aDirectoryThatLeadsToNowhereIsNamed() throws {
        let blocks = Blocks()
        let nowhere = CID(codec: .dagCBOR, multihash: .sha256(of: [7]))
        let cid = try root(try blocks.directory([directory("a", nowhere)]), blocks)
        do {
            _ = try PortableManifest.verify(cid, get: blocks.get)
            Issue.record("nobody has the block")
        } catch .unavailable(let found, let failure) {
            #expect(found == nowhere)
            #expect(failure.cid == nowhere)
        } catch {
            Issue.record("\(error)")
        }
    }
}
