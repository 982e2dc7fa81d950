public import Base
public import Multiformats

/// The sources that a mount has, and those that others name while it runs: the gateways of domains.
///
/// Its own are asked before announced ones. Of these, those are asked that are known to have a block: because whoever
/// named them leads to it, or because a block links to it that came from them. Where nobody is known all are asked, the
/// best first. So a domain's gateway that is away, or takes its time, holds up what is that domain's. What is known of
/// which blocks is bounded, and so are the sources: the one that was named longest ago makes place.
///
/// All of them together are a `SourceSet`: rests after failures, hedges, and the end of whoever gives wrong bytes are as
/// there.
public final class AnnouncedSources: RemoteBlocks {
    /// The most announced sources that are kept.
    public static let sourcesMax = 32
    /// The most announced sources that are remembered for one block.
    static let sourcesOfBlockMax = 4
    /// The most blocks of which it is remembered who has them, by halves: the older one is forgotten at once.
    static let blocksMax = 32_768

    private struct Announced {
        let remote: any RemoteBlocks
        /// Counts up with each naming.
        var named: UInt64
    }

    private struct State {
        var all: SourceSet?
        var announced: [String: Announced] = [:]
        var namings: UInt64 = 0
    }

    /// Who has which blocks, by their word.
    private final class Ledger: Sendable {
        private struct State {
            var newer: [CID: [String]] = [:]
            var older: [CID: [String]] = [:]
        }

        private let state = Monitor(State())

        func owners(of cid: CID) -> [String] {
            state.withLock { $0.newer[cid] ?? $0.older[cid] ?? [] }
        }

        func note(_ cids: [CID], at address: String) {
            state.withLock { state in
                for cid in cids {
                    var known = state.newer[cid] ?? state.older[cid] ?? []
                    guard known.last != address || state.newer[cid] == nil else { continue }
                    known.removeAll { $0 == address }
                    known.append(address)
                    if known.count > sourcesOfBlockMax { known.removeFirst() }
                    if state.newer[cid] == nil, state.newer.count >= blocksMax / 2 {
                        state.older = state.newer
                        state.newer = [:]
                    }
                    state.newer[cid] = known
                }
            }
        }
    }

    private let own: [SourceSet.Source]
    private let links: @Sendable (CID, [UInt8]) -> [CID]
    private let state: Monitor<State>
    private let ledger = Ledger()

    /// - Parameters:
    ///   - own: the mount's own sources; there may be none.
    ///   - links: what a block links to, as far as it is worth to be remembered; called with verified bytes.
    public init(
        _ own: [SourceSet.Source], links: @escaping @Sendable (CID, [UInt8]) -> [CID]
    ) {
        self.own = own
        self.links = links
        state = Monitor(State(all: own.isEmpty ? nil : SourceSet(own)))
    }

    public var address: String { state.withLock(\.all)?.address ?? "nobody" }

    /// Whether the mount has sources of its own.
    public var hasOwn: Bool { !own.isEmpty }

    /// What is known of each source, the mount's own first. Asks none of them.
    public func status() -> [SourceStatus] { state.withLock(\.all)?.status() ?? [] }

    // MARK: Naming

    /// Takes a source that somebody named, or notes that he did once more.
    ///
    /// - Parameters:
    ///   - address: that of the remote.
    ///   - root: where whoever named it leads; nil where that is not known yet.
    ///   - make: makes the remote, where it is not known.
    public func announce<Failure: Error>(
        _ address: String, for root: CID?, _ make: () throws(Failure) -> any RemoteBlocks
    ) throws(Failure) {
        if let root { ledger.note([root], at: address) }
        let isKnown = state.withLock { Self.noteNaming(of: address, &$0) }
        guard !isKnown else { return }
        let remote = Noting(remote: try make(), ledger: ledger, links: links)
        state.withLock { state in
            guard !Self.noteNaming(of: address, &state) else { return }
            if state.announced.count >= Self.sourcesMax,
                let oldest = state.announced.min(by: { $0.value.named < $1.value.named })
            {
                state.announced[oldest.key] = nil
            }
            state.announced[address] = Announced(remote: remote, named: state.namings)
            let sources =
                own
                + state.announced.sorted { $0.value.named < $1.value.named }.map {
                    SourceSet.Source($0.value.remote, .announced)
                }
            state.all = state.all.map { SourceSet(sources, after: $0) } ?? SourceSet(sources)
        }
    }

    /// Whether the source is known.
    private static func noteNaming(of address: String, _ state: inout State) -> Bool {
        state.namings += 1
        guard state.announced[address] != nil else { return false }
        state.announced[address]?.named = state.namings
        return true
    }

    // MARK: Blocks

    /// - Throws: as `SourceSet.block`; `notFound` where there is nobody to ask.
    public func block(
        _ request: BlockRequest, memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        var request = request
        let owners = ledger.owners(of: request.cid)
        let (all, known) = state.withLock { state in
            (state.all, owners.filter { state.announced[$0] != nil })
        }
        request.announcedBy = known
        if let all { return try all.block(request, memory: memory) }
        if request.cid.multihash.code == .identity { return request.cid.multihash.digest }
        throw RemoteError(
            .notFound,
            "block \(request.cid) is not here, and no domain has named who has it (notFound)")
    }

    /// An announced source, whose blocks tell what else it has.
    private struct Noting: RemoteBlocks {
        let remote: any RemoteBlocks
        let ledger: Ledger
        let links: @Sendable (CID, [UInt8]) -> [CID]

        var address: String { remote.address }

        func block(
            _ request: BlockRequest, memory: ReplyMemory?
        ) throws(RemoteError) -> [UInt8] {
            let block = try remote.block(request, memory: memory)
            let linked = links(request.cid, block)
            if !linked.isEmpty { ledger.note(linked, at: address) }
            return block
        }
    }
}
