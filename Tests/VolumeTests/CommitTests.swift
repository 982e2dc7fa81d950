import Base
import Checking
import Foundation
import Glibc
import InodeManifest
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// How much is acknowledged at least before the process dies.
private let acknowledgedMin = 12

/// Threads that make files and synchronize them, until the process dies, which is once enough was acknowledged.
private func makeFilesUntilDeath(
    directory: String, microseconds: UInt32, logSegmentByteCount: Int
) throws {
    var options = VolumeOptions()
    options.logSegmentByteCount = logSegmentByteCount
    let volume = try Volume.open(
        stateDirectory: directory + "/state", options: options, log: quietLog)
    let acknowledged = open(directory + "/acknowledged", O_RDWR | O_CREAT, 0o600)
    let ordered = Monitor<Int>(0, rank: .tree)
    for thread in 0..<6 {
        let home = try volume.makeDirectory(FileName("t\(thread)"))
        try Threads.startDetached(name: "maker") {
            for number in 0... {
                guard
                    (try? volume.makeFile(FileName("f\(number)"), in: home, [UInt8(thread)])) != nil
                else { exit(3) }
                // One order over all threads.
                let place = ordered.withLock { next -> Int in
                    defer { next += 1 }
                    guard (try? volume.makeFile(FileName("g\(next)"), [])) != nil else { exit(4) }
                    return next
                }
                guard number % 3 == 0 else { continue }
                guard (try? volume.synchronizeDirectory(home)) != nil else { exit(5) }
                var record = [UInt32(thread), UInt32(number), UInt32(place)]
                _ = write(acknowledged, &record, 12)
            }
        }
    }
    usleep(microseconds)
    // Beside other work that may be before anything was acknowledged.
    var status = stat()
    while fstat(acknowledged, &status) == 0, status.st_size < 12 * acknowledgedMin { usleep(1000) }
    kill(getpid(), SIGKILL)
}

/// Threads that make files and synchronize them in a log that is soon full, while commits fail now and
/// then; what was acknowledged is compared after the volume was opened again. True where all is there.
private func makeFilesWhileCommitsFail(directory: String) throws -> Bool {
    var options = VolumeOptions()
    options.logSegmentByteCount = 8 << 10
    options.commitIntervalMilliseconds = 5
    let volume = try Volume.open(
        stateDirectory: directory + "/state", options: options, log: quietLog)
    let acknowledged = Monitor<[FileName]>([])
    let failed = Monitor<Int>(0)
    let threads = try (0..<8).map { thread in
        try Threads.start(name: "maker") {
            for number in 0..<150 {
                let name = FileName("t\(thread)-\(number)")
                do throws(Errno) {
                    try volume.makeFile(name, [UInt8(thread)])
                    try volume.synchronizeDirectory(.root)
                    acknowledged.withLock { $0.append(name) }
                } catch {
                    failed.withLock { $0 += 1 }
                }
            }
        }
    }
    let isOver = Monitor<Bool>(false)
    let faults = try Threads.start(name: "faults") {
        let calls: [Faults.Call] = [.beginCommit, .endCommit, .beginTransaction, .endTransaction]
        var round = 0
        while !isOver.withLock({ $0 }) {
            Faults.arm([calls[round % 4]], passing: 3, outcome: .failure(.ioError))
            round += 1
            usleep(2000)
        }
        Faults.disarm()
    }
    for thread in threads { thread.join() }
    isOver.withLock { $0 = true }
    faults.join()
    try volume.close()
    let again = try Volume.open(
        stateDirectory: directory + "/state", options: options, log: quietLog)
    let names = Set(try again.entries(of: .root).map(\.name))
    try again.close()
    let all = acknowledged.withLock { $0 }
    return all.count > 300 && failed.withLock { $0 } > 0 && all.allSatisfy(names.contains)
}

/// Seals an object a second time, and makes a checkpoint, which does not end. True where the blocks of
/// the second time are told meanwhile: SQLite has those of the first.
private func sealAgainWhileSQLiteIsTold(directory: String) throws -> Bool {
    let manifest = try InodeManifest.open(
        directory: directory, profileName: "unixfs-v1-2025", log: quietLog)
    func sealing(_ fill: UInt8) throws -> SealResult {
        let leaves = (0..<2).map { leaf in
            CID(codec: .raw, multihash: .sha256(of: [fill, UInt8(leaf)])).multihash.bytes
        }
        let cid = CID.dagPB(sha256: [fill], version: 1)
        return SealResult(
            cid: cid, treeSize: 2, leaves: leaves,
            nodes: [StoredNode(multihash: cid.multihash.bytes, bytes: [fill])])
    }
    let (first, second) = (try sealing(1), try sealing(2))
    let id = try manifest.withLock { (state) throws(Errno) in
        let object = state.makeObject(id: state.numbers.reserve(), size: 2)
        state.seal(object, as: first, size: 2)
        return object.id
    }
    try manifest.checkpoint()
    func leaves() throws -> [[UInt8]] {
        try manifest.withLock { (state) throws(Errno) in
            guard let object = try state.object(id) else { throw .ioError }
            return try state.rows.blocks(of: object).leaves
        }
    }
    guard try leaves() == first.leaves else { return false }
    try manifest.withLock { (state) throws(Errno) in
        guard let object = try state.object(id) else { throw .ioError }
        state.unseal(object)
        state.seal(object, as: second, size: 2)
    }
    Faults.arm([.beginTransaction], passing: 0, outcome: .pause)
    try Threads.startDetached(name: "applier") { try? manifest.checkpoint() }
    while Faults.struckCount == 0 { usleep(1000) }
    return try leaves() == second.leaves
}

