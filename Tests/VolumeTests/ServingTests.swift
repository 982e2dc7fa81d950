import Base
import Glibc
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// What others are given of a volume: names, blocks and files. Who writes meanwhile is in `ServingLendTests`.
@Suite struct ServingTests {
    private let scratch = ScratchDirectory()
    private static let small = content(seed: 1, count: 500)
    private static let flat = content(seed: 2, count: 100_000)
    private static let large = content(seed: 3, count: 2_500_000)

    // MARK: Names

    @Test func namesAreInBytewiseOrderWithoutWhatIsNotForOthers() throws {
        let volume = try openVolume(scratch, stillOptions)
        for name in ["b", "a", "Z", "ä", "a.b"] { try volume.makeFile(FileName(name), [1]) }
        _ = try volume.makeDirectory("dir")
        _ = try volume.makeDirectory("_uploads")
        _ = try volume.makeSymlink("link", in: .root, target: [0x61], caller: root)
        _ = try volume.makeNode(
            "fifo", in: .root, kind: .fifo, mode: 0o644, rdev: 0, caller: root)
        #expect(try volume.liveNames() == ["Z", "a", "a.b", "b", "dir", "link", "ä"])
        #expect(try volume.liveNames(at: [], countMax: 7)?.map(\.isDirectory).count == 7)
        #expect(throws: ServingFailure.self) { try volume.liveNames(at: [], countMax: 6) }
        #expect(try volume.liveNames("a") == nil)
        #expect(try volume.liveNames("nothing") == nil)
        #expect(try volume.liveNames("_uploads") == nil)
        #expect(try volume.live("fifo") == nil)
        #expect(try volume.live("dir") == .directory)
        #expect(try volume.live("link") == .symlink(target: [0x61]))
        try volume.close()
    }

    /// More names than one look at the manifest gives.
    @Test func largeDirectoryIsListedWhole() throws {
        let volume = try openVolume(scratch, stillOptions)
        let names = (0..<9_000).map { "name-\($0)" }
        for name in names { try volume.makeFile(FileName(name), []) }
        let listed = try volume.liveNames(at: [], countMax: 9_000)
        #expect(listed?.map { String(decoding: $0.name, as: UTF8.self) } == names.sorted())
        #expect(throws: ServingFailure.self) { try volume.liveNames(at: [], countMax: 8_999) }
        try volume.close()
    }

