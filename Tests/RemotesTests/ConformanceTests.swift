import Base
import CARSource
import Foundation
import Gateway
import Kubo
import KuboDouble
import Logging
import MerkleDAG
import Multiformats
import Remotes
import Testing

/// What everybody may rely on who knows a remote by its protocols alone, of each that there is.
@Suite struct ConformanceTests {
    /// An implementation to test.
    enum Subject: Sendable, CustomTestStringConvertible {
        case directory
        case kubo(TestNode.Kind)
        case gateway
        /// A CAR file of that version, the second with an index.
        case archive(version: Int)
        /// A file and a gateway, which have a part of the blocks each.
        case set

        /// Those that take blocks and keep them.
        static let all = [Subject.directory] + TestNode.kinds.map { .kubo($0) }
        static let kubos = TestNode.kinds.map { Subject.kubo($0) }
        /// All.
        static let readers =
            all + [.gateway, .archive(version: 1), .archive(version: 2), .set]

        var testDescription: String {
            switch self {
            case .directory: "directory of blocks"
            case .kubo(let kind): "kubo, \(kind.rawValue)"
            case .gateway: "gateway"
            case .archive(let version): "CAR, version \(version)"
            case .set: "set"
            }
        }
    }

    /// A remote, and what must outlive it.
    private struct Stand {
        let blocks: any RemoteBlocks
        let names: (any MutableFileSystem)?
        private let node: TestNode?
        private let gateway: DoubleNode?
        private let path: String

        /// - Parameter held: blocks that it has from the beginning.
        init(_ subject: Subject, holding held: [(cid: CID, bytes: [UInt8])] = []) throws {
            path = NSTemporaryDirectory() + "registryfs-remote-" + UUID().uuidString
            switch subject {
            case .directory:
                blocks = try BlockDirectory(path)
                (names, node, gateway) = (nil, nil, nil)
            case .kubo(let kind):
                var options = DoubleNode.Options()
                options.isOffline = true
                let node = try TestNode.make(kind, options: options)
                var log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                log.logLevel = .critical
                let remote = KuboRemote(
                    try KuboClient(
                        KuboConfiguration(address: try KuboAddress(node.address)), log: log))
                (blocks, names, self.node, gateway) = (remote, remote, node, nil)
            case .gateway:
                let gateway = try Self.gateway(held)
                blocks = try Self.remote(of: gateway)
                (names, node, self.gateway) = (nil, nil, gateway)
                return
            case .archive(let version):
                blocks = try Self.archive(path, version: version, held)
                (names, node, gateway) = (nil, nil, nil)
                return
            case .set:
                let gateway = try Self.gateway(Array(held[(held.count / 2)...]))
                blocks = SourceSet([
                    .init(
                        try Self.archive(path, version: 1, Array(held[..<(held.count / 2)])),
                        .archive),
                    .init(try Self.remote(of: gateway), .gateway),
                ])
                (names, node, self.gateway) = (nil, nil, gateway)
                return
            }
            if !held.isEmpty { try send(held) }
        }

        private static func gateway(_ held: [(cid: CID, bytes: [UInt8])]) throws -> DoubleNode {
            var options = DoubleNode.Options()
            options.isOffline = true
            let node = try DoubleNode(options)
            for (cid, bytes) in held { try node.addBlock(cid, bytes) }
            return node
        }

        private static func remote(of gateway: DoubleNode) throws -> GatewayRemote {
            try GatewayRemote(GatewayConfiguration(try GatewayURL(gateway.gatewayAddress)))
        }

        private static func archive(
            _ path: String, version: Int, _ held: [(cid: CID, bytes: [UInt8])]
        ) throws -> CARFileRemote {
            _ = FileManager.default.createFile(atPath: path, contents: nil)
            guard let file = FileHandle(forWritingAtPath: path) else {
                throw CocoaError(.fileWriteUnknown)
            }
            if version == 1 {
                var writer = try CARWriter<any Error>(roots: []) { bytes in
                    try file.write(contentsOf: Data(bytes))
                }
                for (cid, bytes) in held { try writer.write(cid, bytes) }
            } else {
                var writer = try CARv2Writer<any Error>(roots: []) { bytes, offset in
                    try file.seek(toOffset: offset)
                    try file.write(contentsOf: Data(bytes))
                }
                for (cid, bytes) in held { try writer.write(cid, bytes) }
                try writer.finish()
            }
            try file.close()
            return try CARFileRemote(path)
        }

