import Base
import Glibc
import KuboDouble
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// Trees that somebody wrote to harm.
@Suite struct ForeignTests {
    private let blocks = ForeignBlocks()
    private let directory = ScratchDirectory()

    /// A volume that begins with a tree of others.
    private func volume(
        _ root: CID, _ stand: NodeStand, _ change: (inout RemoteOptions) -> Void = { _ in }
    ) throws -> Volume {
        try blocks.show(root, at: stand)
        stand.double?.resetStatistics()
        return try openVolume(
            directory,
            stand.options { options in
                options.adoptsTree = true
                options.fetch.fetchMilliseconds = 20_000
                change(&options)
            })
    }

    // MARK: Directories

    @Test func manyLinksToOneLargeSymlinkAreOneFetch() throws {
        let stand = try NodeStand()
        let large = blocks.symlink([UInt8](repeating: 0x61, count: (2 << 20) - 100))
        let good = blocks.raw([1, 2, 3])
        let root = blocks.directory(
            [link("a", good, 3)] + (0..<30_000).map { link("l\(10_000 + $0)", large, 1) })
        let volume = try volume(root, stand)
        #expect(try volume.names() == ["a"])
        // The directory's node, and the symlink's block.
        #expect(stand.blockCalls() == 2)
        #expect(try volume.contents(of: volume.inode("a")) == [1, 2, 3])
        try volume.close()
        try expectClean(directory)
    }

    @Test func manyLinksToOneSymlinkAreOneFetch() throws {
        let stand = try NodeStand()
        let target = blocks.symlink(Array("target".utf8))
        let root = blocks.directory((0..<3_000).map { link("l\(10_000 + $0)", target, 1) })
        let volume = try volume(root, stand)
        #expect(try volume.names().count == 3_000)
        #expect(stand.blockCalls() == 2)
        #expect(try volume.readSymlink(volume.inode("l12999")) == Array("target".utf8))
        try volume.close()
    }

    @Test func aTargetThatNoFileSystemHasIsLeftOut() throws {
        let stand = try NodeStand()
        let longest = [UInt8](repeating: 0x62, count: 4095)
        let root = blocks.directory([
            link("a", blocks.symlink(longest), 1),
            link("b", blocks.symlink([]), 1),
            link("c", blocks.symlink([0x61, 0, 0x61]), 1),
            link("d", blocks.symlink(longest + [0x62]), 1),
            link("e", blocks.symlink([UInt8](repeating: 0x63, count: (2 << 20) - 60)), 1),
        ])
        let volume = try volume(root, stand)
        #expect(try volume.names() == ["a"])
        #expect(try volume.readSymlink(volume.inode("a")) == longest)
        #expect(throws: Errno.noSuchFileOrDirectory) { try volume.inode("e") }
        try volume.close()
    }

    @Test func aRawChildIsNoLongerThanABlock() throws {
        let stand = try NodeStand()
        let leaf = blocks.raw([1, 2, 3])
        let root = blocks.directory([
            link("a", leaf, 3),
            link("b", leaf, .max),
            link("c", leaf, (2 << 20) + 1),
            link("d", leaf, UInt64(Int64.max)),
            // Of a size that is not told, the block tells.
            link("e", leaf, 0),
            // One that lies within what can be is an error for its reader.
            link("f", leaf, 4),
        ])
        let volume = try volume(root, stand)
        #expect(try volume.names() == ["a", "e", "f"])
        for name in ["a", "e"] {
            #expect(try volume.contents(of: volume.inode(FileName(name))) == [1, 2, 3])
        }
        #expect(throws: Errno.ioError) { try volume.contents(of: volume.inode("f")) }
        #expect(throws: Errno.noSuchFileOrDirectory) { try volume.inode("b") }
        _ = try volume.report(of: .root)
        _ = try volume.status()
        try volume.close()
    }

    @Test func whatIsNoFileIsLeftOutAndTheRestIsThere() throws {
        let stand = try NodeStand()
        let good = blocks.raw([1])
        let root = blocks.directory([
            link("a", good, 1),
            link("b", blocks.add(DAGNode()), 1),
            link("c", CID(codec: .dagCBOR, multihash: good.multihash), 1),
            link("d", blocks.file([(good, .max / 4), (good, .max / 4), (good, .max / 4)]), 1),
        ])
        let volume = try volume(root, stand)
        #expect(try volume.names() == ["a"])
        try volume.close()
    }

    enum Bound: CaseIterable { case entries, nodeBytes, childBytes, targetBytes, time }

