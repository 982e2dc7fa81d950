import Base
import Checking
import Foundation
import Glibc
import Logging
import MerkleDAG
import Testing
import Volume

import struct SystemPackage.Errno

/// Random operations during which system calls and commits fail.
private func runWithFaults(seed: UInt64, directory: String) throws {
    var options = VolumeOptions()
    options.profile = .unixfsV0_2015
    options.inlineSizeMax = 2048
    options.sealDelayMilliseconds = 0
    options.commitIntervalMilliseconds = 20
    options.logSegmentByteCount = logSegmentByteCount(seed: seed)
    func open() throws -> Volume {
        try Volume.open(stateDirectory: directory + "/state", options: options, log: quietLog)
    }
    let driver = try VolumeDriver(try open(), usesBackingFiles: seed % 2 == 0)
    let model = ModelFilesystem(profile: .unixfsV0_2015)
    var generator = OperationGenerator(seed: seed, inlineSizeMax: 2048, chunkSize: 1 << 18)
    generator.synchronizePercent = 6
    // A write that fails half way may have changed bytes, so it clears the bits all the same.
    generator.clearsSetID = false
    var random = SeededGenerator(seed: seed &+ 1)
    // What changes the disk below; reading failures would be told by the operations themselves.
    let calls: [Set<Faults.Call>] = [
        [.write], [.beginCommit], [.endCommit], [.beginTransaction], [.endTransaction],
        [.open, .makeDirectory], [.truncate, .allocate],
        [.synchronize], [.copy], [.unlink], [.read], Set(Faults.Call.allCases),
    ]
    var struckCount = 0
    for round in 0..<160 {
        let outcome = Faults.Outcome.failure(random.oneIn(2) ? .noSpace : .ioError)
        Faults.arm(
            random.pick(calls), passing: random.below(12), striking: 1 + random.below(4),
            outcome: outcome)
        for _ in 0..<12 {
            let operation = generator.next(model)
            let answer = Result { () throws(Errno) in try driver.apply(operation) }
            if case .failure(let error) = answer, error == .noSpace || error == .ioError {
                continue
            }
            if case .seek = operation { continue }
            let expected = Result { () throws(ModelFailure) in try model.apply(operation) }
            switch (answer, expected) {
            case (.success(let answer), .success(let expected)) where answer == expected: break
            case (.failure(let error), .failure(let failure))
            where failure.allowed.contains(error): break
            default:
                throw Mismatch(
                    description: "REGISTRYFS_TEST_SEED=\(seed), round \(round): \(operation) -> "
                        + "\(answer)".prefix(300) + ", expected " + "\(expected)".prefix(300))
            }
        }
        struckCount += Faults.disarm()
        try compare(driver.volume, model, "seed \(seed), round \(round)")
        if round % 40 == 39 {
            // A flush that failed stays a failure.
            let refusal = errno { () throws(Errno) in try driver.volume.synchronizeAll() }
            guard refusal == nil || refusal == .noSpace || refusal == .ioError else {
                throw Mismatch(description: "seed \(seed), round \(round): sync: \(refusal as Any)")
            }
            try driver.close()
            model.dropUsers()
            try driver.replaceVolume(try open())
            try compare(driver.volume, model, "seed \(seed), opened after round \(round)")
            let cid = try driver.volume.cid(of: .root)
            guard cid == model.nodes[1].flatMap({ model.dag(of: $0) })?.cid else {
                throw Mismatch(description: "seed \(seed), round \(round): another root CID")
            }
        }
    }
    try driver.volume.close()
    guard struckCount > 5 else { throw Mismatch(description: "only \(struckCount) failures") }
}

private func compare(_ volume: Volume, _ model: ModelFilesystem, _ title: String) throws {
    guard try Names(volume) == Names(model) else {
        throw Mismatch(description: "\(title): other names")
    }
    for (inode, node) in model.nodes where node.kind == .regular {
        guard try volume.contents(of: Inode(inode)) == node.bytes else {
            throw Mismatch(description: "\(title): inode \(inode) has other bytes")
        }
    }
}

