import Base
import Checking
import Foundation
import Glibc
import InodeManifest
import MerkleDAG
import Multiformats
import ObjectStore
import Testing
import Volume

import struct SystemPackage.Errno

@Suite("Check")
struct CheckTests {
    @Test(arguments: [ImportProfile.unixfsV1_2025, .unixfsV0_2015])
    func aVolumeThatWasClosedIsClean(profile: ImportProfile) throws {
        let directory = try CheckedDirectory(profile: profile)
        let before = try directory.contents()
        let report = try directory.check()
        #expect(report.problems == [])
        #expect(report.isClean && report.repaired.isEmpty)
        #expect(report.pending == CheckReport.Pending())
        #expect(report.inodes == 14 && report.directories == 6 && report.files == 6)
        #expect(report.symlinks == 1 && report.entries == 15)
        // small and twin share one; empty has none.
        #expect(report.objects == 4 && report.sealedObjects == 4 && report.inlineObjects == 2)
        #expect(report.bytesHashed == UInt64(19 + 100_000 + CheckedDirectory.largeSize + 300))
        #expect(try directory.contents() == before)
    }

    @Test func repairOfACleanVolumeChangesNothing() throws {
        let directory = try CheckedDirectory()
        let before = try directory.contents()
        let report = try directory.check(repair: true)
        #expect(report.isClean && report.repaired.isEmpty)
        #expect(try directory.contents() == before)
    }

    @Test func progressEndsWithAllBytes() throws {
        let directory = try CheckedDirectory()
        var last: (done: UInt64, total: UInt64) = (0, 0)
        var calls = 0
        let report = try Check.run(stateDirectory: directory.path, repair: false) {
            #expect($0 >= last.done)
            last = ($0, $1)
            calls += 1
        }
        #expect(last.done == report.bytesHashed && last.total == report.bytesHashed && calls > 3)
    }

    @Test func aVolumeInUseIsRefusedWithTheHolder() throws {
        let directory = try CheckedDirectory()
        let volume = try directory.open()
        defer { try? volume.close() }
        let error = #expect(throws: CheckError.self) { try directory.check() }
        guard case .stateDirectory(.inUse(_, let pid)) = error else {
            Issue.record("not inUse: \(String(describing: error))")
            return
        }
        #expect(pid == getpid())
    }

