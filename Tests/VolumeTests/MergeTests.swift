import Base
import Foundation
import KuboDouble
import KuboStand
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

/// What others do at the MFS path.
@Suite struct MergeTests {
    private final class Names: NamesObserver {
        let told = Monitor<[FileName]>([])
        func nameChanged(_ name: FileName, in parent: Inode) { told.withLock { $0.append(name) } }
    }

    @Test(arguments: TestNode.kinds)
    func additionsChangesAndRemovalsComeIn(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let names = Names()
        volume.observeNames(names)
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        try volume.makeFile("changed", in: inner, [1])
        try volume.makeFile("removed", in: inner, [2])
        let stays = try volume.makeFile("stays", in: inner, [3])
        let deep = try volume.makeDirectory("deep", in: inner, mode: 0o755, caller: root).inode
        try volume.makeFile("gone", in: deep, [4])
        try volume.published()
        try stand.kubo.remove(stand.path + "/inner/removed")
        try stand.kubo.remove(stand.path + "/inner/deep", isRecursive: true)
        try stand.kubo.copy(
            try stand.add([9, 9]), to: stand.path + "/inner/changed", replacesFile: true)
        try stand.put(try stand.add(content(seed: 1, count: 2 << 20)), at: "new/sub/file")
        #expect(eventually { (try? volume.inode("new", "sub", "file")) != nil })
        #expect(
            try volume.contents(of: volume.inode("new", "sub", "file"))
                == content(seed: 1, count: 2 << 20))
        #expect(eventually { (try? volume.inode("inner", "removed")) == nil })
        #expect(eventually { (try? volume.inode("inner", "deep")) == nil })
        #expect(
            try eventually { try volume.contents(of: volume.inode("inner", "changed")) == [9, 9] })
        #expect(try volume.inode("inner", "stays") == stays)
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        let told = names.told.withLock { Set($0) }
        #expect(told.isSuperset(of: ["new", "removed", "deep", "gone", "changed"]))
        #expect(!told.contains("stays"))
        try volume.close()
        try expectClean(directory)
    }

    @Test func whatBothChangedIsKeptTwice() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, stand.options())
        try volume.makeFile("file", [1])
        try volume.makeFile("ours", [2])
        try volume.makeFile("theirs", [3])
        try volume.published()
        try volume.close()
        // While nobody looks.
        try stand.kubo.copy(try stand.add([10]), to: stand.path + "/file", replacesFile: true)
        try stand.kubo.remove(stand.path + "/ours")
        try stand.kubo.copy(try stand.add([30]), to: stand.path + "/theirs", replacesFile: true)
        var options = stand.options()
        options.remote = nil
        volume = try openVolume(directory, options)
        for (name, byte) in [("file", UInt8(11)), ("ours", 12)] {
            let opened = try volume.open(
                volume.inode(FileName(name)), flags: .write, caller: root)
            try volume.write(opened.handle, at: 0, [byte])
            volume.release(opened.handle)
        }
        try volume.unlink("theirs", in: .root)
        try volume.close()
        volume = try openVolume(directory, stand.options())
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        #expect(try volume.contents(of: volume.inode("file")) == [11])
        // What they removed and we changed stays; what we removed and they changed comes back.
        #expect(try volume.contents(of: volume.inode("ours")) == [12])
        #expect(try volume.contents(of: volume.inode("theirs")) == [30])
        var names: [String] = []
        try volume.readDirectory(.root, from: 0) { entry in
            names.append("\(entry.name)")
            return true
        }
        let other = try #require(names.first { $0.hasPrefix("file.mfs-") })
        #expect(try volume.contents(of: volume.inode(FileName(other))) == [10])
        // Once more, nothing new.
        try volume.published()
        var count = 0
        try volume.readDirectory(.root, from: 0) { _ in
            count += 1
            return true
        }
        #expect(count == names.count)
        try volume.close()
    }

    @Test func aMirrorThatWasRemovedIsShownAgain() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let inode = try volume.makeFile("file", [1])
        let published = try volume.published()
        try stand.kubo.remove(stand.path, isRecursive: true)
        #expect(try eventually { try stand.mirrorCID() == published })
        #expect(try volume.contents(of: inode) == [1])
        try volume.close()
    }

    /// The node has the same names and contents, but in a directory that is sharded and need not be.
    @Test(arguments: TestNode.kinds)
    func aMirrorOfOtherBlocksIsExchangedForTheRoot(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        var builder = DirectoryBuilder(
            profile: ImportProfile(
                chunkSize: 1 << 20, fileLinksMax: 1024, rawLeaves: true, cidVersion: 1,
                directoryThreshold: 1, directoryEstimation: .block))
        for byte in UInt8(1)...9 {
            let name = FileName("file \(byte)")
            let file = try volume.makeFile(name, in: inner, [byte])
            builder.add(name: name.bytes, cid: try volume.cid(of: file), treeSize: 1)
        }
        let published = try volume.published()
        var blocks: [(cid: CID, bytes: [UInt8])] = []
        let sharded = try builder.finish { (cid, block) throws(Never) in
            blocks.append((cid, block))
        }
        #expect(try volume.cid(of: inner) != sharded.cid)
        try volume.close()
        // While nobody looks: a directory that is gone for a moment would be merged as removed.
        try stand.kubo.send(blocks)
        let path = stand.path + "/inner"
        try stand.kubo.remove(path, isRecursive: true)
        try stand.kubo.copy(sharded.cid, to: path)
        #expect(try stand.mirrorCID() != published)
        volume = try openVolume(directory, stand.options())
        // No name is to be changed, so the mirror is exchanged as a whole.
        #expect(try eventually { try stand.mirrorCID() == published })
        #expect(try volume.published() == published)
        #expect(try stand.kubo.status(of: path)?.cid == volume.cid(of: inner))
        if let double = stand.double { #expect(double.statistics["files/mv"]?.calls == 2) }
        // What it was exchanged by is gone.
        let listing = try stand.call("files/ls", "arg=/registryfs").text
        let name = stand.path.split(separator: "/")[1]
        #expect(listing.contains("\"\(name)\"") && !listing.contains(".\(name)."), "\(listing)")
        try volume.close()
        try expectClean(directory)
    }

    @Test func contentThatWasThereBeforeTheVolumeIsTakenIn() throws {
        let stand = try NodeStand()
        try stand.put(try stand.add([5]), at: "theirs")
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("own", [6])
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        #expect(try volume.contents(of: volume.inode("theirs")) == [5])
        #expect(try volume.contents(of: volume.inode("own")) == [6])
        try volume.close()
    }

    // MARK: DAGs that have their nodes at more paths than anybody can walk

    /// Directories with two names for the next each, 2^40 paths in all; the topmost.
    private func tower(_ stand: NodeStand, seed: UInt8) throws -> CID {
        var blocks: [(cid: CID, bytes: [UInt8])] = []
        var below = DAGRoot(cid: try stand.add([seed]), fileSize: 1, treeSize: 1)
        for _ in 0..<40 {
            var builder = DirectoryBuilder(profile: .unixfsV1_2025)
            for name in ["a", "b"] {
                builder.add(name: Array(name.utf8), cid: below.cid, treeSize: below.treeSize)
            }
            below = try builder.finish { (cid, block) throws(Never) in blocks.append((cid, block)) }
        }
        try stand.kubo.put(blocks)
        return below.cid
    }

    private func replace(_ name: String, by cid: CID, _ stand: NodeStand) throws {
        try stand.kubo.remove("\(stand.path)/\(name)", isRecursive: true)
        try stand.put(cid, at: name)
    }

    @Test func removalOfWhatNobodyLookedIntoIsOneStep() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        try stand.put(try tower(stand, seed: 1), at: "tower")
        let volume = try openVolume(directory, stand.options())
        #expect(eventually { (try? volume.inode("tower", "a", "b")) != nil })
        let inside = try volume.inode("tower", "b", "a")
        try volume.published()
        try stand.kubo.remove(stand.path + "/tower", isRecursive: true)
        #expect(eventually { (try? volume.inode("tower")) == nil })
        #expect(throws: Errno.self) { try volume.attributes(of: inside) }
        #expect(try volume.published() == stand.mirrorCID())
        try volume.close()
        try expectClean(directory)
    }

    @Test func removedDirectoryThatSomebodyStandsInIsEmpty() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        try stand.put(try tower(stand, seed: 1), at: "tower")
        let volume = try openVolume(directory, stand.options())
        #expect(eventually { (try? volume.inode("tower")) != nil })
        let inode = try volume.lookup("tower", in: .root).inode
        try stand.kubo.remove(stand.path + "/tower", isRecursive: true)
        #expect(eventually { (try? volume.inode("tower")) == nil })
        var names: [FileName] = []
        try volume.readDirectory(inode, from: 0) { entry in
            names.append(entry.name)
            return true
        }
        #expect(names.allSatisfy { [".", ".."].contains($0) })
        #expect(throws: Errno.noSuchFileOrDirectory) {
            try volume.makeDirectory("new", in: inode, mode: 0o755, caller: root)
        }
        volume.forget(inode, count: 1)
        try volume.close()
        try expectClean(directory)
    }

    @Test func changeOfWhatNobodyLookedIntoIsTakenAsItIs() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        try stand.put(try tower(stand, seed: 1), at: "tower")
        var volume = try openVolume(directory, stand.options())
        #expect(eventually { (try? volume.inode("tower", "a", "b")) != nil })
        try volume.published()
        try volume.close()
        let other = try tower(stand, seed: 2)
        try replace("tower", by: other, stand)
        // A node compares the two pins path by path, and is not waited for.
        volume = try openVolume(directory, stand.options { $0.pinMilliseconds = 1_000 })
        #expect(try volume.published() == stand.mirrorCID())
        #expect(try volume.cid(of: volume.inode("tower")) == other)
        try volume.close()
        try expectClean(directory)
    }

    @Test func whatBothChangedAndNobodyLookedIntoIsKeptTwice() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        let towers = try (UInt8(1)...3).map { try tower(stand, seed: $0) }
        try stand.put(towers[0], at: "one")
        try stand.put(towers[1], at: "two")
        var volume = try openVolume(directory, stand.options())
        #expect(eventually { (try? volume.inode("two")) != nil })
        try volume.published()
        try volume.close()
        try replace("one", by: towers[2], stand)
        var options = stand.options()
        options.remote = nil
        volume = try openVolume(directory, options)
        try volume.rename("one", in: .root, to: "two", in: .root, flags: .exchange)
        try volume.close()
        volume = try openVolume(directory, stand.options { $0.pinMilliseconds = 1_000 })
        #expect(try volume.published() == stand.mirrorCID())
        #expect(try volume.cid(of: volume.inode("one")) == towers[1])
        #expect(try volume.cid(of: volume.inode("two")) == towers[0])
        let kept = FileName("one.mfs-" + "\(towers[2])".suffix(8))
        #expect(try volume.cid(of: volume.inode(kept)) == towers[2])
        try volume.close()
        try expectClean(directory)
    }

    @Test func mirrorThatDiffersAtTooManyPathsIsExchangedAsAWhole() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        for (name, seed) in [("one", UInt8(1)), ("two", 2)] {
            try stand.put(try tower(stand, seed: seed), at: name)
        }
        let volume = try openVolume(directory, stand.options())
        #expect(eventually { (try? volume.inode("two")) != nil })
        try volume.published()
        try volume.rename("one", in: .root, to: "two", in: .root, flags: .exchange)
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        try volume.close()
        try expectClean(directory)
    }

    @Test func aFileInThePlaceOfTheMirrorIsLeftAlone() throws {
        let stand = try NodeStand()
        try stand.kubo.copy(try stand.add([5]), to: stand.path, makesParents: true)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("own", [6])
        #expect(throws: PublishWaitError.self) {
            try volume.waitUntilPublished(stallMilliseconds: 500) { _ in true }
        }
        #expect(try volume.remoteStatus()?.lastError?.contains("--mfs-path") == true)
        #expect(try stand.kubo.status(of: stand.path)?.kind == .file)
        try volume.close()
    }
}
