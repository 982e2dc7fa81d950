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

/// Moments of the tree that have a name: made, kept, restored and deleted. Random sequences are in `ModelTests` and `CrashTests`.
@Suite struct SnapshotTests {
    let scratch = ScratchDirectory()
    static let small = content(seed: 1, count: 3_000)
    static let large = content(seed: 2, count: 3_000_000)
    static let other = content(seed: 3, count: 2_500_000)

    /// The names and bytes of a tree, by the blocks of its DAG.
    func tree(_ root: CID, _ volume: Volume) throws -> [String: [UInt8]] {
        var car: [UInt8] = []
        try volume.exportCAR(root) { (bytes) throws(Never) in car += bytes }
        let blocks = try CARBlocks(car)
        var found: [String: [UInt8]] = [:]
        func walk(_ cid: CID, _ path: String) throws {
            switch try blocks.unixfsEntry(cid) {
            case .directory:
                for entry in try DirectoryReader(root: cid, source: blocks).entries() {
                    try walk(entry.cid, path + "/" + String(decoding: entry.name, as: UTF8.self))
                }
            case .symlink(let target, _): found[path] = target
            case .file(let size, _):
                var reader = try FileReader(root: cid, source: blocks)
                var bytes = [UInt8](repeating: 0, count: Int(size))
                let count = try bytes.withUnsafeMutableBytes { try reader.read(into: $0, at: 0) }
                #expect(count == Int(size))
                found[path] = bytes
            }
        }
        try walk(root, "")
        return found
    }

    private struct CARBlocks: BlockSource {
        var blocks: [[UInt8]: [UInt8]] = [:]

        init(_ car: [UInt8]) throws {
            var offset = 0
            var reader = try CARReader { buffer in
                let count = min(buffer.count, car.count - offset)
                buffer.copyBytes(from: car[offset..<offset + count])
                offset += count
                return count
            }
            while let section = try reader.next() {
                blocks[section.cid.multihash.bytes] = section.block
            }
        }

