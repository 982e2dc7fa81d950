import Base
import Checking
import Foundation
import GRDB
import Glibc
import InodeManifest
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// A state directory in memory, where opening it a thousand times is cheap.
private final class LoggedDirectory {
    let path = "/dev/shm/registryfs-test-" + UUID().uuidString
    var log: String { path + "/manifest.redo" }

    init() {
        mkdir(path, 0o700)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Nothing is told to SQLite that the test does not ask for.
    static func options(segmentByteCount: Int = 64 << 10) -> VolumeOptions {
        var options = stillOptions
        options.logSegmentByteCount = segmentByteCount
        return options
    }

    func open(isReadOnly: Bool = false, segmentByteCount: Int = 64 << 10) throws -> Volume {
        var options = Self.options(segmentByteCount: segmentByteCount)
        options.isReadOnly = isReadOnly
        return try Volume.open(stateDirectory: path, options: options, log: quietLog)
    }

    /// What a crash at this moment leaves behind.
    func crash() throws -> LoggedDirectory {
        let copy = LoggedDirectory()
        try copy.become(self)
        return copy
    }

    func become(_ other: LoggedDirectory) throws {
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.copyItem(atPath: other.path, toPath: path)
    }

    /// The places of the records in the log, found by their first bytes.
    func records() throws -> [Range<Int>] {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: log)))
        var records: [Range<Int>] = []
        for start in stride(from: 0, to: bytes.count - 48, by: 8)
        where Array(bytes[start..<start + 4]) == Array("rfr3".utf8) {
            let length = (0..<4).reduce(0) { $0 | Int(bytes[start + 4 + $1]) << (8 * $1) }
            records.append(start..<start + 48 + length)
        }
        return records
    }

    func change(_ change: (inout [UInt8]) -> Void) throws {
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: log)))
        change(&bytes)
        try Data(bytes).write(to: URL(fileURLWithPath: log))
    }

    func check(repair: Bool = false) throws -> CheckReport {
        try Check.run(stateDirectory: path, repair: repair) { _, _ in }
    }

    /// Makes files of one commit each, and leaves them to the log.
    static func crashed(fileCount: Int) throws -> LoggedDirectory {
        let directory = LoggedDirectory()
        let volume = try directory.open()
        for index in 0..<fileCount {
            try volume.makeFile(FileName("f\(index)"), [UInt8(index)])
            try volume.synchronizeDirectory(.root)
        }
        let crashed = try directory.crash()
        try volume.close()
        return crashed
    }

    func names() throws -> [String] {
        let volume = try open()
        defer { try? volume.close() }
        return try volume.entries(of: .root).map(\.name.description)
    }
}

private func names(_ count: Int) -> [String] { (0..<count).map { "f\($0)" } }

@Suite struct RedoLogTests {
    @Test func commitsLieInTheLogAloneAndAreThereAfterACrash() throws {
        let crashed = try LoggedDirectory.crashed(fileCount: 3)
        #expect(try crashed.records().count == 3)
        let database = try DatabaseQueue(path: crashed.path + "/manifest.sqlite")
        let rows = try database.inDatabase {
            try Int.fetchOne($0, sql: "SELECT count(*) FROM entry")
        }
        #expect(rows == 0)
        try database.close()
        let report = try crashed.check()
        #expect(report.isClean && report.files == 3, "\(report.problems)")
        #expect(try crashed.names() == names(3))
        #expect(try crashed.check().isClean)
    }

    @Test func recordsShareNoBlock() throws {
        let records = try LoggedDirectory.crashed(fileCount: 3).records()
        #expect(records.map(\.lowerBound) == [0, 4096, 8192])
    }

