import Base
import Foundation
import KuboDouble
import MerkleDAG
import Multiformats
import Testing
import Volume

import struct SystemPackage.Errno

/// Content and directories that come from the node.
@Suite struct RemoteTests {
    /// A volume that begins with what stands at the node.
    private func adopted(
        _ stand: NodeStand, _ directory: ScratchDirectory,
        _ change: (inout RemoteOptions) -> Void = { _ in }
    ) throws -> Volume {
        try openVolume(
            directory,
            stand.options { options in
                options.adoptsTree = true
                change(&options)
            })
    }

    @Test(arguments: TestNode.kinds)
    func aTreeThatIsAdoptedReadsAsItWasAndKeepsItsCID(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let (first, second) = (ScratchDirectory(), ScratchDirectory())
        var volume = try openVolume(first, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        let bytes = content(seed: 1, count: 3_500_000)
        try volume.makeFile("large", in: inner, bytes)
        try volume.makeFile("small", in: inner, [1, 2, 3])
        try volume.makeFile("empty", in: inner, [])
        _ = try volume.makeSymlink("link", in: inner, target: Array("large".utf8), caller: root)
        for number in 0..<20 { try volume.makeFile(FileName("f\(number)"), in: .root, [7]) }
        let cid = try #require(try volume.published())
        try volume.close()

        volume = try adopted(stand, second)
        #expect(try volume.cid(of: .root) == cid)
        // Nobody knows yet how many subdirectories it has.
        #expect(try volume.attributes(of: .root).linkCount == 1)
        _ = try volume.inode("inner")
        #expect(try volume.attributes(of: .root).linkCount == 3)
        #expect(try volume.attributes(of: volume.inode("inner")).linkCount == 1)
        #expect(try volume.contents(of: volume.inode("inner", "large")) == bytes)
        #expect(try volume.contents(of: volume.inode("inner", "small")) == [1, 2, 3])
        #expect(try volume.contents(of: volume.inode("inner", "empty")) == [])
        #expect(
            try volume.readSymlink(volume.inode("inner", "link")) == Array("large".utf8))
        #expect(try volume.cid(of: .root) == cid)
        // And once more from what is here by now.
        try volume.close()
        volume = try adopted(stand, second)
        #expect(try volume.contents(of: volume.inode("inner", "large")) == bytes)
        try volume.close()
        try expectClean(second)
    }

    /// Of these the double makes only those of a fixed size.
    private static let layouts = [
        "&chunker=size-262144", "&cid-version=0&raw-leaves=false&chunker=size-100000",
        "&trickle=true", "&chunker=rabin-10000-30000-90000",
        "&cid-version=1&raw-leaves=false&trickle=true", "&chunker=buzhash",
    ]

