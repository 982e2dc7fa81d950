import Base
import Checking
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// Files that others read by descriptors of their own, while somebody changes them: what was lent stays as it was.
@Suite struct ServingLendTests {
    private let scratch = ScratchDirectory()

    enum Change: CaseIterable {
        case write, growth, truncation, emptying, allocation, opening, removal, copying
    }

    private func lend(_ cid: CID, _ volume: Volume) throws -> LentBytes {
        let lent = try #require(try volume.lendFile(cid, of: .tree))
        #expect(lent.isFile)
        return lent
    }

    private func object(_ inode: Inode, _ volume: Volume) throws -> UInt64? {
        guard case .object(let id) = try volume.report(of: inode).placement else { return nil }
        return id
    }

    /// Changes a file, and gives what it holds then; nil for a file that is gone.
    private func change(
        _ change: Change, _ file: Inode, _ old: [UInt8], _ volume: Volume, _ kernel: KernelStand
    ) throws -> [UInt8]? {
        var new = old
        switch change {
        case .write:
            let handle = try kernel.open(file, .both)
            try kernel.write(handle, at: 70_000, [1, 2, 3])
            new.replaceSubrange(70_000..<70_003, with: [1, 2, 3])
            kernel.release(handle)
        case .growth:
            let handle = try kernel.open(file, .write)
            try kernel.write(handle, at: UInt64(old.count), [1, 2, 3])
            new += [1, 2, 3]
            kernel.release(handle)
        case .truncation:
            try volume.setSize(of: file, to: 50_000)
            new.removeLast(old.count - 50_000)
        case .emptying:
            try volume.setSize(of: file, to: 0)
            new = []
        case .allocation:
            let handle = try kernel.open(file, .both)
            try volume.allocate(handle, mode: 3, offset: 4_096, length: 8_192)
            new.replaceSubrange(4_096..<12_288, with: [UInt8](repeating: 0, count: 8_192))
            kernel.release(handle)
        case .opening:
            let handle = try kernel.open(file, OpenFlags(rawValue: O_RDWR | O_TRUNC))
            try kernel.write(handle, at: 0, content(seed: 9, count: 40_000))
            new = content(seed: 9, count: 40_000)
            kernel.release(handle)
        case .removal:
            try volume.unlink("file", in: .root)
            volume.forget(file, count: 1)
            try volume.synchronizeAll()
            return nil
        case .copying:
            let source = try kernel.makeFile("source", content(seed: 10, count: 30_000))
            let from = try kernel.open(source, .read)
            let to = try kernel.open(file, .both)
            _ = try volume.copyRange(from: from, at: 0, to: to, at: 100, length: 30_000)
            new.replaceSubrange(100..<30_100, with: content(seed: 10, count: 30_000))
            kernel.release(from)
            kernel.release(to)
        }
        return new
    }

    @Test(arguments: Change.allCases, [true, false])
    func whatWasLentStaysAsItWas(_ change: Change, usesBackingFiles: Bool) throws {
        for count in [100_000, 2_500_000] {
            let scratch = ScratchDirectory()
            let volume = try openVolume(scratch, stillOptions)
            let kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
            let old = content(seed: 1, count: count)
            let file = try kernel.makeFile("file", old)
            volume.awaitDetaching()
            let cid = try volume.cid(of: file)
            let lent = try lend(cid, volume)
            let leaf = try volume.lendBlock(
                CID.raw(sha256: Array(old.prefix(1 << 20))), of: .tree, asksRemote: false)
            #expect(leaf.isFile)
            let new = try self.change(change, file, old, volume, kernel)
            volume.awaitDetaching()
            try volume.synchronizeAll()
            #expect(try lent.read() == old)
            #expect(try leaf.read() == Array(old.prefix(1 << 20)))
            if let new {
                #expect(try volume.contents(of: file) == new)
                #expect(try volume.cid(of: file) == volume.profile.root(of: new).cid)
            }
            #expect(try lent.read() == old)
            #expect(kernel.violation == nil)
            try volume.close()
            // Nor does the end of the volume end what was lent.
            #expect(try lent.read() == old)
            let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
            #expect(found.isClean, "\(found.problems)")
        }
    }

    @Test(arguments: [true, false])
    func whoeverWritesAfterTheEndOfALendingWritesInPlace(_ usesBackingFiles: Bool) throws {
        let volume = try openVolume(scratch, stillOptions)
        let kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
        var bytes = content(seed: 1, count: 100_000)
        let file = try kernel.makeFile("file", bytes)
        volume.awaitDetaching()
        var lent: LentBytes? = try lend(volume.cid(of: file), volume)
        #expect(volume.lentObjectCount == 1)
        let first = try object(file, volume)
        try write(1, to: file, &bytes, kernel, isBacked: false)
        volume.awaitDetaching()
        let second = try object(file, volume)
        #expect(second != first)
        #expect(try lent?.read() == content(seed: 1, count: 100_000))
        lent = nil
        #expect(volume.lentObjectCount == 0)
        // What takes its place is lent, and let go of before it is written.
        lent = try lend(volume.cid(of: file), volume)
        lent = nil
        try write(2, to: file, &bytes, kernel, isBacked: usesBackingFiles)
        volume.awaitDetaching()
        #expect(try object(file, volume) == second)
        #expect(try volume.contents(of: file) == bytes)
        #expect(kernel.violation == nil)
        try volume.close()
    }