/// A log whose messages can be looked at.
private struct MessageCollector: LogHandler {
    let messages: Monitor<[String]>
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .debug

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        messages.withLock { $0.append("\(event.message)") }
    }
}

@Suite struct FaultTests {
    @Test(arguments: 0..<4)
    func operationThatFailsChangesNothing(_ round: Int) async throws {
        let scratch = ScratchDirectory()
        let seed = testSeed() &+ UInt64(round)
        let child = await #expect(processExitsWith: .success) {
            [seed = seed as UInt64, path = scratch.path as String] in
            do {
                try runWithFaults(seed: seed, directory: path)
            } catch {
                Issue.record("\(error)")
                exit(1)
            }
        }
        guard child != nil else { return }
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "REGISTRYFS_TEST_SEED=\(seed): \(found.problems)")
        #expect(found.pending == CheckReport.Pending())
    }

    /// The bytes below a CID wait until SQLite has forgotten it, however often that fails.
    @Test func writeAfterAFailedUnsealingWaitsForItsCommitToo() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let file = try volume.makeFile("file", content(seed: 1, count: 100_000))
            _ = try volume.cid(of: file)
            try volume.synchronizeAll()
            let opened = try volume.open(file, flags: .both, caller: root)
            Faults.arm([.beginCommit], passing: 0, outcome: .failure(.ioError))
            let refusal = errno { () throws(Errno) in
                try volume.write(opened.handle, at: 0, [1, 2, 3])
            }
            guard refusal == .ioError, Faults.disarm() == 1 else { exit(1) }
            try volume.write(opened.handle, at: 0, [1, 2, 3])
            kill(getpid(), SIGKILL)
        }
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        let volume = try openVolume(scratch, stillOptions)
        let file = try volume.resolve(path: ["file"])
        let bytes = try volume.contents(of: file)
        #expect(bytes == [1, 2, 3] + content(seed: 1, count: 100_000).dropFirst(3))
        #expect(try volume.cid(of: file) == volume.profile.root(of: bytes).cid)
        try volume.close()
    }

    /// fsync(2) that failed is never a success later for the same bytes: the kernel has forgotten them by
    /// then. All else goes on, and bytes that are written anew can be made durable again.
    @Test(arguments: [EIO, ENOSPC], [0, 1])
    func flushThatFailedIsNoSuccessLater(_ code: Int32, _ passing: Int) async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .success) {
            [path = scratch.state as String, code = code as Int32, passing = passing as Int] in
            let messages = Monitor<[String]>([], rank: .log)
            let log = Logger(label: "test") { _ in MessageCollector(messages: messages) }
            let volume = try Volume.open(stateDirectory: path, options: stillOptions, log: log)
            let error = Errno(rawValue: code)
            func synchronize(_ handle: HandleID) -> Errno? {
                errno { () throws(Errno) in try volume.synchronize(handle, dataOnly: true) }
            }
            let other = try volume.makeFile("other", content(seed: 1, count: 100_000))
            let file = try volume.makeFile("file", content(seed: 2, count: 100_000))
            let opened = try volume.open(file, flags: .both, caller: root)
            // Its bytes are flushed first, then its name.
            Faults.arm([.synchronize], passing: passing, outcome: .failure(error))
            guard synchronize(opened.handle) == error, Faults.disarm() == 1 else { exit(10) }

            guard synchronize(opened.handle) == error else { exit(11) }
            try volume.write(opened.handle, at: 0, [1, 2, 3])
            guard synchronize(opened.handle) == error else { exit(12) }
            let again = try volume.open(file, flags: .both, caller: root)
            guard synchronize(again.handle) == error else { exit(13) }
            guard errno(of: { () throws(Errno) in try volume.synchronizeAll() }) == error else {
                exit(14)
            }
            // What is not on the disk is not sealed.
            volume.release(opened.handle)
            volume.release(again.handle)
            guard errno(of: { () throws(Errno) in _ = try volume.cid(of: file) }) == error else {
                exit(15)
            }
            // Neither the rest of the volume nor what is written anew.
            let beside = try volume.open(other, flags: .both, caller: root)
            guard synchronize(beside.handle) == nil else { exit(16) }
            let anew = try volume.open(file, flags: .both, caller: root)
            try volume.setSize(of: file, to: 0)
            try volume.write(anew.handle, at: 0, content(seed: 3, count: 100_000))
            guard synchronize(anew.handle) == nil else { exit(17) }
            guard errno(of: { () throws(Errno) in try volume.synchronizeAll() }) == nil else {
                exit(18)
            }
            // It is told once, with what and why.
            let told = messages.withLock { all in
                all.filter { $0.contains("did not come to the disk") }
            }
            guard told.count == 1, told[0].contains("\(file)"), told[0].contains("\(error)") else {
                exit(19)
            }
            try volume.close()
        }
    }

    /// A write that the disk refuses half way must not show later as bytes of a hole.
    @Test func partOfFailedWriteBeyondTheEndIsZeroWhenTheFileGrows() throws {
        let disk = try SmallDisk(byteCount: 4 << 20)
        let volume = try disk.open()
        let (attributes, opened) = try volume.create(
            "file", in: .root, mode: 0o644, flags: .both, caller: root)
        try volume.write(opened.handle, at: 0, content(seed: 1, count: 100_000))
        // Larger than what is left: the disk takes a part of it.
        let huge = [UInt8](repeating: 0xaa, count: 8 << 20)
        #expect(
            errno { () throws(Errno) in try volume.write(opened.handle, at: 100_000, huge) }
                == .noSpace)
        #expect(try volume.attributes(of: attributes.inode).size == 100_000)
        try volume.setSize(of: attributes.inode, to: 400_000)
        let tail = try volume.read(opened.handle, at: 100_000, count: 300_000)
        #expect(tail.count == 300_000 && tail.allSatisfy { $0 == 0 })
        try volume.close()
    }

    /// The whole way of a full disk: refusal to the writer, nothing lost, room again.
    @Test func fullDiskIsToldToTheWriterAndOvercome() throws {
        let disk = try SmallDisk(byteCount: 90 << 20)
        var volume = try disk.open()
        let megabyte = content(seed: 5, count: 1 << 20)
        var files: [FileName] = []
        var refusal: Errno?
        while refusal == nil, files.count < 200 {
            let name = FileName("file\(files.count)")
            refusal = errno { () throws(Errno) in
                let (_, opened) = try volume.create(
                    name, in: .root, mode: 0o644, flags: .both, caller: root)
                defer { volume.release(opened.handle) }
                // No two files are alike, so nothing is shared.
                try volume.write(
                    opened.handle, at: 0, content(seed: UInt64(files.count), count: 64))
                try volume.write(opened.handle, at: 64, megabyte)
                try volume.synchronize(opened.handle, dataOnly: false)
            }
            if refusal == nil { files.append(name) }
        }
        #expect(refusal == .noSpace)
        #expect(files.count > 40)

        // Small things fill the rest, until the manifest itself is refused.
        var smallCount = 0
        var smallRefusal: Errno?
        while smallRefusal == nil, smallCount < 100_000 {
            smallRefusal = errno { () throws(Errno) in
                _ = try volume.makeNode(
                    FileName("small\(smallCount)"), in: .root, kind: .regular, mode: 0o644,
                    rdev: 0, caller: root)
                smallCount += 1
                if smallCount % 64 == 0 { try volume.synchronizeAll() }
            }
        }
        #expect(smallRefusal == .noSpace)

        // The volume lives: what was acknowledged reads, and can be removed.
        for (index, name) in files.enumerated() {
            let bytes = try volume.contents(of: volume.resolve(path: [name]))
            #expect(bytes == content(seed: UInt64(index), count: 64) + megabyte)
        }
        for name in files.prefix(20) { try volume.unlink(name, in: .root) }
        #expect(errno { () throws(Errno) in try volume.synchronizeAll() } == nil)
        // The flat files go after the commit that made them nameless; closing waits for it.
        try volume.close()
        volume = try disk.open()
        try volume.makeFile("after", megabyte)
        try volume.synchronizeAll()
        try volume.close()

        let found = try Check.run(stateDirectory: disk.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        volume = try disk.open()
        #expect(try volume.contents(of: volume.resolve(path: ["after"])) == megabyte)
        for (index, name) in files.enumerated().dropFirst(20) {
            let bytes = try volume.contents(of: volume.resolve(path: [name]))
            #expect(bytes == content(seed: UInt64(index), count: 64) + megabyte)
        }
        try volume.close()
    }

    @Test func volumeThatCannotBeClosedForLackOfRoomCanBeClosedLater() throws {
        let disk = try SmallDisk(byteCount: 4 << 20)
        let volume = try disk.open()
        let filler = disk.path + "/filler"
        for index in 0..<2000 { _ = try volume.makeDirectory(FileName("directory\(index)")) }
        let descriptor = open(filler, O_RDWR | O_CREAT, 0o600)
        let page = [UInt8](repeating: 1, count: 4096)
        while write(descriptor, page, page.count) > 0 {}
        close(descriptor)
        #expect(throws: VolumeError.self) { try volume.close() }
        disk.giveBack(filler)
        try volume.close()
        let again = try disk.open()
        #expect(try again.entries(of: .root).count == 2000)
        try again.close()
    }

    /// Without closing, too, and without a second of waiting.
    @Test func volumeWorksAtOnceWhenThereIsRoomAgain() throws {
        let disk = try SmallDisk(byteCount: 24 << 20)
        let volume = try disk.open()
        let filler = disk.path + "/filler"
        try volume.makeFile("before", [1, 2, 3])
        try volume.synchronizeAll()
        let descriptor = open(filler, O_RDWR | O_CREAT, 0o600)
        posix_fallocate(descriptor, 0, 23 << 20)
        let page = [UInt8](repeating: 1, count: 4096)
        var end: off_t = 23 << 20
        while pwrite(descriptor, page, page.count, end) > 0 { end += 4096 }
        close(descriptor)
        var refusal: Errno?
        for index in 0..<20_000 where refusal == nil {
            refusal = errno { () throws(Errno) in
                try volume.makeFile(
                    FileName("f\(index)"), content(seed: UInt64(index), count: 4000))
                if index % 16 == 0 { try volume.synchronizeAll() }
            }
        }
        #expect(refusal == .noSpace)
        disk.giveBack(filler)
        #expect(errno { () throws(Errno) in try volume.makeFile("after", [4, 5, 6]) } == nil)
        #expect(errno { () throws(Errno) in try volume.synchronizeAll() } == nil)
        #expect(try volume.contents(of: volume.resolve(path: ["before"])) == [1, 2, 3])
        #expect(try volume.status().commitFailure == nil)
        try volume.close()
    }
}

/// A filesystem of a few megabytes in memory, which can be full. Mounting it takes root, as the
/// tests of the mount do.
final class SmallDisk {
    private let scratch = ScratchDirectory()
    var path: String { scratch.path + "/disk" }
    var state: String { path + "/state" }

    init(byteCount: Int) throws {
        mkdir(path, 0o700)
        try #require(
            mount("tmpfs", path, "tmpfs", 0, "size=\(byteCount)") == 0,
            "a tmpfs can be mounted: \(String(cString: strerror(Glibc.errno)))")
    }

    deinit {
        umount2(path, Int32(MNT_DETACH))
    }

    /// Removes a file and its bytes, which a process that is just being started may have open.
    func giveBack(_ file: String) {
        truncate(file, 0)
        unlink(file)
    }

    func open() throws(VolumeError) -> Volume {
        try Volume.open(stateDirectory: state, options: stillOptions, log: quietLog)
    }
}
