import Base
import Foundation
import HTTPScript
import Kubo
import KuboDouble
import MerkleDAG
import Multiformats
import Remotes
import Testing

/// The calls, against the double and, where there is one, against a real node.
struct ClientTests {
    private static let emptyDirectory: [UInt8] = [0x0a, 0x02, 0x08, 0x01]

    /// A block that no other test has.
    private func freshBlock(_ count: Int = 100) -> (cid: CID, bytes: [UInt8]) {
        let bytes = (0..<count).map { _ in UInt8.random(in: .min ... .max) }
        return (CID.raw(sha256: bytes), bytes)
    }

    /// A directory with these entries, as a block.
    private func directory(_ entries: [(String, CID, UInt64)]) -> (cid: CID, bytes: [UInt8]) {
        let links = entries.map { DAGLink(cid: $0.1, name: Array($0.0.utf8), treeSize: $0.2) }
        let bytes = DAGNode(links: links, data: [0x08, 0x01]).encoded()
        return (CID.dagPB(sha256: bytes, version: 1), bytes)
    }

    private func freshPath() -> MFSPath { MFSPath("/test-" + UUID().uuidString) }

    @Test(arguments: TestNode.kinds)
    func nodeSaysWhoItIs(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        #expect(try client.version().version.hasPrefix("0."))
        #expect(try client.identity().hasPrefix("12D3KooW"))
        #expect(try client.repoStat().storageBytesMax > 0)
        #expect(try client.config("Addresses.API").contains("/ip4/127.0.0.1/tcp/"))
        #expect(failure { _ = try client.config("No.Such.Key") } != nil)
    }

    @Test(arguments: TestNode.kinds)
    func blocksThatArePutAreThere(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let blocks = (0..<5).map { _ in freshBlock() } + [freshBlock(0), freshBlock(1 << 20)]
        let folder = directory([("x", blocks[0].cid, 100)])
        let old = CID.dagPB(sha256: folder.bytes, version: 0)
        #expect(try !client.hasBlock(blocks[0].cid))
        try client.putBlocks(blocks + [(old, folder.bytes)])
        for block in blocks {
            #expect(try client.hasBlock(block.cid))
            #expect(try client.block(block.cid, isOffline: true) == block.bytes)
        }
        #expect(try client.block(folder.cid) == folder.bytes)
        #expect(try client.block(old) == folder.bytes)
    }

