import Base
import MerkleDAG
import Multiformats
import PortableManifest
import Testing

/// Blocks that break one rule each.
@Suite struct HostileTests {
    private static let name = Array("a".utf8)
    private static let regular: DAGCBOR = .list([
        .unsigned(1), .unsigned(0o644), .unsigned(0), .unsigned(0),
    ])
    private static let directoryRow: DAGCBOR = .list([
        .unsigned(2), .unsigned(0o755), .unsigned(0), .unsigned(0),
    ])
    private static let deviceRow: DAGCBOR = .list([
        .unsigned(6), .unsigned(0o600), .unsigned(0), .unsigned(0),
    ])
    private static let dagCBOR = CID(codec: .dagCBOR, multihash: .sha256(of: [0xa0]))
    private static let raw = CID.raw(sha256: [1])

    private static func leaf(_ common: [DAGCBOR], _ entries: [DAGCBOR]) -> DAGCBOR {
        .map([.init("common", .list(common)), .init("entries", .list(entries))])
    }

    private static func entry(
        _ name: [UInt8] = name, index: UInt64 = 0, seconds: DAGCBOR = .unsigned(0),
        nanoseconds: UInt64 = 0, rest: [DAGCBOR.Entry]? = nil
    ) -> DAGCBOR {
        let fields: [DAGCBOR] = [.bytes(name), .unsigned(index), seconds, .unsigned(nanoseconds)]
        return .list(fields + (rest.map { [.map($0)] } ?? []))
    }

    private static func one(_ row: DAGCBOR = regular, _ rest: DAGCBOR.Entry...) -> DAGCBOR {
        leaf([row], [entry(rest: rest)])
    }

    private static func pair(_ name: String, _ count: Int = 0) -> DAGCBOR {
        .list([.bytes(Array(name.utf8)), .bytes([UInt8](repeating: 0, count: count))])
    }

    private static func long(_ count: Int) -> [UInt8] { [UInt8](repeating: 0x61, count: count) }