    private func write(
        _ value: UInt8, to file: Inode, _ bytes: inout [UInt8], _ kernel: KernelStand,
        isBacked: Bool
    ) throws {
        let handle = try kernel.open(file, .both)
        #expect((kernel.backing(of: handle) != nil) == isBacked)
        try kernel.write(handle, at: 10, [value])
        bytes[10] = value
        kernel.release(handle)
    }

    /// Its backing file would be written behind the back of whoever has the descriptor.
    @Test func fileThatIsLentIsReadByRequestsUntilItIsClosed() throws {
        let volume = try openVolume(scratch, stillOptions)
        let kernel = try KernelStand(volume, usesBackingFiles: true)
        let old = content(seed: 1, count: 100_000)
        let file = try kernel.makeFile("file", old)
        volume.awaitDetaching()
        var lent: LentBytes? = try lend(volume.cid(of: file), volume)
        let reader = try kernel.open(file, .read)
        #expect(kernel.backing(of: reader) == nil)
        let writer = try kernel.open(file, .both)
        #expect(kernel.backing(of: writer) == nil)
        try kernel.write(writer, at: 5, [1, 2])
        #expect(try kernel.read(reader, at: 0, count: 200_000) == old[..<5] + [1, 2] + old[7...])
        #expect(try lent?.read() == old)
        kernel.release(reader)
        kernel.release(writer)
        lent = nil
        let again = try kernel.open(file, .both)
        #expect(kernel.backing(of: again) != nil)
        kernel.release(again)
        volume.awaitDetaching()
        #expect(kernel.violation == nil)
        try volume.close()
    }

    @Test func fileThatBacksAnOpenOneIsGivenAsBytes() throws {
        let volume = try openVolume(scratch, stillOptions)
        let kernel = try KernelStand(volume, usesBackingFiles: true)
        let old = content(seed: 1, count: 2_500_000)
        let file = try kernel.makeFile("file", old)
        volume.awaitDetaching()
        let cid = try volume.cid(of: file)
        let reader = try kernel.open(file, .read)
        #expect(kernel.backing(of: reader) != nil)
        #expect(try volume.lendFile(cid, of: .tree) == nil)
        let leaf = CID.raw(sha256: Array(old.prefix(1 << 20)))
        #expect(try !volume.lendBlock(leaf, of: .tree, asksRemote: false).isFile)
        #expect(try LentBlocks(volume: volume).file(cid) == old)
        // Written in place as ever.
        let id = try object(file, volume)
        let writer = try kernel.open(file, .both)
        #expect(kernel.backing(of: writer) == kernel.backing(of: reader))
        try kernel.write(writer, at: 0, [9])
        #expect(try !volume.gives(leaf))
        kernel.release(reader)
        kernel.release(writer)
        volume.awaitDetaching()
        #expect(try object(file, volume) == id)
        let newer = try lend(volume.cid(of: file), volume)
        #expect(try newer.read() == [9] + old.dropFirst())
        #expect(kernel.violation == nil)
        try volume.close()
    }

    /// Equal content is stored once, in the object that is lent or in another.
    @Test func duplicatesOfWhatIsLentAreSharedAndWrittenApart() throws {
        let volume = try openVolume(scratch, stillOptions)
        let old = content(seed: 1, count: 100_000)
        let one = try volume.makeFile("one", old)
        let cid = try volume.cid(of: one)
        let lent = try lend(cid, volume)
        let other = try volume.makeFile("other", old)
        #expect(try volume.cid(of: other) == cid)
        #expect(try object(other, volume) == object(one, volume))
        for (value, inode) in [(UInt8(1), one), (2, other)] {
            let opened = try volume.open(inode, flags: .both, caller: root)
            try volume.write(opened.handle, at: 0, [value])
            volume.release(opened.handle)
            #expect(try volume.contents(of: inode) == [value] + old.dropFirst())
        }
        #expect(try lent.read() == old)
        try volume.close()
    }

    @Test func oneDescriptorServesAllWhoReadAFileAtATime() throws {
        let volume = try openVolume(scratch, stillOptions)
        let cid = try volume.cid(of: volume.makeFile("file", content(seed: 1, count: 3_000_000)))
        var lent = [try lend(cid, volume), try lend(cid, volume)]
        let numbers = lent.compactMap { place -> Int32? in
            guard case .file(let file, _, _) = place else { return nil }
            return file.raw
        }
        #expect(numbers.count == 2 && numbers[0] == numbers[1])
        #expect(volume.lentObjectCount == 1)
        lent.removeLast()
        #expect(volume.lentObjectCount == 1)
        lent.removeLast()
        #expect(volume.lentObjectCount == 0)
        try volume.close()
    }

