import Base
import Checking
import Foundation
import GRDB
import Glibc
import Testing
import Volume

import struct SystemPackage.Errno

/// What no writer of ours leaves in the manifest: the disk may all the same.
struct ManifestDamage: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let sql: String
    /// A part of the line with which opening is refused; nil where the volume opens.
    var refusal: String?
    /// The damaged row makes something fail, with this in its cause; nil where all goes on.
    var cause: String?
    /// That is damage, and nothing that may be.
    var isToldByCheck: Bool

    init(
        _ name: String, _ sql: String, refusal: String? = nil, cause: String? = nil,
        isToldByCheck: Bool? = nil
    ) {
        self.isToldByCheck = isToldByCheck ?? (refusal != nil || cause != nil)
        testDescription = name
        self.sql = sql
        self.refusal = refusal
        self.cause = cause
    }

    /// What STRICT tables refuse, and a damaged page does not.
    private static func loosened(_ table: String, _ sql: String) -> String {
        """
        PRAGMA writable_schema = ON;
        CREATE TEMP TABLE saved AS SELECT sql FROM sqlite_master WHERE name = '\(table)';
        UPDATE sqlite_master SET sql = replace(replace(sql, 'NOT NULL', ''), 'STRICT', '')
        WHERE name = '\(table)';
        PRAGMA writable_schema = RESET;
        \(sql);
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = (SELECT sql FROM saved) WHERE name = '\(table)';
        PRAGMA writable_schema = RESET;
        """
    }

    static let all: [ManifestDamage] =
        rows + counters + others + inodeValues + inodes + entries + objectValues + objects

    private static let rows: [ManifestDamage] = [
        // The rows without which nothing goes.
        ManifestDamage(
            "no inode at all after a crash", "DELETE FROM inode; UPDATE volume SET clean = 0",
            refusal: "table inode, row id 1, column id: the root directory is missing"),
        ManifestDamage(
            "no volume row", "DELETE FROM volume",
            refusal: "table volume: its row is missing, and inodes are there"),
        ManifestDamage(
            "the root is a file", "UPDATE inode SET kind = 1 WHERE id = 1",
            refusal: "table inode, row id 1, column kind: the root is no directory"),
        ManifestDamage(
            "the root has no link", "UPDATE inode SET nlink = 0 WHERE id = 1",
            refusal: "table inode, row id 1, column nlink: the root has no link"),
        ManifestDamage(
            "a profile that is NULL",
            loosened("volume", "UPDATE volume SET profile = NULL"),
            refusal: "table volume, row id 1, column profile: there is no text in it"),
        ManifestDamage(
            "a counter that is text",
            loosened("volume", "UPDATE volume SET next_object = 'abc'"),
            refusal: "table volume, row id 1, column next_object: there is no number in it"),
    ]

    private static let counters: [ManifestDamage] = [
        "next_inode", "next_cookie", "next_object", "inode_count",
    ].flatMap { (column: String) -> [ManifestDamage] in
        [
            ManifestDamage(
                "\(column) below zero", "UPDATE volume SET \(column) = -1, clean = 0",
                refusal: "table volume, row id 1, column \(column): -1 is out of range"),
            ManifestDamage(
                "\(column) at the end", "UPDATE volume SET \(column) = \(Int64.max)",
                refusal: "table volume, row id 1, column \(column): \(Int64.max) is out of range"),
        ]
    }

    private static let others: [ManifestDamage] = [
        ManifestDamage("an inode count of nothing", "UPDATE volume SET inode_count = 0"),
        ManifestDamage(
            "a commit below zero", "UPDATE redo_log SET applied = -1",
            refusal: "table redo_log, row id 1, column applied: -1 is out of range"),
        ManifestDamage(
            "a key of one byte", "UPDATE redo_log SET key = x'00'",
            refusal: "table redo_log, row id 1, column key: it has 1 bytes, not 32"),
        ManifestDamage(
            "no row of the redo log", "DELETE FROM redo_log", refusal: "its key is lost"),
        ManifestDamage(
            "a root at the node that is no CID",
            "INSERT INTO remote VALUES (1, 1, 'peer', '/x', 1, x'55', 0, NULL, 0)",
            refusal: "table remote, row id 1, column root: it is no CID"),
        ManifestDamage(
            "an epoch at the end",
            "INSERT INTO remote VALUES (1, 1, 'peer', '/x', \(Int64.max), NULL, 0, NULL, 0)",
            refusal: "table remote, row id 1, column epoch: \(Int64.max) is out of range"),

        // Numbers at the end, in rows that the counters are made of.
        ManifestDamage(
            "an inode at the end",
            "UPDATE inode SET id = \(Int64.max) WHERE id = \(inode("fifo")); "
                + "UPDATE volume SET clean = 0"),
        ManifestDamage(
            "a cookie at the end",
            "UPDATE entry SET cookie = \(Int64.max) WHERE name = \(name("fifo")); "
                + "UPDATE volume SET clean = 0",
            cause: "parent 7, name \"fifo\", column cookie: \(Int64.max) is out of range"),
        ManifestDamage(
            "an object at the end",
            "UPDATE object SET id = \(Int64.max) WHERE id = \(object("flat"))",
            cause: "does not exist"),
        ManifestDamage(
            "an object below zero",
            "UPDATE object SET id = -5 WHERE id = \(object("flat")); "
                + "INSERT INTO deleted_object VALUES (-5), (\(Int64.max))"),
    ]

    private static let inodeValues: [ManifestDamage] = [
        ("kind", "9"), ("kind", "257"), ("kind", "-1"), ("mode", "33188"), ("uid", "-1"),
        ("gid", "4294967296"), ("nlink", "-1"), ("nlink", "4294967296"), ("size", "-1"),
        ("parent", "-1"), ("object", "-1"), ("object", "0"), ("cid", "x'01'"), ("cid", "x''"),
        ("other_parents", "x'010203'"), ("not_loaded", "1"),
    ].map { (column: String, value: String) -> ManifestDamage in
        ManifestDamage(
            "\(column) \(value) of an inode",
            "UPDATE inode SET \(column) = \(value) WHERE id = \(inode("small"))",
            cause: "table inode, row id 2, column \(column): ")
    }

    private static let inodes: [ManifestDamage] = [
        ManifestDamage(
            "a size at the end", "UPDATE inode SET size = \(Int64.max) WHERE kind = 1"),
        ManifestDamage(
            "times at the ends",
            "UPDATE inode SET atime = \(-Int64.max), mtime = \(Int64.max), ctime = \(-Int64.max), "
                + "btime = \(Int64.max)"),
        ManifestDamage("links at the end", "UPDATE inode SET nlink = 4294967295 WHERE id > 1"),
        ManifestDamage(
            "blocks and Tsizes below zero", "UPDATE inode SET blocks = -1, tree_size = -1"),
        ManifestDamage(
            "a size that is NULL", loosened("inode", "UPDATE inode SET size = NULL WHERE id = 2"),
            cause: "table inode, row id 2, column size: there is no number in it"),
        ManifestDamage(
            "a mode that is text", loosened("inode", "UPDATE inode SET mode = 'abc' WHERE id = 2"),
            cause: "table inode, row id 2, column mode: there is no number in it"),
        ManifestDamage(
            "a target that is too long",
            "UPDATE inode SET target = zeroblob(3000000), size = 3000000 "
                + "WHERE id = \(inode("link"))",
            cause: "column target: 3000000 bytes that are no path"),
        ManifestDamage(
            "no target", "UPDATE inode SET target = NULL WHERE id = \(inode("link"))",
            cause: "column target: there are no bytes in it"),
        ManifestDamage(
            "entries at the node without a CID",
            "UPDATE inode SET not_loaded = 1, cid = NULL WHERE id = \(inode("deep"))",
            cause: "column not_loaded: "),
        ManifestDamage(
            "a directory in itself",
            """
            UPDATE entry SET parent = \(inode("deeper")) WHERE name = \(name("deep"));
            INSERT INTO entry SELECT 1, \(name("again")), \(inode("deeper")), 2, 9999;
            UPDATE inode SET parent = \(inode("deep")) WHERE id = \(inode("deeper"));
            UPDATE inode SET parent = \(inode("deeper")) WHERE id = \(inode("deep"));
            UPDATE inode SET cid = NULL WHERE kind = 2; \(dropNodes("kind = 2"))
            """, cause: "lies in a circle of directories"),
        ManifestDamage(
            "parents in a ring",
            "UPDATE inode SET parent = \(inode("deeper")) WHERE id = \(inode("dir"))"),
    ]

    private static let entries: [ManifestDamage] = [
        ManifestDamage(
            "an entry of inode -1", "UPDATE entry SET inode = -1 WHERE name = \(name("fifo"))",
            cause: "table entry, row parent 7, name \"fifo\", column inode: -1 is out of range"),
        ManifestDamage(
            "an entry of kind 9", "UPDATE entry SET kind = 9 WHERE name = \(name("fifo"))",
            cause: "column kind: 9 is no kind of an inode"),
        ManifestDamage(
            "a name with a slash", "UPDATE entry SET name = x'612f62' WHERE name = \(name("fifo"))",
            cause: "column name: its name has a slash in it"),
        ManifestDamage(
            "an attribute without a name", "UPDATE xattr SET name = x''",
            cause: "column name: \"\" is no name"),
        ManifestDamage(
            "an attribute of a megabyte", "UPDATE xattr SET value = zeroblob(1000000)",
            cause: "column value: 1000000 bytes are out of range"),
    ]

    private static let objectValues: [ManifestDamage] = [
        ("state", "7"), ("refs", "-1"), ("refs", "4294967296"), ("size", "-1"), ("cid", "x'01'"),
    ]
    .map { (column: String, value: String) -> ManifestDamage in
        ManifestDamage(
            "\(column) \(value) of an object",
            "UPDATE object SET \(column) = \(value) WHERE id = \(object("small"))",
            cause: "table object, row id 1, column \(column): ")
    }

    private static let objects: [ManifestDamage] = [
        ManifestDamage("references at the end", "UPDATE object SET refs = 4294967295"),
        ManifestDamage("no references", "UPDATE object SET refs = 0"),
        ManifestDamage(
            "sizes at the end",
            "UPDATE object SET size = \(Int64.max); "
                + "UPDATE inode SET size = \(Int64.max) WHERE kind = 1"),
        ManifestDamage(
            "all is being written, and endless",
            "UPDATE object SET state = 1, cid = NULL, size = \(Int64.max); "
                + "UPDATE inode SET size = \(Int64.max) WHERE kind = 1"),
        ManifestDamage(
            "inline bytes at the node",
            "UPDATE object SET state = 3 WHERE id = \(object("small"))",
            cause: "table object, row id 1, column inline: "),
        ManifestDamage(
            "at the node without a CID",
            "UPDATE object SET state = 3, cid = NULL WHERE id = \(object("flat"))",
            cause: "column cid: there is none"),
        ManifestDamage(
            "at a node that nobody has",
            "UPDATE object SET state = 3 WHERE id = \(object("flat"))",
            cause: "mount the volume with --kubo", isToldByCheck: false),
        ManifestDamage(
            "inline bytes that are gone",
            "UPDATE object SET inline = x'' WHERE id = \(object("small"))",
            cause: "table object, row id 1, column size: "),
        ManifestDamage(
            "no object", "DELETE FROM object WHERE id = \(object("flat"))",
            cause: "does not exist"),
        ManifestDamage(
            "multihashes that are none",
            """
            UPDATE leaf SET multihash = x'00';
            UPDATE dag_node SET multihash = x'', bytes = x'' WHERE \(nodes("kind = 1"));
            UPDATE dag_reference SET multihash = x'' WHERE kind = 1
            """),
        ManifestDamage("leaves that are gone", "DELETE FROM leaf"),
        ManifestDamage(
            "leaves at the end",
            "UPDATE leaf SET number = \(Int64.max) WHERE number = 0"),
    ]
}