    private static let badLeaves: [(String, DAGCBOR, PortableFault)] = [
        (
            "a slash", leaf([regular], [entry(Array("a/b".utf8))]),
            .entry(Array("a/b".utf8), .badName)
        ),
        ("NUL", leaf([regular], [entry([0x61, 0])]), .entry([0x61, 0], .badName)),
        ("no name", leaf([regular], [entry([])]), .entry([], .badName)),
        (".", leaf([regular], [entry(Array(".".utf8))]), .entry(Array(".".utf8), .badName)),
        ("..", leaf([regular], [entry(Array("..".utf8))]), .entry(Array("..".utf8), .badName)),
        ("a long name", leaf([regular], [entry(long(256))]), .entry(long(256), .badName)),
        ("a name twice", leaf([regular], [entry(), entry()]), .nameOutOfOrder(name)),
        (
            "names out of order",
            leaf([regular], [entry(Array("b".utf8)), entry()]), .nameOutOfOrder(name)
        ),
        (
            "no kind 0",
            leaf([.list([.unsigned(0), .unsigned(0), .unsigned(0), .unsigned(0)])], [entry()]),
            .badCommon(index: 0)
        ),
        (
            "no kind 8",
            leaf([.list([.unsigned(8), .unsigned(0), .unsigned(0), .unsigned(0)])], [entry()]),
            .badCommon(index: 0)
        ),
        (
            "kind 257",
            leaf([.list([.unsigned(257), .unsigned(0), .unsigned(0), .unsigned(0)])], [entry()]),
            .badCommon(index: 0)
        ),
        (
            "a mode over 07777",
            leaf(
                [.list([.unsigned(1), .unsigned(0o10000), .unsigned(0), .unsigned(0)])], [entry()]),
            .badCommon(index: 0)
        ),
        (
            "a uid over 32 bits",
            leaf(
                [.list([.unsigned(1), .unsigned(0), .unsigned(1 << 32), .unsigned(0)])], [entry()]),
            .badCommon(index: 0)
        ),
        (
            "a gid over 32 bits",
            leaf([.list([.unsigned(1), .unsigned(0), .unsigned(0), .unsigned(.max)])], [entry()]),
            .badCommon(index: 0)
        ),
        (
            "common twice",
            leaf([regular, regular], [entry(), entry(Array("b".utf8), index: 1)]),
            .badCommon(index: 1)
        ),
        ("common unused", leaf([regular, deviceRow], [entry()]), .unusedCommon(count: 1)),
        ("common unused in an empty directory", leaf([regular], []), .unusedCommon(count: 1)),
        (
            "common of 3 values",
            leaf([.list([.unsigned(1), .unsigned(0), .unsigned(0)])], [entry()]),
            .wrongCount(of: "an element of \"common\"", count: 3)
        ),
        (
            "common out of turn",
            leaf([regular, directoryRow], [entry(index: 1, rest: [.init("dir", .link(dagCBOR))])]),
            .entry(name, .badIndex(1))
        ),
        ("no such common", leaf([regular], [entry(index: 1)]), .entry(name, .badIndex(1))),
        ("a huge index", leaf([regular], [entry(index: .max)]), .entry(name, .badIndex(.max))),
        (
            "too many nanoseconds", leaf([regular], [entry(nanoseconds: 1_000_000_000)]),
            .entry(name, .badTime(nanoseconds: 1_000_000_000))
        ),
        (
            "far too many nanoseconds", leaf([regular], [entry(nanoseconds: .max)]),
            .entry(name, .badTime(nanoseconds: .max))
        ),
        (
            "seconds over 64 bits", leaf([regular], [entry(seconds: .unsigned(1 << 63))]),
            .cbor(.unexpected(offset: 29))
        ),
        (
            "seconds below 64 bits", leaf([regular], [entry(seconds: .negative(1 << 63))]),
            .cbor(.unexpected(offset: 29))
        ),
        (
            "an entry of 3 values",
            leaf([regular], [.list([.bytes(name), .unsigned(0), .unsigned(0)])]),
            .wrongCount(of: "an entry", count: 3)
        ),
        (
            "an entry of 6 values",
            leaf([regular], [.list(Array(repeating: .unsigned(0), count: 6))]),
            .wrongCount(of: "an entry", count: 6)
        ),
        ("an empty rest", leaf([regular], [entry(rest: [])]), .entry(name, .emptyRest)),
        (
            "an unknown field", one(regular, .init("acl", .null)),
            .wrongField(found: "acl", wanted: nil)
        ),
        (
            "a directory without a link", leaf([directoryRow], [entry()]),
            .entry(name, .missingField("dir"))
        ),
        (
            "a file with a directory", one(regular, .init("dir", .link(dagCBOR))),
            .entry(name, .misplacedField("dir"))
        ),
        (
            "a directory that is raw", one(directoryRow, .init("dir", .link(raw))),
            .entry(name, .badLink(raw))
        ),
        (
            "a directory of two links",
            one(
                directoryRow, .init("dir", .link(dagCBOR)),
                .init("links", .list([.unsigned(1), .unsigned(2)]))),
            .entry(name, .misplacedField("links"))
        ),
        (
            "a device without a number", leaf([deviceRow], [entry()]),
            .entry(name, .missingField("rdev"))
        ),
        (
            "a file with a device number",
            one(regular, .init("rdev", .list([.unsigned(0), .unsigned(0)]))),
            .entry(name, .misplacedField("rdev"))
        ),
        (
            "a major number over 12 bits",
            one(deviceRow, .init("rdev", .list([.unsigned(4096), .unsigned(0)]))),
            .entry(name, .badDevice)
        ),
        (
            "a minor number over 20 bits",
            one(deviceRow, .init("rdev", .list([.unsigned(0), .unsigned(1 << 20)]))),
            .entry(name, .badDevice)
        ),
        (
            "group 0", one(regular, .init("links", .list([.unsigned(0), .unsigned(2)]))),
            .entry(name, .badHardLinks)
        ),
        (
            "a group over 63 bits",
            one(regular, .init("links", .list([.unsigned(1 << 63), .unsigned(2)]))),
            .entry(name, .badHardLinks)
        ),
        (
            "a group of one", one(regular, .init("links", .list([.unsigned(1), .unsigned(1)]))),
            .entry(name, .badHardLinks)
        ),
        (
            "a group of more than there are",
            one(regular, .init("links", .list([.unsigned(1), .unsigned(1 << 32)]))),
            .entry(name, .badHardLinks)
        ),
        ("no attributes", one(regular, .init("xattrs", .list([]))), .entry(name, .noAttributes)),
        (
            "attributes out of order",
            one(regular, .init("xattrs", .list([pair("user.b"), pair("user.a")]))),
            .entry(name, .attributeOutOfOrder(Array("user.a".utf8)))
        ),
        (
            "an attribute twice",
            one(regular, .init("xattrs", .list([pair("user.b"), pair("user.b")]))),
            .entry(name, .attributeOutOfOrder(Array("user.b".utf8)))
        ),
        (
            "an attribute of another name space",
            one(regular, .init("xattrs", .list([pair("system.nfs4_acl")]))),
            .entry(name, .badAttributeName(Array("system.nfs4_acl".utf8)))
        ),
        (
            "an attribute's name with NUL",
            one(regular, .init("xattrs", .list([pair("user.\0")]))),
            .entry(name, .badAttributeName(Array("user.\0".utf8)))
        ),
        (
            "many attributes in the entry",
            one(regular, .init("xattrs", .list([pair("user.b", 4_085)]))),
            .entry(name, .attributesMisplaced(byteCount: 4_097))
        ),
        (
            "attributes that are raw", one(regular, .init("xattrs", .link(raw))),
            .entry(name, .badLink(raw))
        ),
        ("no directory", .map([]), .wrongField(found: nil, wanted: "common")),
        (
            "no entries", .map([.init("common", .list([]))]),
            .wrongField(found: nil, wanted: "entries")
        ),
        (
            "one field more",
            .map([.init("common", .list([])), .init("entries", .list([])), .init("version", .null)]
            ),
            .wrongField(found: "version", wanted: nil)
        ),
        (
            "one field more before",
            .map([.init("a", .null), .init("common", .list([])), .init("entries", .list([]))]),
            .wrongField(found: "a", wanted: "common")
        ),
        ("no map", .list([]), .cbor(.unexpected(offset: 0))),
    ]

