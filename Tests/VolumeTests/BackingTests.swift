import Base
import Checking
import Foundation
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// Options with which what is closed is seen to soon.
private var quickOptions: VolumeOptions {
    var options = VolumeOptions()
    options.commitIntervalMilliseconds = 20
    options.sealDelayMilliseconds = 0
    return options
}

/// The kernel's part is played by `KernelStand`, which notes what the kernel would refuse.
@Suite struct BackingTests {
    private let scratch = ScratchDirectory()
    private static let old = content(seed: 1, count: 100_000)

    private func start(_ options: VolumeOptions = quickOptions) throws -> (Volume, KernelStand) {
        let volume = try openVolume(scratch, options)
        return (volume, try KernelStand(volume, usesBackingFiles: true))
    }

    /// Closes the volume; all is in order then, and nothing is left over.
    private func end(_ volume: Volume, _ kernel: KernelStand) throws {
        kernel.releaseAll()
        volume.awaitDetaching()
        let places = try files(in: .root, of: volume).map { inode in
            (try volume.cid(of: inode), volume.profile.root(of: try volume.contents(of: inode)).cid)
        }
        for (cid, expected) in places { #expect(cid == expected) }
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.close()
        #expect(kernel.violation == nil)
        #expect(kernel.registry?.count == 0)
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean && found.pending == CheckReport.Pending(), "\(found)")
    }

    private func files(in directory: Inode, of volume: Volume) throws -> [Inode] {
        try volume.entries(of: directory).filter { $0.kind == .regular }.map { Inode($0.inode) }
    }

    /// Waits for work in the background.
    private func wait(until condition: () throws -> Bool) throws {
        try #require(try eventually(everyMilliseconds: 1, condition))
    }

    @Test func allHandlesOfAFileHaveOneBackingFile() throws {
        let (volume, kernel) = try start()
        let (file, first) = try kernel.create("file")
        let second = try kernel.open(file, .read)
        let third = try kernel.open(file, OpenFlags(rawValue: O_WRONLY))
        #expect(kernel.backing(of: first) != nil)
        #expect(kernel.backing(of: second) == kernel.backing(of: first))
        #expect(kernel.backing(of: third) == kernel.backing(of: first))
        try kernel.write(first, at: 0, Self.old)
        try kernel.write(third, at: 50, [1, 2, 3])
        var expected = Self.old
        expected.replaceSubrange(50..<53, with: [1, 2, 3])
        #expect(try kernel.read(second, at: 0, count: 200_000) == expected)
        #expect(try volume.attributes(of: file).size == 100_000)
        kernel.release(first)
        try kernel.write(third, at: 0, [9])
        #expect(try kernel.read(second, at: 0, count: 3) == [9] + Self.old[1..<3])
        try end(volume, kernel)
    }

    /// A file that was made and one that was sealed, opened to read before or after.
    @Test(arguments: [400, 100_000])
    func readerSeesWhatALaterWriterWrites(_ count: Int) throws {
        let (volume, kernel) = try start(stillOptions)
        let bytes = content(seed: 2, count: count)
        let file = try kernel.makeFile("file", bytes)
        let cid = try volume.cid(of: file)
        try volume.synchronizeAll()
        let reader = try kernel.open(file, .read)
        #expect(try kernel.read(reader, at: 0, count: count) == bytes)
        let writer = try kernel.open(file, .both)
        #expect((kernel.backing(of: reader) != nil) == (count > 16 << 10))
        #expect(kernel.backing(of: writer) == kernel.backing(of: reader))
        try kernel.write(writer, at: 7, [1, 2, 3])
        #expect(try kernel.read(reader, at: 7, count: 3) == [1, 2, 3])
        kernel.release(writer)
        let again = try kernel.open(file, .both)
        try kernel.write(again, at: UInt64(count), [4])
        #expect(try kernel.read(reader, at: UInt64(count), count: 3) == [4])
        #expect(try volume.cid(of: file) != cid)
        try end(volume, kernel)
    }

