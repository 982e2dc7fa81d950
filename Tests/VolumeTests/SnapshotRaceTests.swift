import Base
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

/// Options with which what is closed is seen to soon.
private var quickOptions: VolumeOptions {
    var options = VolumeOptions()
    options.commitIntervalMilliseconds = 20
    options.sealDelayMilliseconds = 0
    return options
}

/// Snapshots that are made while others change the tree.
extension SnapshotTests {
    @Test func deletionLetsContentGoThatOnlyTheDeletedOneHasAlthoughThereAreNewerOnes() throws {
        let volume = try openVolume(scratch, stillOptions)
        let file = try volume.makeFile("file", Self.large)
        _ = try volume.createSnapshot(named: "old")
        try volume.unlink("file", in: .root)
        // As long as the kernel has the inode, the content is not let go.
        volume.forget(file, count: 1)
        for name in ["new", "newer"] {
            try volume.makeFile(FileName(name), Self.small)
            _ = try volume.createSnapshot(named: name)
        }
        try volume.deleteSnapshot(named: "old")
        try volume.close()
        try check()
        #expect(try flatFiles(in: scratch).isEmpty)
    }

    /// What is above a file that is being written has another CID in the snapshot than in the tree.
    @Test func fileThatIsBeingWrittenAndGetsOtherNamesMakesNoWrongCIDOfTheTree() throws {
        let volume = try openVolume(scratch, stillOptions)
        let (from, to) = (try volume.makeDirectory("from"), try volume.makeDirectory("to"))
        let opened = try volume.create(
            "upload", in: from, mode: 0o644, flags: .both, caller: root
        ).1
        defer { volume.release(opened.handle) }
        let isOver = Monitor(false)
        let mover = try Threads.start(name: "mover") {
            var (round, isMoved) = (0, false)
            while !isOver.withLock({ $0 }) {
                round += 1
                _ = try? volume.write(
                    opened.handle, at: 0, content(seed: UInt64(round), count: 40_000))
                let places = isMoved ? (to, from) : (from, to)
                try? volume.rename(
                    "upload", in: places.0, to: "upload", in: places.1, flags: [])
                isMoved.toggle()
                usleep(UInt32(round % 7) * 300)
            }
        }
        for round in 0..<40 {
            // One may be refused, where the tree never stands still.
            if let made = try? volume.createSnapshot(named: "s\(round)") {
                #expect(try tree(made.root, volume).count == 1)
            }
        }
        isOver.withLock { $0 = true }
        mover.join()
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.synchronizeAll()
    }

    /// Directories above a file that is being written are done before the root is.
    @Test func changesBesideAFileThatIsBeingWrittenTakeNothingFromASnapshot() throws {
        let volume = try openVolume(scratch, quickOptions)
        let uploads = try volume.makeDirectory("uploads")
        let opened = try volume.create(
            "data", in: uploads, mode: 0o644, flags: .both, caller: root
        ).1
        defer {
            volume.release(opened.handle)
            try? volume.close()
        }
        try volume.write(opened.handle, at: 0, Self.large)
        let beside = try volume.makeFile("beside", in: uploads, Self.other)
        for number in 0..<30 {
            let directory = try volume.makeDirectory(FileName("d\(number)"))
            try volume.makeFile("file", in: directory, content(seed: UInt64(number), count: 30_000))
        }
        let isOver = Monitor(false)
        let writer = try Threads.start(name: "writer") {
            var round: UInt64 = 0
            while !isOver.withLock({ $0 }) {
                round += 1
                if let open = try? volume.open(beside, flags: .both, caller: root) {
                    _ = try? volume.write(
                        open.handle, at: round % 1_000 * 100, [UInt8(round % 251)])
                    volume.release(open.handle)
                }
                _ = try? volume.write(opened.handle, at: 0, content(seed: round, count: 100))
                usleep(UInt32(round % 11) * 2_000)
            }
        }
        var roots: [CID] = []
        for round in 0..<12 {
            let directory = try volume.resolve(path: [FileName("d\(round)")])
            try volume.makeFile(
                "more", in: directory, content(seed: UInt64(round), count: 2_000_000))
            if let made = try? volume.createSnapshot(named: "s\(round)") { roots.append(made.root) }
        }
        isOver.withLock { $0 = true }
        writer.join()
        for made in roots {
            let found = try tree(made, volume)
            #expect(found["/uploads/beside"]?.count == Self.other.count)
            #expect(found["/uploads/data"]?.count == Self.large.count)
        }
        #expect(try volume.cid(of: .root) == independentRoot(of: .root, in: volume).cid)
        try volume.synchronizeAll()
    }

    @Test func oneOfManyWhoTakeANameAtOnceHasIt() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", Self.large)
        for round in 0..<8 {
            let made = Monitor<[Snapshot]>([])
            let threads = try (0..<3).map { _ in
                try Threads.start(name: "maker") {
                    guard let one = try? volume.createSnapshot(named: "s\(round)") else { return }
                    made.withLock { $0.append(one) }
                }
            }
            for thread in threads { thread.join() }
            #expect(made.withLock { $0.count } == 1)
        }
        let all = volume.snapshots()
        #expect(Set(all.map(\.name)).count == all.count && all.count == 8)
        try volume.close()
        let again = try openVolume(scratch, stillOptions)
        #expect(again.snapshots() == all)
        try again.close()
        try check()
    }
}