    @Test(arguments: badLeaves.indices)
    func aBlockOfEntriesThatBreaksARuleIsNamed(index: Int) throws {
        let (what, value, expected) = Self.badLeaves[index]
        let blocks = Blocks()
        let cid = blocks.put(value)
        let (found, fault) = try #require(blocks.fault(cid), "\(what)")
        #expect(found == cid, "\(what)")
        #expect(fault == expected, "\(what)")
        let error = PortableReadError<NoSuchBlock>.damaged(found, fault)
        #expect(error.description.contains(cid.description), "\(what)")
        #expect(error.description.utf8.allSatisfy { $0 >= 0x20 }, "\(what)")
    }

    /// A good directory of two chunks, "a" and "m".
    private struct TwoChunks {
        let blocks = Blocks()
        let first: CID
        let second: CID

        init() {
            first = blocks.put(
                leaf([regular], [entry(Array("a".utf8)), entry(Array("b".utf8))]))
            second = blocks.put(leaf([regular], [entry(Array("m".utf8))]))
        }

        func list(_ chunks: [(String, CID)], level: UInt64 = 1) -> CID {
            blocks.put(Self.value(chunks, level: level))
        }

        static func value(_ chunks: [(String, CID)], level: UInt64 = 1) -> DAGCBOR {
            .map([
                .init("level", .unsigned(level)),
                .init(
                    "chunks",
                    .list(chunks.map { .list([.bytes(Array($0.0.utf8)), .link($0.1)]) })),
            ])
        }
    }

    @Test func listsOfChunksAreRead() throws {
        let two = TwoChunks()
        let list = two.list([("a", two.first), ("m", two.second)])
        #expect(try two.blocks.entries(list).map(\.name) == ["a", "b", "m"].map { Array($0.utf8) })
        let third = two.blocks.put(Self.leaf([Self.regular], [Self.entry(Array("z".utf8))]))
        let lists = two.list([("a", list), ("z", two.list([("z", third)]))], level: 2)
        #expect(try two.blocks.entries(lists).count == 4)
    }

