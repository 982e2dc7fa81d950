import Base
import Multiformats
import Remotes
import Testing

/// Sources that domains name while a mount runs.
struct AnnouncedSourcesTests {
    /// A source that has some blocks.
    private final class Holder: RemoteBlocks {
        let address: String
        private let blocks: [CID: [UInt8]]
        private let failure: RemoteError.Kind?
        private let asked = Monitor(0)

        init(_ address: String, _ blocks: [[UInt8]] = [], failing failure: RemoteError.Kind? = nil)
        {
            self.address = address
            self.blocks = Dictionary(
                blocks.map { (CID.raw(sha256: $0), $0) }, uniquingKeysWith: { $1 })
            self.failure = failure
        }

        /// How often it was asked.
        var count: Int { asked.withLock { $0 } }

        func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
            asked.withLock { $0 += 1 }
            if let failure { throw RemoteError(failure, "\(address): it fails") }
            guard let block = blocks[request.cid] else {
                throw RemoteError(.notFound, "\(address): it is not there")
            }
            return block
        }
    }

    private let parent: [UInt8] = [1]
    private let child: [UInt8] = [2]
    private let other: [UInt8] = [3]

    /// Of all blocks the parent alone links to something, the child.
    private func make(_ own: Holder...) -> AnnouncedSources {
        let (parent, child) = (CID.raw(sha256: parent), CID.raw(sha256: child))
        return AnnouncedSources(own.map { .init($0, .gateway) }) { cid, _ in
            cid == parent ? [child] : []
        }
    }

    private func get(_ sources: AnnouncedSources, _ block: [UInt8]) throws(RemoteError) -> [UInt8] {
        var request = BlockRequest(CID.raw(sha256: block), deadlineMilliseconds: 60_000)
        request.asksPeers = true
        return try sources.block(request, memory: nil)
    }

    private func failure(_ body: () throws(RemoteError) -> [UInt8]) -> RemoteError.Kind? {
        do throws(RemoteError) {
            _ = try body()
            return nil
        } catch {
            return error.kind
        }
    }

    /// By a domain of its own, unless it is said which.
    private func announce(
        _ holder: Holder, _ sources: AnnouncedSources, by domain: String? = nil,
        for root: [UInt8]? = nil
    ) {
        let domain = domain ?? holder.address
        if let root { sources.note(root: CID.raw(sha256: root), of: domain) }
        sources.announce(holder.address, by: domain) { holder }
    }

    @Test func withoutAnybodyNothingIsFound() throws {
        let sources = make()
        #expect(!sources.hasOwn && sources.status().isEmpty)
        #expect(failure { () throws(RemoteError) in try get(sources, parent) } == .notFound)
        let empty = CID(codec: .raw, multihash: try .identity([7]))
        #expect(
            try sources.block(BlockRequest(empty, deadlineMilliseconds: 1), memory: nil) == [7])
        announce(Holder("one", [parent]), sources)
        #expect(try get(sources, parent) == parent)
        #expect(sources.status().map(\.kind) == [.announced])
    }

    @Test func ownSourcesAreAskedFirst() throws {
        let own = Holder("own", [parent])
        let sources = make(own)
        let named = Holder("named", [parent, child])
        announce(named, sources)
        for _ in 0..<200 { #expect(try get(sources, parent) == parent) }
        #expect(named.count == 0)
        #expect(try get(sources, child) == child)
        #expect(named.count == 1)
        #expect(sources.status().map(\.address) == ["own", "named"])
    }

    @Test func whoLeadsToABlockIsAskedAndNobodyElse() throws {
        let sources = make()
        let (good, foreign) = (
            Holder("good", [parent, child]), Holder("foreign", [parent, child])
        )
        announce(good, sources, for: parent)
        announce(foreign, sources, for: other)
        #expect(try get(sources, parent) == parent)
        #expect(try get(sources, child) == child)
        #expect(good.count == 2 && foreign.count == 0)
    }

    @Test func whoFailsHoldsUpHisOwnBlocksAlone() throws {
        let sources = make()
        let (away, good) = (Holder("away", failing: .unreachable), Holder("good", [parent, child]))
        announce(away, sources, for: other)
        announce(good, sources, for: parent)
        #expect(failure { () throws(RemoteError) in try get(sources, other) } == .unreachable)
        #expect(good.count == 0)
        let before = away.count
        #expect(try get(sources, parent) == parent)
        #expect(try get(sources, child) == child)
        #expect(away.count == before)
    }

    @Test func aDomainThatMovesIsAskedWhereItIsNow() throws {
        let sources = make()
        let (old, new) = (Holder("old", [parent]), Holder("new", [child]))
        announce(old, sources, by: "domain", for: parent)
        announce(Holder("foreign", failing: .unreachable), sources, for: other)
        #expect(try get(sources, parent) == parent)
        announce(new, sources, by: "domain", for: parent)
        #expect(try get(sources, child) == child)
    }

    @Test func severalMayHaveABlock() throws {
        let sources = make()
        let (away, good) = (Holder("away", failing: .unreachable), Holder("good", [parent]))
        announce(away, sources, for: parent)
        announce(good, sources, for: parent)
        #expect(try get(sources, parent) == parent)
    }

    @Test func theOneNamedLongestAgoMakesPlace() throws {
        let sources = make()
        let holders = (0...AnnouncedSources.sourcesMax).map {
            Holder("\($0)", $0 == 0 ? [parent] : [])
        }
        for holder in holders.dropLast() { announce(holder, sources) }
        // Named once more, it is no longer the one.
        announce(holders[0], sources, for: parent)
        announce(holders[AnnouncedSources.sourcesMax], sources)
        #expect(sources.status().count == AnnouncedSources.sourcesMax)
        #expect(!sources.status().contains { $0.address == "1" })
        #expect(try get(sources, parent) == parent)
    }

    @Test func whatIsKnownOfASourceIsKept() throws {
        let sources = make()
        announce(Holder("liar", failing: .wrongBytes), sources, for: parent)
        #expect(failure { () throws(RemoteError) in try get(sources, parent) } == .wrongBytes)
        announce(Holder("good", [parent]), sources, for: parent)
        let status = sources.status()
        #expect(status.map(\.wrongAnswers) == [1, 0])
        #expect(status[0].state != .ok)
        #expect(try get(sources, parent) == parent)
    }
}
