public import Base
public import Multiformats

/// The sources that a mount has, and those that others name while it runs: the gateways of domains.
///
/// Its own are asked before announced ones. Of these, those are asked that a domain named which is known to have the block:
/// because it leads to it, or because a block of the domain's links to it. Where no domain is known all are asked, the
/// best first. So a gateway that is away, or takes its time, holds up what is its domains' alone. What is known of which
/// blocks is bounded, and so are the sources: the one that was named longest ago makes place.
///
/// All of them together are a `SourceSet`: rests after failures, hedges, and the end of whoever gives wrong bytes are as
/// there.
public final class AnnouncedSources: RemoteBlocks {
    /// The most announced sources that are kept.
    public static let sourcesMax = 32
    /// The most sources of one domain: those that it named last.
    public static let sourcesOfDomainMax = 4
    /// The most domains whose sources are remembered.
    static let domainsMax = 256
    /// The most domains that are remembered for one block.
    static let domainsOfBlockMax = 4
    /// The most blocks of which it is remembered whose they are, by halves: the older one is forgotten at once.
    static let blocksMax = 32_768

    private struct Announced {
        let remote: any RemoteBlocks
        /// Counts up with each naming.
        var named: UInt64
    }

    private struct Domain {
        /// Those that it named last at the end.
        var addresses: [String] = []
        var named: UInt64 = 0
    }

    private struct State {
        var all: SourceSet?
        var announced: [String: Announced] = [:]
        var domains: [String: Domain] = [:]
        var namings: UInt64 = 0
    }

    /// Which domains have which blocks, by their word.
    private final class Ledger: Sendable {
        private struct State {
            var newer: [CID: [String]] = [:]
            var older: [CID: [String]] = [:]
        }

        private let state = Monitor(State())

        func domains(of cid: CID) -> [String] {
            state.withLock { $0.newer[cid] ?? $0.older[cid] ?? [] }
        }

        func note(_ cids: [CID], of domains: [String]) {
            guard !domains.isEmpty else { return }
            state.withLock { state in
                for cid in cids { Self.note(cid, of: domains, &state) }
            }
        }

        private static func note(_ cid: CID, of domains: [String], _ state: inout State) {
            var known = state.newer[cid] ?? state.older[cid] ?? []
            known.removeAll { domains.contains($0) }
            known += domains
            if known.count > domainsOfBlockMax {
                known.removeFirst(known.count - domainsOfBlockMax)
            }
            if state.newer[cid] == nil, state.newer.count >= blocksMax / 2 {
                state.older = state.newer
                state.newer = [:]
            }
            state.newer[cid] = known
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

    /// Notes where a domain leads.
    public func note(root: CID, of domain: String) { ledger.note([root], of: [domain]) }

    /// Takes a source that a domain named, or notes that it did once more.
    ///
    /// - Parameters:
    ///   - address: that of the remote.
    ///   - make: makes the remote, where it is not known.
    public func announce<Failure: Error>(
        _ address: String, by domain: String, _ make: () throws(Failure) -> any RemoteBlocks
    ) throws(Failure) {
        let isKnown = state.withLock { Self.noteNaming(of: address, by: domain, &$0) }
        guard !isKnown else { return }
        let remote = try make()
        state.withLock { state in
            guard !Self.noteNaming(of: address, by: domain, &state) else { return }
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
    private static func noteNaming(
        of address: String, by domain: String, _ state: inout State
    ) -> Bool {
        state.namings += 1
        var known = state.domains[domain] ?? Domain()
        known.addresses.removeAll { $0 == address }
        known.addresses.append(address)
        if known.addresses.count > sourcesOfDomainMax { known.addresses.removeFirst() }
        known.named = state.namings
        if state.domains.count >= domainsMax, state.domains[domain] == nil,
            let oldest = state.domains.min(by: { $0.value.named < $1.value.named })
        {
            state.domains[oldest.key] = nil
        }
        state.domains[domain] = known
        guard state.announced[address] != nil else { return false }
        state.announced[address]?.named = state.namings
        return true
    }

    // MARK: Blocks

    /// - Throws: as `SourceSet.block`; `notFound` where there is nobody to ask.
    public func block(
        _ request: BlockRequest, memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        let cid = request.cid
        var request = request
        let domains = ledger.domains(of: cid)
        let (all, addresses) = state.withLock { state in
            (
                state.all,
                domains.flatMap { state.domains[$0]?.addresses ?? [] }
                    .filter { state.announced[$0] != nil }
            )
        }
        request.announcedBy = addresses
        guard let all else {
            if cid.multihash.code == .identity { return cid.multihash.digest }
            throw RemoteError(
                .notFound, "block \(cid) is not here, and no domain has named who has it (notFound)"
            )
        }
        let block = try all.block(request, memory: memory)
        if !domains.isEmpty { ledger.note(links(cid, block), of: domains) }
        return block
    }
}