    @Test func whatIsNoVolumeIsRefusedAndNothingIsMade() throws {
        let directory = CheckedDirectory(empty: ())
        let absent = directory.path + "/absent"
        for path in [absent, directory.path] {
            let error = #expect(throws: CheckError.self) {
                try Check.run(stateDirectory: path, repair: true) { _, _ in }
            }
            guard case .stateDirectory = error else {
                Issue.record("not stateDirectory: \(String(describing: error))")
                return
            }
        }
        #expect(try directory.contents().isEmpty)
        #expect(access(absent, F_OK) != 0)
    }

    @Test(arguments: ["not SQLite", "CREATE TABLE other(x)"])
    func anotherProgramsFileIsRefused(content: String) throws {
        let directory = CheckedDirectory(empty: ())
        let file = directory.path + "/manifest.sqlite"
        if content.hasPrefix("CREATE") {
            try directory.damage("\(content); INSERT INTO other VALUES (1)")
        } else {
            try #require(
                FileManager.default.createFile(
                    atPath: file, contents: Data(String(repeating: content, count: 99).utf8)))
        }
        let before = FileManager.default.contents(atPath: file)
        let error = #expect(throws: CheckError.self) { try directory.check(repair: true) }
        guard case .manifest(.database) = error else {
            Issue.record("not refused: \(String(describing: error))")
            return
        }
        #expect(FileManager.default.contents(atPath: file) == before)
    }

    @Test func aNewerFormatIsRefused() throws {
        let directory = try CheckedDirectory()
        try directory.damage("PRAGMA user_version = 99; UPDATE volume SET clean = 1")
        let error = #expect(throws: CheckError.self) { try directory.check(repair: true) }
        guard case .manifest(.newerFormat(_, let found, _)) = error else {
            Issue.record("not newerFormat: \(String(describing: error))")
            return
        }
        #expect(found == 99)
    }

    @Test func aVolumeThatWasNeverFinishedIsClean() throws {
        let directory = CheckedDirectory(empty: ())
        try #require(
            FileManager.default.createFile(
                atPath: directory.path + "/manifest.sqlite", contents: Data()))
        #expect(try directory.check().isClean)
        #expect(try directory.check(repair: true).isClean)
        try directory.open().close()
        #expect(try directory.check().inodes == 1)
    }

    // MARK: Damaged rows

    @Test(arguments: RowDamage.all)
    func damageOfARowIsFoundAndMended(damage: RowDamage) throws {
        let directory = try CheckedDirectory()
        try directory.damage(damage.sql)
        let before = try directory.contents()
        let report = try directory.check()
        #expect(report.problems.count == damage.findings.count, "\(report.problems)")
        for finding in damage.findings {
            #expect(report.problems.contains { $0.contains(finding) }, "\(report.problems)")
        }
        #expect(report.repaired.isEmpty)
        #expect(try directory.contents() == before)

        let repair = try directory.check(repair: true)
        #expect(repair.problemCount == UInt64(damage.remaining.count), "\(repair.problems)")
        // Mending the first may mend the rest, which is then not told as mended.
        if let first = damage.findings.first(where: { !damage.remaining.contains($0) }) {
            #expect(repair.repaired.contains { $0.contains(first) }, "\(repair.repaired)")
        }
        let again = try directory.check(repair: true)
        #expect(again.repaired.isEmpty, "\(again.repaired)")
        #expect(again.problems == repair.problems)
        for finding in damage.remaining {
            #expect(again.problems.contains { $0.contains(finding) }, "\(again.problems)")
        }
        // What was mended is usable: a mount, and a whole tree without a word.
        let volume = try directory.open()
        if damage.remaining.isEmpty { _ = try volume.cid(of: .root) }
        try volume.close()
        #expect(try directory.check().problemCount == UInt64(damage.remaining.count))
    }

    @Test func damagedPagesAreFoundAndNotWrittenTo() throws {
        let directory = try CheckedDirectory()
        let file = directory.path + "/manifest.sqlite"
        let pages = try directory.integer("SELECT rootpage FROM sqlite_master WHERE name = 'entry'")
        let size = try directory.integer("PRAGMA page_size")
        for offset in 0..<64 { try directory.flip(file, at: Int((pages - 1) * size) + offset) }
        let before = FileManager.default.contents(atPath: file)
        #expect(try !directory.check().isClean)
        let repair = try directory.check(repair: true)
        #expect(!repair.isClean && repair.repaired.isEmpty)
        #expect(FileManager.default.contents(atPath: file) == before)
    }

    @Test func aDamagedIndexIsMadeAgain() throws {
        let directory = try CheckedDirectory()
        try directory.damage(
            """
            PRAGMA writable_schema = ON;
            CREATE TABLE stolen AS SELECT * FROM sqlite_master WHERE name = 'inode_object';
            DELETE FROM sqlite_master WHERE name = 'inode_object';
            """)
        try directory.damage("UPDATE inode SET object = NULL WHERE id = \(inode("twin"))")
        try directory.damage(
            """
            PRAGMA writable_schema = ON;
            INSERT INTO sqlite_master SELECT * FROM stolen;
            """)
        let report = try directory.check()
        #expect(report.problems.contains { $0.contains("inode_object") }, "\(report.problems)")
        let repair = try directory.check(repair: true)
        #expect(repair.repaired.contains { $0.contains("inode_object") })
        #expect(!(try directory.check().problems.contains { $0.contains("inode_object") }))
    }

    // MARK: Damaged content

    @Test(arguments: [ImportProfile.unixfsV1_2025, .unixfsV0_2015])
    func aFlippedByteIsFoundByLeafAndNeverAccepted(profile: ImportProfile) throws {
        let directory = try CheckedDirectory(profile: profile)
        try directory.flip(try directory.flatFile("large"), at: 2 * profile.chunkSize + 77)
        for repair in [false, true, false] {
            let report = try directory.check(repair: repair)
            #expect(report.problems.count == 1, "\(report.problems)")
            let problem = try #require(report.problems.first)
            let start = 2 * profile.chunkSize
            #expect(problem.contains("leaf 2, bytes \(start) to \(start + profile.chunkSize - 1)"))
            #expect(problem.contains("(/large)"))
            #expect(report.repaired.isEmpty)
        }
    }

    @Test func aFlippedByteOfASingleLeafIsFound() throws {
        let directory = try CheckedDirectory()
        try directory.flip(try directory.flatFile("flat"), at: 99_999)
        for repair in [false, true, false] {
            let report = try directory.check(repair: repair)
            #expect(report.problems.count == 1 && report.repaired.isEmpty)
            #expect(report.problems[0].contains("do not match its CID"))
            #expect(report.problems[0].contains("(/flat)"))
        }
    }

    @Test func aMissingFlatFileIsFoundAndRemains() throws {
        let directory = try CheckedDirectory()
        try #require(unlink(try directory.flatFile("large")) == 0)
        for repair in [false, true, false] {
            let report = try directory.check(repair: repair)
            #expect(report.problems.count == 1 && report.repaired.isEmpty)
            #expect(report.problems[0].contains("its flat file is missing"))
        }
    }

    @Test func aCutFlatFileIsFoundAndRemains() throws {
        let directory = try CheckedDirectory()
        try #require(truncate(try directory.flatFile("large"), 1 << 20) == 0)
        for repair in [false, true, false] {
            let report = try directory.check(repair: repair)
            #expect(report.problems.count == 1 && report.repaired.isEmpty)
            #expect(report.problems[0].contains("has only 1048576 of \(3 << 20 + 5) bytes"))
        }
    }

    @Test func aFlatFileThatIsTooLongIsCut() throws {
        let directory = try CheckedDirectory()
        let file = try directory.flatFile("flat")
        try #require(truncate(file, 123_456) == 0)
        let report = try directory.check()
        #expect(report.problems.count == 1)
        #expect(report.problems[0].contains("its flat file has 123456 bytes, not 100000"))
        let repair = try directory.check(repair: true)
        #expect(repair.isClean && repair.repaired.count == 1)
        #expect(FileManager.default.contents(atPath: file)?.count == 100_000)
        #expect(try directory.check().isClean)
    }

    @Test func flatFilesOfNoObjectAreRemovedAndForeignOnesAreNot() throws {
        let directory = try CheckedDirectory()
        let bucket = directory.path + "/objects/0000000000000"
        let orphan = bucket + "/00000000000009ab"
        let foreign = [directory.path + "/objects/notes", bucket + "/README"]
        for path in foreign + [orphan] {
            try #require(FileManager.default.createFile(atPath: path, contents: Data("x".utf8)))
        }
        let report = try directory.check()
        #expect(report.problems.count == 3, "\(report.problems)")
        #expect(report.problems.contains { $0.contains("9ab: a flat file of no object") })
        #expect(report.problems.contains { $0.contains("objects/notes") })
        #expect(report.problems.contains { $0.contains("README") })
        let repair = try directory.check(repair: true)
        #expect(repair.problems.count == 2 && repair.repaired.count == 1)
        #expect(access(orphan, F_OK) != 0)
        for path in foreign { #expect(access(path, F_OK) == 0) }
    }

    // MARK: What a repair keeps

    @Test func whatLostItsNameIsFoundInLostAndFound() throws {
        let directory = try CheckedDirectory()
        let hard = try directory.integer("SELECT \(inode("hard"))")
        let deep = try directory.integer("SELECT \(inode("deep"))")
        try directory.damage(
            """
            DELETE FROM entry WHERE inode = \(hard) OR inode = \(deep);
            """)
        let repair = try directory.check(repair: true)
        #expect(repair.isClean, "\(repair.problems)")
        let volume = try directory.open()
        defer { try? volume.close() }
        let place = try volume.resolve(path: [FileName("lost+found")])
        #expect(try volume.attributes(of: place).mode == 0o700)
        let file = try volume.resolve(
            path: [FileName("lost+found"), FileName("\(hard)")])
        #expect(file == Inode(UInt64(hard)))
        #expect(try volume.bytes(of: file) == pattern(3, count: 300))
        #expect(
            try volume.extendedAttribute(FileName("user.colour"), of: file)
                == Array("green".utf8))
        let below = try volume.resolve(
            path: [FileName("lost+found"), FileName("\(deep)"), FileName("deeper")])
        #expect(try volume.attributes(of: below).kind == .directory)
    }

    @Test func contentThatNoInodeHoldsIsFoundInLostAndFound() throws {
        let directory = try CheckedDirectory()
        let large = try directory.integer("SELECT \(object("large"))")
        try directory.damage(
            "UPDATE inode SET object = NULL, size = 0 WHERE id = \(inode("large"))")
        let repair = try directory.check(repair: true)
        #expect(repair.isClean, "\(repair.problems)")
        #expect(repair.repaired.contains { $0.contains("object \(large): no inode holds it") })
        let volume = try directory.open()
        defer { try? volume.close() }
        let found = try volume.resolve(
            path: [FileName("lost+found"), FileName("object-\(large)")])
        #expect(try volume.bytes(of: found) == pattern(2, count: CheckedDirectory.largeSize))
    }

    @Test func aRepairThatFindsLostAndFoundTakenGoesBesideIt() throws {
        let directory = try CheckedDirectory()
        var volume = try directory.open()
        try volume.put("lost+found", [1, 2, 3])
        try volume.close()
        let large = try directory.integer("SELECT \(inode("large"))")
        try directory.damage("DELETE FROM entry WHERE inode = \(large)")
        #expect(try directory.check(repair: true).isClean)
        volume = try directory.open()
        defer { try? volume.close() }
        #expect(
            try volume.resolve(path: [FileName("lost+found-1"), FileName("\(large)")])
                == Inode(UInt64(large)))
        #expect(try volume.bytes(of: volume.resolve(path: [FileName("lost+found")])) == [1, 2, 3])
    }

    @Test func theTreeHasTheSameCIDAfterItsCIDsWereMended() throws {
        let directory = try CheckedDirectory()
        var volume = try directory.open()
        let before = try volume.cid(of: .root)
        try volume.close()
        try directory.damage(
            "UPDATE inode SET cid = x'0155122000' WHERE id = \(inode("deep")) OR id = 1")
        #expect(try directory.check(repair: true).isClean)
        volume = try directory.open()
        #expect(try volume.cid(of: .root) == before)
        try volume.close()
        #expect(try directory.check().isClean)
    }
}