@Suite struct DamageTests {
    @Test func volumeThatIsOnlyReadComputesTheCIDsThatItDoesNotKeep() throws {
        let directory = try CheckedDirectory()
        var volume = try directory.open()
        let before = try volume.cid(of: .root)
        try volume.close()
        try directory.damage(
            "UPDATE inode SET cid = NULL WHERE kind = 2; \(dropNodes("kind = 2"))")
        volume = try directory.open(isReadOnly: true)
        #expect(try volume.cid(of: .root) == before)
        try volume.close()
    }

    @Test(arguments: ManifestDamage.all)
    func damagedManifestIsToldAndNeverTraps(damage: ManifestDamage) throws {
        let directory = try CheckedDirectory()
        try directory.damage(damage.sql)
        for isReadOnly in [true, false] {
            let volume: Volume
            do throws(VolumeError) {
                var options = VolumeOptions()
                options.isReadOnly = isReadOnly
                options.sealThreads = 0
                options.commitIntervalMilliseconds = 3_600_000
                volume = try Volume.open(
                    stateDirectory: directory.path, options: options, log: quietLog)
            } catch {
                let refusal = try #require(damage.refusal, "\(error)")
                #expect("\(error)".contains(refusal))
                #expect("\(error)".contains("manifest."))
                continue
            }
            #expect(damage.refusal == nil)
            let causes = use(volume)
            if let cause = damage.cause {
                #expect(causes.contains { $0.contains(cause) }, "\(causes)")
            }
            #expect(!causes.contains(""), "an error without a cause")
            try volume.close()
        }
        // What refuses a mount or an operation, a check tells; and mends, or says that it does not.
        let report = try directory.check()
        if damage.isToldByCheck { #expect(!report.isClean) }
        let repair = try directory.check(repair: true)
        let again = try directory.check()
        // What is mended may take more along than is told.
        #expect(again.problemCount <= repair.problemCount, "\(again.problems)")
        // A mount that was refused is to be had after a repair, or the check goes on telling why.
        if damage.refusal != nil, again.isClean { try directory.open().close() }
    }

    /// Does with a volume what programs do, whatever comes of it; gives the causes of what failed as no
    /// program expects, "" for one without.
    private func use(_ volume: Volume) -> [String] {
        var causes: [String] = []
        func attempt<Result>(_ body: () throws(Errno) -> Result) -> Result? {
            FailureCause.take()
            do throws(Errno) {
                return try body()
            } catch {
                if !error.isOrdinary { causes.append(FailureCause.take() ?? "") }
                return nil
            }
        }
        _ = attempt { () throws(Errno) in try volume.status() }
        var pending = [Inode.root]
        var seen: Set<Inode> = []
        while let directory = pending.popLast() {
            guard seen.insert(directory).inserted else { continue }
            _ = attempt { () throws(Errno) in try volume.lookup("..", in: directory) }
            var listed: [Listed] =
                attempt { () throws(Errno) in
                    try volume.entries(of: directory)
                } ?? []
            _ = attempt { () throws(Errno) in
                try volume.readDirectoryPlus(directory, from: 0) { _, _ in true }
            }
            // By name, too, as after a listing that somebody made before.
            for name in ["small", "twin", "flat", "large", "dir", "deep", "deeper", "hard", "fifo"]
            {
                guard !listed.contains(where: { $0.name == FileName(name) }),
                    let found = attempt({ () throws(Errno) in
                        try volume.lookup(FileName(name), in: directory)
                    })
                else { continue }
                listed.append(
                    Listed(
                        name: FileName(name), inode: found.inode.number, kind: found.kind))
            }
            for entry in listed {
                let inode = Inode(entry.inode)
                use(inode, of: volume, attempt)
                if entry.kind == .directory { pending.append(inode) }
            }
        }
        for inode in seen { _ = attempt { () throws(Errno) in try volume.cid(of: inode) } }
        guard let made = attempt({ () throws(Errno) in try volume.makeDirectory("made") }) else {
            return causes
        }
        change(volume, made, attempt)
        _ = attempt { () throws(Errno) in try volume.cid(of: .root) }
        _ = attempt { () throws(Errno) in try volume.synchronizeAll() }
        return causes
    }

    private func use(
        _ inode: Inode, of volume: Volume, _ attempt: (() throws(Errno) -> Void) -> Void?
    ) {
        _ = attempt { () throws(Errno) in _ = try volume.attributes(of: inode) }
        _ = attempt { () throws(Errno) in _ = try volume.readSymlink(inode) }
        _ = attempt { () throws(Errno) in
            let opened = try volume.open(inode, flags: .read, caller: root)
            defer { volume.release(opened.handle) }
            _ = try volume.read(opened.handle, at: 0, count: 4 << 20)
        }
        _ = attempt { () throws(Errno) in _ = try volume.cid(of: inode) }
        _ = attempt { () throws(Errno) in _ = try volume.extendedAttributeNames(of: inode) }
        _ = attempt { () throws(Errno) in _ = try volume.report(of: inode) }
        guard let cid = try? volume.cid(of: inode) else { return }
        _ = try? volume.block(cid)
        try? volume.exportCAR(cid) { (_) throws(Errno) in }
    }

    private func change(
        _ volume: Volume, _ made: Inode, _ attempt: (() throws(Errno) -> Void) -> Void?
    ) {
        _ = attempt { () throws(Errno) in try volume.makeFile("new", in: made, [1, 2, 3]) }
        for name: FileName in ["small", "twin", "empty", "flat", "large", "hard2"] {
            _ = attempt { () throws(Errno) in
                let inode = try volume.resolve(path: [name])
                _ = try volume.link(inode, as: FileName("\(name)-too"), in: made)
                let opened = try volume.open(inode, flags: .both, caller: root)
                defer { volume.release(opened.handle) }
                _ = try volume.write(opened.handle, at: 2, Array("changed".utf8))
                try volume.allocate(opened.handle, mode: 0, offset: 0, length: 40_000)
                try volume.synchronize(opened.handle, dataOnly: false)
                try volume.setSize(of: inode, to: 100)
            }
            _ = attempt { () throws(Errno) in
                try volume.rename(name, in: .root, to: "moved", in: made, flags: [])
            }
        }
        for name: FileName in ["dir", "other", "again"] {
            _ = attempt { () throws(Errno) in
                try volume.rename(name, in: .root, to: name, in: made, flags: [])
            }
            _ = attempt { () throws(Errno) in try volume.removeDirectory(name, in: made) }
        }
        for name: FileName in ["new", "moved", "small-too", "hard2-too"] {
            _ = attempt { () throws(Errno) in try volume.unlink(name, in: made) }
        }
        for name: FileName in ["hard3", "moved", "large", "empty"] {
            _ = attempt { () throws(Errno) in try volume.unlink(name, in: .root) }
        }
    }
}