    @Test(arguments: Bound.allCases, [false, true])
    func lookingIntoADirectoryEndsAtItsBounds(_ bound: Bound, _ isSharded: Bool) throws {
        let stand = try NodeStand()
        var builder = DirectoryBuilder(
            profile: ImportProfile(
                chunkSize: 1 << 20, fileLinksMax: 1024, rawLeaves: true, cidVersion: 1,
                directoryThreshold: isSharded ? 1 : 1 << 20, directoryEstimation: .block))
        for number in 0..<200 {
            let target = blocks.symlink(Array("target \(number)".utf8))
            builder.add(name: Array("name \(number)".utf8), cid: target, treeSize: 1)
        }
        var nodes: [DAGNode] = []
        let root = try builder.finish { (_, bytes) throws(BlockFormatError) in
            nodes.append(try DAGNode(decoding: bytes))
        }
        for node in nodes { blocks.add(node) }
        let volume = try volume(root.cid, stand) { options in
            switch bound {
            case .entries: options.fetch.expansion.entriesMax = 199
            case .nodeBytes: options.fetch.expansion.nodeBytesMax = 4_000
            case .childBytes: options.fetch.expansion.childBytesMax = 1_000
            case .targetBytes: options.fetch.expansion.targetBytesMax = 1_000
            case .time: options.fetch.expansion.milliseconds = 200
            }
        }
        if bound == .time {
            stand.double?.add(Fault(.latency, command: "block/get", value: 50))
        }
        #expect(throws: Errno.ioError) { try volume.names() }
        let error = try #require(try volume.remoteStatus()?.lastError)
        #expect(error.contains("\(root.cid)"), "\(error)")
        try volume.close()
    }

    @Test func largeDirectoriesAreReadInTurn() throws {
        let stand = try NodeStand()
        let leaf = blocks.raw([1])
        let count = ExpansionBounds().entriesMax > 10_000 ? 10_000 : 0
        let large = (0..<3).map { number in
            blocks.directory((0..<count).map { link("\(number) \($0)", leaf, 1) })
        }
        let root = blocks.directory(
            large.enumerated().map { link("d\($0.offset)", $0.element, 1) })
        let volume = try volume(root, stand)
        let counts = Monitor<[Int]>([])
        let threads = try (0..<3).map { number in
            try Threads.start(name: "lister") {
                let found = try? volume.names(in: volume.inode(FileName("d\(number)")))
                counts.withLock { $0.append(found?.count ?? 0) }
            }
        }
        for thread in threads { thread.join() }
        #expect(counts.withLock { $0 } == [count, count, count])
        try volume.close()
    }

    // MARK: Modes

    @Test(arguments: [false, true])
    func modesFromOutsideGrantLittle(_ isTrusted: Bool) throws {
        let stand = try NodeStand()
        let leaf = blocks.raw([1, 2])
        let root = blocks.directory([
            link("file", blocks.file([(leaf, 2)], mode: 0o7777), 1),
            link("directory", blocks.directory([], mode: 0o7777), 1),
            link("secret", blocks.file([(leaf, 2)], mode: 0o400), 1),
        ])
        let volume = try volume(root, stand) { $0.fetch.trustsModes = isTrusted }
        func mode(_ name: FileName) throws -> UInt32 {
            try volume.attributes(of: volume.inode(name)).mode
        }
        #expect(try mode("file") == (isTrusted ? 0o777 : 0o755))
        #expect(try mode("directory") == (isTrusted ? 0o1777 : 0o755))
        #expect(try mode("secret") == 0o400)
        try volume.close()
    }

    // MARK: Files

    @Test func aFileThatClaimsMoreThanAnyDiskIsAnErrorAndNoMore() throws {
        let stand = try NodeStand()
        let leaf = blocks.raw([1, 2, 3])
        let claims = [UInt64(Int64.max), 1 << 62].map { blocks.file([(leaf, $0)]) }
        // The same leaf again and again: all of it could be had.
        var repeated = (
            cid: blocks.raw([UInt8](repeating: 7, count: 1 << 20)), size: UInt64(1 << 20)
        )
        for _ in 0..<4 {
            let parts = [(cid: CID, size: UInt64)](repeating: repeated, count: 1_000)
            repeated = (blocks.file(parts), repeated.size * 1_000)
        }
        let root = blocks.directory([
            link("a", claims[0], .max), link("b", claims[1], .max), link("c", repeated.cid, .max),
        ])
        let volume = try volume(root, stand)
        for name in ["a", "b"] as [FileName] {
            let inode = try volume.inode(name)
            #expect(throws: Errno.ioError) { try volume.contents(of: inode) }
            let report = try volume.report(of: inode)
            #expect(report.leafCount > 1 << 40)
        }
        let inode = try volume.inode("c")
        let opened = try volume.open(inode, flags: .both, caller: someone)
        let some = try volume.read(opened.handle, at: (5 << 20) - 5, count: 10)
        #expect(some == [UInt8](repeating: 7, count: 10))
        // To write it, all of it would have to come.
        #expect(throws: Errno.noSpace) { try volume.write(opened.handle, at: 0, [1]) }
        volume.release(opened.handle)
        _ = try volume.status()
        _ = try volume.remoteStatus()
        try volume.close()
    }

    @Test func theDiskKeepsItsReserveFromWhatIsFetched() throws {
        let stand = try NodeStand()
        let root = blocks.directory([link("a", blocks.raw([1, 2, 3]), 3)])
        let volume = try volume(root, stand) { $0.fetch.diskReserve = .max }
        #expect(throws: Errno.ioError) { try volume.contents(of: volume.inode("a")) }
        let error = try #require(try volume.remoteStatus()?.lastError)
        #expect(error.contains("make room"), "\(error)")
        try volume.close()
    }