/// A damage of rows, what the check says of it, and what remains after a repair.
struct RowDamage: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let sql: String
    /// A part of each line, and there are no other lines.
    let findings: [String]
    var remaining: [String] = []

    init(_ name: String, _ sql: String, _ findings: [String], remaining: [String] = []) {
        testDescription = name
        self.sql = sql
        self.findings = findings
        self.remaining = remaining
    }

    private static let namesInRoot = [
        "small", "twin", "empty", "flat", "large", "dir", "hard2", "hard3", "other",
    ]

    static let all: [RowDamage] = [
        // Links
        RowDamage(
            "a file's link count", "UPDATE inode SET nlink = 7 WHERE id = \(inode("hard"))",
            ["(/dir/deep/deeper/hard): its link count is 7, not 3"]),
        RowDamage(
            "a file's link count of 0", "UPDATE inode SET nlink = 0 WHERE id = \(inode("small"))",
            ["(/small): its link count is 0, not 1"]),
        RowDamage(
            "a directory's link count", "UPDATE inode SET nlink = 9 WHERE id = \(inode("dir"))",
            ["(/dir): its link count is 9, not 4"]),
        RowDamage(
            "the root's link count", "UPDATE inode SET nlink = 0 WHERE id = 1",
            ["inode 1 (/): its link count is 0, not 4"]),
        RowDamage(
            "a file's parent", "UPDATE inode SET parent = 99 WHERE id = \(inode("small"))",
            ["the directories that it says it is in are not those that have its entries"]),
        RowDamage(
            "other parents", "UPDATE inode SET other_parents = NULL WHERE id = \(inode("hard"))",
            ["the directories that it says it is in are not those that have its entries"]),
        RowDamage(
            "a ragged other_parents",
            "UPDATE inode SET other_parents = CAST(other_parents || x'00' AS BLOB) "
                + "WHERE id = \(inode("hard"))",
            ["the directories that it says it is in are not those that have its entries"]),
        RowDamage(
            "a directory's parent", "UPDATE inode SET parent = 1 WHERE id = \(inode("deep"))",
            ["it says that it is in inode 1, but is not"]),
        RowDamage(
            "the root's parent", "UPDATE inode SET parent = 2 WHERE id = 1",
            ["it says that it is in inode 2, but is not"]),

        // Entries
        RowDamage(
            "an entry of nothing", "UPDATE entry SET inode = 999 WHERE name = \(name("fifo"))",
            [
                "entry \"fifo\" in inode 7 (/dir): it names inode 999, which does not exist",
                "inode 12: no entry names it",
                "(/dir): it has a CID, but not all of its entries have one",
            ]),
        RowDamage(
            "an entry in nothing", "UPDATE entry SET parent = 999 WHERE name = \(name("fifo"))",
            [
                "entry \"fifo\" in inode 999: there is no such directory",
                "the directories that it says it is in are not those that have its entries",
            ]),
        RowDamage(
            "an entry in a file",
            """
            UPDATE entry SET parent = \(inode("small")) WHERE name = \(name("fifo"));
            UPDATE inode SET parent = \(inode("small")) WHERE id = \(inode("fifo"))
            """,
            ["entry \"fifo\" in inode 2 (/small): that is no directory"]),
        RowDamage(
            "an entry's kind", "UPDATE entry SET kind = 2 WHERE name = \(name("small"))",
            ["entry \"small\" in inode 1 (/): it says kind 2, inode 2 has kind 1"]),
        RowDamage(
            "a cookie that is used twice",
            "UPDATE entry SET cookie = (SELECT cookie FROM entry WHERE name = \(name("fifo"))) "
                + "WHERE name = \(name("small"))",
            ["is used twice"]),
        RowDamage(
            "a cookie out of range", "UPDATE entry SET cookie = 2 WHERE name = \(name("small"))",
            ["entry \"small\" in inode 1 (/): cookie 2 is out of range"]),
        RowDamage(
            "a name with a slash",
            "UPDATE entry SET name = \(name("a/b")) WHERE name = \(name("fifo"))",
            ["its name has a slash in it"]),
        RowDamage(
            "an empty name", "UPDATE entry SET name = x'' WHERE name = \(name("fifo"))",
            ["its name is empty"]),
        RowDamage(
            "a reserved name", "UPDATE entry SET name = \(name("..")) WHERE name = \(name("fifo"))",
            ["its name is reserved"]),
        RowDamage(
            "a name that is too long",
            "UPDATE entry SET name = zeroblob(256) WHERE name = \(name("fifo"))",
            ["its name has 256 bytes"]),
        RowDamage(
            "a name with a NUL", "UPDATE entry SET name = x'610062' WHERE name = \(name("fifo"))",
            ["entry \"a\\x00b\" in inode 7 (/dir): its name has a NUL in it"]),
        RowDamage(
            "two names of a directory",
            """
            INSERT INTO entry SELECT 1, \(name("again")), inode, 2, cookie + 1000 FROM entry
            WHERE name = \(name("deeper"));
            UPDATE volume SET next_cookie = 5000; UPDATE inode SET cid = NULL WHERE id = 1;
            UPDATE inode SET nlink = 5 WHERE id = 1; \(dropNodes("kind = 2 AND owner = 1"))
            """,
            ["a directory that 2 entries name"]),
        RowDamage(
            "the root in a directory",
            """
            INSERT INTO entry SELECT 1, \(name("self")), 1, 2, next_cookie FROM volume;
            UPDATE volume SET next_cookie = next_cookie + 1;
            UPDATE inode SET nlink = 5 WHERE id = 1;
            UPDATE inode SET cid = NULL WHERE id = 1; \(dropNodes("kind = 2 AND owner = 1"))
            """,
            ["entry \"self\" in inode 1 (/): it names the root"]),
        RowDamage(
            "a circle of directories",
            """
            UPDATE entry SET parent = \(inode("deeper")) WHERE name = \(name("deep"));
            UPDATE inode SET parent = \(inode("deeper")), cid = NULL WHERE name = 0
            OR id = \(inode("deep"));
            """.replacingOccurrences(of: "WHERE name = 0\nOR id", with: "WHERE id")
                + """

                UPDATE inode SET nlink = 3 WHERE id = \(inode("dir")) OR id = \(inode("deeper"));
                UPDATE inode SET cid = NULL WHERE kind = 2; \(dropNodes("kind = 2"))
                """,
            ["it lies in a circle of directories"]),
        RowDamage(
            "a name that is gone",
            """
            DELETE FROM entry WHERE name = \(name("large"));
            UPDATE inode SET cid = NULL WHERE id = 1; \(dropNodes("kind = 2 AND owner = 1"))
            """,
            ["inode 6: no entry names it"]),
        RowDamage(
            "no root",
            "DELETE FROM inode WHERE id = 1; \(dropNodes("kind = 2 AND owner = 1"))",
            ["inode 1: there is no root directory", "the inode count is 14, but there are 13"]
                + namesInRoot.map {
                    "entry \"\($0)\" in inode 1 (/): there is no such directory"
                }),

        // Counters
        RowDamage(
            "the inode count", "UPDATE volume SET inode_count = 3",
            ["volume: the inode count is 3, but there are 14"]),
        RowDamage(
            "the next inode", "UPDATE volume SET next_inode = 5",
            ["volume: next_inode is 5, but 14 is in use"]),
        RowDamage(
            "the next cookie", "UPDATE volume SET next_cookie = 17",
            ["volume: next_cookie is 17, but"]),
        RowDamage(
            "the next object", "UPDATE volume SET next_object = 5",
            ["volume: next_object is 5, but 5 is in use"]),

        // Inodes
        RowDamage(
            "a mode", "UPDATE inode SET mode = 33188 WHERE id = \(inode("small"))",
            ["(/small): mode 33188 is out of range"]),
        RowDamage(
            "a kind", "UPDATE inode SET kind = 9 WHERE id = \(inode("fifo"))",
            [
                "its number or its kind is out of range",
                "it says kind 4, inode 12 has kind 9",
            ], remaining: ["its number or its kind is out of range"]),
        RowDamage(
            "a symlink's size", "UPDATE inode SET size = 3 WHERE id = \(inode("link"))",
            ["(/dir/link): its size is 3, but its target has 8 bytes"]),
        RowDamage(
            "a symlink without a target",
            "UPDATE inode SET target = NULL, size = 0 WHERE id = \(inode("link"))",
            ["(/dir/link): its target of 0 bytes is no path"],
            remaining: ["(/dir/link): its target of 0 bytes is no path"]),
        RowDamage(
            "a target of a file", "UPDATE inode SET target = x'61' WHERE id = \(inode("small"))",
            ["(/small): it has a target, but is no symbolic link"]),
        RowDamage(
            "a directory's size", "UPDATE inode SET size = 4096 WHERE id = \(inode("dir"))",
            ["(/dir): its size is 4096, but it has no content"]),
        RowDamage(
            "a CID of a file", "UPDATE inode SET cid = x'01' WHERE id = \(inode("small"))",
            ["(/small): it has a CID of its own"]),
        RowDamage(
            "an empty file's size", "UPDATE inode SET size = 5 WHERE id = \(inode("empty"))",
            ["(/empty): its size is 5, but it has no content"],
            remaining: ["(/empty): its size is 5, but it has no content"]),

        // Extended attributes
        RowDamage(
            "a missing flag of attributes",
            "UPDATE inode SET has_xattrs = 0 WHERE id = \(inode("hard"))",
            ["it says that it has no extended attributes, but there are 1"]),
        RowDamage(
            "attributes that are gone", "DELETE FROM xattr",
            ["it says that it has extended attributes, but there are none"]),
        RowDamage(
            "attributes of nothing", "INSERT INTO xattr VALUES (999, x'61', x'62')",
            ["inode 999: extended attributes of an inode that does not exist"]),

        // Objects
        RowDamage(
            "too few references", "UPDATE object SET refs = 1 WHERE id = \(object("twin"))",
            ["it counts 1 references, not 2"]),
        RowDamage(
            "too many references", "UPDATE object SET refs = 5 WHERE id = \(object("large"))",
            ["(/large): it counts 5 references, not 1"]),
        RowDamage(
            "an inode's size", "UPDATE inode SET size = 12 WHERE id = \(inode("large"))",
            ["(/large): its size is 12, but it has 3145733 bytes"]),
        RowDamage(
            "an object's size that is too large",
            "UPDATE object SET size = 4000000 WHERE id = \(object("large"))",
            ["its size is 4000000, but it has 3145733 bytes"]),
        RowDamage(
            "an inline object's size", "UPDATE object SET size = 3 WHERE id = \(object("small"))",
            ["its size is 3, but it has 19 bytes"]),
        RowDamage(
            "an object's CID",
            "UPDATE object SET cid = (SELECT cid FROM object WHERE id = \(object("flat"))) "
                + "WHERE id = \(object("small"))",
            ["do not match its CID", "inode 1 (/): its CID is not that of its entries"],
            remaining: [
                "do not match its CID", "inode 1 (/): its CID is not that of its entries",
            ]),
        RowDamage(
            "inline bytes",
            "UPDATE object SET inline = \(damaged("inline")) "
                + "WHERE id = \(object("small"))",
            ["(/small): damaged: its bytes do not match its CID"],
            remaining: ["(/small): damaged: its bytes do not match its CID"]),
        RowDamage(
            "an object's tree size", "UPDATE object SET tree_size = 1 WHERE id = \(object("hard"))",
            [
                "its tree size is 1, not 300",
                "(/dir/deep/deeper): its CID is not that of its entries",
                "inode 1 (/): its CID is not that of its entries",
            ]),
        RowDamage(
            "an object that is gone",
            "DELETE FROM object WHERE id = \(object("hard"))",
            [
                "its content is lost: object 5 does not exist",
                "inode 1 (/): it has a CID, but not all of its entries have one",
                "(/dir/deep/deeper): it has a CID, but not all of its entries have one",
            ], remaining: ["its content is lost: object 5 does not exist"]),
        RowDamage(
            "a deletion of what is there",
            "INSERT INTO deleted_object VALUES (\(object("large")))",
            ["(/large): it is noted as deleted, but still there"]),

        // Leaves and nodes
        RowDamage(
            "a leaf's hash",
            "UPDATE leaf SET multihash = \(strangeMultihash) WHERE number = 1",
            ["(/large): the hash stored for leaf 1 is not that of its bytes"]),
        RowDamage(
            "a leaf that is gone", "DELETE FROM leaf WHERE number = 0",
            ["(/large): the hash stored for leaf 0 is not that of its bytes"]),
        RowDamage(
            "a leaf too many",
            "INSERT INTO leaf SELECT object, 4, multihash FROM leaf WHERE number = 3",
            ["(/large): more leaves are stored than it has"]),
        RowDamage(
            "leaves of nothing", "INSERT INTO leaf SELECT 99, number, multihash FROM leaf",
            ["object 99: leaves or nodes are stored of an object that does not exist"]),
        RowDamage(
            "leaves of an object of one leaf",
            "INSERT INTO leaf SELECT \(object("flat")), number, multihash FROM leaf",
            ["(/flat): leaves or nodes are stored, but it has one leaf"]),
        RowDamage(
            "a node's bytes",
            "UPDATE dag_node SET bytes = \(damaged("bytes")) WHERE \(nodes("kind = 1"))",
            ["(/large): its stored nodes are not those of its CID"]),
        RowDamage(
            "a node that is gone", dropNodes("kind = 1"),
            ["(/large): its stored nodes are not those of its CID"]),
        RowDamage(
            "a node too many",
            """
            INSERT INTO dag_node SELECT \(strangeMultihash), bytes, 0 FROM dag_node LIMIT 1;
            INSERT INTO dag_reference SELECT kind, owner, \(strangeMultihash) FROM dag_reference
            WHERE kind = 1
            """,
            ["(/large): its stored nodes are not those of its CID"]),
        RowDamage(
            "a node that its reference alone tells of",
            "DELETE FROM dag_node WHERE \(nodes("kind = 1"))",
            ["(/large): its stored nodes are not those of its CID"]),
        RowDamage(
            "a node that nothing refers to",
            "INSERT INTO dag_node VALUES (\(strangeMultihash), x'00', 0)",
            ["0000: nothing refers to it"]),
        RowDamage(
            "a node of a root that is gone",
            "INSERT INTO dag_reference VALUES (3, 1, \(strangeMultihash))",
            ["0000 of a root or snapshot is missing"]),
        RowDamage(
            "a node of a root that is another",
            "INSERT INTO dag_node VALUES (\(strangeMultihash), x'00', 0); "
                + "INSERT INTO dag_reference VALUES (3, 1, \(strangeMultihash))",
            ["0000 of a root or snapshot does not match its hash"]),
        RowDamage(
            "nodes that nobody knows the need of",
            "INSERT INTO dag_reference SELECT 9, owner, multihash FROM dag_reference "
                + "WHERE kind = 1",
            ["9 is no kind of who needs a DAG node"]),

        // Snapshots
        RowDamage(
            "a snapshot's root",
            "INSERT INTO snapshot VALUES (1, 's', x'00', 0, 0, 0, '', 0, NULL)",
            ["table snapshot, row id 1, column root"]),
        RowDamage(
            "a snapshot whose number was not given",
            "INSERT INTO snapshot SELECT 7, 's', cid, 0, 0, 0, '', 0, NULL FROM object "
                + "WHERE id = \(object("flat"))",
            ["last_snapshot is 0, but there is snapshot 7"]),
        RowDamage(
            "a restoration of nothing", "INSERT INTO restoration VALUES (1, 's', x'00', x'')",
            ["table restoration, row id 1, column root"]),
        RowDamage(
            "an object that is kept without a reference",
            "UPDATE object SET kept = 1 WHERE id = \(object("flat"))",
            ["(/flat): it counts 1 references, not 2, one of them for snapshots"]),

        // Placements
        RowDamage(
            "a placement at no remote",
            "INSERT INTO placement VALUES (1, \(object("flat")), 1, 1, NULL, 1)",
            ["there is no such remote"]),
        RowDamage(
            "placements of nothing",
            "\(remoteRow); INSERT INTO placement VALUES (1, 999, 1, 1, NULL, 1), "
                + "(2, 999, 1, 1, NULL, 1), (2, \(inode("small")), 1, 1, NULL, 1), "
                + "(9, 1, 1, 1, NULL, 1)",
            [
                "kind 1, number 999, at remote 1: it is of nothing that there is",
                "kind 2, number 999, at remote 1: it is of nothing that there is",
                "kind 2, number 2, at remote 1: it is of what has no CID",
                "9 is no kind of what is placed",
            ]),
        RowDamage(
            "a placement's state",
            "\(remoteRow); INSERT INTO placement VALUES "
                + "(1, \(object("flat")), 1, 7, NULL, 1)",
            ["7 is no state of a placement"]),
        RowDamage(
            "a placement in an epoch to come",
            "\(remoteRow); INSERT INTO placement VALUES "
                + "(1, \(object("flat")), 1, 1, NULL, 2), (2, 1, 1, 1, NULL, 0)",
            ["epoch 2 is out of range", "epoch 0 is out of range"]),
        RowDamage(
            "a remote that nobody knows",
            "\(remoteRow); UPDATE remote SET id = 4",
            ["table remote, row id 4, column id: there is no remote of that number"]),
        RowDamage(
            "a remote of no kind", "\(remoteRow); UPDATE remote SET kind = 9",
            ["table remote, row id 1, column kind: 9 is no kind of a remote"]),

        RowDamage(
            "where the tree came from",
            "INSERT INTO origin VALUES (1, '/ipns/name', x'00', 0)",
            ["table origin, row id 1, column root: "]),

        // CIDs of directories
        RowDamage(
            "a directory's CID",
            "UPDATE inode SET cid = (SELECT cid FROM inode WHERE id = 1) "
                + "WHERE id = \(inode("deep"))",
            [
                "(/dir/deep): its CID is not that of its entries",
                "(/dir): its CID is not that of its entries",
            ]),
        RowDamage(
            "a directory's tree size",
            "UPDATE inode SET tree_size = 9 WHERE id = 1",
            ["inode 1 (/): its CID is not that of its entries"]),
        RowDamage(
            "a CID that is gone below one",
            """
            UPDATE inode SET cid = NULL WHERE id = \(inode("deep"));
            \(dropNodes("kind = 2 AND owner = \(inode("deep"))"))
            """,
            ["(/dir): it has a CID, but inode 8 in it has none"]),
        RowDamage(
            "a directory's node",
            "UPDATE dag_node SET bytes = \(damaged("bytes")) "
                + "WHERE \(nodes("kind = 2 AND owner = \(inode("dir"))"))",
            ["(/dir): a stored node does not match its hash"]),
        RowDamage(
            "a directory's node that is gone",
            dropNodes("kind = 2 AND owner = \(inode("dir"))"),
            ["(/dir): its stored nodes are not those of its CID"]),
        RowDamage(
            "nodes of what is no directory",
            "INSERT INTO dag_reference SELECT 2, \(inode("small")), multihash "
                + "FROM dag_reference WHERE kind = 2 AND owner = 1",
            ["(/small): directory nodes are stored, but there is no directory's CID"]),
        RowDamage(
            "nodes of nothing",
            "INSERT INTO dag_reference SELECT 2, 999, multihash "
                + "FROM dag_reference WHERE kind = 2 AND owner = 1",
            ["inode 999: directory nodes of an inode that does not exist"]),
        RowDamage(
            "a symlink's CID", "UPDATE inode SET tree_size = 9 WHERE id = \(inode("link"))",
            [
                "(/dir/link): its CID is not that of its target",
                "(/dir): its CID is not that of its entries",
            ]),
    ]
}