    /// Before records had blocks of their own, they followed one another at multiples of 8 bytes.
    @Test func aLogOfBeforeIsReplayed() throws {
        let former = try LoggedDirectory.crashed(fileCount: 5)
        let records = try former.records()
        try former.change { bytes in
            let parts = records.map { Array(bytes[$0]) }
            for record in records { for index in record { bytes[index] = 0 } }
            var place = 0
            // The last two as a newer program goes on: each in a block of its own.
            for (number, part) in parts.enumerated() {
                if number >= 3 { place = (place + 4095) / 4096 * 4096 }
                bytes.replaceSubrange(place..<place + part.count, with: part)
                place = (place + part.count + 7) / 8 * 8
            }
        }
        #expect(
            try former.records().prefix(3).map { $0.lowerBound % 4096 == 0 } == [
                true, false, false,
            ])
        #expect(try former.names() == names(5))
        #expect(try former.check().isClean)
    }

    /// The record of an inode has what changed of its attributes, and what was there is there still.
    @Test func aSmallAttributeAmongManyMakesASmallRecord() throws {
        let directory = LoggedDirectory()
        let volume = try directory.open(segmentByteCount: 1 << 20)
        let file = try volume.makeFile("f", [1])
        func set(_ name: FileName, _ value: [UInt8]) throws {
            try volume.setExtendedAttribute(
                name, of: file, to: value, flags: 0, clearSetGID: false, caller: root)
        }
        let large = content(seed: 1, count: 60_000)
        try set("user.large", large)
        try set("user.gone", [1])
        try volume.synchronizeAll()
        let before = try directory.records().count
        for index in 0..<10 {
            try set("user.small", [UInt8(index)])
            try volume.synchronizeAll()
        }
        try volume.removeExtendedAttribute("user.gone", of: file)
        try volume.synchronizeAll()
        let records = try directory.records().dropFirst(before)
        #expect(records.count == 11)
        #expect(records.allSatisfy { $0.count < 500 }, "\(records.map(\.count))")
        let crashed = try directory.crash()
        try volume.close()
        for place in [directory, crashed] {
            #expect(try place.check().isClean)
            let again = try place.open()
            #expect(try again.extendedAttribute("user.large", of: file) == large)
            #expect(try again.extendedAttribute("user.small", of: file) == [9])
            #expect(
                try again.extendedAttributeNames(of: file)
                    == Array("user.large\0user.small\0".utf8))
            try again.close()
        }
    }

    /// Before records told what changed, they told all attributes of an inode.
    @Test func attributesOfALogOfBeforeAreAllThatThereAre() throws {
        let directory = LoggedDirectory()
        var volume = try directory.open()
        let file = try volume.makeFile("f", [1])
        try volume.setExtendedAttribute(
            "user.gone", of: file, to: [1], flags: 0, clearSetGID: false, caller: root)
        try volume.close()
        volume = try directory.open()
        try volume.setExtendedAttribute(
            "user.kept", of: file, to: [2], flags: 0, clearSetGID: false, caller: root)
        try volume.synchronizeAll()
        let crashed = try directory.crash()
        try volume.close()
        let database = try DatabaseQueue(path: crashed.path + "/manifest.sqlite")
        let key = try #require(
            try database.inDatabase { try Data.fetchOne($0, sql: "SELECT key FROM redo_log") })
        try database.close()
        let name = Array("user.kept".utf8)
        let records = try crashed.records()
        try crashed.change { bytes in
            let places = bytes.indices.filter {
                bytes[$0] == name[0] && Array(bytes[$0...].prefix(name.count)) == name
            }
            guard let record = records.first(where: { $0.contains(places.first ?? 0) }) else {
                Issue.record("no record has the attribute")
                return
            }
            var part = Array(bytes[record])
            let place = places[0] - record.lowerBound
            // Before the name its length, before that the length of the list, and before that the form.
            #expect(part[place - 9] == 2)
            part[place - 9] = 1
            var hasher = SHA256Hasher()
            hasher.update([UInt8](key))
            hasher.update(Array(part[..<24]))
            part.replaceSubrange(24..<32, with: hasher.finalize().bytes[2..<10])
            hasher.update(Array(part[48...]))
            part.replaceSubrange(32..<48, with: hasher.finalize().bytes[2..<18])
            bytes.replaceSubrange(record, with: part)
        }
        let again = try crashed.open()
        #expect(try again.extendedAttributeNames(of: file) == Array("user.kept\0".utf8))
        try again.close()
        #expect(try crashed.check().isClean)
    }

    @Test func recordCutAtAnyByteIsNoRecord() throws {
        let crashed = try LoggedDirectory.crashed(fileCount: 3)
        let last = try #require(try crashed.records().last)
        let torn = LoggedDirectory()
        for cut in last {
            try torn.become(crashed)
            try torn.change { bytes in
                for index in cut..<last.upperBound { bytes[index] = 0 }
            }
            // Bytes that were zero are whole where they are cut.
            let isWhole = FileManager.default.contentsEqual(
                atPath: torn.log, andPath: crashed.log)
            #expect(try torn.names() == names(isWhole ? 3 : 2), "cut at \(cut - last.lowerBound)")
        }
    }

    @Test func damagedLastRecordIsATornOne() throws {
        let crashed = try LoggedDirectory.crashed(fileCount: 3)
        let last = try #require(try crashed.records().last)
        let damaged = LoggedDirectory()
        for place in stride(from: last.lowerBound, to: last.upperBound, by: 7) {
            try damaged.become(crashed)
            try damaged.change { $0[place] ^= 0x10 }
            #expect(try damaged.names() == names(2), "byte \(place - last.lowerBound)")
        }
    }

    @Test(arguments: 0..<2)
    func recordDamagedBeforeWholeOnesIsToldAndLeftOutByRepair(_ index: Int) throws {
        let crashed = try LoggedDirectory.crashed(fileCount: 3)
        let record = try crashed.records()[index]
        try crashed.change { $0[record.lowerBound + 100] ^= 1 }
        let failure = #expect(throws: VolumeError.self) { () throws in
            try crashed.open().close()
        }
        guard case .manifest(.damaged(let path, reason: _))? = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(path.hasSuffix("manifest.redo"))
        let report = try crashed.check()
        #expect(report.problemCount == 1, "\(report.problems)")
        let repair = try crashed.check(repair: true)
        #expect(repair.isClean && repair.repairedCount == 1, "\(repair.problems)")
        #expect(try crashed.check().isClean)
        #expect(try crashed.names() == names(index))
    }

    @Test func replayingTwiceIsReplayingOnce() throws {
        let directory = LoggedDirectory()
        let volume = try directory.open()
        let large = try volume.makeFile("large", content(seed: 1, count: 600_000))
        try volume.makeFile("gone", content(seed: 2, count: 40_000))
        let folder = try volume.makeDirectory("folder")
        try volume.makeFile("moved", in: folder, content(seed: 3, count: 300))
        _ = try volume.cid(of: .root)
        try volume.setExtendedAttribute(
            "user.a", of: large, to: [1], flags: 0, clearSetGID: false, caller: root)
        try volume.synchronizeAll()
        try volume.unlink("gone", in: .root)
        try volume.rename("moved", in: folder, to: "here", in: .root, flags: [])
        try volume.setExtendedAttribute(
            "user.a", of: large, to: [2], flags: 0, clearSetGID: false, caller: root)
        try volume.setSize(of: large, to: 500_000)
        try volume.synchronizeAll()
        _ = try volume.cid(of: .root)
        try volume.synchronizeAll()
        let crashed = try directory.crash()
        let expected = try Names(volume)
        try volume.close()
        let applied = try crashed.integer("SELECT applied FROM redo_log")
        for _ in 0..<3 {
            // Opening to read replays the log, and leaves it alone.
            let reader = try crashed.open(isReadOnly: true)
            #expect(try Names(reader) == expected)
            try reader.close()
            #expect(try crashed.integer("SELECT applied FROM redo_log") > applied)
            let report = try crashed.check()
            #expect(report.isClean, "\(report.problems)")
            _ = try crashed.integer("UPDATE redo_log SET applied = \(applied) RETURNING applied")
        }
        let again = try crashed.open()
        #expect(try Names(again) == expected)
        #expect(try again.cid(of: .root) == independentRoot(of: .root, in: again).cid)
        try again.close()
        #expect(try crashed.check().isClean)
    }

    @Test func batchLargerThanASegmentIsCommittedAllTheSame() throws {
        let directory = LoggedDirectory()
        let volume = try directory.open(segmentByteCount: 8 << 10)
        for round in 0..<3 {
            for index in 0..<200 { try volume.makeFile(FileName("\(round).\(index)"), [1]) }
            try volume.synchronizeDirectory(.root)
            try volume.makeFile(FileName("small\(round)"), [2])
            try volume.synchronizeDirectory(.root)
            let crashed = try directory.crash()
            let report = try crashed.check()
            #expect(report.isClean, "\(report.problems)")
            #expect(try crashed.names().count == 201 * (round + 1))
        }
        try volume.close()
    }

    @Test func logThatIsFullAgainAndAgainLosesNothing() throws {
        let directory = LoggedDirectory()
        let volume = try directory.open(segmentByteCount: 8 << 10)
        for index in 0..<300 {
            try volume.makeFile(FileName("f\(index)"), [1])
            try volume.synchronizeDirectory(.root)
            guard index % 23 == 0 else { continue }
            let crashed = try directory.crash()
            #expect(try crashed.names() == names(index + 1))
        }
        try volume.close()
        #expect(try directory.names() == names(300))
    }

    /// Killed when SQLite has what the log holds, or before that, and the segment is not used again.
    @Test(arguments: [Faults.Call.beginTransaction, .endTransaction], 0..<4)
    func deathWhileSQLiteIsToldLosesNothing(_ call: Faults.Call, passing: Int) async throws {
        let directory = LoggedDirectory()
        let isBegin = call == .beginTransaction
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [
                path = directory.path as String, isBegin = isBegin as Bool,
                passing = passing as Int
            ] in
            let volume = try Volume.open(
                stateDirectory: path, options: LoggedDirectory.options(segmentByteCount: 8 << 10),
                log: quietLog)
            Faults.arm(
                [isBegin ? .beginTransaction : .endTransaction], passing: passing, outcome: .death)
            let acknowledged = open(path + "/acknowledged", O_WRONLY | O_CREAT, 0o600)
            for index in 0... {
                try volume.makeFile(FileName("f\(index)"), [1])
                try volume.synchronizeDirectory(.root)
                _ = write(acknowledged, [1], 1)
            }
        }
        let acknowledged =
            try FileManager.default
            .attributesOfItem(atPath: directory.path + "/acknowledged")[.size] as? Int
        let count = try #require(acknowledged)
        let report = try directory.check()
        #expect(report.isClean, "\(report.problems)")
        let found = try directory.names()
        #expect(found == names(found.count) && (count...count + 1).contains(found.count))
    }

    /// The number of a commit that failed is not used again, whether or not it reached the disk.
    @Test(arguments: [[Faults.Call.write], [.synchronize], [.endCommit], [.endTransaction]])
    func commitThatFailedIsMadeUpForByTheNext(_ calls: [Faults.Call]) async throws {
        for passing in 0..<6 {
            let directory = LoggedDirectory()
            await #expect(processExitsWith: .success) {
                [path = directory.path as String, calls = "\(calls[0])", passing = passing as Int]
                in
                try commitWithFaults(path, call: calls, passing: passing)
            }
            let report = try directory.check()
            #expect(report.isClean, "\(report.problems)")
            #expect(try directory.names() == names(120))
        }
    }

    @Test func directoryOfAnOlderVersionIsTakenOver() throws {
        let directory = LoggedDirectory()
        let volume = try directory.open()
        try volume.makeFile("f0", [1])
        try volume.close()
        let database = try DatabaseQueue(path: directory.path + "/manifest.sqlite")
        try database.inDatabase { db in
            try db.execute(
                sql: """
                    DROP TABLE redo_log; DROP TABLE remote; DROP TABLE placement; DROP TABLE origin;
                    DROP TABLE snapshot; DROP TABLE restoration; DROP INDEX object_kept;
                    DROP TABLE graft; DROP TABLE graft_object;
                    ALTER TABLE object DROP COLUMN born; ALTER TABLE object DROP COLUMN kept;
                    ALTER TABLE volume DROP COLUMN last_snapshot;
                    CREATE TABLE node(object INTEGER NOT NULL, multihash BLOB NOT NULL,
                    bytes BLOB NOT NULL, PRIMARY KEY (object, multihash)) STRICT, WITHOUT ROWID;
                    CREATE TABLE directory_node(inode INTEGER NOT NULL, multihash BLOB NOT NULL,
                    bytes BLOB NOT NULL, PRIMARY KEY (inode, multihash)) STRICT, WITHOUT ROWID;
                    INSERT INTO directory_node SELECT owner, multihash, bytes
                    FROM dag_reference JOIN dag_node USING (multihash) WHERE kind = 2;
                    DROP TABLE dag_reference; DROP TABLE dag_node;
                    ALTER TABLE inode RENAME COLUMN not_loaded TO unexpanded;
                    ALTER TABLE inode ADD COLUMN published INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE object ADD COLUMN published INTEGER NOT NULL DEFAULT 0;
                    CREATE TABLE published(id INTEGER PRIMARY KEY CHECK (id = 1),
                    peer TEXT NOT NULL, epoch INTEGER NOT NULL, path TEXT NOT NULL, root BLOB,
                    view BLOB, time INTEGER NOT NULL) STRICT;
                    DELETE FROM grdb_migrations WHERE identifier IN ('3', '4', '5', '6', '7');
                    PRAGMA user_version = 2;
                    """)
        }
        try database.close()
        unlink(directory.log)
        #expect(try directory.names() == ["f0"])
        #expect(try directory.check().isClean)
    }

    @Test func logOfAnotherLengthIsReplacedOnceItIsReplayed() throws {
        let crashed = try LoggedDirectory.crashed(fileCount: 3)
        try crashed.open(segmentByteCount: 32 << 10).close()
        let size = try FileManager.default.attributesOfItem(atPath: crashed.log)[.size] as? Int
        #expect(size == 64 << 10)
        #expect(try crashed.names() == names(3))
    }
}

extension LoggedDirectory {
    func integer(_ sql: String) throws -> Int64 {
        let database = try DatabaseQueue(path: path + "/manifest.sqlite")
        let value = try database.inDatabase { try Int64.fetchOne($0, sql: sql) }
        try database.close()
        return try #require(value)
    }
}

/// Files in a log that is soon full, with one failure, and death without a goodbye.
private func commitWithFaults(_ path: String, call name: String, passing: Int) throws {
    let volume = try Volume.open(
        stateDirectory: path, options: LoggedDirectory.options(segmentByteCount: 8 << 10),
        log: quietLog)
    let calls = Faults.Call.allCases.filter { "\($0)" == name }
    var struckCount = 0
    for index in 0..<120 {
        try volume.makeFile(FileName("f\(index)"), [1])
        if index % 40 == 20 {
            struckCount += Faults.disarm()
            Faults.arm(Set(calls), passing: passing, outcome: .failure(.ioError))
        }
        let isDone = eventually(everyMilliseconds: 1) {
            (try? volume.synchronizeDirectory(.root)) != nil
        }
        guard isDone else { _exit(1) }
    }
    struckCount += Faults.disarm()
    _exit(struckCount > 0 || passing > 0 ? 0 : 1)
}
