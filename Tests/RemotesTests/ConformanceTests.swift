import Base
import Foundation
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

        static let all = [Subject.directory] + TestNode.kinds.map { .kubo($0) }
        static let kubos = TestNode.kinds.map { Subject.kubo($0) }

        var testDescription: String {
            switch self {
            case .directory: "directory of blocks"
            case .kubo(let kind): "kubo, \(kind.rawValue)"
            }
        }
    }

    /// A remote, and what must outlive it.
    private struct Stand {
        let store: any RemoteStore
        let names: (any MutableFileSystem)?
        private let node: TestNode?
        private let path = NSTemporaryDirectory() + "registryfs-remote-" + UUID().uuidString

        init(_ subject: Subject) throws {
            switch subject {
            case .directory:
                store = try BlockDirectory(path)
                (names, node) = (nil, nil)
            case .kubo(let kind):
                var options = DoubleNode.Options()
                options.isOffline = true
                let node = try TestNode.make(kind, options: options)
                var log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                log.logLevel = .critical
                let remote = KuboRemote(
                    try KuboClient(
                        KuboConfiguration(address: try KuboAddress(node.address)), log: log))
                (store, names, self.node) = (remote, remote, node)
            }
        }

        func end() { try? FileManager.default.removeItem(atPath: path) }

        func send(_ blocks: [(cid: CID, bytes: [UInt8])]) throws {
            var rest = blocks[...]
            try store.importBlocks(cancellation: nil) { () throws(Never) in rest.popFirst() }
        }

        func block(_ cid: CID, _ cancellation: Cancellation? = nil) throws -> [UInt8] {
            var request = BlockRequest(cid, deadlineMilliseconds: 20_000)
            request.cancellation = cancellation
            return try store.block(request, memory: nil)
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
        do throws(RemoteStreamError<Stop>) {
            try stand.store.importBlocks(cancellation: nil) { () throws(Stop) in
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
        #expect(!stand.store.address.isEmpty)
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