        func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
            guard let block = blocks[cid.multihash.bytes] else { throw BlockUnavailable(cid) }
            return block
        }
    }

    private func wait(until condition: () throws -> Bool) throws {
        try #require(try eventually(everyMilliseconds: 1, condition))
    }

    func check() throws {
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
    }

    @Test func whatASnapshotHasStaysWhateverBecomesOfTheTree() throws {
        let volume = try openVolume(scratch, quickOptions)
        let kernel = try KernelStand(volume, usesBackingFiles: true)
        let small = try volume.makeFile("small", Self.small)
        let large = try kernel.makeFile("large", Self.large)
        let directory = try volume.makeDirectory("directory")
        try volume.makeFile("inside", in: directory, Self.other)
        _ = try volume.makeSymlink("link", in: directory, target: [0x78], caller: root)
        try wait { try volume.report(of: large).isSealed }
        let before = try volume.cid(of: .root)
        let snapshot = try volume.createSnapshot(named: "one", message: "as it was")
        #expect(snapshot.root == before && snapshot.message == "as it was")
        let expected = try tree(snapshot.root, volume)
        #expect(expected["/large"] == Self.large && expected["/link"] == nil)

        // In place, by requests and in a backing file; away; over one another.
        let handle = try kernel.open(small, .both)
        try kernel.write(handle, at: 10, [1, 2, 3])
        let second = try kernel.open(large, .both)
        try kernel.write(second, at: 1_000_000, [1, 2, 3])
        try volume.setSize(of: large, to: 2_000_000)
        kernel.releaseAll()
        volume.awaitDetaching()
        try volume.unlink("inside", in: directory)
        try volume.unlink("link", in: directory)
        try volume.removeDirectory("directory", in: .root)
        #expect(try tree(snapshot.root, volume) == expected)
        #expect(try volume.cid(of: .root) != before)
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.close()
        try check()

        let again = try openVolume(scratch, quickOptions)
        #expect(again.snapshots() == [snapshot])
        #expect(try tree(snapshot.root, again) == expected)
        try again.deleteSnapshot(named: "one")
        #expect(again.snapshots().isEmpty)
        #expect(throws: VolumeError.self) { try again.block(snapshot.root) }
        try again.close()
        try check()
        // Of the tree's two files the small one is inline.
        #expect(try flatFiles(in: scratch).count == 1)
    }

    /// Somebody writes all the time, and nobody waits for another.
    @Test(arguments: [true, false])
    func fileThatIsBeingWrittenIsInTheSnapshotAsItWas(_ usesBackingFiles: Bool) throws {
        let volume = try openVolume(scratch, quickOptions)
        let kernel = try KernelStand(volume, usesBackingFiles: usesBackingFiles)
        let directory = try volume.makeDirectory("directory")
        let (inode, handle) = try kernel.create("upload")
        try volume.rename("upload", in: .root, to: "upload", in: directory, flags: [])
        try kernel.write(handle, at: 0, Self.large)
        let first = try volume.createSnapshot(named: "first")
        try kernel.write(handle, at: UInt64(Self.large.count), Self.other)
        let second = try volume.createSnapshot(named: "second")
        try kernel.write(handle, at: 0, [UInt8](repeating: 7, count: 100))
        #expect(try tree(first.root, volume) == ["/directory/upload": Self.large])
        #expect(try tree(second.root, volume) == ["/directory/upload": Self.large + Self.other])
        kernel.releaseAll()
        volume.awaitDetaching()
        try wait { try volume.report(of: inode).isSealed }
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.deleteSnapshot(named: "first")
        #expect(throws: VolumeError.self) { try volume.block(first.root) }
        #expect(try tree(second.root, volume) == ["/directory/upload": Self.large + Self.other])
        try volume.close()
        try check()
        #expect(kernel.violation == nil)
    }

    @Test func snapshotIsMadeWhileSomebodyWritesWithoutAnEnd() throws {
        let volume = try openVolume(scratch, quickOptions)
        let opened = try volume.create(
            "busy", in: .root, mode: 0o644, flags: .both, caller: root
        ).1
        let isOver = Monitor(false)
        let writer = try Threads.start(name: "writer") {
            var seed: UInt64 = 0
            while !isOver.withLock({ $0 }) {
                seed += 1
                _ = try? volume.write(
                    opened.handle, at: seed % 100 * 1000, content(seed: seed, count: 1000))
            }
        }
        defer {
            isOver.withLock { $0 = true }
            writer.join()
            volume.release(opened.handle)
            try? volume.close()
        }
        for round in 0..<10 {
            let made = try volume.createSnapshot(named: "s\(round)")
            #expect(try tree(made.root, volume).keys.sorted() == ["/busy"])
        }
    }

    @Test func equalContentThatComesAndGoesIsKeptAsLongAsItIsNeeded() throws {
        let volume = try openVolume(scratch, stillOptions)
        func put(_ bytes: [UInt8]) throws {
            _ = try? volume.unlink("file", in: .root)
            try volume.makeFile("file", bytes)
        }
        var roots: [String: [UInt8]] = [:]
        for (round, bytes) in [Self.large, Self.other, Self.large, Self.other].enumerated() {
            try put(bytes)
            _ = try volume.createSnapshot(named: "s\(round)")
            roots["s\(round)"] = bytes
        }
        try put(Self.small)
        for name in ["s1", "s0", "s3", "s2"] {
            for snapshot in volume.snapshots() {
                let found = try tree(snapshot.root, volume)
                #expect(found["/file"] == roots[snapshot.name])
            }
            try volume.deleteSnapshot(named: name)
        }
        try volume.close()
        try check()
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    @Test func restoredTreeIsWhatItWasAndStaysWithoutTheSnapshot() throws {
        let volume = try openVolume(scratch, quickOptions)
        let directory = try volume.makeDirectory("directory")
        let below = try volume.makeDirectory("below", in: directory)
        try volume.makeFile("deep", in: below, Self.large)
        let kept = try volume.makeFile("kept", in: directory, Self.other)
        let changed = try volume.makeFile("changed", Self.small)
        var change = AttributeChange()
        (change.mode, change.uid) = (0o600, 12)
        _ = try volume.setAttributes(of: changed, change, handle: nil, caller: root)
        try volume.setExtendedAttribute(
            "user.a", of: changed, to: [5], flags: 0, clearSetGID: false, caller: root)
        let snapshot = try volume.createSnapshot(named: "then")

        try volume.unlink("deep", in: below)
        try volume.removeDirectory("below", in: directory)
        let open = try volume.open(changed, flags: .both, caller: root)
        try volume.write(open.handle, at: 0, [9, 9])
        try volume.makeFile("new", in: directory, [1])
        _ = try volume.makeNode(
            "pipe", in: .root, kind: .fifo, mode: 0o600, rdev: 0, caller: root)
        let done = try volume.restore("then")
        #expect((done.added, done.changed, done.removed) == (1, 1, 1))
        #expect(try volume.cid(of: .root) == snapshot.root)
        #expect(try volume.resolve(path: ["directory", "kept"]) == kept)
        #expect(try volume.read(open.handle, at: 0, count: 2) == [9, 9])
        volume.release(open.handle)
        let again = try volume.resolve(path: ["changed"])
        let attributes = try volume.attributes(of: again)
        #expect(again != changed && attributes.mode == 0o600 && attributes.uid == 12)
        #expect(try volume.extendedAttribute("user.a", of: again) == [5])
        // What no snapshot can have is left alone.
        _ = try volume.resolve(path: ["pipe"])

        try volume.deleteSnapshot(named: "then")
        let deep = try volume.resolve(path: ["directory", "below", "deep"])
        #expect(try volume.contents(of: deep) == Self.large)
        #expect(try volume.restoreError("then")?.contains("no snapshot then") == true)
        try volume.close()
        try check()
    }

    @Test func partOfATreeIsRestoredAlone() throws {
        let volume = try openVolume(scratch, quickOptions)
        let directory = try volume.makeDirectory("directory")
        try volume.makeFile("file", in: directory, Self.large)
        try volume.makeFile("file", Self.small)
        _ = try volume.createSnapshot(named: "then")
        try volume.unlink("file", in: directory)
        try volume.unlink("file", in: .root)
        try volume.makeFile("late", Self.other)
        _ = try volume.restore("then", path: ["directory", "file"])
        #expect(
            try volume.contents(of: volume.resolve(path: ["directory", "file"])) == Self.large)
        #expect(errno { () throws(Errno) in try volume.resolve(path: ["file"]) } != nil)
        // The snapshot has nothing there.
        #expect(try volume.restore("then", path: ["late"]).removed == 1)
        #expect(errno { () throws(Errno) in try volume.resolve(path: ["late"]) } != nil)
        for path: [FileName] in [["late"], ["no", "where"], ["directory", "file", "below"]] {
            let error = #expect(throws: VolumeError.self) {
                try volume.restore("then", path: path)
            }
            let name = path.map(\.description).joined(separator: "/")
            #expect("\(error as Any)".contains(name))
        }
        try volume.close()
        try check()
    }

    @Test func restoringThatWasCutOffGoesOnAtTheNextOpening() async throws {
        let volume = try openVolume(scratch, quickOptions)
        for number in 0..<40 {
            let directory = try volume.makeDirectory(FileName("d\(number)"))
            try volume.makeFile("file", in: directory, content(seed: UInt64(number), count: 20_000))
        }
        let snapshot = try volume.createSnapshot(named: "then")
        for number in 0..<40 {
            let directory = try volume.resolve(path: [FileName("d\(number)")])
            try volume.makeFile("more", in: directory, [UInt8(number)])
            if number % 2 == 0 { try volume.unlink("file", in: directory) }
        }
        let after = try volume.cid(of: .root)
        try volume.close()
        var outcomes: Set<Bool> = []
        for calls in [0, 20, 60, 150, 300] {
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [state = scratch.state as String, calls = calls as Int] in
                var options = quickOptions
                options.commitIntervalMilliseconds = 1
                let volume = try Volume.open(
                    stateDirectory: state, options: options, log: quietLog)
                Faults.arm(Set(Faults.Call.allCases), passing: calls, outcome: .death)
                _ = try volume.restore("then")
                kill(getpid(), SIGKILL)
            }
            let again = try openVolume(scratch, quickOptions)
            let root = try again.cid(of: .root)
            #expect(root == after || root == snapshot.root, "\(calls) calls")
            outcomes.insert(root == after)
            try again.close()
            try check()
            guard root == after else { break }
        }
        #expect(outcomes.contains(false))
    }

    @Test func snapshotIsThereOrNotAfterACrashAndItsDeletionToo() async throws {
        let volume = try openVolume(scratch, quickOptions)
        for number in 0..<20 {
            try volume.makeFile(
                FileName("f\(number)"), content(seed: UInt64(number), count: 30_000))
        }
        let first = try volume.createSnapshot(named: "first")
        let expected = try tree(first.root, volume)
        try volume.close()
        for calls in stride(from: 0, to: 90, by: 11) {
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [state = scratch.state as String, calls = calls as Int] in
                let volume = try Volume.open(
                    stateDirectory: state, options: quickOptions, log: quietLog)
                for number in 0..<20 {
                    let inode = try volume.resolve(path: [FileName("f\(number)")])
                    let opened = try volume.open(inode, flags: .both, caller: root)
                    try volume.write(opened.handle, at: 5, [UInt8(calls)])
                    volume.release(opened.handle)
                }
                Faults.arm(Set(Faults.Call.allCases), passing: calls, outcome: .death)
                _ = try volume.createSnapshot(named: "c\(calls)")
                try volume.deleteSnapshot(named: "c\(calls)")
                kill(getpid(), SIGKILL)
            }
            try check()
            let again = try openVolume(scratch, quickOptions)
            for made in again.snapshots() {
                let found = try tree(made.root, again)
                #expect(made.name == "first" ? found == expected : found.count == 20)
                if made.name != "first" { try again.deleteSnapshot(named: made.name) }
            }
            #expect(try tree(first.root, again) == expected)
            try again.close()
            try check()
        }
        let again = try openVolume(scratch, quickOptions)
        try again.deleteSnapshot(named: "first")
        try again.close()
        try check()
        #expect(try flatFiles(in: scratch).count == 20)
    }

    @Test func snapshotThatCannotBeMadeDurableIsNone() async throws {
        await #expect(processExitsWith: .success) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            try volume.makeFile("file", content(seed: 2, count: 3_000_000))
            try volume.synchronizeAll()
            Faults.arm(
                [.beginTransaction], passing: 0, striking: .max, outcome: .failure(.noSpace))
            let error = #expect(throws: VolumeError.self) {
                try volume.createSnapshot(named: "one")
            }
            Faults.disarm()
            #expect("\(error as Any)".contains("snapshot one"))
            #expect(volume.snapshots().isEmpty)
            _ = try volume.createSnapshot(named: "one")
            try volume.close()
        }
        let volume = try openVolume(scratch, stillOptions)
        let made = try volume.snapshot(named: "one")
        #expect(try tree(made.root, volume) == ["/file": Self.large])
        try volume.close()
        try check()
    }

    @Test func namesOfSnapshotsAreOnesThatAFileCanHave() throws {
        for name in [
            "a", "2026-11-29T08-45-00Z", "v1.2+b@x:y_z", String(repeating: "n", count: 128),
        ] {
            #expect(Snapshot.isName(name), "\(name)")
        }
        for name in [
            "", ".", "..", ".a", "-a", "a/b", "a b", "ä", String(repeating: "n", count: 129),
        ] {
            #expect(!Snapshot.isName(name), "\(name)")
        }
        #expect(Snapshot.name(at: 1_795_942_245_999_999_999) == "2026-11-29T08-50-45Z")
        let volume = try openVolume(scratch, stillOptions)
        _ = try volume.createSnapshot(named: "one")
        for name in ["one", "a/b", ""] {
            #expect(throws: VolumeError.self) { try volume.createSnapshot(named: name) }
        }
        #expect(volume.snapshots().map(\.name) == ["one"])
        let (first, second) = (try volume.createSnapshot(), try volume.createSnapshot())
        #expect(first.name != second.name && first.number < second.number)
        #expect(throws: VolumeError.self) { try volume.deleteSnapshot(named: "two") }
        try volume.close()
    }

    @Test func blockOfASnapshotThatIsLostIsFound() throws {
        let disk = try CheckedDirectory()
        var volume = try disk.open()
        let inner = try volume.makeDirectory("only-then")
        try volume.makeFile("file", in: inner, Self.small)
        let cid = try volume.cid(of: inner)
        _ = try volume.createSnapshot(named: "one")
        try volume.unlink("file", in: inner)
        try volume.removeDirectory("only-then", in: .root)
        try volume.close()
        #expect(try disk.check().isClean)
        let multihash = cid.multihash.bytes.map { String(format: "%02x", $0) }.joined()
        try disk.damage(
            "DELETE FROM dag_reference WHERE multihash = x'\(multihash)'; "
                + "DELETE FROM dag_node WHERE multihash = x'\(multihash)'")
        let report = try disk.check()
        #expect(report.problems == ["snapshot one: block \(cid) is missing"])
        volume = try disk.open()
        try volume.deleteSnapshot(named: "one")
        try volume.close()
        #expect(try disk.check().isClean)
    }

    @Test func numbersOfSnapshotsAreNotGivenTwice() throws {
        var volume = try openVolume(scratch, stillOptions)
        let first = try volume.createSnapshot(named: "one")
        try volume.deleteSnapshot(named: "one")
        try volume.close()
        volume = try openVolume(scratch, stillOptions)
        #expect(try volume.createSnapshot(named: "one").number > first.number)
        try volume.close()
    }
}

extension Volume {
    /// What `restore` fails with; nil where it does not.
    fileprivate func restoreError(_ name: String) throws -> String? {
        do throws(VolumeError) {
            _ = try restore(name)
            return nil
        } catch {
            return "\(error)"
        }
    }
}
