import Base
import Checking
import Foundation
import Glibc
import InodeManifest
import KuboDouble
import Testing
import Volume

import struct SystemPackage.Errno

/// Each error that a program should not see leaves its cause with the thread that answers.
@Suite struct CauseTests {
    private func cause<Result>(
        of error: Errno, _ body: () throws(Errno) -> Result
    ) throws -> String {
        FailureCause.take()
        do throws(Errno) {
            _ = try body()
        } catch let caught {
            #expect(caught == error)
            return try #require(FailureCause.take(), "no cause was noted")
        }
        Issue.record("it did not fail")
        return ""
    }

    @Test func missingFlatFileIsTheCause() throws {
        let directory = try CheckedDirectory()
        let file = try directory.flatFile("flat")
        try #require(unlink(file) == 0)
        let volume = try directory.open()
        defer { try? volume.close() }
        let found = try cause(of: .ioError) { () throws(Errno) in
            try volume.contents(of: volume.resolve(path: ["flat"]))
        }
        #expect(found.contains("its flat file in \(directory.path)/objects is missing"), "\(found)")
    }

    @Test func shortFlatFileIsTheCause() throws {
        let directory = try CheckedDirectory()
        try #require(truncate(try directory.flatFile("flat"), 70_000) == 0)
        let volume = try directory.open()
        defer { try? volume.close() }
        let found = try cause(of: .ioError) { () throws(Errno) in
            try volume.contents(of: volume.resolve(path: ["flat"]))
        }
        #expect(found.contains("its flat file has only 70000 of 100000 bytes"), "\(found)")
    }

    @Test func flatFileThatCannotBeReadIsTheCause() async throws {
        await #expect(processExitsWith: .success) {
            let directory = try CheckedDirectory()
            let volume = try directory.open()
            let inode = try volume.resolve(path: ["flat"])
            Faults.arm([.read], passing: 0, outcome: .failure(.ioError))
            let error = errno { () throws(Errno) in try volume.contents(of: inode) }
            guard error == .ioError, FailureCause.take() == "a test has this fail: read" else {
                exit(1)
            }
        }
    }

    @Test func logThatCannotBeWrittenIsTheCauseForEverybody() async throws {
        await #expect(processExitsWith: .success) {
            let scratch = ScratchDirectory()
            let volume = try openVolume(scratch, stillOptions)
            try volume.makeFile("file", [1])
            Faults.arm([.write], passing: 0, striking: 1000, outcome: .failure(.ioError))
            let error = errno { () throws(Errno) in try volume.synchronizeDirectory(.root) }
            guard error == .ioError, FailureCause.take() == "a test has this fail: write" else {
                exit(1)
            }
            // Who takes room meanwhile hears of it, too, although its own thread did not write.
            let next = errno { () throws(Errno) in try volume.makeDirectory("next") }
            let cause = FailureCause.take() ?? ""
            guard next == .ioError, cause.contains("a test has this fail: write") else { exit(2) }
        }
    }

    @Test(arguments: [Fault.Kind.status, .flip])
    func blockThatIsNotToBeHadIsTheCause(_ kind: Fault.Kind) throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let cid = try stand.add(content(seed: 1, count: 300_000), "&cid-version=1")
        try stand.put(cid, at: "file")
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options { $0.adoptsTree = true })
        defer { try? volume.close() }
        let inode = try volume.inode("file")
        double.add(
            Fault(
                kind, command: "block/get", value: kind == .status ? 500 : 1,
                message: "no luck today"))
        let found = try cause(of: .ioError) { () throws(Errno) in try volume.contents(of: inode) }
        #expect(found.contains("block baf"), "\(found)")
        if kind == .status { #expect(found.contains("no luck today"), "\(found)") }
        // Once more, by the thread that only hears that it was not to be had a moment ago.
        #expect(
            try cause(of: .ioError) { () throws(Errno) in try volume.contents(of: inode) } == found)
    }

    @Test func contentAtANodeOfAVolumeWithoutOneIsTheCause() throws {
        let directory = try CheckedDirectory()
        try directory.damage("UPDATE object SET state = 3 WHERE id = \(object("flat"))")
        let volume = try directory.open()
        defer { try? volume.close() }
        let found = try cause(of: .ioError) { () throws(Errno) in
            try volume.contents(of: volume.resolve(path: ["flat"]))
        }
        #expect(found.contains("mount the volume with --kubo"), "\(found)")
    }

    @Test func shownPathIsFoundAndEscaped() throws {
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stillOptions)
        let inner = try volume.makeDirectory("in\u{1b}[2Jner")
        let file = try volume.makeFile("file", in: inner, [1])
        #expect(volume.shownPath(of: file) == "/in\\x1b[2Jner/file")
        try volume.synchronizeAll()
        try volume.rename("file", in: inner, to: "newer", in: .root, flags: [])
        #expect(volume.shownPath(of: file) == "/newer")
        #expect(volume.shownPath(of: .root) == "/")
        try volume.unlink("newer", in: .root)
        #expect(volume.shownPath(of: file) == nil)
        try volume.close()
    }
}

@Suite struct RedoReaderTests {
    /// The fuzz target looks further; this is in every run.
    @Test func anyBytesAreReadAsALog() throws {
        let seed = testSeed()
        var generator = SeededGenerator(seed: seed)
        let trial = try RedoLogTrial()
        for _ in 0..<3000 {
            var payload = content(seed: generator.next(), count: generator.below(200))
            // Small counts and lengths lead further than any.
            for index in payload.indices where !generator.oneIn(4) {
                payload[index] = generator.oneIn(3) ? payload[index] & 3 : 0
            }
            var log = payload.withUnsafeBytes { bytes in
                RedoLogTrial.record(
                    payload: bytes, number: generator.oneIn(9) ? .max : 1, before: 0,
                    isFormer: generator.oneIn(2))
            }
            log += [UInt8](repeating: 0, count: log.count)
            if generator.oneIn(4) { log[generator.below(log.count)] ^= 1 }
            if generator.oneIn(8) { log.removeLast(generator.below(log.count)) }
            let (commits, _) = log.withUnsafeBytes { trial.read(log: $0, applied: 0) }
            #expect(commits < 2, "REGISTRYFS_TEST_SEED=\(seed)")
        }
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        #expect(trial.read(log: nothing, applied: .max) == (0, true))
    }
}