    /// Whoever serves outlives the process that lent him a file, and nobody knows of it any more.
    @Test(.enabled(if: diskHasLeases), arguments: [true, false], [true, false])
    func whatAProcessOfBeforeHasLentStaysAsItWas(
        _ usesBackingFiles: Bool, hasReader: Bool
    ) throws {
        let old = content(seed: 1, count: 100_000)
        let before = try openVolume(scratch, stillOptions)
        let cid = try before.cid(of: before.makeFile("file", old))
        let id = try #require(try object(before.resolve(path: ["file"]), before))
        try before.close()
        #expect(before.profile.root(of: old).cid == cid)
        try expectCopy(of: old, id, scratch, usesBackingFiles, hasReader: hasReader)
    }

    /// A process that was killed has not counted the numbers of the objects that it made.
    @Test(.enabled(if: diskHasLeases))
    func whatAProcessThatWasKilledHasLentStaysAsItWas() async throws {
        let old = content(seed: 1, count: 100_000)
        for (usesBackingFiles, hasReader) in [(true, true), (true, false), (false, false)] {
            let scratch = ScratchDirectory()
            await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
                let volume = try Volume.open(
                    stateDirectory: state, options: stillOptions, log: quietLog)
                _ = try volume.cid(of: volume.makeFile("file", content(seed: 1, count: 100_000)))
                try volume.synchronizeAll()
                kill(getpid(), SIGKILL)
            }
            let id = try #require(try flatFiles(in: scratch).first)
            try expectCopy(of: old, id, scratch, usesBackingFiles, hasReader: hasReader)
        }
    }

    /// Opens a volume, and changes a file whose flat file somebody has open since before that: his bytes stay.
    private func expectCopy(
        of old: [UInt8], _ object: UInt64, _ scratch: ScratchDirectory, _ usesBackingFiles: Bool,
        hasReader: Bool
    ) throws {
        let name = String(object, radix: 16)
        let padded = String(repeating: "0", count: 16 - name.count) + name
        let kept = try Sys.open(
            scratch.state + "/objects/\(padded.prefix(13))/\(padded)", flags: O_RDONLY)
        let volume = try openVolume(scratch, stillOptions)
        let kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
        let file = try volume.resolve(path: ["file"])
        #expect(try volume.cid(of: file) == volume.profile.root(of: old).cid)
        let reader = hasReader ? try kernel.open(file, .read) : nil
        let writer = try kernel.open(file, .both)
        try kernel.write(writer, at: 0, [1, 2, 3])
        kernel.release(writer)
        if let reader { kernel.release(reader) }
        volume.awaitDetaching()
        var bytes = [UInt8](repeating: 0xee, count: old.count)
        let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try Sys.read(kept.raw, at: 0, into: buffer)
        }
        #expect(count == old.count && bytes == old)
        #expect(try volume.contents(of: file) == [1, 2, 3] + old.dropFirst(3))
        #expect(kernel.violation == nil)
        try volume.close()
    }

    /// Writers, readers and others at the same time: whatever is lent has the bytes of its CID, at once and later.
    @Test func lendingAndWritingAtOnceNeverGivesOtherBytes() throws {
        let seed = testSeed()
        print("seed \(seed)")
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 0
        options.commitIntervalMilliseconds = 5
        let volume = try openVolume(scratch, options)
        let file = try volume.makeFile("file", content(seed: seed, count: 60_000))
        let isOver = Monitor(false)
        let faults = Monitor<[String]>([])
        let counts = Monitor(0)
        let writer = try Threads.start(name: "writer") {
            var generator = SeededGenerator(seed: seed)
            do {
                for _ in 0..<300 {
                    let opened = try volume.open(file, flags: .both, caller: root)
                    try volume.write(
                        opened.handle, at: UInt64(generator.below(59_000)),
                        [UInt8(generator.below(256))])
                    volume.release(opened.handle)
                    if generator.oneIn(3) { _ = try volume.cid(of: file) }
                }
            } catch {
                faults.withLock { $0.append("writer: \(error)") }
            }
            isOver.withLock { $0 = true }
        }
        let others = try (0..<3).map { _ in
            try Threads.start(name: "other") {
                var held: [(CID, LentBytes)] = []
                func look() throws {
                    for (cid, lent) in held {
                        let bytes = try lent.read()
                        guard (try? bytes.withUnsafeBytes { try cid.verify($0) }) != nil else {
                            return faults.withLock { $0.append("other bytes of \(cid)") }
                        }
                    }
                }
                do {
                    while !isOver.withLock({ $0 }) {
                        if case .file(let cid, _)? = try? volume.live("file"),
                            let lent = try volume.lendFile(cid, of: .tree)
                        {
                            held.append((cid, lent))
                            counts.withLock { $0 += 1 }
                        }
                        try look()
                        if held.count > 8 { held.removeFirst(6) }
                    }
                } catch {
                    faults.withLock { $0.append("other: \(error)") }
                }
            }
        }
        writer.join()
        for other in others { other.join() }
        #expect(faults.withLock { $0 } == [], "seed \(seed)")
        #expect(counts.withLock { $0 } > 0)
        #expect(volume.lentObjectCount == 0)
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
    }
}