    @Test func listsOfChunksThatBreakARuleAreNamed() throws {
        let two = TwoChunks()
        let (first, second) = (two.first, two.second)
        let empty = two.blocks.put(Self.leaf([], []))
        let overlap = two.blocks.put(
            Self.leaf([Self.regular], [Self.entry(Array("aa".utf8))]))
        let list = two.list([("a", first), ("m", second)])
        let cases: [(CID, CID?, PortableFault)] = [
            (two.list([]), nil, .tooFewChunks),
            (two.list([("a", first)]), nil, .tooFewChunks),
            (two.list([("a", first), ("m", second)], level: 0), nil, .wrongLevel(0)),
            (two.list([("a", first), ("m", second)], level: 9), nil, .wrongLevel(9)),
            (two.list([("a", first), ("m", second)], level: 2), first, .wrongLevel(0)),
            (two.list([("a", list), ("m", second)], level: 1), list, .wrongLevel(1)),
            (two.list([("a", first), ("n", second)]), second, .wrongFirstName([0x6e])),
            (two.list([("b", first), ("m", second)]), first, .wrongFirstName([0x62])),
            (two.list([("m", second), ("a", first)]), nil, .nameOutOfOrder([0x61])),
            (two.list([("a", first), ("a", first)]), nil, .nameOutOfOrder([0x61])),
            (two.list([("a", first), ("aa", overlap)]), overlap, .nameOutOfOrder([0x61, 0x61])),
            (two.list([("a", first), ("m", empty)]), empty, .tooFewChunks),
            (two.list([("a", first), ("m/", second)]), nil, .entry([0x6d, 0x2f], .badName)),
            (two.list([("a", first), ("m", Self.raw)]), nil, .badChunkLink(Self.raw)),
        ]
        for (directory, block, expected) in cases {
            let (cid, fault) = try #require(two.blocks.fault(directory), "\(expected)")
            #expect(cid == block ?? directory)
            #expect(fault == expected)
        }
    }

    @Test func listsMayNotBeDeeperThanTheirLevelSays() throws {
        let two = TwoChunks()
        var list = two.list([("a", two.first), ("m", two.second)])
        var names = "mnopqrstuvwxyz".dropFirst()
        for level in 2...8 {
            let name = String(names.removeFirst())
            var below = two.blocks.put(Self.leaf([Self.regular], [Self.entry(Array(name.utf8))]))
            for inner in 1..<level { below = two.list([(name, below)], level: UInt64(inner)) }
            list = two.list([("a", list), (name, below)], level: UInt64(level))
        }
        #expect(try two.blocks.entries(list).count == 10)
        let deeper = two.list([("a", list), ("z", list)], level: 9)
        #expect(two.blocks.fault(deeper)?.1 == .wrongLevel(9))
    }

    @Test func blocksOfAttributesThatBreakARuleAreNamed() throws {
        let blocks = Blocks()
        func fault(_ value: DAGCBOR) throws -> (CID, CID, PortableFault) {
            let set = blocks.put(value)
            let directory = blocks.put(Self.one(Self.regular, .init("xattrs", .link(set))))
            let (found, fault) = try #require(blocks.fault(directory))
            return (set, found, fault)
        }
        let cases: [(DAGCBOR, PortableFault)] = [
            (.list([Self.pair("user.a")]), .entry(Self.name, .attributesMisplaced(byteCount: 10))),
            (.list([]), .entry(Self.name, .noAttributes)),
            (
                .list([Self.pair("user.a", 65_537)]),
                .entry(
                    Self.name, .attributeTooLong(Array("user.a".utf8), byteCount: 65_537))
            ),
            (
                .list([Self.pair("user.b", 5_000), Self.pair("user.a")]),
                .entry(Self.name, .attributeOutOfOrder(Array("user.a".utf8)))
            ),
            (.map([]), .cbor(.unexpected(offset: 0))),
            (.link(Self.dagCBOR), .cbor(.unexpected(offset: 0))),
        ]
        for (value, expected) in cases {
            let (set, found, fault) = try fault(value)
            #expect(found == set)
            #expect(fault == expected)
        }
    }