@Suite struct CommitTests {
    /// As by a cut of the power while it is sent to a node.
    @Test(arguments: [500, 100_000])
    func anObjectThatWasReadWhenItsInodeLetGoIsRemovedByTheNextMount(_ count: Int) async throws {
        let scratch = ScratchDirectory()
        let volume = try openVolume(scratch, stillOptions)
        let inode = try volume.makeFile("file", content(seed: 1, count: count))
        _ = try volume.cid(of: inode)
        try volume.close()
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [state = scratch.state as String, inode = inode.number as UInt64] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            try volume.close()
            let manifest = try InodeManifest.open(
                directory: state, profileName: "unixfs-v1-2025", log: quietLog)
            try manifest.setClean(false)
            try manifest.withLock { (state) throws(Errno) in
                guard let record = try state.inode(Inode(inode)),
                    let object = try state.object(of: record)
                else { throw .ioError }
                state.pin(object)
                (record.object, record.size, record.blocks) = (nil, 0, 0)
                state.mark(record)
                state.release(object)
            }
            try manifest.checkpoint()
            kill(getpid(), SIGKILL)
        }
        var report = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")
        #expect(report.objects == 1 && report.pending.deletedObjects == 1)
        try openVolume(scratch, stillOptions).close()
        report = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(report.isClean, "\(report.problems)")
        #expect(report.objects == 0 && report.pending == CheckReport.Pending())
    }

    /// A file that was changed and sealed anew would be published with the leaves that it had before.
    @Test func blocksAreThoseOfTheLastSealWhileSQLiteIsToldOfThem() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) { [path = scratch.path as String] in
            exit(try sealAgainWhileSQLiteIsTold(directory: path) ? 0 : 1)
        }
    }

    /// Whoever fails passes the turn on, and those that wait try themselves.
    @Test func committersAllEndAlthoughSomeCommitsFail() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) { [path = scratch.path as String] in
            exit(try makeFilesWhileCommitsFail(directory: path) ? 0 : 1)
        }
    }

    /// Whoever synchronizes shares a transaction with the others, and still nobody's order breaks.
    @Test(arguments: 0..<3)
    func concurrentSynchronizingLeavesAPrefixWithAllThatWasAcknowledged(_ round: Int) async throws {
        let scratch = ScratchDirectory()
        var random = SeededGenerator(seed: testSeed() &+ UInt64(round))
        let microseconds = UInt32(300_000 + random.below(500_000))
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [
                path = scratch.path as String, microseconds = microseconds as UInt32,
                round = round as Int
            ] in
            try makeFilesUntilDeath(
                directory: path, microseconds: microseconds,
                logSegmentByteCount: logSegmentByteCount(seed: UInt64(round) * 4))
        }
        let volume = try openVolume(scratch)
        let records = try Data(
            contentsOf: URL(fileURLWithPath: scratch.path + "/acknowledged"))
        let numbers = records.withUnsafeBytes { Array($0.bindMemory(to: UInt32.self)) }
        #expect(numbers.count >= 3 * acknowledgedMin, "something was acknowledged")
        var newest: [Int: Int] = [:]
        var newestPlace = -1
        for index in stride(from: 0, to: numbers.count - 2, by: 3) {
            newest[Int(numbers[index])] = Int(numbers[index + 1])
            newestPlace = max(newestPlace, Int(numbers[index + 2]))
        }
        let ordered = try volume.entries(of: .root).filter { $0.name.bytes.first == 0x67 }
        #expect(isPrefix(ordered, "g", reaching: newestPlace))
        for (thread, number) in newest {
            let home = try volume.resolve(path: [FileName("t\(thread)")])
            let files = try volume.entries(of: home)
            #expect(isPrefix(files, "f", reaching: number))
            for file in files.prefix(number + 1) {
                #expect(try volume.contents(of: Inode(file.inode)) == [UInt8(thread)])
            }
        }
        try volume.close()
    }

    private func isPrefix(_ entries: [Listed], _ letter: String, reaching least: Int) -> Bool {
        let names = Set(entries.map(\.name))
        return names.count > least
            && (0..<names.count).allSatisfy { names.contains(FileName("\(letter)\($0)")) }
    }

    @Test func synchronizingWithoutChangesCostsNoCommit() throws {
        let scratch = ScratchDirectory()
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", [1])
        try volume.synchronizeAll()
        #expect(try volume.status().uncommittedChanges == 0)
        func written() throws -> [Date?] {
            [
                try modificationTime(of: "manifest.sqlite-wal", in: scratch),
                try redoLogTime(in: scratch),
            ]
        }
        let before = try written()
        for _ in 0..<10 { try volume.synchronizeDirectory(.root) }
        #expect(try written() == before)
        try volume.makeFile("another", [1])
        try volume.synchronizeDirectory(.root)
        #expect(try written()[1] != before[1])
        try volume.close()
    }
}
