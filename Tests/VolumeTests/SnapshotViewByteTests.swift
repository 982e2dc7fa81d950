import Base
import Glibc
import MerkleDAG
import Multiformats
import Synchronization
import Testing
import Volume

import struct SystemPackage.Errno

private let large = content(seed: 2, count: 3 << 20)

/// Bytes of the view of snapshots.
@Suite struct SnapshotViewByteTests {
    private let scratch = ScratchDirectory()

    /// Reads a file at odd offsets and lengths, and compares.
    private func expectOdd(_ volume: Volume, _ inode: Inode, _ bytes: [UInt8]) throws {
        let opened = try volume.open(inode, flags: .read, caller: root)
        defer { volume.release(opened.handle) }
        var generator = SeededGenerator(seed: 5)
        var places = [(0, 1), (1, 4_097), (bytes.count - 1, 10), (bytes.count, 1), (1 << 40, 7)]
        places += [((1 << 20) - 1, 2), ((1 << 20) - 7, 1 << 20), (0, bytes.count + 9)]
        for _ in 0..<20 {
            places.append((generator.below(bytes.count), generator.below(600_000)))
        }
        for (offset, count) in places {
            let from = min(offset, bytes.count)
            let expected = bytes[from..<min(bytes.count, from + count)]
            #expect(
                try volume.read(opened.handle, at: UInt64(offset), count: count) == Array(expected))
        }
    }

    /// A volume that has nothing of a snapshot, and one that has it.
    private func remote(
        _ fill: (Volume) throws -> Void
    ) throws -> (Volume, VolumeSource, ShownSnapshots) {
        let source = try VolumeSource()
        try fill(source.volume)
        var options = stillOptions
        options.sources = FetchOptions(source)
        let volume = try openVolume(scratch, options)
        let shown = ShownSnapshots(in: volume)
        try shown.add("one", of: volume, root: source.volume.cid(of: .root))
        _ = source.takeCount()
        return (volume, source, shown)
    }

    @Test func aFileOfTheVolumesOwnIsReadAtAnyOffset() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: large)
        try ShownSnapshots(in: volume).add("one", of: volume)
        let inode = try volume.view("one", "inner", "large")
        try expectOdd(volume, inode, large)
        let opened = try volume.open(inode, flags: .read, caller: root)
        #expect(!opened.mayWait)
        guard case .volume(keepsPages: true) = opened.access else {
            return #expect(Bool(false), "\(opened.access)")
        }
        volume.release(opened.handle)
        try volume.close()
    }

    @Test func whatIsElsewhereIsReadBlockByBlock() throws {
        let (volume, source, _) = try remote { volume in
            try volume.fillForSnapshot(large: large)
            let many = try volume.makeDirectory("many")
            for number in 0..<300 { try volume.makeFile(FileName("\(number)"), in: many, [7]) }
        }
        defer { try? source.volume.close() }
        var expected = try source.volume.everything(below: .root)
        expected[Array("inner/fifo".utf8)] = nil
        #expect(try volume.everything(below: volume.view("one")) == expected)
        let inode = try volume.view("one", "inner", "large")
        try expectOdd(volume, inode, large)
        // In order, each block is asked for once: the root's node and three leaves.
        let opened = try volume.open(inode, flags: .read, caller: root)
        #expect(opened.mayWait)
        _ = source.takeCount()
        var read: [UInt8] = []
        while read.count < large.count {
            read += try volume.read(opened.handle, at: UInt64(read.count), count: 50_000)
        }
        #expect(read == large)
        #expect(source.takeCount() == 4)
        // Nobody has it: an error, and all goes on once somebody does.
        source.goAway()
        #expect(
            errno { () throws(Errno) in try volume.read(opened.handle, at: 0, count: 1) }
                == .ioError)
        volume.release(opened.handle)
        try volume.close()
        try expectClean(scratch)
    }

    @Test func aFileThatTheVolumeKnowsComesByItsCache() throws {
        let (volume, source, _) = try remote { try $0.fillForSnapshot(large: large) }
        defer { try? source.volume.close() }
        let inner = try source.volume.cid(of: source.volume.inode("inner"))
        _ = try volume.graft(inner, as: "inner", in: .root)
        #expect(try volume.names(in: volume.inode("inner")).count == 7)
        let shown = try volume.view("one", "inner", "large")
        _ = source.takeCount()
        #expect(try volume.contents(of: shown) == large)
        #expect(source.takeCount() == 4)
        // What was read by the one is there for the other.
        #expect(try volume.contents(of: volume.inode("inner", "large")) == large)
        #expect(try volume.contents(of: shown) == large)
        #expect(source.takeCount() == 0)
        try expectOdd(volume, shown, large)
        try volume.close()
        try expectClean(scratch)
    }

    @Test func whatIsOpenStaysReadableWhenItsSnapshotAndItsFileAreGone() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.fillForSnapshot(large: large)
        let shown = ShownSnapshots(in: volume)
        try shown.add("one", of: volume)
        let inode = try volume.view("one", "inner", "large")
        let directory = try volume.view("one", "inner")
        let opened = try volume.open(inode, flags: .read, caller: root)
        let inner = try volume.inode("inner")
        for name: FileName in ["large", "inline"] {
            let live = try volume.inode("inner", name)
            try volume.unlink(name, in: inner)
            // That of the call that made it.
            volume.forget(live, count: 1)
        }
        shown.remove("one")
        volume.snapshotsChanged("one")
        try volume.synchronizeAll()
        #expect(try volume.read(opened.handle, at: 7, count: large.count) == Array(large[7...]))
        #expect(errno { () throws(Errno) in try volume.view("one") } == .noSuchFileOrDirectory)
        volume.release(opened.handle)
        #expect(try volume.attributes(of: directory).kind == .directory)
        // Now nobody keeps it any more.
        #expect(
            errno { () throws(Errno) in try volume.contents(of: inode) }?.rawValue == ESTALE)
        try volume.close()
        try expectClean(scratch)
    }

    @Test(arguments: [true, false])
    func aReaderNeverGetsBytesThatCameLater(_ isShort: Bool) throws {
        let volume = try openVolume(scratch, stillOptions)
        let old = isShort ? [1, 2, 3] : large
        let file = try volume.makeFile("file", old)
        try ShownSnapshots(in: volume).add("one", of: volume)
        let opened = try volume.open(volume.view("one", "file"), flags: .read, caller: root)
        #expect(try volume.read(opened.handle, at: 0, count: old.count) == old)
        let writer = try volume.open(file, flags: .both, caller: root)
        try volume.write(writer.handle, at: 1, [0xaa])
        // These bytes are kept by the snapshot, or by nobody.
        var read: [UInt8]?
        let error = errno { () throws(Errno) in
            read = try volume.read(opened.handle, at: 0, count: old.count)
        }
        #expect(read == old || error == .ioError)
        volume.release(opened.handle)
        volume.release(writer.handle)
        try volume.close()
    }

    @Test(arguments: [true, false])
    func manyReadersAtOnceReadTheSame(_ isRemote: Bool) throws {
        let volume: Volume
        var source: VolumeSource?
        if isRemote {
            (volume, source, _) = try remote { try $0.fillForSnapshot(large: large) }
        } else {
            volume = try openVolume(scratch, stillOptions)
            try volume.fillForSnapshot(large: large)
            try ShownSnapshots(in: volume).add("one", of: volume)
        }
        let inode = try volume.view("one", "inner", "large")
        let shared = try volume.open(inode, flags: .read, caller: root)
        let wrong = Atomic<Int>(0)
        let done = Atomic<Int>(0)
        var threads: [JoinableThread] = []
        for number in 0..<8 {
            threads.append(
                try Threads.start(name: "reader") {
                    var generator = SeededGenerator(seed: UInt64(number))
                    for round in 0..<40 {
                        let own = round % 4 == 0
                        let found = try? volume.lookup(
                            "large", in: volume.view("one", "inner"))
                        let opened =
                            own ? try? volume.open(inode, flags: .read, caller: root) : shared
                        guard let opened, found?.inode == inode else {
                            wrong.add(1, ordering: .relaxed)
                            continue
                        }
                        let offset = generator.below(large.count)
                        let read = try? volume.read(
                            opened.handle, at: UInt64(offset), count: 100_000)
                        let expected = large[offset..<min(large.count, offset + 100_000)]
                        if read.map({ $0[...] }) != expected { wrong.add(1, ordering: .relaxed) }
                        if own { volume.release(opened.handle) }
                        volume.forget(inode, count: 1)
                        done.add(1, ordering: .relaxed)
                    }
                })
        }
        for thread in threads { thread.join() }
        #expect(wrong.load(ordering: .relaxed) == 0 && done.load(ordering: .relaxed) == 320)
        volume.release(shared.handle)
        try volume.close()
        try source?.volume.close()
        try expectClean(scratch)
    }

    @Test func aWaitForABlockIsInterrupted() throws {
        let (volume, source, _) = try remote { try $0.fillForSnapshot(large: large) }
        defer { try? source.volume.close() }
        let opened = try volume.open(
            volume.view("one", "inner", "large"), flags: .read, caller: root)
        volume.interruptWaits()
        #expect(
            errno { () throws(Errno) in try volume.read(opened.handle, at: 0, count: 1) }
                == .interrupted)
        #expect(
            errno { () throws(Errno) in try volume.view("one", "inner", "deep", "flat") }
                == .interrupted)
        volume.release(opened.handle)
        try volume.close()
    }

    @Test func aDirectoryThatNobodyHasIsAnErrorAndNoMore() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", [1])
        let shown = ShownSnapshots(in: volume)
        let missing = CID.dagPB(sha256: [1, 2, 3], version: 1)
        try shown.add("gone", of: volume, root: missing)
        try shown.add("raw", of: volume, root: CID.raw(sha256: [1]))
        for name: FileName in ["gone", "raw"] {
            let inode = try volume.view(name)
            #expect(errno { () throws(Errno) in try volume.entries(of: inode) } == .ioError)
            #expect(
                errno { () throws(Errno) in try volume.lookup("x", in: inode) } == .ioError)
        }
        #expect(try volume.names(in: volume.view()) == ["gone", "raw"])
        let inode = try volume.view("gone")
        shown.remove("gone")
        #expect(
            errno { () throws(Errno) in try volume.entries(of: inode) }?.rawValue == ESTALE)
        try volume.close()
    }
}
