import Base
import Checking
import Foundation
import Glibc
import Logging
import MerkleDAG
import Testing
import Volume

import struct SystemPackage.Errno

/// What a kill -9 leaves behind is no damage.
@Suite("Check after a crash")
struct CheckCrashTests {
    /// A copy of a state directory as it is now, as a crash at this moment would leave it.
    private func crash(_ directory: CheckedDirectory) throws -> CheckedDirectory {
        let copy = CheckedDirectory(empty: ())
        try FileManager.default.removeItem(atPath: copy.path)
        try FileManager.default.copyItem(atPath: directory.path, toPath: copy.path)
        return copy
    }

    @Test func aVolumeIsCleanAfterACrashAndNothingIsWritten() throws {
        let directory = try CheckedDirectory()
        let volume = try directory.open()
        defer { try? volume.close() }
        let before = try volume.put("before", pattern(9, count: 50_000))
        try volume.put("later", pattern(10, count: 50_000))
        try volume.synchronizeAll()
        _ = before
        let crashed = try crash(directory)
        #expect(access(crashed.path + "/manifest.sqlite-wal", F_OK) == 0)
        let contents = try crashed.contents()
        let report = try crashed.check()
        #expect(report.isClean, "\(report.problems)")
        #expect(report.files == 8)
        #expect(try crashed.contents() == contents)
    }

    @Test func whatTheNextMountMendsIsPending() throws {
        let directory = try CheckedDirectory()
        let volume = try directory.open()
        defer { try? volume.close() }
        let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0)
        let open = try volume.put("open", pattern(1, count: 60_000))
        let handle = try volume.openForWriting(open)
        _ = try volume.makeTemporary(
            in: .root, mode: 0o600, flags: OpenFlags(rawValue: O_RDWR), caller: caller)
        try volume.synchronizeAll()
        // The flat file knows of them, the manifest does not yet.
        try volume.put(pattern(2, count: 10_000), to: handle, at: 60_000)
        try volume.put("unnamed", pattern(3, count: 40_000))
        let crashed = try crash(directory)
        let report = try crashed.check()
        #expect(report.isClean, "\(report.problems)")
        #expect(report.pending.unlinkedInodes == 1)
        #expect(report.pending.unsyncedSizes == 1)
        #expect(report.pending.unnamedFiles == 1)
        let repair = try crashed.check(repair: true)
        #expect(repair.isClean && repair.repaired.isEmpty)
        let recovered = try crashed.open()
        try recovered.close()
        let after = try crashed.check()
        #expect(after.isClean && after.pending == CheckReport.Pending(), "\(after)")
    }

    @Test func aDirectoryWithACIDAboveAFileWithAWriterIsPending() throws {
        let directory = try CheckedDirectory()
        let volume = try directory.open()
        defer { try? volume.close() }
        let file = try volume.put("written", pattern(1, count: 60_000))
        let handle = try volume.openForWriting(file)
        _ = try volume.cid(of: .root)
        try volume.synchronizeAll()
        let crashed = try crash(directory)
        let report = try crashed.check()
        #expect(report.isClean, "\(report.problems)")
        #expect(report.pending.outdatedTrees == 1)
        volume.release(handle)
    }

    @Test func aStrayFileOfAVolumeThatWasClosedIsNoLeftoverOfACrash() throws {
        let directory = try CheckedDirectory()
        let stray = directory.path + "/objects/0000000000000/0000000000000fff"
        try #require(FileManager.default.createFile(atPath: stray, contents: Data("x".utf8)))
        let report = try directory.check()
        #expect(report.problems.count == 1 && report.pending.unnamedFiles == 0)
        #expect(try directory.check(repair: true).isClean)
        #expect(access(stray, F_OK) != 0)
    }

    @Test func leavesOfAFileThatIsChangedBeforeTheirCommitAreNotStored() throws {
        let directory = try CheckedDirectory()
        let volume = try directory.open()
        defer { try? volume.close() }
        let file = try volume.put("changed", pattern(1, count: 2_500_000))
        try volume.synchronizeAll()
        _ = try volume.cid(of: file)
        let handle = try volume.openForWriting(file)
        try volume.put([1, 2, 3], to: handle, at: 7)
        try volume.synchronizeAll()
        let report = try crash(directory).check()
        #expect(report.isClean, "\(report.problems)")
        volume.release(handle)
    }

    @Test func readingAVolumeAfterACrashLeavesItsRecoveryToDo() throws {
        let directory = try CheckedDirectory()
        let volume = try directory.open()
        defer { try? volume.close() }
        try volume.put("before", pattern(1, count: 40_000))
        try volume.synchronizeAll()
        try volume.put("unnamed", pattern(3, count: 40_000))
        let crashed = try crash(directory)
        try crashed.open(isReadOnly: true).close()
        let report = try crashed.check()
        #expect(report.isClean && report.pending.unnamedFiles == 1, "\(report.problems)")
    }

    /// A process that does all kinds of things and is killed in the middle of it.
    @Test func aVolumeIsCleanAfterKillAtAnyMoment() async throws {
        for round in 0..<6 {
            let directory = try CheckedDirectory(
                profile: round % 2 == 0 ? .unixfsV1_2025 : .unixfsV0_2015)
            let path = directory.path
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [path = path as String, round = round as Int] in
                try stormUntilKilled(path, seed: UInt64(round), milliseconds: 150 + 170 * round)
            }
            let before = try directory.contents()
            let report = try directory.check()
            #expect(report.isClean, "\(report.problems)")
            #expect(try directory.contents() == before)
            try directory.open(sealThreads: 2).close()
            let after = try directory.check()
            #expect(after.isClean, "\(after.problems)")
            #expect(after.pending.unnamedFiles == 0 && after.pending.unlinkedInodes == 0)
        }
    }
}

