import Base
import MerkleDAG
import Multiformats
import Remotes
import Testing
import Volume

/// Somebody who answers a request once another has come as well, or after a while.
private final class Gathering: RemoteBlocks {
    private let blocks: BlockTable
    private let active = Monitor((now: 0, most: 0))

    init(_ blocks: BlockTable) { self.blocks = blocks }

    var address: String { blocks.address }
    /// The most requests that were there at a time.
    var most: Int { active.withLock { $0.most } }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        active.withLock { active in
            active.now += 1
            active.most = max(active.most, active.now)
            let end = MonotonicClock.milliseconds + 20
            while active.now < 2, MonotonicClock.milliseconds < end {
                self.active.wait(&active, milliseconds: 20)
            }
        }
        active.wakeAll()
        defer { active.withLock { $0.now -= 1 } }
        return try blocks.block(request, memory: memory)
    }
}

@Suite struct ExportTests {
    /// A directory of a file of many small leaves, some of them there more than once, and one of its own twice.
    private func tree() -> (root: CID, last: CID, BlockTable) {
        let blocks = ForeignBlocks()
        let file = blocks.bytewise(content(seed: 3, count: 3_000), width: 60)
        let last = blocks.raw([1, 2, 3])
        let inner = blocks.directory([link("one", file, 9), link("two", file, 9)])
        let root = blocks.directory([link("inner", inner, 9), link("last", last, 3)])
        return (root, last, blocks.take())
    }

    private func open(_ directory: ScratchDirectory, _ source: any RemoteBlocks) throws -> Volume {
        var options = stillOptions
        options.sources = FetchOptions(source)
        return try openVolume(directory, options)
    }

    private func archive(of root: CID, from volume: Volume) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try volume.exportCAR(root) { (piece) throws(Never) in bytes.append(contentsOf: piece) }
        return bytes
    }

    @Test func whatIsElsewhereIsFetchedSideBySideAndWrittenInOrder() throws {
        let (root, _, table) = tree()
        let source = Gathering(table)
        let directory = ScratchDirectory()
        let volume = try open(directory, source)
        try volume.graft(root, as: "tree", in: .root)
        var expected: [UInt8] = []
        var writer = CARWriter(roots: [root]) { (piece) throws(Never) in
            expected.append(contentsOf: piece)
        }
        try ClosureBlockSource { (cid) throws(BlockUnavailable) in
            do throws(RemoteError) {
                return try table.block(
                    BlockRequest(cid, deadlineMilliseconds: 1000), memory: nil)
            } catch {
                throw BlockUnavailable(cid, cause: error)
            }
        }.forEachBlock(below: root) { (cid, block) throws(Never) in writer.write(cid, block) }
        #expect(try archive(of: root, from: volume) == expected)
        #expect(source.most > 1)
        try volume.close()
        try expectClean(directory)
    }

    @Test func aBlockThatNobodyHasIsNamed() throws {
        let (root, last, table) = tree()
        let directory = ScratchDirectory()
        var volume = try open(directory, table.without(last, isDamaged: false))
        try volume.graft(root, as: "tree", in: .root)
        var error = #expect(throws: VolumeError.self) { try archive(of: root, from: volume) }
        var words = "\(try #require(error))"
        #expect(words.contains("\(last)") && words.contains("there is no block"), "\(words)")
        try volume.close()
        volume = try openVolume(directory, stillOptions)
        error = #expect(throws: VolumeError.self) { try archive(of: root, from: volume) }
        words = "\(try #require(error))"
        #expect(words.contains("--gateway, --car or --kubo"), "\(words)")
        try volume.close()
        try expectClean(directory)
    }
}
