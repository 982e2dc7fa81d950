import Base
import Checking
import Foundation
import GRDB
import InodeManifest
import Testing
import Volume

import struct SystemPackage.Errno

/// A state directory that an earlier build left behind, killed; see Tests/Mount/earlier-states.
private struct EarlierState {
    let path: String
    private let scratch = ScratchDirectory()

    init(_ archive: String) throws {
        path = scratch.state
        let tar = Process()
        tar.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        tar.arguments = ["tar", "-C", scratch.path, "-xzf", archive, "state"]
        try tar.run()
        tar.waitUntilExit()
        try #require(tar.terminationStatus == 0)
    }

    /// What some SQL finds in the manifest, a line a row.
    func rows(_ sql: String) throws -> [String] {
        let database = try DatabaseQueue(path: path + "/manifest.sqlite")
        let rows = try database.inDatabase { db in
            try Row.fetchAll(db, sql: sql).map { row in
                row.databaseValues.map(Self.text).joined(separator: ",")
            }
        }
        try database.close()
        return rows
    }

    private static func text(_ value: DatabaseValue) -> String {
        guard case .blob(let data) = value.storage else { return value.description }
        return data.map { String($0, radix: 16) }.joined(separator: ".")
    }

    /// Opens the manifest with this build, and leaves it as a crash does.
    func open() throws -> InodeManifest {
        try InodeManifest.open(directory: path, profileName: "unixfs-v1-2025", log: quietLog)
    }

    /// Where the transactions in SQLite's WAL end; https://www.sqlite.org/fileformat.html#the_write_ahead_log.
    func transactionEnds() throws -> [Int] {
        let wal = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path + "/manifest.sqlite-wal")))
        func number(_ offset: Int) -> Int {
            wal[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) }
        }
        let frameByteCount = 24 + number(8)
        var ends: [Int] = []
        for start in stride(from: 32, through: wal.count - frameByteCount, by: frameByteCount) {
            guard wal[start + 8..<start + 16].elementsEqual(wal[16..<24]) else { break }
            // A frame that ends a transaction tells the length of the database.
            if number(start + 4) != 0 { ends.append(start + frameByteCount) }
        }
        return ends
    }

    /// Takes what SQLite was told after a place in its WAL back, as if the build had been killed there: the
    /// redo log has it still.
    func cutWAL(to byteCount: Int) throws {
        let file = try FileHandle(
            forWritingTo: URL(fileURLWithPath: path + "/manifest.sqlite-wal"))
        try file.truncate(atOffset: UInt64(byteCount))
        try file.close()
        try FileManager.default.removeItem(atPath: path + "/manifest.sqlite-shm")
    }

    /// All that the manifest says, but for counters.
    func contents() throws -> [String: [String]] {
        var contents: [String: [String]] = [:]
        for table in [
            "inode", "entry", "xattr", "object", "leaf", "dag_node", "dag_reference", "remote",
            "placement", "redo_log",
        ] {
            let columns =
                switch table {
                case "redo_log": "applied"
                // Without `blocks`, a figure that a checkpoint tells as it is then.
                case "inode":
                    """
                    id, kind, mode, uid, gid, nlink, rdev, size, atime, mtime, ctime, btime, parent,
                    other_parents, object, cid, tree_size, target, has_xattrs, not_loaded
                    """
                default: "*"
                }
            contents[table] = try rows("SELECT \(columns) FROM \(table)").sorted()
        }
        return contents
    }

    func check() throws -> CheckReport {
        try Check.run(stateDirectory: path, repair: false) { _, _ in }
    }
}