    @Test(
        arguments: TestNode.kinds.flatMap { kind in
            (kind == .double ? layouts.prefix(2) : layouts[...]).map { (kind, $0) }
        })
    func filesOfAnyLayoutAreReadAndKeepTheirCID(_ kind: TestNode.Kind, _ layout: String) throws {
        let stand = try NodeStand(kind)
        let bytes = content(seed: 2, count: 1_700_001)
        let cid = try stand.add(bytes, layout)
        try stand.put(cid, at: "file")
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory)
        let inode = try volume.inode("file")
        #expect(try volume.contents(of: inode) == bytes)
        #expect(try volume.cid(of: inode) == cid)
        // Again, from the cache.
        stand.double?.add(Fault(.status, command: "block/get", value: 500))
        #expect(try volume.contents(of: inode) == bytes)
        try volume.close()
    }

    @Test func readingSomewhereFetchesOnlyTheLeavesThere() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let bytes = content(seed: 3, count: 40 << 20)
        try stand.put(try stand.add(bytes), at: "file")
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory)
        let inode = try volume.inode("file")
        let opened = try volume.open(inode, flags: .read, caller: root)
        double.resetStatistics()
        for place in [30 << 20, 11 << 20, 22 << 20] {
            let found = try volume.read(opened.handle, at: UInt64(place + 5), count: 100)
            #expect(found == Array(bytes[(place + 5)..<(place + 105)]))
        }
        // One leaf each: the root's block came when its name was looked into.
        #expect(stand.blockCalls() == 3)
        volume.release(opened.handle)
        try volume.close()
    }

    @Test func readersOfOneLeafShareItsFetch() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let bytes = content(seed: 4, count: 1 << 20)
        try stand.put(try stand.add(bytes), at: "file")
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory)
        let inode = try volume.inode("file")
        double.resetStatistics()
        double.add(Fault(.latency, command: "block/get", value: 300))
        let wrong = Monitor(0)
        let threads = try (0..<12).map { _ in
            try Threads.start(name: "reader") {
                if (try? volume.contents(of: inode)) != bytes { wrong.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.withLock { $0 } == 0)
        #expect(stand.blockCalls() == 1)
        try volume.close()
    }

    @Test(arguments: [Fault.Kind.flip, .truncate, .extra, .status, .cutReply])
    func wrongBytesAreNeverRead(_ kind: Fault.Kind) throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let bytes = content(seed: 5, count: 3 << 20)
        try stand.put(try stand.add(bytes), at: "file")
        try stand.put(try stand.add([1, 2, 3]), at: "other")
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory) { $0.fetch.fetchMilliseconds = 500 }
        let (inode, other) = (try volume.inode("file"), try volume.inode("other"))
        #expect(try volume.contents(of: other) == [1, 2, 3])
        double.add(Fault(kind, command: "block/get", value: kind == .status ? 500 : 1))
        #expect(throws: Errno.ioError) { try volume.contents(of: inode) }
        let error = try #require(try volume.remoteStatus()?.lastError)
        #expect(error.contains("block baf"))
        try double.clearFaults()
        #expect(eventually { (try? volume.contents(of: inode)) == bytes })
        try volume.close()
    }

    @Test func writingAFileOfTheNodeKeepsTheRestOfIt() throws {
        let stand = try NodeStand()
        let bytes = content(seed: 6, count: 3 << 20)
        for name in ["written", "cut", "emptied", "copied"] {
            try stand.put(try stand.add(bytes), at: name)
        }
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory)
        var expected = bytes
        expected.replaceSubrange((1 << 20)..<(1 << 20) + 3, with: [9, 9, 9])
        let written = try volume.open(volume.inode("written"), flags: .both, caller: root)
        try volume.write(written.handle, at: 1 << 20, [9, 9, 9])
        #expect(try volume.read(written.handle, at: 0, count: 4 << 20) == expected)
        volume.release(written.handle)
        var change = AttributeChange()
        change.size = 100
        _ = try volume.setAttributes(
            of: volume.inode("cut"), change, handle: nil, caller: root)
        #expect(try volume.contents(of: volume.inode("cut")) == Array(bytes[..<100]))
        let calls = stand.blockCalls()
        let emptied = try volume.open(
            volume.inode("emptied"), flags: OpenFlags(rawValue: O_WRONLY | O_TRUNC), caller: root)
        volume.release(emptied.handle)
        #expect(stand.blockCalls() == calls)
        #expect(try volume.contents(of: volume.inode("emptied")) == [])
        // The others, which had the same content, still have it.
        #expect(try volume.contents(of: volume.inode("copied")) == bytes)
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        try volume.close()
        try expectClean(directory)
    }

    @Test func theCacheKeepsToItsLimitAndNeverDropsWhatIsNotPublished() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let limit: UInt64 = 3 << 20
        let volume = try openVolume(
            directory,
            stand.options { options in
                options.fetch.cacheSizeMax = limit
                options.fetch.keptPaths = ["/kept*"]
            })
        var files: [(Inode, [UInt8])] = []
        for number in 0..<6 {
            let bytes = content(seed: UInt64(100 + number), count: 1 << 20)
            files.append((try volume.makeFile(FileName("f\(number)"), bytes), bytes))
        }
        let kept = try volume.makeFile("kept", content(seed: 200, count: 1 << 20))
        try volume.published()
        #expect(try eventually { try volume.remoteStatus()?.cachedBytes ?? .max <= limit })
        #expect(
            eventually { Self.bytes(in: directory.state + "/objects") <= limit + (1 << 20) })
        try double.setRefusing(true)
        // It stays although it came last but one, and nothing else was let go that cannot come back.
        #expect(try volume.contents(of: kept) == content(seed: 200, count: 1 << 20))
        let unpublished = try volume.makeFile("unpublished", content(seed: 201, count: 8 << 20))
        #expect(try volume.contents(of: unpublished) == content(seed: 201, count: 8 << 20))
        try double.setRefusing(false)
        for (inode, bytes) in files { #expect(try volume.contents(of: inode) == bytes) }
        try volume.published()
        try volume.close()
        try expectClean(directory)
    }

    private static func bytes(in path: String) -> UInt64 {
        let names = (try? FileManager.default.subpathsOfDirectory(atPath: path)) ?? []
        return names.reduce(0) { sum, name in
            var status = stat()
            guard stat(path + "/" + name, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                return sum
            }
            return sum + UInt64(status.st_blocks) * 512
        }
    }

    @Test func aFileLargerThanTheCacheIsReadThroughIt() throws {
        let stand = try NodeStand()
        let bytes = content(seed: 7, count: 24 << 20)
        try stand.put(try stand.add(bytes), at: "file")
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory) { $0.fetch.cacheSizeMax = 4 << 20 }
        #expect(try volume.contents(of: volume.inode("file")) == bytes)
        #expect(try eventually { try volume.remoteStatus()?.cachedBytes ?? .max <= 4 << 20 })
        #expect(Self.bytes(in: directory.state + "/cache") <= 5 << 20)
        #expect(try volume.contents(of: volume.inode("file")) == bytes)
        try volume.close()
    }

    @Test func withoutItsNodeRemoteContentIsAnErrorAndTheRestWorks() throws {
        let stand = try NodeStand()
        try stand.put(try stand.add(content(seed: 8, count: 100_000)), at: "file")
        let directory = ScratchDirectory()
        var volume = try adopted(stand, directory)
        let inode = try volume.inode("file")
        try volume.makeFile("own", [1])
        try volume.close()
        volume = try openVolume(directory)
        #expect(throws: Errno.ioError) { try volume.contents(of: inode) }
        #expect(try volume.contents(of: volume.inode("own")) == [1])
        try volume.close()
    }

    @Test func interruptingEndsAWaitForTheNode() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        try stand.put(try stand.add(content(seed: 9, count: 100_000)), at: "file")
        let directory = ScratchDirectory()
        let volume = try adopted(stand, directory) { $0.fetch.fetchMilliseconds = 3_600_000 }
        let inode = try volume.inode("file")
        double.add(Fault(.hang, command: "block/get"))
        final class Interrupter: RemoteWaitObserver {
            func willWait(_ wait: RemoteWait) { wait.interrupt() }
            func didWait(_ wait: RemoteWait) {}
        }
        volume.observeWaits(Interrupter())
        #expect(throws: Errno.interrupted) { try volume.contents(of: inode) }
        try volume.close()
    }
}
