internal import Base
internal import Multiformats

// The room of domains: repositories of others that come at their first lookup, and go with what their domains lead to.
//
// Owns: lookups of domains that are under way, and which ended without a tree; how each graft is doing; directories of
// grafts that were read lately; what was hashed of blobs whose digest has to be found out. The grafts are the manifest's.
// Locks: its own, each for a few statements, and none while anything is asked of others.
// Invariants: what is here wins over what others have. Nobody gets a byte of a graft's blob before all of them were
// compared with its digest, once. Whoever waits has a deadline and can be interrupted, and one domain waits for no other.

/// What the room of domains has.
final class DomainsRoom: Sendable {
    /// Why there is nothing to be had of a domain.
    struct Refusal: Sendable {
        let kind: DomainError.Kind
        let words: String
        /// In milliseconds of `MonotonicClock`.
        let until: Int64
    }

    /// How a graft is doing.
    struct Health: Sendable {
        /// Fetches from its tree that failed one after the other.
        var failures = 0
        /// It is not asked for blobs before, in milliseconds of `MonotonicClock`.
        var restsUntil: Int64 = 0
        /// When somebody looked for something of it last, in milliseconds of `MonotonicClock`.
        var usedAt: Int64 = 0
        /// It is looked for next, in milliseconds of `MonotonicClock`; nil for as soon as its lifetime has ended.
        var nextLook: Int64?
        /// Looks that failed one after the other.
        var looksFailed = 0
        var lastError: String?
    }

    /// Something that a tree of blobs does not have.
    struct Miss: Hashable, Sendable {
        let blobs: CID
        let name: [UInt8]
        /// The name in a static registry that has not: others of the same tree may. Empty for trees that have one for all.
        let part: String
    }

    /// A name in a static registry.
    struct StaticKey: Hashable, Sendable {
        let name: String
        let v2: CID
    }

    struct State {
        /// Lookups under way, by domain.
        var lookups: [String: DomainLookup] = [:]
        var refusals = Recent<String, Refusal>(countMax: DomainsRoom.refusalsMax)
        var health: [String: Health] = [:]
        var misses = Recent<Miss, Void>(countMax: DomainsRoom.missesMax)
        /// What static registries have of blobs.
        var staticBlobs = Recent<StaticKey, [String: StaticRepository.Blob]>(
            countMax: DomainsRoom.staticMax)
        /// Of those that were noted since the older ones were dropped.
        var staticBlobCount = 0
        /// Grafts that are being refreshed.
        var refreshing: Set<String> = []
        /// A directory of theirs could not be had: who keeps the newest tree alone has another one by now.
        var isHurried = false
        var isStopping = false
    }

    private struct Nodes {
        var recent = Recent<CID, [UInt8]>(countMax: DomainsRoom.nodesMax)
        var bytes = 0
    }

    let state = Monitor(State())
    private let nodes = Monitor(Nodes())
    let verifications = Verifications()
    /// Threads that look up domains, ask grafts, and refresh them.
    let pool = FetchPool(threadsMax: DomainsRoom.threadsMax)
    /// Ends what they are at.
    let cancellation = Cancellation()

    /// Grafts of a volume, at most.
    static let graftsMax = 10_000
    private static let staticMax = 32
    /// Blobs of static registries that are remembered; up to twice as many are, and one registry more.
    private static let staticBlobsMax = 200_000
    private static let refusalsMax = 4_096
    private static let missesMax = 16_384
    private static let threadsMax = 64
    private static let nodesMax = 4_096
    /// Bytes of directories that are remembered; up to twice as many are.
    private static let nodeBytesMax = 4 << 20
    private static let nodeByteCountMax = 512 << 10

    func stop() {
        cancellation.cancel()
        let lookups = state.withLock { state in
            state.isStopping = true
            return Array(state.lookups.values)
        }
        state.wakeAll()
        for lookup in lookups { lookup.cancellation.cancel() }
    }

    // MARK: What was read lately

    func node(_ cid: CID) -> [UInt8]? { nodes.withLock { $0.recent[cid] } }

    func note(_ cid: CID, _ block: [UInt8]) {
        guard block.count <= Self.nodeByteCountMax else { return }
        nodes.withLock { nodes in
            nodes.bytes += block.count
            if nodes.bytes > Self.nodeBytesMax {
                nodes.recent.turn()
                nodes.bytes = block.count
            }
            nodes.recent.note(cid, block)
        }
    }

    // MARK: How grafts are doing

    /// Notes that somebody looks for something of a graft.
    func noteUse(of graft: String) {
        let now = MonotonicClock.milliseconds
        state.withLock { $0.health[graft, default: Health()].usedAt = now }
    }

    /// Notes how a fetch from the tree of a graft ended.
    func note(_ graft: String, failed: Bool) {
        state.withLock { state in
            var health = state.health[graft] ?? Health()
            health.failures = failed ? health.failures + 1 : 0
            health.restsUntil =
                failed
                ? MonotonicClock.milliseconds + Self.rest(after: health.failures) : 0
            state.health[graft] = health
        }
    }

    /// How long nobody is asked who failed so often, in milliseconds.
    static func rest(after failures: Int) -> Int64 {
        min(5_000 << Int64(min(failures - 1, 8)), 300_000)
    }

    func health(of graft: String) -> Health { state.withLock { $0.health[graft] ?? Health() } }

    func forget(_ graft: String) { state.withLock { $0.health[graft] = nil } }

    /// Has grafts looked for before their lifetimes have ended.
    func hurry() { state.withLock { $0.isHurried = true } }

    // MARK: What there is not

    /// Why a domain is not asked for again yet; nil where it may be.
    func refusal(of domain: String) -> Refusal? {
        state.withLock { state in
            guard let known = state.refusals[domain], known.until > MonotonicClock.milliseconds
            else { return nil }
            return known
        }
    }

    func staticBlobs(of name: String, in v2: CID) -> [String: StaticRepository.Blob]? {
        state.withLock { $0.staticBlobs[StaticKey(name: name, v2: v2)] }
    }

    func note(_ blobs: [String: StaticRepository.Blob], of name: String, in v2: CID) {
        state.withLock { state in
            state.staticBlobCount += blobs.count
            if state.staticBlobCount > Self.staticBlobsMax {
                state.staticBlobs.turn()
                state.staticBlobCount = blobs.count
            }
            state.staticBlobs.note(StaticKey(name: name, v2: v2), blobs)
        }
    }

    func lacks(_ name: [UInt8], in blobs: CID, part: String) -> Bool {
        state.withLock { $0.misses.contains(Miss(blobs: blobs, name: name, part: part)) }
    }

    func noteLack(of name: [UInt8], in blobs: CID, part: String) {
        state.withLock { $0.misses.insert(Miss(blobs: blobs, name: name, part: part)) }
    }
}

/// A domain that is being looked up, once for all who want it.
final class DomainLookup: Sendable {
    enum Outcome: Sendable {
        /// The name is here by now.
        case here
        case refused(DomainsRoom.Refusal)
    }

    let outcome = Monitor<Outcome?>(nil)
    let cancellation = Cancellation()

    /// Waits for the outcome; nil at the deadline.
    func wait(until deadline: Int64, _ wait: RemoteWait) -> Outcome? {
        outcome.withLock { outcome in
            while outcome == nil, !wait.isInterrupted {
                let left = deadline - MonotonicClock.milliseconds
                guard left > 0 else { return nil }
                self.outcome.wait(&outcome, milliseconds: Int(min(left, 500)))
            }
            return outcome
        }
    }

    func end(_ result: Outcome) {
        outcome.withLock { $0 = result }
        outcome.wakeAll()
    }
}