/// Works on a volume in the background until the time is over, then ends without a goodbye.
private func stormUntilKilled(_ path: String, seed: UInt64, milliseconds: Int) throws {
    var options = VolumeOptions()
    options.commitIntervalMilliseconds = 5
    options.sealDelayMilliseconds = 1
    options.logSegmentByteCount = logSegmentByteCount(seed: seed * 4)
    let volume = try Volume.open(
        stateDirectory: path, options: options,
        log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    for worker in 0..<2 {
        try Threads.startDetached(name: "storm") {
            var step: UInt64 = 0
            while true {
                storm(volume, seed: seed &* 977 &+ UInt64(worker), step: step)
                step += 1
            }
        }
    }
    usleep(UInt32(milliseconds) * 1000)
    kill(getpid(), SIGKILL)
}

private func storm(_ volume: Volume, seed: UInt64, step: UInt64) {
    let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0)
    let folder = "w\(seed)"
    let root =
        (try? volume.put(directory: folder)) ?? (try? volume.resolve(path: [FileName(folder)]))
    guard let root else { return }
    let name = "n\(step % 40)"
    let sizes = [0, 71, 5000, 16_384, 40_000, 300_000, 2_100_000]
    let size = sizes[Int((seed &+ step &* 7) % 7)]
    switch step % 8 {
    case 0, 1, 2:
        _ = try? volume.put(name, in: root, pattern(step % 5, count: size))
    case 3:
        let directory = try? volume.put(directory: "d\(step % 7)", in: root)
        if let directory { _ = try? volume.put("in", in: directory, pattern(1, count: 300)) }
    case 4:
        try? volume.rename(
            FileName("n\((step &* 3) % 40)"), in: root, to: FileName(name), in: root, flags: [])
    case 5:
        try? volume.unlink(FileName("n\((step &* 5) % 40)"), in: root)
    case 6:
        _ = try? volume.cid(of: step % 16 == 6 ? .root : root)
    default:
        guard let file = try? volume.resolve(path: [FileName(folder), FileName("n\(step % 37)")]),
            let handle = try? volume.openForWriting(file)
        else { return }
        try? volume.put(pattern(step, count: 3000), to: handle, at: step &* 911 % 200_000)
        if step % 3 == 0 { try? volume.synchronize(handle, dataOnly: false) }
        if step % 5 != 0 { volume.release(handle) }
        if step % 9 == 0 {
            _ = try? volume.link(file, as: FileName("l\(step % 50)"), in: root)
            _ = try? volume.makeTemporary(
                in: root, mode: 0o600, flags: OpenFlags(rawValue: O_RDWR), caller: caller)
        }
    }
}