    @Test func blocksThatLieOrAreMissingAreNamed() throws {
        let two = TwoChunks()
        let list = two.list([("a", two.first), ("m", two.second)])
        two.blocks.replace(two.second, by: [0xa0])
        #expect(try #require(two.blocks.fault(list)) == (two.second, .wrongBytes))
        two.blocks.replace(two.second, by: [UInt8](repeating: 0, count: 1 + 1 << 20))
        #expect(
            try #require(two.blocks.fault(list))
                == (two.second, .tooLarge(byteCount: 1 + 1 << 20)))
        let missing = CID(codec: .dagCBOR, multihash: .sha256(of: [9]))
        do {
            _ = try two.blocks.entries(two.list([("a", two.first), ("m", missing)]))
            Issue.record("a missing block was not missed")
        } catch PortableReadError<NoSuchBlock>.unavailable(let cid, let failure) {
            #expect(cid == missing)
            #expect(failure == NoSuchBlock(cid: missing))
        }
        for cid in [Self.raw, CID.dagPB(sha256: [1], version: 0)] {
            #expect(try #require(two.blocks.fault(cid)) == (cid, .badCID))
        }
        let identity = CID(codec: .dagCBOR, multihash: try .identity([0xa0]))
        #expect(try #require(two.blocks.fault(identity)) == (identity, .badCID))
    }

    @Test func whatHasMoreThanItsBoundsIsGivenUp() throws {
        let blocks = Blocks()
        let cid = try blocks.directory((0..<20_000).map { PortableEntry("\(100_000 + $0)") })
        var bounds = PortableReadBounds()
        bounds.entryCountMax = 20_000
        #expect(try blocks.entries(cid, bounds: bounds).count == 20_000)
        bounds.entryCountMax = 19_999
        #expect(throws: (any Error).self) { try blocks.entries(cid, bounds: bounds) }
        let byteCount = blocks.blocks.values.reduce(0) { $0 + $1.count }
        bounds = PortableReadBounds()
        bounds.byteCountMax = byteCount
        #expect(try blocks.entries(cid, bounds: bounds).count == 20_000)
        bounds.byteCountMax = byteCount - 1
        do {
            _ = try blocks.entries(cid, bounds: bounds)
            Issue.record("too many bytes were read")
        } catch PortableReadError<NoSuchBlock>.damaged(let found, let fault) {
            #expect(found == cid)
            #expect(fault == .tooManyBytes(limit: byteCount - 1))
        }
    }

    @Test func damagedBytesNeverDoMoreThanFail() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed: seed)
        let source = Blocks()
        let empty = try source.directory([])
        _ = try source.directory(random.entries(count: 12, nameLengthMax: 8, directory: empty))
        let two = TwoChunks()
        _ = two.list([("a", two.first), ("m", two.second)])
        var originals = source.order.compactMap { source.blocks[$0] }
        originals += two.blocks.order.compactMap { two.blocks.blocks[$0] }
        let root = PortableRoot(
            tree: .dagPB(sha256: [1], version: 0), profile: "custom", directory: empty,
            attributes: .plain, extendedAttributes: random.extendedAttributes())
        _ = try root.write {
            originals.append($1) as Void; source.put($0, $1)
        }
        var readCount = 0
        for _ in 0..<30_000 {
            var block = random.pick(originals)
            for _ in 0..<Int.random(in: 1...3, using: &random) where !block.isEmpty {
                let at = Int.random(in: 0..<block.count, using: &random)
                switch Int.random(in: 0...3, using: &random) {
                case 0: block[at] = .random(in: 0...255, using: &random)
                case 1: block[at] ^= 1 << UInt8.random(in: 0...7, using: &random)
                case 2: block.remove(at: at)
                default: block.insert(.random(in: 0...255, using: &random), at: at)
                }
            }
            let cid = source.put(block)
            // Whatever is read is what is written.
            if let entries = try? source.entries(cid), block.first == 0xa2, block[1] == 0x66 {
                readCount += 1
                #expect(try source.directory(entries) == cid, "seed \(seed): \(block)")
            }
            if let root = try? PortableRoot.read(cid, get: source.get) {
                readCount += 1
                #expect(try root.write { _, _ in } == cid, "seed \(seed): \(block)")
            }
        }
        #expect(readCount > 0, "seed \(seed)")
    }
}