    @Test func memoryOfABlockServesTheNext() throws {
        let node = try TestNode.make(.double)
        let client = try makeClient(node.address)
        let blocks = [freshBlock(1 << 20), freshBlock(1 << 20), freshBlock(100)]
        try client.putBlocks(blocks)
        let memory = ReplyMemory()
        var places: Set<UInt> = []
        for block in blocks {
            let received = try client.block(block.cid, memory: memory)
            #expect(received == block.bytes)
            places.insert(received.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) })
            memory.keep(consume received)
        }
        #expect(places.count == 1)
        // Who still has a block keeps it.
        let held = try client.block(blocks[0].cid, memory: memory)
        memory.keep(held)
        #expect(try client.block(blocks[1].cid, memory: memory) == blocks[1].bytes)
        #expect(held == blocks[0].bytes)
    }

    @Test(arguments: TestNode.kinds)
    func blocksThatAreImportedAreThere(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let blocks = (0..<50).map { freshBlock($0 * 5_000) }
        var index = 0
        let count = try client.importBlocks { () throws(Never) in
            guard index < blocks.count else { return nil }
            index += 1
            return blocks[index - 1]
        }
        #expect(count == 50)
        for block in blocks {
            #expect(try client.block(block.cid, isOffline: true) == block.bytes)
        }
    }

    @Test(arguments: TestNode.kinds)
    func importPinsTheRootsThatAreGiven(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let leaf = freshBlock()
        let root = directory([("leaf", leaf.cid, 100)])
        var blocks = [leaf, root]
        try client.importBlocks(pinsRoots: [root.cid]) { () throws(Never) in blocks.popLast() }
        #expect(try client.pin(of: root.cid)?.kind == .recursive)
        #expect(try client.pin(of: leaf.cid)?.kind == .indirect)

        let missing = directory([("leaf", freshBlock().cid, 100)])
        blocks = [missing]
        let hasty = try makeClient(node.address) { $0.workMilliseconds = 1500 }
        let error = failure {
            try hasty.importBlocks(pinsRoots: [missing.cid]) { () throws(Never) in
                blocks.popLast()
            }
        }
        // A node with peers looks for the leaf.
        #expect(error?.kind == .notFound || error?.kind == .timeout)
    }

    @Test(arguments: TestNode.kinds)
    func importOfWrongBytesFails(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        var blocks = [(cid: freshBlock().cid, bytes: [1, 2, 3] as [UInt8])]
        let wrong = blocks[0].cid
        let error = failure {
            try client.importBlocks { () throws(Never) in blocks.popLast() }
        }
        #expect(error?.kind == .refused)
        #expect(try !client.hasBlock(wrong))
        #expect(
            failure { try client.putBlocks([(wrong, [1, 2, 3])]) }?.kind == .protocolViolation)
    }

    @Test(arguments: TestNode.kinds)
    func blockAboveTheLimitIsRefused(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let block = freshBlock(DAGNode.blockSizeMax + 1)
        #expect(failure { try client.putBlocks([block]) }?.kind == .refused)
    }

    @Test(arguments: TestNode.kinds)
    func missingBlockIsNotFound(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let cid = freshBlock().cid
        let error = failure { _ = try client.block(cid, isOffline: true) }
        #expect(error?.kind == .notFound)
        #expect(error?.argument == cid.description)
    }

    @Test(arguments: TestNode.kinds)
    func pinsComeAndGoByName(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let name = "pin \(UUID().uuidString)/é"
        let (first, second, third) = (freshBlock(), freshBlock(), freshBlock())
        try client.putBlocks([first, second, third])
        #expect(try client.pin(of: first.cid) == nil)
        #expect(try client.pins(named: name) == [])
        try client.pinAdd(first.cid, name: name)
        try client.pinAdd(first.cid, name: name)
        try client.pinAdd(third.cid, name: name + "2")
        let pin = KuboPin(cid: first.cid, kind: .recursive, name: name)
        #expect(try client.pin(of: first.cid) == pin)
        #expect(try client.pins(named: name) == [pin])
        #expect(try client.pins().contains(pin))

        try client.pinUpdate(from: first.cid, to: second.cid)
        #expect(try client.pin(of: first.cid) == nil)
        #expect(
            try client.pins(named: name) == [.init(cid: second.cid, kind: .recursive, name: name)])
        #expect(
            failure { try client.pinUpdate(from: first.cid, to: second.cid) } != nil)
        try client.pinUpdate(from: second.cid, to: first.cid, unpinsOld: false)
        #expect(try client.pin(of: second.cid)?.kind == .recursive)

        try client.pinRemove(second.cid)
        #expect(failure { try client.pinRemove(second.cid) }?.kind == .notFound)
        try client.pinAdd(second.cid, isRecursive: false)
        #expect(try client.pin(of: second.cid)?.kind == .direct)
    }

    @Test(arguments: TestNode.kinds)
    func pinOfAnIncompleteTreeFails(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let root = directory([("gone", freshBlock().cid, 100)])
        try client.putBlocks([root])
        // A node with peers looks for the rest although it is asked offline.
        let error = failure {
            try client.pinAdd(root.cid, isOffline: true, stallMilliseconds: 1500)
        }
        #expect(error?.kind == .notFound || error?.kind == .timeout)
        #expect(try client.pin(of: root.cid) == nil)
    }

    /// However long it takes in all.
    @Test func pinLastsAsLongAsTheNodeComesToFurtherBlocks() throws {
        let node = try TestNode.make(.double)
        let client = try makeClient(node.address)
        let late = (0..<8).map { _ in freshBlock() }
        let root = directory(late.enumerated().map { ("\($0)", $1.cid, 100) })
        try client.putBlocks([root])
        let giver = try Threads.start(name: "giver") {
            for block in late {
                Threads.sleep(milliseconds: 700)
                try? client.putBlocks([block])
            }
        }
        let start = MonotonicClock.milliseconds
        try client.pinAdd(root.cid, isOffline: true, stallMilliseconds: 4000)
        #expect(MonotonicClock.milliseconds - start > 5000)
        giver.join()
        #expect(try client.pin(of: root.cid, kind: .recursive) != nil)
        #expect(try client.pin(of: late[0].cid, kind: .recursive) == nil)
        #expect(try client.pin(of: late[0].cid)?.kind == .indirect)
    }

    @Test(arguments: TestNode.kinds)
    func filesAreMadeFoundMovedAndRemoved(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let top = freshPath()
        let block = freshBlock()
        try client.putBlocks([block])
        let source = MFSPath("/ipfs/\(block.cid)")

        #expect(try client.filesStat(top) == nil)
        #expect(
            failure { try client.filesMakeDirectory(top.appending("a/b")) }?.kind == .notFound)
        try client.filesMakeDirectory(top.appending("a/b"), parents: true, flush: false)
        try client.filesMakeDirectory(top.appending("a/b"), parents: true)
        #expect(failure { try client.filesMakeDirectory(top) }?.kind == .conflict)

        let odd = top.appending([0x20, 0x26, 0xff, 0x25, 0x0a])
        for path in [top.appending("f"), odd] {
            try client.filesCopy(from: source, to: path)
            let status = try #require(try client.filesStat(path))
            #expect(status.cid == block.cid)
            #expect(status.kind == .file)
            #expect(status.size == 100)
        }
        #expect(
            failure { try client.filesCopy(from: source, to: top.appending("f")) }?.kind
                == .conflict)
        try client.filesCopy(from: source, to: top.appending("f"), force: true)
        #expect(
            failure { try client.filesCopy(from: source, to: top.appending("a"), force: true) }?
                .kind == .conflict)
        try client.filesCopy(from: source, to: top.appending("x/y/z"), parents: true)
        #expect(
            failure {
                try client.filesCopy(
                    from: MFSPath("/ipfs/\(freshBlock().cid)"), to: top.appending("n"),
                    isOffline: true)
            }?.kind == .notFound)

        let names = try client.filesList(top).map(\.name).sorted()
        #expect(names == [" &\u{fffd}%\n", "a", "f", "x"])
        let entry = try #require(try client.filesList(top).first { $0.name == "f" })
        #expect(entry == MFSEntry(name: "f", kind: .file, size: 100, cid: block.cid))
        #expect(try client.filesList(top.appending("a/b")) == [])

        try client.filesMove(from: top.appending("f"), to: top.appending("a/g"))
        #expect(try client.filesStat(top.appending("f")) == nil)
        #expect(try client.filesStat(top.appending("a/g"))?.cid == block.cid)

        #expect(failure { try client.filesRemove(top.appending("a")) }?.kind == .conflict)
        #expect(failure { try client.filesRemove(top.appending("none")) }?.kind == .notFound)
        try client.filesRemove(top.appending("none"), force: true)
        try client.filesRemove(odd)
        let status = try client.filesStat(top)
        #expect(try client.filesFlush(top) == status?.cid)
        #expect(status?.kind == .directory)
        try client.filesRemove(top, isRecursive: true)
        #expect(try client.filesStat(top) == nil)
    }

    @Test(arguments: TestNode.kinds)
    func contentIsReadByRange(_ kind: TestNode.Kind) throws {
        let node = try TestNode.make(kind)
        let client = try makeClient(node.address)
        let block = freshBlock(300_000)
        try client.putBlocks([block])
        let path = MFSPath("/ipfs/\(block.cid)")
        var whole: [UInt8] = []
        try client.cat(path) { (bytes) throws(Never) in whole += bytes }
        #expect(whole == block.bytes)
        var part: [UInt8] = []
        try client.cat(path, offset: 1000, length: 2000) { (bytes) throws(Never) in part += bytes }
        #expect(part == Array(block.bytes[1000..<3000]))
    }

    @Test func errorOfTheReaderEndsTheReadAndComesThrough() throws {
        struct Enough: Error {}
        let node = try TestNode.make(.double)
        let client = try makeClient(node.address)
        let block = freshBlock(1 << 20)
        try client.putBlocks([block])
        do {
            try client.cat(MFSPath("/ipfs/\(block.cid)")) { (_) throws(Enough) in throw Enough() }
            Issue.record("the read succeeded")
        } catch {
            guard case .source = error else {
                Issue.record("\(error)")
                return
            }
        }
        // The connection that was broken off does no harm to the next call.
        #expect(try client.block(block.cid) == block.bytes)
    }

    // MARK: Faults

    @Test(arguments: [Fault.Kind.flip, .truncate, .extra])
    func lyingNodeIsFoundOut(_ kind: Fault.Kind) throws {
        let node = try TestNode.make(.double)
        let double = try #require(node.double)
        let client = try makeClient(node.address)
        let block = freshBlock()
        try client.putBlocks([block])
        double.add(Fault(kind, command: "block/get", value: 3, count: 1))
        let error = failure { _ = try client.block(block.cid) }
        #expect(error?.kind == .protocolViolation)
        #expect(error?.argument == block.cid.description)
        #expect(try client.block(block.cid) == block.bytes)
    }

    @Test func replyCutOnceIsHadTheSecondTime() throws {
        let node = try TestNode.make(.double)
        let double = try #require(node.double)
        let client = try makeClient(node.address)
        let block = freshBlock(1 << 20)
        try client.putBlocks([block])
        double.resetStatistics()
        double.add(Fault(.cutReply, command: "block/get", value: 1000, count: 2))
        #expect(try client.block(block.cid) == block.bytes)
        #expect(double.statistics["block/get"]?.calls == 3)
    }

    @Test func changeWhoseReplyIsLostIsMadeOnce() throws {
        let node = try TestNode.make(.double)
        let double = try #require(node.double)
        let client = try makeClient(node.address)
        let path = freshPath()
        try client.filesMakeDirectory(path)
        double.resetStatistics()
        double.add(Fault(.lostReply, command: "files/mv", value: 503, count: 1))
        #expect(
            failure { try client.filesMove(from: path, to: MFSPath("\(path)-2")) }?.kind == .busy)
        #expect(double.statistics["files/mv"]?.calls == 1)
        #expect(try client.filesStat(MFSPath("\(path)-2")) != nil)
    }

    @Test func errorInTheTrailerOfAnImportFailsIt() throws {
        let node = try TestNode.make(.double)
        let double = try #require(node.double)
        let client = try makeClient(node.address)
        double.add(
            Fault(.trailer, command: "dag/import", message: "no space left on device", count: 1))
        var blocks = [freshBlock()]
        let error = failure {
            try client.importBlocks { () throws(Never) in blocks.popLast() }
        }
        #expect(error?.kind == .full)
    }

    @Test func fullNodeIsFull() throws {
        let node = try TestNode.make(.double)
        let double = try #require(node.double)
        let client = try makeClient(node.address)
        double.setFull(true)
        #expect(failure { try client.putBlocks([freshBlock()]) }?.kind == .full)
        var blocks = [freshBlock()]
        #expect(
            failure { try client.importBlocks { () throws(Never) in blocks.popLast() } }?.kind
                == .full)
        double.setFull(false)
        try client.putBlocks([freshBlock()])
    }

    @Test func nodeThatRestartsIsFoundAgainByTheSameClient() throws {
        let node = try TestNode.make(.double)
        let double = try #require(node.double)
        let client = try makeClient(node.address)
        let block = freshBlock()
        try client.putBlocks([block])
        for _ in 0..<3 {
            try double.restart()
            #expect(try client.hasBlock(block.cid))
            try double.restart()
            try client.filesMakeDirectory(freshPath())
        }
    }

    @Test func nodeIsReachedOverAUnixSocket() throws {
        let directory = try TemporaryDirectory()
        var options = DoubleNode.Options()
        options.unixPath = directory.path + "/api"
        let node = try DoubleNode(options)
        defer { node.stop() }
        let client = try makeClient("/unix\(directory.path)/api")
        let block = freshBlock(1 << 20)
        try client.putBlocks([block])
        #expect(try client.block(block.cid) == block.bytes)
    }

    @Test func nodeThatAsksForCredentialsGetsThem() throws {
        var options = DoubleNode.Options()
        options.authorizations = [.init(secret: "bearer:s3cret")]
        let node = try DoubleNode(options)
        defer { node.stop() }
        #expect(
            failure { _ = try makeClient(node.address).version() }?.kind == .authorization)
        let client = try makeClient(node.address) {
            $0.credentials = try KuboCredentials("s3cret")
        }
        _ = try client.version()
    }

    @Test func manyThreadsShareOneClient() throws {
        let node = try TestNode.make(.double)
        let client = try makeClient(node.address) { $0.connectionsMax = 4 }
        let wrongCount = Monitor(0)
        let threads = try (0..<12).map { number in
            try Threads.start(name: "client") {
                for round in 0..<20 {
                    let bytes = Array("thread \(number) round \(round)".utf8)
                    let block = (cid: CID.raw(sha256: bytes), bytes: bytes)
                    do {
                        try client.putBlocks([block])
                        let found = try client.block(block.cid)
                        if found != block.bytes { wrongCount.withLock { $0 += 1 } }
                    } catch {
                        wrongCount.withLock { $0 += 1 }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrongCount.withLock { $0 } == 0)
    }
}