    @Test(arguments: [
        "..", ".", "", "a/b", "_uploads", ".registryfs", String(repeating: "n", count: 300),
        "nul\0",
    ])
    func nameThatNothingCanHaveOrNobodyMaySeeLeadsNowhere(_ name: String) throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", [1])
        #expect(try volume.live(name) == nil)
        #expect(try volume.live(name, "file") == nil)
        #expect(try volume.liveNames(name) == nil)
        try volume.close()
    }

    @Test func looksOfOthersMoveNoAccessTime() throws {
        let volume = try openVolume(scratch, stillOptions)
        let directory = try volume.makeDirectory("dir")
        let file = try volume.makeFile("file", in: directory, Self.flat)
        let before = try [directory, file].map { try volume.attributes(of: $0).accessed }
        Threads.sleep(milliseconds: 2)
        _ = try volume.liveNames("dir")
        guard case .file(let cid, _)? = try volume.live("dir", "file") else {
            Issue.record("no file")
            return
        }
        _ = try volume.lendBlock(cid, of: .tree, asksRemote: false).read()
        _ = try volume.lendFile(cid, of: .tree)?.read()
        #expect(try [directory, file].map { try volume.attributes(of: $0).accessed } == before)
        try volume.close()
    }

    // MARK: Files

    @Test(arguments: [0, 500, 100_000, 2_500_000])
    func fileIsSealedWhenItIsAskedFor(_ count: Int) throws {
        let volume = try openVolume(scratch, stillOptions)
        let bytes = content(seed: 4, count: count)
        try volume.makeFile("file", bytes)
        let cid = volume.profile.root(of: bytes).cid
        #expect(try volume.live("file") == .file(cid, size: UInt64(count)))
        #expect(try LentBlocks(volume: volume).file(cid) == bytes)
        #expect(try volume.lendFile(cid, of: .tree)?.read() == bytes)
        try volume.close()
    }

    @Test func onlyWhatLiesInAFlatFileIsLentAsOne() throws {
        let volume = try openVolume(scratch, stillOptions)
        let files = try [Self.small, Self.flat, Self.large].enumerated().map { index, bytes in
            try volume.cid(of: volume.makeFile(FileName("file\(index)"), bytes))
        }
        #expect(
            try files.map { try volume.lendFile($0, of: .tree)?.isFile } == [false, true, true])
        // The last one's root is a DAG node.
        #expect(
            try files.map { try volume.lendBlock($0, of: .tree, asksRemote: false).isFile }
                == [false, true, false])
        let leaf = CID.raw(sha256: Array(Self.large[(1 << 20)..<(2 << 20)]))
        guard
            case .file(let file, let offset, let length) = try volume.lendBlock(
                leaf, of: .tree, asksRemote: false)
        else {
            Issue.record("the leaf is copied")
            return
        }
        #expect(offset == 1 << 20 && length == 1 << 20)
        #expect(fcntl(file.raw, F_GETFL) & O_ACCMODE == O_RDONLY)
        try volume.close()
    }

    @Test func fileWithAWriterIsNotGivenUntilItIsClosed() throws {
        let volume = try openVolume(scratch, stillOptions)
        let (_, opened) = try volume.create(
            "file", in: .root, mode: 0o644, flags: .both, caller: root)
        try volume.write(opened.handle, at: 0, Self.flat)
        #expect(throws: ServingFailure.self) { try volume.live("file") }
        volume.release(opened.handle)
        let cid = volume.profile.root(of: Self.flat).cid
        #expect(try volume.live("file") == .file(cid, size: 100_000))
        try volume.close()
    }

    /// Leaves that are wrapped lie in no file as they are.
    @Test func wrappedLeavesAreCopied() throws {
        var options = stillOptions
        options.profile = .unixfsV0_2015
        let volume = try openVolume(scratch, options)
        let bytes = content(seed: 5, count: 600_000)
        let cid = try volume.cid(of: volume.makeFile("file", bytes))
        #expect(try LentBlocks(volume: volume).file(cid) == bytes)
        #expect(try LentBlocks(volume: volume).file(cid.asV1) == bytes)
        #expect(try volume.lendFile(cid, of: .tree)?.isFile == true)
        #expect(try volume.lendFile(cid, of: .tree)?.read() == bytes)
        try volume.close()
    }

    // MARK: Without checkpoints

    /// Inline, one leaf, several leaves.
    @Test(arguments: [500, 100_000, 2_500_000])
    func fileThatWasWrittenJustNowIsServedWithoutACheckpoint(_ count: Int) throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.beginServing()
        let checkpoints = volume.servingCheckpointCount
        let bytes = content(seed: 6, count: count)
        let directory = try volume.makeDirectory("dir")
        try volume.makeFile("file", in: directory, bytes)
        guard case .file(let cid, _)? = try volume.live("dir", "file") else {
            Issue.record("no file")
            return
        }
        #expect(try LentBlocks(volume: volume).file(cid) == bytes)
        #expect(try volume.lendFile(cid, of: .tree)?.read() == bytes)
        #expect(try volume.hasBlock(cid, of: .tree))
        _ = try volume.makeSymlink("link", in: .root, target: [0x61], caller: root)
        let tree = try volume.cid(of: .root)
        let entries = try DirectoryReader(root: tree, source: LentBlocks(volume: volume)).entries()
        for entry in entries { #expect(try volume.gives(entry.cid)) }
        #expect(entries.count == 2)
        #expect(volume.servingCheckpointCount == checkpoints)
        // So it is once SQLite has it.
        try volume.synchronizeAll()
        _ = try volume.report(of: .root)
        #expect(try LentBlocks(volume: volume).file(cid) == bytes)
        #expect(volume.servingCheckpointCount == checkpoints)
        try volume.close()
    }

    /// Of an object whose leaves SQLite has from before, while it has other bytes by now.
    @Test func leafOfBytesThatWereOverwrittenIsNotGiven() throws {
        let volume = try openVolume(scratch, stillOptions)
        let file = try volume.makeFile("file", Self.large)
        _ = try volume.cid(of: file)
        _ = try volume.report(of: file)
        try volume.beginServing()
        let old = CID.raw(sha256: Array(Self.large[(1 << 20)..<(2 << 20)]))
        let first = CID.raw(sha256: Array(Self.large[..<(1 << 20)]))
        #expect(try volume.gives(old))
        let opened = try volume.open(file, flags: .both, caller: root)
        try volume.write(opened.handle, at: 1 << 20, [1, 2, 3])
        #expect(try !volume.gives(old))
        volume.release(opened.handle)
        _ = try volume.cid(of: file)
        #expect(try !volume.gives(old))
        #expect(try volume.gives(first))
        try volume.close()
    }

    @Test func whatNobodyHasCostsOneCheckpointASecondAtMost() throws {
        let volume = try openVolume(scratch, stillOptions)
        let begin = MonotonicClock.milliseconds
        for index in 0..<50 {
            #expect(try !volume.gives(CID.raw(sha256: [UInt8(index)])))
        }
        let seconds = (MonotonicClock.milliseconds - begin) / 1_000
        #expect(volume.servingCheckpointCount <= 1 + Int(seconds))
        #expect(volume.servingCheckpointCount >= 1)
        try volume.close()
    }

    // MARK: Scope

    @Test func uploadsAreGivenNeitherByNameNorByCID() throws {
        let volume = try openVolume(scratch, stillOptions)
        let repository = try volume.makeDirectory("repository")
        let uploads = try volume.makeDirectory("_uploads", in: repository)
        let upload = try volume.makeDirectory("1234", in: uploads)
        let cids = try [Self.small, Self.flat, Self.large].enumerated().map { index, bytes in
            try volume.cid(of: volume.makeFile(FileName("data\(index)"), in: upload, bytes))
        }
        // A file of that name as well.
        let bytes = content(seed: 7, count: 200)
        let cid = try volume.cid(of: volume.makeFile("_uploads", bytes))
        let tree = try volume.cid(of: .root)
        let leaf = CID.raw(sha256: Array(Self.large[..<(1 << 20)]))
        let seen = try volume.cid(of: uploads)
        let directory = try volume.cid(of: upload)
        #expect(try volume.live("repository", "_uploads") == nil)
        #expect(try volume.live("repository", "_uploads", "1234", "data0") == nil)
        #expect(try volume.live("_uploads") == nil)
        #expect(try volume.liveNames("repository") == [])
        #expect(try volume.liveNames("repository", "_uploads", "1234") == nil)
        for isCheckpointed in [false, true] {
            if isCheckpointed { _ = try volume.report(of: .root) }
            for hidden in cids + [directory, cid, leaf] {
                #expect(try !volume.gives(hidden), "\(hidden)")
                #expect(try !volume.hasBlock(hidden, of: .tree))
                #expect(try volume.lendFile(hidden, of: .tree) == nil)
                #expect(try volume.gives(hidden, of: .any))
            }
            // Whoever looks into the repository has to see what the name is.
            #expect(try volume.gives(tree) && volume.gives(seen))
        }
        // The same bytes elsewhere are for others.
        try volume.makeFile("copy", Self.flat)
        #expect(try volume.live("copy") == .file(cids[1], size: 100_000))
        #expect(try volume.gives(cids[1]))
        try volume.close()
    }

    @Test(arguments: [true, false])
    func uploadThatGetsItsNameIsServedAtOnce(_ isCheckpointed: Bool) throws {
        let volume = try openVolume(scratch, stillOptions)
        let uploads = try volume.makeDirectory("_uploads")
        let blobs = try volume.makeDirectory("blobs")
        let file = try volume.makeFile("data", in: uploads, Self.large)
        let cid = try volume.cid(of: file)
        if isCheckpointed { _ = try volume.report(of: file) }
        try volume.beginServing()
        #expect(try !volume.gives(cid))
        let checkpoints = volume.servingCheckpointCount
        try volume.rename("data", in: uploads, to: "blob", in: blobs, flags: [])
        #expect(try LentBlocks(volume: volume).file(cid) == Self.large)
        #expect(try volume.lendFile(cid, of: .tree)?.read() == Self.large)
        #expect(volume.servingCheckpointCount == checkpoints)
        // And back.
        try volume.rename("blob", in: blobs, to: "data", in: uploads, flags: [])
        #expect(try !volume.gives(cid))
        // A directory above decides as well.
        try volume.rename("_uploads", in: .root, to: "done", in: .root, flags: [])
        #expect(try volume.gives(cid))
        try volume.close()
    }

    @Test func oneNameOfSeveralIsEnough() throws {
        let volume = try openVolume(scratch, stillOptions)
        let uploads = try volume.makeDirectory("_uploads")
        let directory = try volume.makeDirectory("dir")
        let file = try volume.makeFile("data", in: uploads, Self.flat)
        let cid = try volume.cid(of: file)
        #expect(try !volume.gives(cid))
        _ = try volume.link(file, as: "_uploads", in: directory)
        #expect(try !volume.gives(cid))
        _ = try volume.link(file, as: "blob", in: directory)
        #expect(try volume.gives(cid))
        try volume.unlink("blob", in: directory)
        #expect(try !volume.gives(cid))
        try volume.close()
    }

    @Test func fileWithoutANameIsNotGiven() throws {
        let volume = try openVolume(scratch, stillOptions)
        let file = try volume.makeFile("file", Self.flat)
        let cid = try volume.cid(of: file)
        let opened = try volume.open(file, flags: .read, caller: root)
        #expect(try volume.gives(cid))
        try volume.unlink("file", in: .root)
        #expect(try !volume.gives(cid))
        #expect(try volume.gives(cid, of: .any))
        volume.release(opened.handle)
        volume.forget(file, count: 1)
        #expect(try !volume.gives(cid, of: .any))
        try volume.close()
    }

    /// The kernel has not forgotten the file yet, or it has.
    @Test(arguments: [500, 100_000, 2_500_000], [true, false])
    func whatASnapshotAloneHasIsServedAsLongAsThatIsThere(
        _ count: Int, isForgotten: Bool
    ) throws {
        let volume = try openVolume(scratch, stillOptions)
        let bytes = content(seed: 8, count: count)
        let directory = try volume.makeDirectory("dir")
        let file = try volume.makeFile("file", in: directory, bytes)
        let cid = try volume.cid(of: file)
        let inner = try volume.cid(of: directory)
        let snapshot = try volume.createSnapshot(named: "one")
        try volume.unlink("file", in: directory)
        try volume.removeDirectory("dir", in: .root)
        if isForgotten { for inode in [file, directory] { volume.forget(inode, count: 1) } }
        for isCheckpointed in [false, true] {
            if isCheckpointed { _ = try volume.report(of: .root) }
            #expect(try LentBlocks(volume: volume).file(cid) == bytes)
            #expect(try volume.lendFile(cid, of: .tree)?.read() == bytes)
            #expect(try volume.gives(snapshot.root))
        }
        #expect(try volume.gives(inner))
        try volume.deleteSnapshot(named: "one")
        #expect(try !volume.gives(cid))
        #expect(try !volume.gives(inner))
        #expect(try volume.lendFile(cid, of: .tree) == nil)
        try volume.close()
    }

    /// What was written before anybody asked is in SQLite for all who ask first, not for one of them alone.
    @Test func whoeverIsAmongTheFirstWhoAskFindsWhatIsHere() throws {
        for _ in 0..<10 {
            let scratch = ScratchDirectory()
            let volume = try openVolume(scratch, stillOptions)
            let file = try volume.makeFile("file", Self.large)
            _ = try volume.cid(of: file)
            let leaf = CID.raw(sha256: Array(Self.large[..<volume.profile.chunkSize]))
            let found = Monitor<[Bool]>([])
            let others = try (0..<6).map { _ in
                try Threads.start(name: "other") {
                    let isFound = (try? volume.hasBlock(leaf, of: .tree)) ?? false
                    found.withLock { $0.append(isFound) }
                }
            }
            for other in others { other.join() }
            #expect(found.withLock { $0 } == [Bool](repeating: true, count: others.count))
            #expect(volume.servingCheckpointCount == 0)
            try volume.close()
        }
    }

    /// Of a snapshot nothing tells in which directory a block lies, but for who comes down to it.
    @Test func uploadsOfASnapshotAreNotFoundFromItsRoot() throws {
        let volume = try openVolume(scratch, stillOptions)
        let repository = try volume.makeDirectory("repository")
        let uploads = try volume.makeDirectory("_uploads", in: repository)
        try volume.makeFile("data", in: uploads, Self.flat)
        let other = try volume.makeDirectory("empty")
        let snapshot = try volume.createSnapshot(named: "one")
        let hidden = try volume.cid(of: uploads)
        let empty = try volume.cid(of: other)
        try volume.unlink("data", in: uploads)
        for (name, parent) in [("_uploads", repository), ("repository", .root), ("empty", .root)] {
            try volume.removeDirectory(FileName(name), in: parent)
        }
        _ = try volume.report(of: .root)
        let blocks = LentBlocks(volume: volume)
        let top = try DirectoryReader(root: snapshot.root, source: blocks)
        let inner = try #require(try top.entry(Array("repository".utf8)))
        let entries = try DirectoryReader(root: inner.cid, source: blocks).entries()
        #expect(entries.map(\.cid) == [hidden])
        let upload = try DirectoryReader(root: hidden, source: blocks).entries().map(\.cid)
        #expect(upload.count == 1)
        for cid in upload {
            #expect(try !volume.gives(cid))
            #expect(try volume.gives(cid, of: .any))
        }
        #expect(try volume.gives(empty))
        try volume.close()
    }

    // MARK: The root

    /// So the end of a volume does not wait for all that is not hashed yet.
    @Test func rootThatNobodyWantsAnyMoreIsNotComputedToTheEnd() throws {
        let volume = try openVolume(scratch, stillOptions)
        let files = try (0..<20).map { number in
            try volume.makeFile(FileName("file\(number)"), content(seed: number, count: 100_000))
        }
        func isSealed(_ file: Inode) throws -> Bool { try volume.report(of: file).isSealed }
        var entryCount = 0
        #expect(throws: Errno.interrupted) {
            try volume.rootCID {
                entryCount += 1
                return entryCount < 8
            }
        }
        #expect(try files.contains(where: isSealed))
        #expect(try !files.allSatisfy(isSealed))
        #expect(try volume.rootCID { true } == volume.newestRoot())
        #expect(try files.allSatisfy(isSealed))
        try volume.close()
    }

    @Test func rootIsTheTreesWhereThatIsKnownAndElseTheOneOfBefore() throws {
        let volume = try openVolume(scratch, stillOptions)
        try volume.makeFile("file", Self.small)
        let first = try volume.newestRoot()
        #expect(try first == volume.cid(of: .root))
        // What takes long to hash is being written: nobody waits for it.
        let (_, opened) = try volume.create(
            "large", in: .root, mode: 0o644, flags: .both, caller: root)
        for part in 0..<3 { try volume.write(opened.handle, at: UInt64(part) << 21, Self.large) }
        #expect(try volume.newestRoot() == first)
        volume.release(opened.handle)
        let second = try volume.cid(of: .root)
        #expect(second != first)
        #expect(try volume.newestRoot() == second)
        try volume.makeFile("other", Self.small)
        let isNewer = try eventually(everyMilliseconds: 1) {
            let root = try volume.newestRoot()
            return root != first && root != second
        }
        #expect(isNewer)
        #expect(try volume.newestRoot() == volume.cid(of: .root))
        try volume.close()
    }
}
