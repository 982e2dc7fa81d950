import Base
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

import struct SystemPackage.Errno

/// What others are given of content that is elsewhere.
@Suite struct ServingRemoteTests {
    private let scratch = ScratchDirectory()

    private struct Tree {
        let bytes = content(seed: 1, count: 2_500_000)
        let file: CID
        let leaf: CID
        let inner, uploads, root: CID
        /// A block of nothing in the tree.
        let stranger: CID
        let source: BlockTable

        init() throws {
            let blocks = ForeignBlocks()
            let profile = ImportProfile.unixfsV1_2025
            let bytes = self.bytes
            let leaves = stride(from: 0, to: bytes.count, by: profile.chunkSize).map { start in
                let part = Array(bytes[start..<min(start + profile.chunkSize, bytes.count)])
                return (cid: blocks.raw(part), size: UInt64(part.count))
            }
            leaf = leaves[1].cid
            file = blocks.file(leaves)
            let size = profile.root(of: bytes).treeSize
            uploads = blocks.directory([link("data", blocks.raw([1, 2, 3]), 3)])
            inner = blocks.directory([link("_uploads", uploads, 100), link("file", file, size)])
            root = blocks.directory([link("inner", inner, size + 200)])
            stranger = blocks.raw([9, 9, 9])
            source = blocks.take()
        }

        func open(_ scratch: ScratchDirectory) throws -> Volume {
            var options = stillOptions
            options.sources = FetchOptions(source)
            options.origin = OriginOptions(reference: "/ipfs/\(root)") {
                [root] _ throws(OriginError) in OriginRoot(cid: root)
            }
            return try openVolume(scratch, options)
        }
    }