    @Test func partsOfFilesStayWithinTheirBound() throws {
        let stand = try NodeStand()
        let bytes = content(seed: 11, count: 6_000)
        let root = blocks.directory([
            link("a", blocks.bytewise(bytes, width: 300), 1),
            link("b", blocks.bytewise(bytes.reversed(), width: 250), 1),
        ])
        let volume = try volume(root, stand) { $0.fetch.remoteExtentsMax = 2_000 }
        for _ in 0..<2 {
            #expect(try volume.contents(of: volume.inode("a")) == bytes)
            #expect(volume.remoteExtentCount <= 2_000)
            #expect(try volume.contents(of: volume.inode("b")) == bytes.reversed())
            #expect(volume.remoteExtentCount <= 2_000)
        }
        // Both are closed.
        #expect(eventually { volume.remoteExtentCount <= 500 })
        #expect(try eventually { try volume.remoteStatus()?.cachedBytes ?? .max <= 500 })
        try volume.close()
        try expectClean(directory)
    }

    @Test func filesThatAreLetGoAreReadRightAllTheWhile() throws {
        let stand = try NodeStand()
        let seed = testSeed()
        print("seed \(seed)")
        let contents = (0..<3).map { content(seed: seed &+ $0, count: 1_500) }
        let root = blocks.directory(
            contents.enumerated().map {
                link("\($0.offset)", blocks.bytewise($0.element, width: 100), 1)
            })
        let volume = try volume(root, stand) { $0.fetch.remoteExtentsMax = 1_000 }
        let wrong = Monitor<[String]>([])
        let threads = try (0..<4).map { number in
            try Threads.start(name: "reader") {
                var random = SeededGenerator(seed: seed &+ UInt64(number))
                for _ in 0..<12 {
                    let which = random.below(contents.count)
                    let start = random.below(1_400)
                    let count = min(1 + random.below(100), 1_500 - start)
                    do {
                        let inode = try volume.inode(FileName("\(which)"))
                        let opened = try volume.open(inode, flags: .read, caller: someone)
                        defer { volume.release(opened.handle) }
                        let found = try volume.read(
                            opened.handle, at: UInt64(start), count: count)
                        if found != Array(contents[which][start..<start + count]) {
                            wrong.withLock { $0.append("\(which) \(start) \(count)") }
                        }
                    } catch {
                        wrong.withLock { $0.append("\(which) \(start) \(count): \(error)") }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.withLock { $0 } == [])
        #expect(volume.remoteExtentCount <= 1_000)
        try volume.close()
    }

    // MARK: Merging

    @Test func whatCannotBeTakenOverHoldsNothingUp() throws {
        let stand = try NodeStand()
        var volume = try openVolume(directory, stand.options())
        try volume.makeFile("own", [1])
        try volume.published()
        try volume.close()
        let own = blocks.raw([1])
        let empty = blocks.directory([])
        let theirs = blocks.directory([
            link("bad link", blocks.symlink([0x61, 0]), 1),
            link("bad size", own, .max),
            link("good", blocks.raw([2]), 1),
            link("no directory", blocks.directory([link("x", empty, 1), link("x", own, 1)]), 1),
            link("own", own, 1),
        ])
        try blocks.show(theirs, at: stand)
        volume = try openVolume(directory, stand.options())
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        #expect(try volume.names() == ["good", "no directory", "own"])
        #expect(throws: Errno.ioError) { try volume.names(in: volume.inode("no directory")) }
        try volume.close()
    }

    /// Directories of two links each below each other; with more, the double's `pin/update` would never
    /// end, as it goes through all ways down.
    private static let depth = 12

    @Test func aDirectoryThatNobodyLookedIntoIsNotComparedNameByName() throws {
        let stand = try NodeStand()
        let (first, second) = (blocks.raw([1]), blocks.raw([2]))
        let bottoms = [first, second].map { blocks.directory([link("file", $0, 1)]) }
        let roots = bottoms.map {
            blocks.directory([link("deep", blocks.doubled(Self.depth, above: $0), 100)])
        }
        try blocks.show(roots[0], at: stand)
        var volume = try openVolume(directory, stand.options())
        try volume.published()
        let inode = try volume.inode("deep")
        try volume.close()
        try blocks.show(roots[1], at: stand)
        volume = try openVolume(directory, stand.options())
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        #expect(try volume.inode("deep") == inode)
        // The root and this one, and none of those below.
        #expect(try volume.status().directories == 2)
        let path = ["deep"] + [FileName](repeating: "b", count: Self.depth) + ["file"]
        #expect(try volume.contents(of: volume.resolve(path: path)) == [2])
        try volume.close()
        try expectClean(directory)
    }
}

private let someone = Caller(uid: 0, gid: 0, pid: 1, umask: 0)