        /// The remote as one that keeps blocks.
        var store: any RemoteStore {
            get throws { try #require(blocks as? any RemoteStore) }
        }

        func end() {
            gateway?.stop()
            try? FileManager.default.removeItem(atPath: path)
        }

        func send(_ blocks: [(cid: CID, bytes: [UInt8])]) throws {
            var rest = blocks[...]
            let store = try store
            try store.importBlocks(cancellation: nil) { () throws(Never) in rest.popFirst() }
        }

        func block(_ cid: CID, _ cancellation: Cancellation? = nil) throws -> [UInt8] {
            var request = BlockRequest(cid, deadlineMilliseconds: 20_000)
            request.cancellation = cancellation
            return try blocks.block(request, memory: nil)
        }
    }

    /// A raw block that nobody else has.
    private static func raw() -> (cid: CID, bytes: [UInt8]) {
        let bytes = Array(UUID().uuidString.utf8)
        return (CID.raw(sha256: bytes), bytes)
    }

    /// A file of some blocks, the root last.
    private static func file(of leaves: [(cid: CID, bytes: [UInt8])]) -> (cid: CID, bytes: [UInt8])
    {
        let sizes = leaves.map { UInt64($0.bytes.count) }
        let node = DAGNode(
            links: leaves.map { DAGLink(cid: $0.cid, treeSize: UInt64($0.bytes.count)) },
            data: UnixFSData(kind: .file, fileSize: sizes.reduce(0, +), blockSizes: sizes).encoded()
        )
        let bytes = node.encoded()
        return (CID.dagPB(sha256: bytes, version: 1), bytes)
    }

    private func kind(_ body: () throws -> Void) -> RemoteError.Kind? {
        do {
            try body()
        } catch let error as RemoteError {
            // One line, for people.
            #expect(!error.description.isEmpty && !error.description.contains { $0.isNewline })
            return error.kind
        } catch {
            Issue.record("another error: \(error)")
        }
        return nil
    }

    @Test(arguments: Subject.all) func whatWasSentIsThereAndComesBack(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let blocks = (0..<20).map { _ in Self.raw() }
        #expect(try !stand.store.has(blocks[0].cid, cancellation: nil))
        try stand.send(blocks)
        let memory = ReplyMemory()
        for (cid, bytes) in blocks {
            #expect(try stand.store.has(cid, cancellation: nil))
            let found = try stand.store.block(
                BlockRequest(cid, deadlineMilliseconds: 20_000), memory: memory)
            #expect(found == bytes)
            memory.keep(found)
        }
        // Once more is as good as once.
        try stand.send(blocks)
        #expect(try stand.block(blocks[3].cid) == blocks[3].bytes)
    }

    @Test(arguments: Subject.readers) func whatItHoldsComesBack(_ subject: Subject) throws {
        let held = (0..<20).map { _ in Self.raw() }
        let stand = try Stand(subject, holding: held)
        defer { stand.end() }
        let memory = ReplyMemory()
        for asksPeers in [false, true] {
            for (cid, bytes) in held {
                var request = BlockRequest(cid, deadlineMilliseconds: 20_000)
                request.asksPeers = asksPeers
                let found = try stand.blocks.block(request, memory: memory)
                #expect(found == bytes)
                memory.keep(found)
            }
        }
        #expect(!stand.blocks.address.isEmpty && !stand.blocks.address.contains { $0.isNewline })
    }

    @Test(arguments: Subject.readers) func whatItDoesNotHoldIsNotFound(_ subject: Subject) throws {
        let stand = try Stand(subject, holding: [Self.raw(), Self.raw()])
        defer { stand.end() }
        #expect(kind { _ = try stand.block(Self.raw().cid) } == .notFound)
    }