    @Test(arguments: [false, true])
    func bytesBehindACIDAreUnsealedDurablyBeforeTheyCanBeWritten(_ hasReader: Bool) async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [state = scratch.state as String, hasReader = hasReader as Bool] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let kernel = try KernelStand(volume, usesBackingFiles: true)
            let file = try kernel.makeFile("file", content(seed: 1, count: 100_000))
            _ = try volume.cid(of: .root)
            try volume.synchronizeAll()
            if hasReader { _ = try kernel.open(file, .read) }
            let writer = try kernel.open(file, .both)
            guard kernel.backing(of: writer) != nil else { exit(1) }
            try kernel.write(writer, at: 10, [1, 2, 3])
            kill(getpid(), SIGKILL)
        }
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        let (volume, kernel) = try start(stillOptions)
        let bytes = try volume.contents(of: volume.resolve(path: ["file"]))
        #expect(bytes == Self.old[..<10] + [1, 2, 3] + Self.old[13...])
        try end(volume, kernel)
    }

    /// Two sealed files of one content; what is done to one is not seen in the other.
    private func sharers(_ volume: Volume, _ kernel: KernelStand) throws -> (Inode, Inode) {
        let one = try kernel.makeFile("one", Self.old)
        _ = try volume.cid(of: one)
        let other = try kernel.makeFile("other", Self.old)
        _ = try volume.cid(of: other)
        #expect(try volume.report(of: one).sharers == 2)
        return (one, other)
    }

    enum Change: CaseIterable {
        case write, truncation, opening, allocation
    }

    @Test(arguments: Change.allCases)
    func sharedContentThatIsOpenToReadCanBeChanged(_ change: Change) throws {
        let (volume, kernel) = try start(stillOptions)
        let (one, other) = try sharers(volume, kernel)
        let cid = try volume.cid(of: other)
        let reader = try kernel.open(one, .read)
        let otherReader = try kernel.open(other, .read)
        #expect(kernel.backing(of: reader) != nil && kernel.backing(of: otherReader) == nil)
        var expected = Self.old
        switch change {
        case .write:
            let writer = try kernel.open(one, .both)
            #expect(kernel.backing(of: writer) == kernel.backing(of: reader))
            try kernel.write(writer, at: 70_000, [1, 2, 3])
            expected.replaceSubrange(70_000..<70_003, with: [1, 2, 3])
        case .truncation:
            try volume.setSize(of: one, to: 50_000)
            expected.removeLast(50_000)
        case .opening:
            let writer = try kernel.open(one, OpenFlags(rawValue: O_RDWR | O_TRUNC))
            try kernel.write(writer, at: 0, [5])
            expected = [5]
        case .allocation:
            let writer = try kernel.open(one, .both)
            try volume.allocate(writer, mode: 3, offset: 10, length: 20)
            expected.replaceSubrange(10..<30, with: [UInt8](repeating: 0, count: 20))
        }
        #expect(try kernel.read(reader, at: 0, count: 200_000) == expected)
        #expect(try kernel.read(otherReader, at: 0, count: 200_000) == Self.old)
        #expect(try volume.cid(of: one) == volume.profile.root(of: expected).cid)
        #expect(try volume.cid(of: other) == cid)
        // The other way round it is a copy.
        let otherWriter = try kernel.open(other, .both)
        try kernel.write(otherWriter, at: 0, [8])
        #expect(try kernel.read(otherReader, at: 0, count: 2) == [8, Self.old[1]])
        #expect(try kernel.read(reader, at: 0, count: 200_000) == expected)
        #expect(try volume.report(of: other).sharers == 1)
        try end(volume, kernel)
    }

    /// Reads of the other file are under way all the time.
    @Test func readsOfSharedContentNeverSeeWhatIsWrittenToItsTwin() throws {
        let (volume, kernel) = try start(stillOptions)
        let (one, other) = try sharers(volume, kernel)
        let otherReader = try volume.open(other, flags: .read, caller: root)
        let isDone = Monitor(false)
        let failure = Monitor<String?>(nil)
        let reads = Monitor(0)
        let threads = try (0..<2).map { _ in
            try Threads.start(name: "reader") {
                while !isDone.withLock({ $0 }) {
                    let bytes = try? volume.read(otherReader.handle, at: 0, count: 100_000)
                    if bytes != Self.old { failure.withLock { $0 = "other bytes" } }
                    reads.withLock { $0 += 1 }
                }
            }
        }
        for round in 0..<100 {
            let reader = try kernel.open(one, .read)
            let writer = try kernel.open(one, .both)
            try kernel.write(writer, at: 0, content(seed: UInt64(2 + round), count: 100_000))
            try kernel.write(writer, at: 0, Self.old)
            kernel.release(writer)
            kernel.release(reader)
            volume.awaitDetaching()
            #expect(try volume.cid(of: one) == volume.cid(of: other))
        }
        isDone.withLock { $0 = true }
        for thread in threads { thread.join() }
        #expect(failure.withLock { $0 } == nil)
        #expect(reads.withLock { $0 } > 0)
        volume.release(otherReader.handle)
        try end(volume, kernel)
    }

    @Test func linksAreOneFileAlsoWhileItIsOpen() throws {
        let (volume, kernel) = try start()
        let (file, handle) = try kernel.create("file")
        try kernel.write(handle, at: 0, Self.old)
        _ = try volume.link(file, as: "link", in: .root)
        let linked = try volume.lookup("link", in: .root)
        #expect(linked.inode == file && linked.size == 100_000)
        let reader = try kernel.open(linked.inode, .read)
        try volume.unlink("file", in: .root)
        try kernel.write(handle, at: 0, [1])
        #expect(try kernel.read(reader, at: 0, count: 2) == [1, Self.old[1]])
        kernel.release(handle)
        kernel.release(reader)
        #expect(try volume.contents(of: file) == [1] + Self.old.dropFirst())
        try end(volume, kernel)
    }

    /// Content that ends in the manifest, and content that ends in a flat file; with a name, and
    /// without one.
    @Test(arguments: [3000, 100_000], [true, false])
    func mappingThatOutlivesItsDescriptorLosesNothing(_ count: Int, isNamed: Bool) throws {
        let (volume, kernel) = try start()
        let (file, handle) = try kernel.create("file")
        var bytes = content(seed: 1, count: count)
        try kernel.write(handle, at: 0, bytes)
        let mapping = try kernel.map(handle, count: count)
        if !isNamed { try volume.unlink("file", in: .root) }
        kernel.release(handle)
        mapping.bytes[1] = 77
        bytes[1] = 77
        // These would take the file if it were in the pool.
        for index in 0..<80 {
            try kernel.makeFile(FileName("f\(index)"), content(seed: UInt64(index), count: 200))
        }
        if isNamed {
            try volume.synchronizeAll()
            #expect(try volume.contents(of: file) == bytes)
            // Opened anew it is the same backing file.
            let again = try kernel.open(file, .both)
            try kernel.write(again, at: 2, [78])
            #expect(mapping.bytes[2] == 78)
            bytes[2] = 78
            kernel.release(again)
        }
        mapping.bytes[3] = 79
        bytes[3] = 79
        #expect(Array(mapping.bytes) == bytes)
        #expect(volume.mappedFileCount > 0)
        mapping.end()
        volume.awaitDetaching()
        #expect(try volume.contents(of: file) == bytes)
        for index in 0..<80 {
            let other = try volume.resolve(path: [FileName("f\(index)")])
            #expect(try volume.contents(of: other) == content(seed: UInt64(index), count: 200))
        }
        if isNamed { try wait { try volume.report(of: file).isSealed } }
        try end(volume, kernel)
    }

    /// A store to a page that is dirty already changes no time.
    @Test func synchronizingTakesEveryStoreToAMappedPage() async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let kernel = try KernelStand(volume, usesBackingFiles: true)
            let (_, handle) = try kernel.create("file")
            try kernel.write(handle, at: 0, [UInt8](repeating: 0, count: 100))
            let mapping = try kernel.map(handle, count: 100)
            for round in 1...3 {
                mapping.bytes[round] = UInt8(round)
                // Long after the time of the first store.
                usleep(30_000)
                try volume.synchronize(handle, dataOnly: true)
            }
            kill(getpid(), SIGKILL)
        }
        let (volume, kernel) = try start(stillOptions)
        let file = try volume.resolve(path: ["file"])
        #expect(try volume.contents(of: file) == [0, 1, 2, 3] + [UInt8](repeating: 0, count: 96))
        try end(volume, kernel)
    }

    /// What was hashed while the file was open holds only as long as nobody stored to it, and a
    /// store to a page that is dirty already changes no time.
    @Test func cidOfAMappedFileIsThatOfItsLastStore() throws {
        let (volume, kernel) = try start()
        let (file, handle) = try kernel.create("file")
        var bytes = Self.old
        try kernel.write(handle, at: 0, bytes)
        let mapping = try kernel.map(handle, count: bytes.count)
        for round in 0..<5 {
            mapping.bytes[round] = 100 + UInt8(round)
            bytes[round] = 100 + UInt8(round)
            usleep(40_000)
            #expect(try volume.cid(of: file) == volume.profile.root(of: bytes).cid)
        }
        mapping.bytes[10] = 1
        bytes[10] = 1
        mapping.end()
        kernel.release(handle)
        #expect(try volume.cid(of: file) == volume.profile.root(of: bytes).cid)
        try wait { try volume.report(of: file).isSealed }
        try end(volume, kernel)
    }

    @Test func appendingHandlesAppendWhateverTheOthersDo() throws {
        let (volume, kernel) = try start()
        let append = OpenFlags(rawValue: O_WRONLY | O_APPEND)
        let (file, first) = try kernel.create("file", append)
        let second = try kernel.open(file, append)
        var expected: [UInt8] = []
        for round in 0..<200 {
            let bytes = content(seed: UInt64(round), count: 1 + round)
            try kernel.write(round % 2 == 0 ? first : second, at: 0, bytes)
            expected += bytes
            if round == 100 {
                try volume.setSize(of: file, to: 1000)
                expected.removeLast(expected.count - 1000)
            }
        }
        #expect(try volume.contents(of: file) == expected)
        try end(volume, kernel)
    }

    @Test(arguments: [100, 16 << 10, 100_000])
    func openFileCanBeCutAndGrown(_ count: Int) throws {
        let (volume, kernel) = try start()
        let (file, handle) = try kernel.create("file")
        let reader = try kernel.open(file, .read)
        let bytes = content(seed: 1, count: count)
        try kernel.write(handle, at: 0, bytes)
        try volume.setSize(of: file, to: 50)
        #expect(try kernel.read(reader, at: 0, count: 200) == Array(bytes[..<50]))
        try volume.setSize(of: file, to: 200_000)
        #expect(
            try kernel.read(reader, at: 40, count: 20)
                == bytes[40..<50] + [UInt8](repeating: 0, count: 10))
        #expect(try volume.attributes(of: file).size == 200_000)
        let emptied = try kernel.open(file, OpenFlags(rawValue: O_RDWR | O_TRUNC))
        #expect(try kernel.read(reader, at: 0, count: 10) == [])
        try kernel.write(emptied, at: 0, [1, 2])
        try kernel.write(handle, at: 2, [3])
        #expect(try kernel.read(reader, at: 0, count: 10) == [1, 2, 3])
        kernel.releaseAll()
        #expect(try volume.contents(of: file) == [1, 2, 3])
        try end(volume, kernel)
    }

    @Test(arguments: [100, 100_000])
    func unlinkedFileReadsUntilItIsClosedAndLeavesNothing(_ count: Int) throws {
        let (volume, kernel) = try start()
        for round in 0..<10 {
            let (file, handle) = try kernel.create("file")
            let bytes = content(seed: UInt64(round), count: count)
            try kernel.write(handle, at: 0, bytes)
            if round % 2 == 0 { try volume.synchronize(handle, dataOnly: false) }
            try volume.unlink("file", in: .root)
            #expect(try kernel.read(handle, at: 0, count: count) == bytes)
            try kernel.write(handle, at: 1, [1])
            #expect(try kernel.read(handle, at: 0, count: 2) == [bytes[0], 1])
            kernel.release(handle)
            volume.forget(file, count: 1)
        }
        volume.awaitDetaching()
        try volume.synchronizeAll()
        // Nothing but what lies ready in the pool, and what was made ahead for it.
        try wait { try flatFiles(in: scratch).count == kernel.registry?.count }
        // Content that stays in the manifest keeps no file, so none are made ahead for it.
        let madeAheadMax = UInt64(count) > VolumeOptions().inlineSizeMax ? 7 + 16 : 0
        #expect(kernel.registry?.count ?? 0 <= 2 + madeAheadMax)
        try end(volume, kernel)
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    /// By /proc/self/fd of an O_PATH descriptor.
    @Test(arguments: [100, 100_000])
    func fileWithoutANameKeepsItsBytesWhileItIsReferenced(_ count: Int) throws {
        let (volume, kernel) = try start()
        let (file, handle) = try kernel.create("file")
        let bytes = content(seed: 1, count: count)
        try kernel.write(handle, at: 0, bytes)
        try volume.unlink("file", in: .root)
        kernel.release(handle)
        let again = try kernel.open(file, .both)
        #expect(try kernel.read(again, at: 0, count: count) == bytes)
        kernel.release(again)
        volume.forget(file, count: 1)
        try end(volume, kernel)
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    @Test func fileThatIsRenamedOverStaysReadableAndWritable() throws {
        let (volume, kernel) = try start()
        let (replaced, handle) = try kernel.create("file")
        try kernel.write(handle, at: 0, Self.old)
        let (new, newHandle) = try kernel.create("new")
        try kernel.write(newHandle, at: 0, [1, 2, 3])
        try volume.rename("new", in: .root, to: "file", in: .root, flags: [])
        try kernel.write(handle, at: 0, [9])
        #expect(try kernel.read(handle, at: 0, count: 2) == [9, Self.old[1]])
        try kernel.write(newHandle, at: 3, [4])
        #expect(try volume.lookup("file", in: .root).inode == new)
        #expect(try volume.attributes(of: replaced).linkCount == 0)
        kernel.releaseAll()
        #expect(try volume.contents(of: new) == [1, 2, 3, 4])
        try end(volume, kernel)
    }

    @Test(arguments: [400, 100_000])
    func newNameComesWithWhatWasWritten(_ count: Int) async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [state = scratch.state as String, count = count as Int] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let kernel = try KernelStand(volume, usesBackingFiles: true)
            for name: FileName in ["moved", "linked"] {
                let (_, handle) = try kernel.create(name)
                try kernel.write(handle, at: 0, content(seed: 1, count: count))
            }
            try volume.rename("moved", in: .root, to: "new", in: .root, flags: [])
            let linked = try volume.resolve(path: ["linked"])
            _ = try volume.link(linked, as: "link", in: .root)
            try volume.synchronizeDirectory(.root)
            kill(getpid(), SIGKILL)
        }
        let (volume, kernel) = try start()
        for name: FileName in ["new", "link"] {
            let bytes = try volume.contents(of: volume.resolve(path: [name]))
            #expect(bytes == content(seed: 1, count: count))
        }
        try end(volume, kernel)
    }

    /// Also right after a write, and of the tree above.
    @Test(arguments: [100, 100_000])
    func cidIsToldWhileAFileIsBeingWritten(_ count: Int) throws {
        let (volume, kernel) = try start()
        let (file, handle) = try kernel.create("file")
        var bytes: [UInt8] = []
        for round in 0..<20 {
            let part = content(seed: UInt64(round), count: count)
            try kernel.write(handle, at: UInt64(bytes.count), part)
            bytes += part
            if round % 2 == 0 {
                #expect(try volume.cid(of: file) == volume.profile.root(of: bytes).cid)
            }
            #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        }
        kernel.release(handle)
        try wait { try volume.report(of: file).isSealed }
        try end(volume, kernel)
    }

    @Test func whatIsToldOfAnOpenFileIsWhatItHolds() throws {
        let (volume, kernel) = try start(stillOptions)
        let file = try kernel.makeFile("file", [1, 2, 3])
        _ = try volume.cid(of: .root)
        let handle = try kernel.open(file, .both)
        try kernel.write(handle, at: 0, Self.old)
        #expect(try volume.report(of: file).cid == nil)
        try kernel.write(handle, at: 100_000, [1])
        #expect(try volume.status().rootCID == nil)
        try end(volume, kernel)
    }

    @Test func smallFileTakesNoFlatFileOfItsOwnAlsoWhenItIsSynchronized() throws {
        let (volume, kernel) = try start(stillOptions)
        for index in 0..<200 {
            let (_, handle) = try kernel.create(FileName("f\(index)"))
            #expect(kernel.backing(of: handle) != nil)
            try kernel.write(handle, at: 0, content(seed: UInt64(index), count: 71))
            try volume.synchronize(handle, dataOnly: false)
            kernel.release(handle)
        }
        #expect(try flatFiles(in: scratch).count <= 64)
        #expect(try flatFiles(in: scratch).count == kernel.registry?.count)
        for index in 0..<200 {
            let bytes = try volume.contents(of: volume.resolve(path: [FileName("f\(index)")]))
            #expect(bytes == content(seed: UInt64(index), count: 71))
        }
        try end(volume, kernel)
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    /// A plan of faults holds for the whole process.
    @Test func filesThatAreKeptAreMadeAheadWithDurableNames() async throws {
        await #expect(processExitsWith: .success) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let kernel = try KernelStand(volume, usesBackingFiles: true)
            for number in 0..<200 {
                let (_, handle) = try kernel.create(FileName("f\(number)"))
                try kernel.write(handle, at: 0, content(seed: 1, count: 100_000))
                // The bytes and the commit; not the folder of the flat file.
                Faults.arm([.synchronize], passing: 2, outcome: .failure(.ioError))
                let isDone = (try? volume.synchronize(handle, dataOnly: false)) != nil
                if Faults.disarm() == 0, isDone { exit(0) }
                kernel.release(handle)
                usleep(10_000)
            }
            exit(1)
        }
    }

    /// docker-registry 2.8 calls fsync twice for each small file.
    @Test(arguments: [71, 100_000])
    func synchronizingTheSameTwiceCostsNoSecondCommit(_ count: Int) throws {
        let (volume, kernel) = try start(stillOptions)
        let (file, handle) = try kernel.create("file")
        try kernel.write(handle, at: 0, content(seed: 1, count: count))
        try volume.synchronize(handle, dataOnly: false)
        let accessed = try volume.attributes(of: file).accessed
        let before = try redoLogTime(in: scratch)
        for _ in 0..<5 { try volume.synchronize(handle, dataOnly: false) }
        #expect(try redoLogTime(in: scratch) == before)
        #expect(try volume.attributes(of: file).accessed == accessed)
        usleep(20_000)
        try kernel.write(handle, at: 0, [1])
        try volume.synchronize(handle, dataOnly: false)
        #expect(try redoLogTime(in: scratch) != before)
        try end(volume, kernel)
    }

    @Test func manyFilesOpenAtOnceLeaveNoMoreThanThePool() throws {
        let (volume, kernel) = try start()
        let handles = try (0..<200).map { index in
            let (_, handle) = try kernel.create(FileName("f\(index)"))
            try kernel.write(handle, at: 0, content(seed: UInt64(index), count: 100))
            return handle
        }
        for handle in handles { kernel.release(handle) }
        volume.awaitDetaching()
        #expect(kernel.registry?.count ?? 0 <= 64)
        #expect(try flatFiles(in: scratch).count <= 64)
        try end(volume, kernel)
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    /// Files are served by requests then, all the time that they are open.
    @Test func registryThatRefusesIsDoneWithout() throws {
        let (volume, kernel) = try start()
        let (file, backed) = try kernel.create("file")
        try kernel.write(backed, at: 0, Self.old)
        kernel.registry?.refuse(with: .tooManyOpenFiles)
        let second = try kernel.open(file, .both)
        #expect(kernel.backing(of: second) == kernel.backing(of: backed))
        // The pool has one file at most.
        let handles = try (0..<5).map { index in
            let (_, handle) = try kernel.create(FileName("f\(index)"))
            try kernel.write(handle, at: 0, Self.old)
            return handle
        }
        #expect(handles.filter { kernel.backing(of: $0) == nil }.count >= 4)
        kernel.registry?.refuse(with: nil)
        let reader = try kernel.open(volume.resolve(path: ["f4"]), .read)
        #expect(kernel.backing(of: reader) == nil)
        #expect(try kernel.read(reader, at: 0, count: 100_000) == Self.old)
        try end(volume, kernel)
    }

    @Test func fullDiskIsToldToTheWriterAndNothingIsLost() throws {
        let disk = try SmallDisk(byteCount: 90 << 20)
        let volume = try disk.open()
        let kernel = try KernelStand(volume, usesBackingFiles: true)
        let (file, handle) = try kernel.create("file")
        try kernel.write(handle, at: 0, Self.old)
        try volume.synchronize(handle, dataOnly: false)
        let (fillerInode, filler) = try kernel.create("filler")
        var end: UInt64 = 0
        var refusal: Errno?
        while refusal == nil {
            refusal = errno { () throws(Errno) in try kernel.write(filler, at: end, Self.old) }
            end += 100_000
        }
        #expect(refusal == .noSpace || refusal == .ioError)
        // Small files find their way, or are refused, and nothing breaks.
        var made: [FileName] = []
        refusal = nil
        while refusal == nil, made.count < 2000 {
            let name = FileName("f\(made.count)")
            refusal = errno { () throws(Errno) in
                let (_, handle) = try kernel.create(name)
                defer { kernel.release(handle) }
                try kernel.write(handle, at: 0, content(seed: UInt64(made.count), count: 3000))
                try volume.synchronize(handle, dataOnly: false)
            }
            if refusal == nil { made.append(name) }
        }
        #expect(refusal == .noSpace)
        try volume.unlink("filler", in: .root)
        kernel.release(filler)
        volume.forget(fillerInode, count: 1)
        try volume.synchronizeAll()
        try kernel.write(handle, at: 0, [7])
        kernel.releaseAll()
        volume.awaitDetaching()
        try volume.close()
        let found = try Check.run(stateDirectory: disk.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        let again = try disk.open()
        #expect(try again.contents(of: file) == [7] + Self.old.dropFirst())
        for name in made {
            let bytes = try again.contents(of: again.resolve(path: [name]))
            guard let index = UInt64(name.description.dropFirst()) else { continue }
            #expect(bytes == content(seed: index, count: 3000))
        }
        try again.makeFile("after", Self.old)
        try again.close()
    }

    /// What a process of before writes, comes to none of the volume's files.
    @Test(arguments: [true, false])
    func openFileOfAProcessThatOutlivedTheDaemonIsLeftToIt(_ isWritten: Bool) async throws {
        try await writeInADaemonThatIsKilled()
        let before = try flatFiles(in: scratch)
        let other = try openWrittenFile(O_RDWR)
        #expect(other >= 0)
        let volume = try openVolume(scratch, quickOptions)
        let file = try volume.resolve(path: ["file"])
        if isWritten { #expect(pwrite(other, [1, 2, 3], 3, 100) == 3) }
        try wait { try volume.report(of: file).isSealed }
        if isWritten { #expect(pwrite(other, [4, 5, 6], 3, 200) == 3) }
        #expect(try volume.contents(of: file) == Self.old)
        #expect(try volume.cid(of: file) == volume.profile.root(of: Self.old).cid)
        try volume.close()
        close(other)
        #expect(try flatFiles(in: scratch).isDisjoint(with: before))
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean && found.pending == CheckReport.Pending(), "\(found)")
    }

    /// The kernel keeps the lease as long as a dead mount keeps the registered file, and whoever opens that one waits.
    @Test func leaseThatADaemonHeldWhenItWasKilledHoldsUpNoMount() async throws {
        try await writeInADaemonThatIsKilled()
        let registered = try openWrittenFile(O_RDWR)
        let setLease: Int32 = 1024
        signal(SIGIO, SIG_IGN)
        #expect(fcntl(registered, setLease, F_WRLCK) == 0)
        let volume = try openVolume(scratch, quickOptions)
        let file = try volume.resolve(path: ["file"])
        // Whoever had waited would have had the kernel end the lease.
        #expect(try openWrittenFile(O_RDWR | O_NONBLOCK) == -1 && errno == EWOULDBLOCK)
        #expect(fcntl(registered, setLease, F_UNLCK) == 0)
        close(registered)
        try wait { try volume.report(of: file).isSealed }
        #expect(try volume.contents(of: file) == Self.old)
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean && found.pending == CheckReport.Pending(), "\(found)")
    }

    /// Leaves a file of `old` bytes, synced, to a daemon that is killed with the file open.
    private func writeInADaemonThatIsKilled() async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let kernel = try KernelStand(volume, usesBackingFiles: true)
            let (_, handle) = try kernel.create("file")
            try kernel.write(handle, at: 0, content(seed: 1, count: 100_000))
            try volume.synchronize(handle, dataOnly: false)
            kill(getpid(), SIGKILL)
        }
    }

    /// Opens that file where it lies in the state directory, as open(2).
    private func openWrittenFile(_ flags: Int32) throws -> Int32 {
        let objects = scratch.state + "/objects/"
        let path = try #require(
            try FileManager.default.subpathsOfDirectory(atPath: objects).first { path in
                let attributes = try FileManager.default.attributesOfItem(atPath: objects + path)
                return attributes[.size] as? Int == Self.old.count
            })
        return open(objects + path, flags | O_CLOEXEC)
    }
}
