import Base
import Checking
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// What the tree loses, and somebody has open or knows for longer: it is kept for the snapshots that have it, and for no
/// other.
@Suite struct SnapshotLossTests {
    private let scratch = ScratchDirectory()
    private let large = content(seed: 2, count: 3_000_000)

    private func openedVolume() throws -> Volume {
        var options = VolumeOptions()
        options.commitIntervalMilliseconds = 20
        options.sealDelayMilliseconds = 0
        return try openVolume(scratch, options)
    }

    /// Makes a file that has its CID.
    private func makeSealed(_ name: FileName, in volume: Volume) throws -> Inode {
        let inode = try volume.makeFile(name, large)
        try #require(try eventually { try volume.report(of: inode).isSealed })
        return inode
    }

    /// All of a file's bytes in a snapshot's tree, by its blocks.
    private func read(_ name: String, of snapshot: Snapshot, _ volume: Volume) throws -> [UInt8] {
        struct Blocks: BlockSource {
            let volume: Volume

            func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
                do {
                    return try volume.block(cid)
                } catch {
                    throw BlockUnavailable(cid, cause: error)
                }
            }
        }
        let blocks = Blocks(volume: volume)
        let entry = try #require(
            try DirectoryReader(root: snapshot.root, source: blocks).entry(Array(name.utf8)))
        var reader = try FileReader(root: entry.cid, source: blocks)
        var bytes = [UInt8](repeating: 0, count: Int(reader.size))
        let count = try bytes.withUnsafeMutableBytes { try reader.read(into: $0, at: 0) }
        #expect(count == bytes.count)
        return bytes
    }

    /// The kernel takes back all that it knows of an inode.
    private func forget(_ inode: Inode, in volume: Volume) {
        volume.forget(inode, count: 1 << 40)
    }

    private func close(_ volume: Volume, flatFiles count: Int) throws {
        try volume.close()
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        #expect(try flatFiles(in: scratch).count == count)
    }

    @Test(arguments: [true, false], [true, false])
    func whatWasUnlinkedBeforeASnapshotIsNotKeptForIt(_ isOpen: Bool, _ hadOne: Bool) throws {
        let volume = try openedVolume()
        let inode = try makeSealed("file", in: volume)
        let one = hadOne ? try volume.createSnapshot(named: "one") : nil
        let opened = isOpen ? try volume.open(inode, flags: .read, caller: root) : nil
        try volume.unlink("file", in: .root)
        let two = try volume.createSnapshot(named: "two")
        if let opened {
            forget(inode, in: volume)
            #expect(try volume.read(opened.handle, at: 0, count: 100) == Array(large[..<100]))
            volume.release(opened.handle)
        } else {
            forget(inode, in: volume)
        }
        if let one {
            #expect(try read("file", of: one, volume) == large)
            try volume.deleteSnapshot(named: "one")
        }
        #expect(volume.snapshots() == [two])
        try close(volume, flatFiles: 0)
    }

    /// Equal content is one object, which another name may have after the first has none.
    @Test(arguments: [true, false], [true, false])
    func contentOfTwoNamesIsKeptForEachSnapshotThatHasOneOfThem(
        _ isWritten: Bool, _ hadFirst: Bool
    ) throws {
        let volume = try openedVolume()
        let one = try makeSealed("one", in: volume)
        let other = try makeSealed("other", in: volume)
        try #require(
            try eventually {
                try volume.report(of: one).sharers == 2 && volume.report(of: other).sharers == 2
            })
        let first = hadFirst ? try volume.createSnapshot(named: "first") : nil
        let opened = try volume.open(one, flags: .read, caller: root)
        try volume.unlink("one", in: .root)
        let second = try volume.createSnapshot(named: "second")
        // The tree loses the content by the other one as well, while somebody has the first still.
        if isWritten {
            let writer = try volume.open(other, flags: .both, caller: root)
            try volume.write(writer.handle, at: 0, [1, 2, 3])
            volume.release(writer.handle)
        } else {
            try volume.unlink("other", in: .root)
            forget(other, in: volume)
        }
        #expect(try volume.report(of: one).sharers == 1)
        _ = try volume.createSnapshot(named: "third")
        forget(one, in: volume)
        volume.release(opened.handle)
        if let first {
            #expect(try read("one", of: first, volume) == large)
            try volume.deleteSnapshot(named: "first")
        }
        #expect(try read("other", of: second, volume) == large)
        try volume.deleteSnapshot(named: "second")
        try close(volume, flatFiles: isWritten ? 1 : 0)
    }

    @Test func whatComesBackToTheTreeIsKeptForTheSnapshotsOfThen() throws {
        let volume = try openedVolume()
        let inode = try makeSealed("file", in: volume)
        _ = try volume.createSnapshot(named: "one")
        let opened = try volume.open(inode, flags: .read, caller: root)
        try volume.unlink("file", in: .root)
        _ = try volume.link(inode, as: "again", in: .root)
        let two = try volume.createSnapshot(named: "two")
        try volume.unlink("again", in: .root)
        forget(inode, in: volume)
        volume.release(opened.handle)
        try volume.deleteSnapshot(named: "one")
        #expect(try read("again", of: two, volume) == large)
        try volume.deleteSnapshot(named: "two")
        try close(volume, flatFiles: 0)
    }

    /// That its loss was noted is forgotten with the memory of the process; what was kept is not.
    @Test func contentThatWasOpenAtACrashStaysForTheSnapshotThatHasIt() async throws {
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = scratch.state as String] in
            let volume = try Volume.open(
                stateDirectory: state, options: stillOptions, log: quietLog)
            let inode = try volume.makeFile("file", content(seed: 2, count: 3_000_000))
            _ = try volume.createSnapshot(named: "one")
            _ = try volume.open(inode, flags: .read, caller: root)
            try volume.unlink("file", in: .root)
            try volume.synchronizeAll()
            kill(getpid(), SIGKILL)
        }
        let found = try Check.run(stateDirectory: scratch.state, repair: false) { _, _ in }
        #expect(found.isClean, "\(found.problems)")
        let volume = try openedVolume()
        let one = try #require(volume.snapshots().first)
        #expect(try read("file", of: one, volume) == large)
        try volume.deleteSnapshot(named: "one")
        try close(volume, flatFiles: 0)
    }

    @Test func theBlockOfASymlinkGoesWithTheSnapshotThatHasIt() throws {
        let volume = try openedVolume()
        let link = try volume.makeSymlink(
            "link", in: .root, target: Array("elsewhere".utf8), caller: root
        ).inode
        let one = try volume.createSnapshot(named: "one")
        let cid = try volume.cid(of: link)
        try volume.unlink("link", in: .root)
        _ = try volume.createSnapshot(named: "two")
        forget(link, in: volume)
        #expect(
            try volume.block(cid) == volume.profile.symlink(target: Array("elsewhere".utf8)).block)
        #expect(volume.snapshots().first == one)
        try volume.deleteSnapshot(named: "one")
        #expect(throws: VolumeError.self) { try volume.block(cid) }
        try close(volume, flatFiles: 0)
    }
}