    @Test(arguments: Subject.readers)
    func aCIDThatHoldsItsContentIsAnswered(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let cid = CID(codec: .raw, multihash: try Multihash(code: .identity, digest: [1, 2, 3]))
        #expect(try stand.block(cid) == [1, 2, 3])
    }

    @Test(arguments: Subject.readers)
    func aBlockThatIsCancelledBeforeIsNotGiven(_ subject: Subject) throws {
        let block = Self.raw()
        let stand = try Stand(subject, holding: [block])
        defer { stand.end() }
        let cancellation = Cancellation()
        cancellation.cancel()
        #expect(kind { _ = try stand.block(block.cid, cancellation) } == .cancelled)
        #expect(try stand.block(block.cid) == block.bytes)
    }

    @Test(arguments: Subject.readers) func manyThreadsMayAsk(_ subject: Subject) throws {
        let held = (0..<16).map { _ in Self.raw() }
        let stand = try Stand(subject, holding: held)
        defer { stand.end() }
        let remote = stand.blocks
        let threads = try (0..<16).map { first in
            try Threads.start(name: "ask") {
                for step in 0..<16 {
                    let (cid, bytes) = held[(first + step) % held.count]
                    let request = BlockRequest(cid, deadlineMilliseconds: 60_000)
                    #expect((try? remote.block(request, memory: nil)) == bytes)
                }
            }
        }
        for thread in threads { thread.join() }
    }

    @Test(arguments: Subject.all) func whatNobodySentIsNotFound(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        #expect(kind { _ = try stand.block(Self.raw().cid) } == .notFound)
        #expect(try !stand.store.has(Self.raw().cid, cancellation: nil))
    }

    @Test(arguments: Subject.all)
    func aCIDThatHoldsItsContentIsAlwaysThere(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let cid = CID(codec: .raw, multihash: try Multihash(code: .identity, digest: [1, 2, 3]))
        #expect(try stand.store.has(cid, cancellation: nil))
        #expect(try stand.block(cid) == [1, 2, 3])
    }

    @Test(arguments: Subject.all) func otherBytesThanTheCIDsAreRefused(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let cid = Self.raw().cid
        #expect(throws: RemoteStreamError<Never>.self) { try stand.send([(cid, [1, 2, 3])]) }
        #expect(try !stand.store.has(cid, cancellation: nil))
    }

    @Test(arguments: Subject.all) func theSourcesErrorIsTheCallersOwn(_ subject: Subject) throws {
        struct Stop: Error {}
        let stand = try Stand(subject)
        defer { stand.end() }
        var first: (cid: CID, bytes: [UInt8])? = Self.raw()
        var isStopped = false
        let store = try stand.store
        do throws(RemoteStreamError<Stop>) {
            try store.importBlocks(cancellation: nil) { () throws(Stop) in
                guard let block = first else { throw Stop() }
                first = nil
                return block
            }
        } catch {
            if case .source = error { isStopped = true }
        }
        #expect(isStopped)
    }

    @Test(arguments: Subject.all)
    func whatIsCancelledBeforeEndsBeforeItIsDone(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let block = Self.raw()
        try stand.send([block])
        let cancellation = Cancellation()
        cancellation.cancel()
        #expect(kind { _ = try stand.block(block.cid, cancellation) } == .cancelled)
        #expect(
            kind { _ = try stand.store.has(block.cid, cancellation: cancellation) } == .cancelled)
        var request = PinRequest(block.cid, replacing: nil, name: "cancelled")
        request.cancellation = cancellation
        #expect(kind { try stand.store.pin(request) } == .cancelled)
        #expect(try stand.store.pinName(of: block.cid, cancellation: nil) == nil)
    }

    @Test(arguments: Subject.all) func itStaysTheSameStore(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let identity = try stand.store.identity(cancellation: nil)
        #expect(!identity.id.isEmpty && !identity.version.isEmpty)
        #expect(try stand.store.identity(cancellation: nil) == identity)
    }

