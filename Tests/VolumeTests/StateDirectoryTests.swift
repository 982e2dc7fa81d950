import Base
import Foundation
import Glibc
import InodeManifest
import MerkleDAG
import ObjectStore
import Testing
import Volume

import struct SystemPackage.Errno

@Suite struct StateDirectoryTests {
    /// Changes bytes of the manifest of a closed volume.
    private func edit(
        _ scratch: ScratchDirectory, at offset: Int, _ bytes: [UInt8]
    ) throws {
        let file = open(scratch.state + "/manifest.sqlite", O_RDWR)
        try #require(file >= 0)
        defer { close(file) }
        #expect(pwrite(file, bytes, bytes.count, off_t(offset)) == bytes.count)
    }

    private func makeVolume(_ scratch: ScratchDirectory) throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", content(seed: 1, count: 100_000))
        try volume.close()
    }

    private func failure(_ scratch: ScratchDirectory) -> VolumeError? {
        do throws(VolumeError) {
            try openVolume(scratch, stillOptions).close()
            return nil
        } catch {
            return error
        }
    }

    // SQLite's file format: the header has user_version at offset 60 and application_id at 68,
    // both big-endian (https://www.sqlite.org/fileformat.html, 1.3).

    @Test func newerFormatIsRefusedAndLeftAlone() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        try edit(scratch, at: 60, [0, 0, 0, 99])
        guard case .manifest(.newerFormat(_, let found, let known)) = failure(scratch) else {
            Issue.record("\(String(describing: failure(scratch)))")
            return
        }
        #expect(found == 99)
        try edit(scratch, at: 60, [0, 0, 0, UInt8(known)])
        #expect(failure(scratch) == nil, "nothing was changed")
    }

    @Test(arguments: [[0x12, 0x34, 0x56, 0x78], [0, 0, 0, 0]] as [[UInt8]])
    func databaseOfAnotherProgramIsRefused(_ application: [UInt8]) throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        try edit(scratch, at: 68, application)
        if application == [0, 0, 0, 0] { try edit(scratch, at: 60, [0, 0, 0, 0]) }
        guard case .manifest(.damaged) = failure(scratch) else {
            Issue.record("\(String(describing: failure(scratch)))")
            return
        }
    }

    @Test func fileThatIsNoDatabaseIsRefused() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        try edit(scratch, at: 0, content(seed: 9, count: 4096))
        guard case .manifest(.damaged) = failure(scratch) else {
            Issue.record("\(String(describing: failure(scratch)))")
            return
        }
    }

    @Test func objectsWithoutManifestAreNotForgotten() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        unlink(scratch.state + "/manifest.sqlite")
        guard case .manifest(.damaged) = failure(scratch) else {
            Issue.record("\(String(describing: failure(scratch)))")
            return
        }
        #expect(try !flatFiles(in: scratch).isEmpty)
    }

    /// Whatever is wrong inside, it is told: by opening, or by the operations.
    @Test func damagedPagesAreErrorsAndNeverACrash() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) {
            [state = scratch.state as String, seed = testSeed() as UInt64] in
            try openDamagedManifests(state: state, seed: seed)
        }
    }

    @Test func directoryInUseNamesTheProcess() throws {
        let scratch = ScratchDirectory()
        let volume = try openVolume(scratch, stillOptions)
        guard case .stateDirectory(.inUse(_, let pid)) = failure(scratch) else {
            Issue.record("a second volume was opened")
            return
        }
        #expect(pid == getpid())
        try volume.close()
        #expect(failure(scratch) == nil)
    }

    @Test func unwritableDirectoryIsAClearError() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) { [path = scratch.path as String] in
            chmod(path, 0o555)
            // Root may write anywhere, so the process becomes somebody else.
            if geteuid() == 0 { seteuid(65_534) }
            do throws(VolumeError) {
                _ = try Volume.open(
                    stateDirectory: path + "/state", options: stillOptions, log: quietLog)
                exit(1)
            } catch {
                guard case .stateDirectory(.failed(_, _, .permissionDenied)) = error else {
                    exit(2)
                }
            }
        }
        chmod(scratch.path, 0o700)
    }

    @Test func fileInPlaceOfTheDirectoryIsAClearError() throws {
        let scratch = ScratchDirectory()
        close(open(scratch.state, O_RDWR | O_CREAT, 0o600))
        guard case .stateDirectory(.failed(_, _, .notDirectory)) = failure(scratch) else {
            Issue.record("\(String(describing: failure(scratch)))")
            return
        }
    }

    @Test func otherProfileIsRefused() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        var options = stillOptions
        options.profile = .unixfsV0_2015
        #expect {
            try openVolume(scratch, options)
        } throws: { error in
            guard case .otherProfile(_, "unixfs-v1-2025", "unixfs-v0-2015") = error as? VolumeError
            else { return false }
            return true
        }
    }

    @Test func readOnlyVolumeRefusesChangesAndAnswersQuestions() throws {
        let scratch = ScratchDirectory()
        try makeVolume(scratch)
        var options = stillOptions
        options.isReadOnly = true
        let volume = try openVolume(scratch, options)
        let file = try volume.resolve(path: ["file"])
        #expect(try volume.contents(of: file) == content(seed: 1, count: 100_000))
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        #expect(errno { () throws(Errno) in try volume.makeDirectory("d") } == .readOnlyFileSystem)
        #expect(
            errno { () throws(Errno) in try volume.unlink("file", in: .root) }
                == .readOnlyFileSystem)
        #expect(
            errno { () throws(Errno) in try volume.setSize(of: file, to: 0) } == .readOnlyFileSystem
        )
        #expect(
            errno { () throws(Errno) in
                try volume.open(file, flags: .write, caller: root)
            } == .readOnlyFileSystem)
        try volume.close()
    }
}

/// Damages a manifest in many ways, opens what is left, and uses it.
private func openDamagedManifests(state: String, seed: UInt64) throws {
    let whole = try Volume.open(stateDirectory: state, options: stillOptions, log: quietLog)
    for index in 0..<300 {
        try whole.makeFile(FileName("file\(index)"), content(seed: UInt64(index), count: 200))
    }
    _ = try whole.cid(of: .root)
    try whole.close()
    let path = state + "/manifest.sqlite"
    let original = try Data(contentsOf: URL(fileURLWithPath: path))
    var random = SeededGenerator(seed: seed)
    for _ in 0..<60 {
        var bytes = original
        let place = 100 + random.below(bytes.count - 700)
        bytes.replaceSubrange(
            place..<place + 512, with: content(seed: random.next(), count: 512))
        if random.oneIn(5) { bytes = bytes.prefix(4096 * (1 + random.below(bytes.count / 4096))) }
        try bytes.write(to: URL(fileURLWithPath: path))
        unlink(path + "-wal")
        unlink(path + "-shm")
        guard
            let volume = try? Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
        else { continue }
        for (index, entry) in ((try? volume.entries(of: .root)) ?? []).enumerated() {
            _ = try? volume.contents(of: Inode(entry.inode))
            // A report costs a commit.
            if index % 64 == 0 { _ = try? volume.report(of: Inode(entry.inode)) }
        }
        _ = try? volume.makeFile("another", [1])
        _ = try? volume.cid(of: .root)
        try? volume.unlink("file7", in: .root)
        try? volume.close()
    }
}
