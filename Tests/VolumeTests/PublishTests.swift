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

/// What a volume makes of its node, with the double and with a real node where there is one.
@Suite struct PublishTests {
    @Test(arguments: TestNode.kinds)
    func theTreeIsPinnedAndShownUnderItsCID(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        let bytes = content(seed: 1, count: 3_000_000)
        try volume.makeFile("large", in: inner, bytes)
        try volume.makeFile("small", in: inner, content(seed: 2, count: 71))
        try volume.makeFile("empty", in: inner, [])
        _ = try volume.makeSymlink("link", in: inner, target: Array("large".utf8), caller: root)
        let published = try #require(try volume.published())
        #expect(try volume.cid(of: .root) == published)
        #expect(try stand.mirrorCID() == published)
        let pin = try #require(try stand.kubo.pin(of: published))
        #expect(pin.isRecursive)
        #expect(pin.name == String(stand.path.dropFirst()))
        #expect(try stand.add(bytes) == volume.cid(of: volume.inode("inner", "large")))
        try volume.close()
    }

    @Test(arguments: TestNode.kinds)
    func laterRootsTakeThePinAndTheMirrorOfEarlierOnes(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        try volume.makeFile("first", in: inner, [1])
        let first = try #require(try volume.published())
        try volume.unlink("first", in: inner)
        try volume.makeFile("second", in: inner, [2])
        // A directory takes the name of a file, and the other way round.
        try volume.makeFile("turns", in: .root, [3])
        try volume.published()
        try volume.unlink("turns", in: .root)
        let turned = try volume.makeDirectory("turns", in: .root, mode: 0o755, caller: root).inode
        try volume.makeFile("in", in: turned, [4])
        let last = try #require(try volume.published())
        #expect(try stand.mirrorCID() == last)
        #expect(try stand.kubo.pin(of: last)?.name == String(stand.path.dropFirst()))
        #expect(try stand.kubo.pin(of: first) == nil)
        try volume.close()
    }

    @Test(arguments: TestNode.kinds)
    func snapshotsArePinnedUnderTheirNamesAsLongAsTheyAreThere(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let inner = try volume.makeDirectory("inner", in: .root, mode: 0o755, caller: root).inode
        try volume.makeFile("first", in: inner, content(seed: 1, count: 2_500_000))
        try volume.published()
        // One that was published as a root, and one that never is.
        let one = try volume.createSnapshot(named: "one")
        try volume.makeFile("second", in: inner, content(seed: 2, count: 2_500_000))
        let two = try volume.createSnapshot(named: "two", withManifest: true)
        try volume.unlink("second", in: inner)
        try volume.unlink("first", in: inner)
        try volume.published()
        let name = String(stand.path.dropFirst()) + "@snapshot:"
        let manifest = try #require(two.manifest)
        for (root, pin) in [(one.root, "one"), (manifest, "two")] {
            #expect(try eventually { try stand.kubo.pin(of: root)?.name == name + pin })
        }
        try volume.deleteSnapshot(named: "one")
        #expect(try eventually { try stand.kubo.pin(of: one.root) == nil })
        try volume.close()
        // Deleted while nobody is connected.
        let offline = try openVolume(directory)
        try offline.deleteSnapshot(named: "two")
        try offline.close()
        let again = try openVolume(directory, stand.options())
        #expect(try eventually { try stand.kubo.pin(of: manifest) == nil })
        try again.close()
    }