    @Test func whatIsElsewhereIsGivenOnlyToWhomThatIsRight() throws {
        let tree = try Tree()
        let volume = try tree.open(scratch)
        #expect(throws: ServingFailure.self) {
            try volume.lendBlock(tree.root, of: .tree, asksRemote: false)
        }
        let root = try volume.lendBlock(tree.root, of: .tree, asksRemote: true)
        #expect(throws: Never.self) {
            try root.read().withUnsafeBytes { try tree.root.verify($0) }
        }
        #expect(try !volume.hasBlock(tree.leaf, of: .tree))
        try volume.close()
    }

    /// Nothing here knows what lies below what is elsewhere, but for what somebody has gone down to.
    @Test func blocksOfNoTreeAreNotFetchedForOthers() throws {
        let tree = try Tree()
        let volume = try tree.open(scratch)
        func isGiven(_ cid: CID) -> Bool {
            (try? volume.lendBlock(cid, of: .tree, asksRemote: true)) != nil
        }
        #expect(!isGiven(tree.stranger))
        #expect(!isGiven(tree.leaf))
        #expect(isGiven(tree.root) && isGiven(tree.inner))
        // Of uploads the names, and no more.
        #expect(isGiven(tree.uploads))
        #expect(!isGiven(CID.raw(sha256: [1, 2, 3])))
        #expect(isGiven(tree.file) && isGiven(tree.leaf))
        #expect(!isGiven(tree.stranger))
        #expect(
            try volume.lendBlock(tree.stranger, of: .any, asksRemote: true).read() == [9, 9, 9])
        try volume.close()
    }

    @Test func namesThatAreElsewhereAreFoundOut() throws {
        let tree = try Tree()
        let volume = try tree.open(scratch)
        #expect(try volume.newestRoot() == tree.root)
        #expect(try volume.liveNames("inner") == ["file"])
        #expect(try volume.live("inner", "file") == .file(tree.file, size: 2_500_000))
        let blocks = LentBlocks(volume: volume, asksRemote: true)
        #expect(try blocks.file(tree.file) == tree.bytes)
        #expect(try volume.lendFile(tree.file, of: .tree) == nil)
        // Once it was read it is here as a whole.
        let inode = try volume.resolve(path: ["inner", "file"])
        #expect(try volume.contents(of: inode) == tree.bytes)
        let isHere = try eventually(everyMilliseconds: 1) {
            try volume.lendFile(tree.file, of: .tree) != nil
        }
        #expect(isHere)
        // For a moment it is nowhere as one: when the file of the cache becomes the object's.
        let isWhole = try eventually(everyMilliseconds: 1) {
            try volume.lendFile(tree.file, of: .tree)?.read() == tree.bytes
        }
        #expect(isWhole)
        // It was lent from the cache first, perhaps.
        let isFlat = try eventually(everyMilliseconds: 1) {
            try volume.hasBlock(tree.leaf, of: .tree)
        }
        #expect(isFlat)
        try volume.close()
    }

    /// A file whose DAG is not the profile's stays in the cache, and is lent from there.
    @Test func cachedFileOfAnotherLayoutIsLentAsOne() throws {
        let blocks = ForeignBlocks()
        let bytes = content(seed: 2, count: 3_000)
        let file = blocks.bytewise(bytes, width: 100)
        let root = blocks.directory([link("file", file, 9)])
        var options = stillOptions
        options.sources = FetchOptions(blocks.take())
        options.origin = OriginOptions(reference: "/ipfs/\(root)") { _ throws(OriginError) in
            OriginRoot(cid: root)
        }
        let volume = try openVolume(scratch, options)
        let inode = try volume.resolve(path: ["file"])
        let opened = try volume.open(inode, flags: .read, caller: .system)
        #expect(try volume.lendFile(file, of: .tree) == nil)
        #expect(try volume.read(opened.handle, at: 0, count: 3_000) == bytes)
        var lent = try volume.lendFile(file, of: .tree)
        #expect(lent?.isFile == true)
        // As any other: who writes to what it becomes gets a copy.
        #expect(volume.lentObjectCount == 1)
        volume.release(opened.handle)
        #expect(try lent?.read() == bytes)
        lent = nil
        #expect(volume.lentObjectCount == 0)
        try volume.close()
    }

    /// A file that is whole is lent from the cache until it is a flat file, which it becomes meanwhile.
    @Test func whatWasLentFromTheCacheStaysAsItWasOnceSomebodyWrites() throws {
        let blocks = ForeignBlocks()
        let profile = ImportProfile.unixfsV1_2025
        let contents = (0..<8).map { content(seed: 10 + UInt64($0), count: 3_000_000) }
        let files = contents.map { bytes in
            blocks.file(
                stride(from: 0, to: bytes.count, by: profile.chunkSize).map { start in
                    let part = Array(bytes[start..<min(start + profile.chunkSize, bytes.count)])
                    return (cid: blocks.raw(part), size: UInt64(part.count))
                })
        }
        let names = files.indices.map { "file\($0)" }
        let root = blocks.directory(
            files.indices.map { index in
                link(names[index], files[index], profile.root(of: contents[index]).treeSize)
            })
        var options = stillOptions
        options.sources = FetchOptions(blocks.take())
        options.origin = OriginOptions(reference: "/ipfs/\(root)") { _ throws(OriginError) in
            OriginRoot(cid: root)
        }
        let volume = try openVolume(scratch, options)
        for (index, bytes) in contents.enumerated() {
            let inode = try volume.resolve(path: [FileName(names[index])])
            let reader = try Threads.start(name: "reader") { _ = try? volume.contents(of: inode) }
            var lent: LentBytes?
            let isLent = try eventually(everyMilliseconds: 0) {
                lent = try volume.lendFile(files[index], of: .tree)
                return lent != nil
            }
            reader.join()
            #expect(isLent)
            let isFlat = try eventually(everyMilliseconds: 1) {
                if case .object = try volume.report(of: inode).placement { true } else { false }
            }
            #expect(isFlat)
            let opened = try volume.open(inode, flags: .both, caller: .system)
            try volume.write(opened.handle, at: 0, [1, 2, 3])
            volume.release(opened.handle)
            #expect(try lent?.read() == bytes)
            lent = nil
        }
        try volume.close()
    }
}
