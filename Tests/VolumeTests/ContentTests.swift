import Base
import Checking
import Foundation
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

@Suite struct ContentTests {
    private let scratch = ScratchDirectory()

    private func sharers(_ inode: Inode, _ volume: Volume) throws -> UInt32 {
        try volume.report(of: inode).sharers
    }

    /// Inline content, and content in flat files.
    @Test(arguments: [500, 100_000], [true, false])
    func identicalContentIsStoredOnceUntilItIsWritten(
        _ count: Int, isFirstCommitted: Bool
    ) throws {
        let volume = try openVolume(scratch, stillOptions)
        let bytes = content(seed: 1, count: count)
        let one = try volume.makeFile("one", bytes)
        let other = try volume.makeFile("other", bytes)
        let cid = try volume.cid(of: one)
        if isFirstCommitted { try volume.synchronizeAll() }
        #expect(try volume.cid(of: other) == cid)
        #expect(try sharers(one, volume) == 2)
        #expect(try volume.status().sharedBytes == UInt64(count))

        let opened = try volume.open(other, flags: .both, caller: root)
        try volume.write(opened.handle, at: 100, [1, 2, 3])
        volume.release(opened.handle)
        #expect(try volume.contents(of: one) == bytes)
        var changed = bytes
        changed.replaceSubrange(100..<103, with: [1, 2, 3])
        #expect(try volume.contents(of: other) == changed)
        #expect(try sharers(one, volume) == 1)
        #expect(try volume.cid(of: one) == cid)
        #expect(try volume.cid(of: other) == volume.profile.root(of: changed).cid)
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        #expect(try flatFiles(in: scratch).count == (count > 16 << 10 ? 2 : 0))
    }