    @Test func whatTheNodeHasIsNotSentAgain() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let bytes = content(seed: 3, count: 5 << 20)
        var volume = try openVolume(directory, stand.options())
        try volume.makeFile("one", bytes)
        try volume.published()
        try volume.close()
        double.resetStatistics()
        volume = try openVolume(directory, stand.options())
        // Others sent this one; and of the third, all but the first leaf is in the first.
        let other = content(seed: 4, count: 4 << 20)
        _ = try stand.add(other)
        double.resetStatistics()
        try volume.makeFile("two", other)
        try volume.makeFile("three", content(seed: 5, count: 1 << 20) + bytes.dropFirst(1 << 20))
        try volume.published()
        let sent = double.statistics["dag/import"]?.blockBytes ?? 0
        #expect(sent > 1 << 20 && sent < (1 << 20) + 10_000, "\(sent) bytes")
        try volume.close()
    }

    @Test func aNodeThatIsAwayHoldsNothingUp() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        try double.setRefusing(true)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let inode = try volume.makeFile("waits", content(seed: 6, count: 100_000))
        #expect(try volume.contents(of: inode) == content(seed: 6, count: 100_000))
        #expect(throws: PublishWaitError.self) {
            try volume.waitUntilPublished(stallMilliseconds: 300) { _ in true }
        }
        #expect(try eventually { try volume.remoteStatus()?.lastError != nil })
        let status = try #require(try volume.remoteStatus())
        #expect(!status.isReachable && status.waitingFiles == 1 && status.waitingBytes == 100_000)
        try double.setRefusing(false)
        let published = try volume.published()
        #expect(try stand.mirrorCID() == published)
        #expect(try volume.remoteStatus()?.waitingFiles == 0)
        try volume.close()
    }

    @Test(arguments: ["dag/import", "pin/add", "pin/update", "files/cp", "files/stat", "id"])
    func failuresOfTheNodeAreMadeUpFor(_ command: String) throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("before", [1])
        try volume.published()
        double.add(Fault(.status, command: command, value: 500, message: "no luck", count: 2))
        double.add(Fault(.lostReply, command: command, value: 500, count: 1))
        double.add(Fault(.cutRequest, command: command, value: 100, count: 1))
        try volume.makeFile("after", content(seed: 7, count: 3 << 20))
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        #expect(try stand.kubo.pin(of: published)?.isRecursive == true)
        try volume.close()
    }

    @Test func blocksThatTheNodeLostAreSentAgain() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let kept = try volume.makeFile("kept", content(seed: 8, count: 3 << 20))
        try volume.makeFile("small", [1, 2, 3])
        let first = try #require(try volume.published())
        // A garbage collection that the pin could not prevent.
        try stand.kubo.unpin(first)
        try stand.kubo.remove(stand.path, isRecursive: true)
        try stand.call("repo/gc", "")
        #expect(double.blockCount < 4)
        try volume.makeFile("new", [4])
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        #expect(try stand.kubo.has(volume.cid(of: kept)))
        try volume.close()
    }

    /// However large it is: the node tells of `pin/add` how far it has come, and not of `pin/update`.
    @Test func rootThatTakesLongToPinIsNotTakenForLost() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options { $0.pinMilliseconds = 500 })
        try volume.makeFile("before", content(seed: 10, count: 3 << 20))
        let first = try #require(try volume.published())
        double.resetStatistics()
        double.add(Fault(.hang, command: "pin/update", count: 1))
        try volume.makeFile("after", [1])
        let second = try #require(try volume.published())
        #expect(try stand.kubo.pin(of: second)?.name == String(stand.path.dropFirst()))
        #expect(try stand.kubo.pin(of: first) == nil)
        let statistics = double.statistics
        #expect(statistics["pin/update"]?.calls == 1 && statistics["pin/add"]?.calls == 1)
        #expect(statistics["dag/import"]?.knownBlocks == 0)
        #expect(statistics["dag/import"]?.blockBytes ?? 0 < 1 << 20)
        try volume.close()
    }

    @Test func anotherNodeAtTheAddressGetsEverything() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        var volume = try openVolume(directory, stand.options())
        try volume.makeFile("file", content(seed: 9, count: 2 << 20))
        let first = try #require(try volume.published())
        try volume.close()
        let other = try NodeStand()
        var options = other.options()
        options.remote?.path = stand.path
        volume = try openVolume(directory, options)
        // The doubles have one peer id: what tells is that the root is not pinned there.
        try volume.makeFile("more", [1])
        let published = try #require(try volume.published())
        #expect(published != first)
        #expect(try other.kubo.status(of: stand.path)?.cid == published)
        #expect(try other.kubo.pin(of: published)?.isRecursive == true)
        try volume.close()
    }

    @Test func aNodeThatForgotItsMirrorShowsItAgain() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("one", [1])
        try volume.published()
        try volume.makeFile("two", [2])
        try double.restart()
        let published = try #require(try volume.published())
        try double.restart()
        #expect(try stand.mirrorCID() == published)
        try volume.close()
    }

    @Test func fsyncWaitsForTheNodeWhereThatIsAsked() throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let volume = try openVolume(
            directory,
            stand.options {
                $0.isDurableAtRemote = true
                $0.fetch.fetchMilliseconds = 300
                // So that nothing else sends it.
                $0.quietMilliseconds = 3_600_000
                $0.publishIntervalMilliseconds = 3_600_000
            })
        let (attributes, opened) = try volume.create(
            "file", in: .root, mode: 0o644, flags: .both, caller: root)
        try volume.write(opened.handle, at: 0, content(seed: 10, count: 2_500_000))
        try volume.synchronize(opened.handle, dataOnly: false)
        let cid = try volume.cid(of: attributes.inode)
        #expect(try stand.kubo.has(cid))
        for link in try DAGNode(decoding: try stand.kubo.block(cid)).links {
            #expect(try stand.kubo.has(link.cid))
        }
        try volume.write(opened.handle, at: 0, [1])
        try double.setRefusing(true)
        #expect(throws: Errno.ioError) {
            try volume.synchronize(opened.handle, dataOnly: false)
        }
        volume.release(opened.handle)
        try volume.close()
    }

    @Test func aFileThatIsNeverClosedDoesNotKeepTheTreeFromBeingPublished() throws {
        let stand = try NodeStand()
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        let (_, opened) = try volume.create(
            "log", in: .root, mode: 0o644, flags: .both, caller: root)
        try volume.write(opened.handle, at: 0, content(seed: 11, count: 200_000))
        try volume.makeFile("other", [1])
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        let bytes = try stand.call("cat", "arg=/ipfs/\(published)/log").body
        #expect(bytes == content(seed: 11, count: 200_000))
        volume.release(opened.handle)
        try volume.close()
    }

    /// Of a large file the leaves go without being compared here first.
    @Test(arguments: TestNode.kinds, [2 << 20, 20 << 20])
    func blocksOfADamagedFileAreNotSent(_ kind: TestNode.Kind, _ size: Int) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        var withoutNode = stand.options()
        withoutNode.remote = nil
        var volume = try openVolume(directory, withoutNode)
        let inode = try volume.makeFile("file", content(seed: 12, count: size))
        let cid = try volume.cid(of: inode)
        let leaves = try volume.report(of: inode).leaves
        try volume.close()
        let objects = try FileManager.default.subpathsOfDirectory(
            atPath: directory.state + "/objects")
        let path = try #require(objects.first { $0.contains("/") })
        let file = try #require(FileHandle(forUpdatingAtPath: directory.state + "/objects/" + path))
        try file.seek(toOffset: 1_500_000)
        try file.write(contentsOf: Data([0, 1, 2, 3]))
        try file.close()
        volume = try openVolume(directory, stand.options())
        #expect(
            try eventually {
                try volume.remoteStatus()?.lastError?.contains("\(leaves[1].cid) is damaged")
                    == true
            })
        #expect(throws: PublishWaitError.self) {
            try volume.waitUntilPublished(stallMilliseconds: 500) { _ in true }
        }
        #expect(try volume.remoteStatus()?.waitingFiles == 1)
        #expect(try volume.remoteStatus()?.root == nil)
        #expect(try !stand.kubo.has(cid))
        #expect(try !stand.kubo.has(leaves[1].cid))
        try volume.close()
    }

    @Test(arguments: TestNode.kinds)
    func aLargeFileIsSentOnce(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("first", [1])
        try volume.published()
        stand.double?.resetStatistics()
        // With room in it, whose leaves are all the same.
        let bytes =
            content(seed: 13, count: 40 << 20) + [UInt8](repeating: 0, count: 20 << 20) + [1]
        try volume.makeFile("large", bytes)
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        #expect(try stand.call("cat", "arg=/ipfs/\(published)/large").body == bytes)
        if let double = stand.double {
            let sent = double.statistics["dag/import"]?.blockBytes ?? 0
            #expect(sent > 40 << 20 && sent < 44 << 20, "\(sent) bytes")
        }
        try volume.close()
    }

    @Test(arguments: [Fault.Kind.status, .lostReply, .cutRequest, .trailer])
    func leavesThatDidNotArriveAreSentAgain(_ fault: Fault.Kind) throws {
        let stand = try NodeStand()
        let double = try #require(stand.double)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("first", [1])
        try volume.published()
        double.add(
            Fault(
                fault, command: "dag/import", value: fault == .cutRequest ? 3 << 20 : 500,
                message: "no luck", count: 3))
        let bytes = content(seed: 14, count: 24 << 20)
        try volume.makeFile("large", bytes)
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        #expect(try stand.call("cat", "arg=/ipfs/\(published)/large").body == bytes)
        #expect(try volume.remoteStatus()?.waitingFiles == 0)
        try volume.close()
    }

    @Test(arguments: TestNode.kinds)
    func aFileThatChangesWhileItIsSentArrivesAsItIsInTheEnd(_ kind: TestNode.Kind) throws {
        let stand = try NodeStand(kind)
        let directory = ScratchDirectory()
        let volume = try openVolume(directory, stand.options())
        try volume.makeFile("first", [1])
        try volume.published()
        var bytes = content(seed: 15, count: 24 << 20)
        let inode = try volume.makeFile("large", bytes)
        for round in 0..<6 {
            // So that some are overtaken while they are hashed, and some while they are sent.
            Threads.sleep(milliseconds: UInt32(round * 15))
            let place = (23 - round) << 20
            let opened = try volume.open(inode, flags: .both, caller: root)
            try volume.write(opened.handle, at: UInt64(place), [UInt8(round), 1, 2])
            bytes.replaceSubrange(place..<place + 3, with: [UInt8(round), 1, 2])
            volume.release(opened.handle)
        }
        let published = try #require(try volume.published())
        #expect(try stand.mirrorCID() == published)
        #expect(try stand.call("cat", "arg=/ipfs/\(published)/large").body == bytes)
        try volume.close()
    }
}
