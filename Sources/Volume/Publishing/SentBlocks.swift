internal import Base
internal import Multiformats

/// The blocks that the remote acknowledged not long ago: at least `countMax` of them.
final class SentBlocks: Sendable {
    private struct State {
        var blocks = Recent<CID, Void>(countMax: SentBlocks.countMax)
        /// Blocks may be at the remote although nothing says so: something was cut off.
        var mayBeMore = true
    }

    private let state = Monitor(State())
    private static let countMax = 16_384

    func add(_ cids: [CID]) {
        state.withLock { state in
            for cid in cids { state.blocks.insert(cid) }
        }
    }

    func contains(_ cid: CID) -> Bool {
        state.withLock { $0.blocks.contains(cid) }
    }

    /// Forgets all, because the remote lost blocks, or is another one.
    func removeAll() {
        state.withLock { $0.blocks.removeAll() }
    }

    var mayBeMore: Bool { state.withLock(\.mayBeMore) }

    /// Notes that nobody knows how much of a request was stored.
    func noteDoubt() {
        state.withLock { $0.mayBeMore = true }
    }

    /// Notes that all that is there is acknowledged.
    func endDoubt() {
        state.withLock { $0.mayBeMore = false }
    }
}