    @Test(arguments: Subject.all) func aPinTakesThePlaceOfAnotherOne(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let leaves = (0..<3).map { _ in Self.raw() }
        let (one, two) = (Self.file(of: Array(leaves[..<2])), Self.file(of: Array(leaves[1...])))
        try stand.send(leaves + [one, two])
        let name = "test/" + UUID().uuidString
        try stand.store.pin(PinRequest(one.cid, replacing: nil, name: name))
        #expect(try stand.store.pinName(of: one.cid, cancellation: nil) == name)
        for _ in 0..<2 {
            // Asked for again, as after a crash, it changes nothing.
            try stand.store.pin(PinRequest(two.cid, replacing: one.cid, name: name))
            #expect(try stand.store.pinName(of: two.cid, cancellation: nil) == name)
            #expect(try stand.store.pinName(of: one.cid, cancellation: nil) == nil)
        }
    }

    @Test(arguments: Subject.all) func pinsAreFoundByTheirNamesAndEnd(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let leaves = (0..<3).map { _ in Self.raw() }
        try stand.send(leaves)
        let prefix = "test/" + UUID().uuidString
        for (leaf, name) in zip(leaves, [prefix + "@a", prefix + "@b", "x" + prefix]) {
            try stand.store.pin(PinRequest(leaf.cid, replacing: nil, name: name))
        }
        let pins = { Set(try stand.store.pins(namePrefix: prefix + "@", cancellation: nil)) }
        #expect(
            try pins() == [
                RemotePin(root: leaves[0].cid, name: prefix + "@a"),
                RemotePin(root: leaves[1].cid, name: prefix + "@b"),
            ])
        try stand.store.unpin(leaves[0].cid, cancellation: nil)
        #expect(try pins() == [RemotePin(root: leaves[1].cid, name: prefix + "@b")])
        #expect(kind { try stand.store.unpin(leaves[0].cid, cancellation: nil) } == .notFound)
    }

    @Test(arguments: Subject.all) func aDAGWithAHoleIsNotPinned(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let leaves = (0..<2).map { _ in Self.raw() }
        let root = Self.file(of: leaves)
        try stand.send([leaves[0], root])
        let found = kind {
            var request = PinRequest(root.cid, replacing: nil, name: "hole")
            request.stallMilliseconds = 5_000
            try stand.store.pin(request)
        }
        #expect(found == .notFound || found == .timeout)
        #expect(try stand.store.pinName(of: root.cid, cancellation: nil) == nil)
    }

    @Test(arguments: Subject.kubos) func namesArePutMovedAndRemoved(_ subject: Subject) throws {
        let stand = try Stand(subject)
        defer { stand.end() }
        let names = try #require(stand.names)
        let (one, two) = (Self.file(of: [Self.raw()]), Self.file(of: [Self.raw()]))
        try stand.send([one, two])
        let top = MFSPath("/test-" + UUID().uuidString)
        let (path, other) = (top.appending("a/b"), top.appending("c"))
        #expect(try names.status(of: path, cancellation: nil) == nil)
        #expect(
            kind { try names.put(one.cid, at: path, .flushes, cancellation: nil) } == .notFound)
        try names.put(one.cid, at: path, [.makesParents, .flushes], cancellation: nil)
        #expect(try names.status(of: path, cancellation: nil)?.cid == one.cid)
        #expect(
            kind { try names.put(two.cid, at: path, .flushes, cancellation: nil) } == .conflict)
        try names.put(two.cid, at: path, .replacesFile, cancellation: nil)
        try names.flush(top, cancellation: nil)
        #expect(try names.status(of: path, cancellation: nil)?.cid == two.cid)
        try names.move(path, to: other, cancellation: nil)
        #expect(try names.status(of: path, cancellation: nil) == nil)
        #expect(try names.status(of: other, cancellation: nil)?.cid == two.cid)
        for _ in 0..<2 { try names.remove(top, cancellation: nil) }
        #expect(try names.status(of: top, cancellation: nil) == nil)
    }
}