    /// Sealing runs at the same time, and must not end on the content from before.
    @Test func cidIsThatOfTheBytesHoweverOftenAFileIsCut() throws {
        var options = VolumeOptions()
        options.sealDelayMilliseconds = 0
        let volume = try openVolume(scratch, options)
        let file = try volume.makeFile("file", content(seed: 1, count: 400_000))
        for round in 1...400 {
            try volume.setSize(of: file, to: UInt64(400_000 - round * 500))
            if round % 3 == 0 {
                #expect(
                    try volume.cid(of: file)
                        == volume.profile.root(of: volume.contents(of: file)).cid)
            }
        }
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
    }

    @Test func copyOfAWholeSealedFileIsShared() throws {
        let volume = try openVolume(scratch, stillOptions)
        let bytes = content(seed: 1, count: 300_000)
        let one = try volume.makeFile("one", bytes)
        _ = try volume.cid(of: one)
        let source = try volume.open(one, flags: .read, caller: root)
        let (attributes, target) = try volume.create(
            "copy", in: .root, mode: 0o644, flags: .both, caller: root)
        let count = try volume.copyRange(
            from: source.handle, at: 0, to: target.handle, at: 0, length: 1 << 40)
        #expect(count == 300_000)
        #expect(try sharers(one, volume) == 2)
        // Both sides may be written now, and neither sees the other.
        try volume.write(target.handle, at: 0, [9])
        #expect(try volume.contents(of: one) == bytes)
        #expect(try volume.contents(of: attributes.inode) == [9] + bytes.dropFirst())
        volume.release(source.handle)
        volume.release(target.handle)
        try volume.close()
    }

    @Test func bytesOfUnlinkedFilesStayWhileTheyAreOpenAndGoThen() throws {
        let volume = try openVolume(scratch, stillOptions)
        let bytes = content(seed: 1, count: 100_000)
        let (attributes, opened) = try volume.create(
            "file", in: .root, mode: 0o644, flags: .both, caller: root)
        try volume.write(opened.handle, at: 0, bytes)
        try volume.unlink("file", in: .root)
        volume.forget(attributes.inode, count: 1)
        try volume.synchronizeAll()
        #expect(try volume.read(opened.handle, at: 0, count: 100_000) == bytes)
        #expect(try volume.attributes(of: attributes.inode).linkCount == 0)
        volume.release(opened.handle)
        #expect(
            errno { () throws(Errno) in try volume.attributes(of: attributes.inode) }
                == Errno(rawValue: ESTALE))
        try volume.close()
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    @Test func orphansOfAKilledProcessAreReaped() async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            for index in 0..<20 {
                let name = FileName("file\(index)")
                let (_, opened) = try volume.create(
                    name, in: .root, mode: 0o644, flags: .both, caller: root)
                try volume.write(opened.handle, at: 0, content(seed: UInt64(index), count: 40_000))
                try volume.unlink(name, in: .root)
            }
            _ = try volume.makeTemporary(in: .root, mode: 0o600, flags: .both, caller: root)
            try volume.synchronizeAll()
            kill(getpid(), SIGKILL)
        }
        #expect(try flatFiles(in: scratch).count == 20)
        let volume = try openVolume(scratch, stillOptions)
        try volume.close()
        #expect(try flatFiles(in: scratch).isEmpty)
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean && found.inodes == 1, "\(found)")
    }

    /// What a power loss can do to a file that nobody synchronized.
    @Test func flatFileThatIsGoneIsAnEmptyFile() throws {
        var volume = try openVolume(scratch, stillOptions)
        let file = try volume.makeFile("file", content(seed: 1, count: 100_000))
        let (_, opened) = try volume.create(
            "other", in: .root, mode: 0o644, flags: .both, caller: root)
        try volume.synchronize(opened.handle, dataOnly: false)
        try volume.close()
        for id in try flatFiles(in: scratch) {
            let name = String(id, radix: 16)
            let padded = String(repeating: "0", count: 16 - name.count) + name
            unlink(scratch.state + "/objects/\(padded.prefix(13))/\(padded)")
        }
        volume = try openVolume(scratch, stillOptions)
        #expect(try volume.attributes(of: file).size == 0)
        #expect(try volume.contents(of: file) == [])
        let written = try volume.open(file, flags: .both, caller: root)
        try volume.write(written.handle, at: 0, content(seed: 2, count: 50_000))
        #expect(try volume.contents(of: file) == content(seed: 2, count: 50_000))
        try volume.close()
    }

    /// Numbers of objects that a crash left in the middle are not given out again.
    @Test func objectsMadeDuringACopyThatWasKilledAreNotOverwritten() async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let bytes = content(seed: 1, count: 400_000)
            for name: FileName in ["one", "two"] {
                try volume.makeFile(name, bytes)
                _ = try volume.cid(of: .root)
            }
            try volume.synchronizeAll()
            let shared = try volume.resolve(path: ["two"])
            // The copy of the shared file waits for ever, with its number taken.
            let fifo = state + "/../wait"
            mkfifo(fifo, 0o600)
            let copier = try Threads.start(name: "copier") {
                Faults.arm([.copy], passing: 0, outcome: .pause)
                try? volume.setSize(of: shared, to: 300_000)
            }
            guard eventually(everyMilliseconds: 1, { Faults.struckCount > 0 }) else { exit(1) }
            for index in 0..<10 {
                try volume.makeFile(
                    FileName("later\(index)"), content(seed: UInt64(index), count: 300))
                try volume.makeFile(
                    FileName("flat\(index)"), content(seed: UInt64(index), count: 30_000))
            }
            try volume.synchronizeAll()
            withExtendedLifetime(copier) { _ = kill(getpid(), SIGKILL) }
        }
        let volume = try openVolume(scratch, stillOptions)
        for index in 0..<10 {
            try volume.makeFile(
                FileName("new\(index)"), content(seed: UInt64(100 + index), count: 300))
            try volume.makeFile(
                FileName("newflat\(index)"), content(seed: UInt64(100 + index), count: 30_000))
        }
        for index in 0..<10 {
            for (name, seed, count) in [
                ("later", index, 300), ("flat", index, 30_000), ("new", 100 + index, 300),
                ("newflat", 100 + index, 30_000),
            ] {
                let inode = try volume.resolve(path: [FileName("\(name)\(index)")])
                #expect(
                    try volume.contents(of: inode) == content(seed: UInt64(seed), count: count))
            }
        }
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
    }

    @Test func sparseFilesBeyondFourGiBReadAsZerosWithTheirData() throws {
        let volume = try openVolume(scratch, stillOptions)
        let (attributes, opened) = try volume.create(
            "file", in: .root, mode: 0o644, flags: .both, caller: root)
        let far: UInt64 = (5 << 30) + 123
        try volume.write(opened.handle, at: far, [1, 2, 3])
        let status = try volume.attributes(of: attributes.inode)
        #expect(status.size == far + 3)
        #expect(status.blocks < 1000)
        #expect(try volume.read(opened.handle, at: far - 2, count: 10) == [0, 0, 1, 2, 3])
        #expect(try volume.read(opened.handle, at: 1 << 32, count: 5) == [0, 0, 0, 0, 0])
        let data = try volume.seek(opened.handle, from: 0, whence: SEEK_DATA)
        #expect(data <= far && data > 4 << 30)
        #expect(try volume.seek(opened.handle, from: 0, whence: SEEK_HOLE) == 0)
        #expect(
            errno { () throws(Errno) in
                try volume.write(opened.handle, at: UInt64(Int64.max) - 1, [1, 2, 3])
            } == .fileTooLarge)
        try volume.setSize(of: attributes.inode, to: 3)
        try volume.close()
    }

    @Test func blocksOfATreeVerifyAndDamagedOnesAreNeverServed() throws {
        var options = stillOptions
        options.profile = .unixfsV0_2015
        let volume = try openVolume(scratch, options)
        let file = try volume.makeFile("file", content(seed: 1, count: 700_000))
        _ = try volume.cid(of: .root)
        let report = try volume.report(of: file)
        #expect(report.leaves.count == 3)
        for leaf in report.leaves {
            let block = try volume.block(leaf.cid)
            #expect(throws: Never.self) {
                try block.withUnsafeBytes { try leaf.cid.verify($0) }
            }
        }
        // A bit of the second leaf flips on the disk.
        guard case .object(let id) = report.placement else {
            Issue.record("\(report.placement)")
            return
        }
        let name = String(id, radix: 16)
        let padded = String(repeating: "0", count: 16 - name.count) + name
        let raw = open(scratch.state + "/objects/\(padded.prefix(13))/\(padded)", O_RDWR)
        pwrite(raw, [0xff, 0xff, 0xff, 0xff], 4, 300_000)
        close(raw)
        #expect(throws: VolumeError.self) { try volume.block(report.leaves[1].cid) }
        #expect(try volume.block(report.leaves[0].cid).count > 1 << 18)
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.problemCount > 0)
    }

    /// On a slow disk all others would wait for it, under the manifest's lock.
    @Test(arguments: ["read", "write", "block"])
    func openingAFlatFileHoldsNobodyUp(_ how: String) async throws {
        let volume = try openVolume(scratch, stillOptions)
        let inode = try volume.makeFile("file", content(seed: 1, count: 100_000))
        let cid = try volume.cid(of: inode)
        try volume.close()
        await #expect(processExitsWith: .success) {
            [state = scratch.state as String, how = how as String, cid = "\(cid)" as String] in
            // What holds the lock does not come back.
            alarm(60)
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let inode = try volume.lookup("file", in: .root).inode
            let flags: OpenFlags = how == "read" || how == "block" ? .read : .both
            let opened = try volume.open(inode, flags: flags, caller: root)
            Faults.arm([.open], passing: 0, outcome: .pause)
            try Threads.startDetached(name: "opens") {
                switch how {
                case "block": _ = try? volume.block(CID(parsing: cid))
                case "read": _ = try? volume.read(opened.handle, at: 0, count: 10)
                default: _ = try? volume.write(opened.handle, at: 0, [1, 2, 3])
                }
            }
            guard eventually(everyMilliseconds: 1, { Faults.struckCount > 0 }) else { exit(1) }
            _ = try volume.attributes(of: inode)
            _ = try volume.makeDirectory("elsewhere")
            _ = try volume.entries(of: .root)
            exit(0)
        }
    }
}
