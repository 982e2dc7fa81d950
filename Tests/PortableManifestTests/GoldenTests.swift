import Base
import MerkleDAG
import Multiformats
import PortableManifest
import Testing

/// The CIDs are what `golden.py` prints, which knows nothing of this code.
@Suite struct GoldenTests {
    private func empty(_ blocks: Blocks) throws -> CID { try blocks.directory([]) }

    private func kinds(_ blocks: Blocks) throws -> CID {
        func entry(
            _ name: [UInt8], _ kind: FileKind, _ mode: UInt32, _ uid: UInt32, _ gid: UInt32,
            _ seconds: Int64, _ nanoseconds: UInt32
        ) -> PortableEntry {
            PortableEntry(
                name: name, kind: kind,
                attributes: PortableAttributes(
                    mode: mode, uid: uid, gid: gid, seconds: seconds, nanoseconds: nanoseconds))
        }
        func file(_ name: String) -> PortableEntry {
            entry(Array(name.utf8), .regular, 0o644, 0, 0, 1, 2)
        }
        var attributes = file("attributes")
        attributes.extendedAttributes = [
            .init(name: Array("user.".utf8) + [0xff], value: []),
            .init("security.capability", [1, 0, 0, 2]),
        ]
        var directory = entry(Array("directory".utf8), .directory, 0o2755, 1000, 1000, 0, 0)
        directory.directory = try empty(blocks)
        var disk = entry(Array("disk".utf8), .blockDevice, 0o660, 0, 6, 1, 2)
        disk.rdev = 0xffff_ffff
        var large = file("large")
        large.extendedAttributes = [
            .init("user.large", [UInt8](repeating: UInt8(ascii: "x"), count: 5_000))
        ]
        var linked = entry(Array("linked".utf8), .regular, 0o4755, 0, 0, 1, 2)
        linked.hardLinks = PortableHardLinks(group: UInt64(Int64.max), count: 3)
        var tty = entry(Array("tty".utf8), .characterDevice, 0o620, 0, 5, 1, 2)
        // makedev(4, 300).
        tty.rdev = 0x10_042c
        return try blocks.directory([
            attributes, directory, disk,
            entry(Array("fifo".utf8), .fifo, 0o600, .max, .max, .min, 1), large, linked,
            entry(Array("regular".utf8), .regular, 0o644, 0, 0, 1_700_000_000, 123_456_789),
            entry(Array("socket".utf8), .socket, 0o755, 65_534, 65_534, .max, 0),
            entry(Array("symlink".utf8), .symlink, 0o777, 0, 0, -1, 999_999_999), tty,
            entry([0xff, 0xfe], .regular, 0o644, 0, 0, 1, 2),
        ])
    }

    @Test func anEmptyDirectoryHasThisCID() throws {
        let blocks = Blocks()
        let cid = try empty(blocks)
        #expect(cid.description == "bafyreibl3ewbdnbujvw2dvuag2krtkwmomnqaezaszrqw5lis44t23sybi")
        #expect(try blocks.entries(cid) == [])
    }

    @Test func entriesOfEveryKindHaveThisCID() throws {
        let blocks = Blocks()
        let cid = try kinds(blocks)
        #expect(cid.description == "bafyreidmwhonwpge762tfa4xrrfxfmpyacmnlhh5gneqhsxqbdle4lvlpy")
        // The empty directory, the large attributes, the directory.
        #expect(blocks.blocks.count == 3)
        let entries = try blocks.entries(cid)
        #expect(try blocks.directory(entries) == cid)
        #expect(entries.map(\.kind.rawValue) == [1, 2, 7, 4, 1, 1, 1, 5, 3, 6, 1])
    }

    @Test(
        arguments: [
            (false, "bafyreibp3co4h3ydglxbecuddurul3z3dlg7l2siy6gdq3gifg65i3lhhy"),
            (true, "bafyreiet5oixmzg547dmhuv6zr6kqcoisuec4kdd2kuro3nynlbbp5njuq"),
        ])
    func aRootHasThisCID(hasAttributes: Bool, text: String) throws {
        let blocks = Blocks()
        let root = PortableRoot(
            tree: try CID(parsing: "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"),
            profile: "unixfs-v1-2025", directory: try kinds(blocks),
            attributes: PortableAttributes(
                mode: 0o1777, uid: 0, gid: 0, seconds: 1_700_000_000, nanoseconds: 5),
            extendedAttributes: hasAttributes ? [.init("user.a", [UInt8(ascii: "b")])] : [])
        let cid = try root.write { blocks.put($0, $1) }
        #expect(cid.description == text)
        #expect(try PortableRoot.read(cid, get: blocks.get) == root)
        let totals = try PortableManifest.verify(cid, get: blocks.get).totals
        #expect(totals == PortableManifest.Totals(directoryCount: 2, entryCount: 11))
    }

    @Test(
        arguments: [
            (100, "bafyreia6fkafotekghpoxoa42kqliykrzvxofj57vp3brm6rp7gsyulboi"),
            (20_000, "bafyreigrvd2bqbho5wwpc3fanmcm6qizzq3urzals2ujsjyjka5wcbtel4"),
        ])
    func directoriesOfManyEntriesHaveThisCID(count: Int, text: String) throws {
        let blocks = Blocks()
        let cid = try blocks.directory(
            (0..<count).map { index in
                let digits = String(index)
                let zeros = String(repeating: "0", count: 6 - digits.count)
                return PortableEntry(
                    "file-" + zeros + digits,
                    attributes: PortableAttributes(
                        mode: [0o644, 0o600, 0o755][index % 3], uid: 1000 + UInt32(index % 2),
                        gid: 100, seconds: 1_600_000_000 + Int64(index * 7919 % 100_000_000),
                        nanoseconds: UInt32(index * 7919 % 1_000_000_000)))
            })
        #expect(cid.description == text)
    }

    @Test func aDirectoryOfTwoLevelsOfListsHasThisCID() throws {
        let blocks = Blocks()
        let fill = String(repeating: "x", count: 243)
        let cid = try blocks.directory(
            (0..<150_000).map { index in
                let digits = String(index)
                let zeros = String(repeating: "0", count: 7 - digits.count)
                return PortableEntry(
                    zeros + digits + fill,
                    attributes: PortableAttributes(
                        mode: 0o644, uid: 0, gid: 0, seconds: Int64(index), nanoseconds: 0))
            })
        #expect(cid.description == "bafyreibci6exa3qy36ilnhjsojwmllj7ejlooabauvnem5x7qhhp33z67u")
        #expect(try DAGCBOR(decoding: blocks.get(cid))["level"] == .unsigned(2))
        #expect(try blocks.entries(cid).count == 150_000)
    }
}