@Suite struct EarlierStateTests {
    static let archives: [String] = {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent()
        let directory = tests.appendingPathComponent("Mount/earlier-states").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".tar.gz") }.sorted().map { directory + "/" + $0 }
    }()

    @Test func thereAreSome() { #expect(Self.archives.count > 1) }

    /// Those of format 3; the newer ones have placements already.
    static let archivesOfFormat3 = archives.filter { archive in
        !["trees", "snapshots", "domains"].contains { archive.hasSuffix("/before-\($0).tar.gz") }
    }

    @Test(arguments: archives.filter { $0.hasSuffix("/before-domains.tar.gz") })
    func aStateWithoutGraftsGetsTheirTables(_ archive: String) throws {
        let earlier = try EarlierState(archive)
        #expect(try earlier.rows("PRAGMA user_version") == ["6"])
        let manifest = try earlier.open()
        manifest.withLock { state in
            #expect(state.grafts.all.isEmpty && state.grafts.unverified.isEmpty)
        }
        manifest.abandon()
        #expect(try earlier.rows("PRAGMA user_version") == ["7"])
        #expect(try earlier.rows("SELECT * FROM graft").isEmpty)
        #expect(try earlier.rows("SELECT * FROM graft_object").isEmpty)
        #expect(try earlier.check().problems.isEmpty)
    }

    @Test(arguments: archivesOfFormat3)
    func whatTheNodeHasAndWhatItHasNotIsTakenOver(_ archive: String) throws {
        let earlier = try EarlierState(archive)
        #expect(try earlier.rows("PRAGMA user_version") == ["3"])
        // SQLite had been told of all that is in the log.
        let held = "published = (SELECT epoch FROM published)"
        let objects = try earlier.rows("SELECT id FROM object WHERE \(held) ORDER BY id")
        let waiting = try earlier.rows(
            "SELECT id FROM object WHERE state = 2 AND NOT (\(held)) ORDER BY id")
        let directories = try earlier.rows(
            "SELECT id FROM inode WHERE kind = 2 AND cid IS NOT NULL AND \(held) ORDER BY id")
        let nodes = try earlier.rows(
            """
            SELECT multihash, bytes FROM node UNION SELECT multihash, bytes FROM directory_node
            ORDER BY multihash
            """)
        let published = try earlier.rows(
            "SELECT peer, path, epoch, root, view, time FROM published")
        #expect(objects.count > 5 && directories.count > 2 && nodes.count > 5)

        let manifest = try earlier.open()
        try manifest.withLock { (state) throws in
            for id in objects.compactMap({ UInt64($0) }) {
                let object = try #require(try state.object(id))
                #expect(state.isPublished(object), "object \(id)")
            }
            for id in directories.compactMap({ UInt64($0) }) {
                let directory = try #require(try state.inode(Inode(id)))
                #expect(state.isPublished(directory), "inode \(id)")
            }
            let found = try state.rows.unpublishedObjects(after: 0, limit: 100)
            #expect(found.map { "\($0)" } == waiting)
            #expect(try state.rows.unpublishedTotals().count == UInt64(waiting.count))
            #expect(state.published?.epoch == 1 && state.published?.root != nil)
        }
        manifest.abandon()
        #expect(try earlier.rows("PRAGMA user_version") == ["7"])
        #expect(try earlier.rows("SELECT id FROM placement WHERE kind = 1") == objects)
        #expect(try earlier.rows("SELECT id FROM placement WHERE kind = 2") == directories)
        #expect(
            try earlier.rows("SELECT identity, path, epoch, root, view, time FROM remote")
                == published)
        #expect(
            try earlier.rows("SELECT multihash, bytes FROM dag_node ORDER BY multihash") == nodes)
        let report = try earlier.check()
        #expect(report.isClean, "\(report.problems)")
    }

    /// Records of the form that those builds wrote are applied to tables of the new format.
    @Test(arguments: archivesOfFormat3)
    func whatTheRedoLogAloneHasIsTakenOver(_ archive: String) throws {
        let whole = try EarlierState(archive)
        try whole.open().abandon()
        let expected = try whole.contents()
        var count = 0
        for end in try EarlierState(archive).transactionEnds() {
            let earlier = try EarlierState(archive)
            try earlier.cutWAL(to: end)
            // The log reaches back only so far; what was told before is written over.
            guard let told = try? earlier.rows("SELECT applied FROM redo_log").first,
                let number = Int(told), (7..<15).contains(number)
            else { continue }
            count += 1
            try earlier.open().abandon()
            let contents = try earlier.contents()
            for (table, rows) in expected {
                let others = Set(contents[table] ?? []).symmetricDifference(rows)
                #expect(others.isEmpty, "\(table), from commit \(number)")
            }
            let report = try earlier.check()
            #expect(report.isClean, "\(report.problems)")
        }
        #expect(count > 1)
    }
}
