internal import Base

/// Who may ask the gateway now: requests wait here where too many are under way.
///
/// Those that have the gateway look among its peers take long, so they have a part of the places only, and
/// one user half of what the others leave of that. One lock, and nothing is called under it.
final class GatewayAdmission: Sendable {
    /// Why a request may not be made.
    enum Refusal: Error {
        case cancelled, timeout
    }

    private struct Counts: Sendable {
        var total = 0
        /// By user.
        var searches = Shares<UInt32?>()
    }

    private let counts = Monitor(Counts(), rank: .connections)
    private let requestsMax: Int
    private let searchesMax: Int

    init(requestsMax: Int) {
        self.requestsMax = requestsMax
        searchesMax = max(1, requestsMax - requestsMax / 4)
    }

    /// Blocks until the request may be made; `leave` follows.
    ///
    /// - Parameters:
    ///   - isSearch: whether the gateway looks among its peers.
    ///   - deadline: by `MonotonicClock.milliseconds`.
    func enter(
        isSearch: Bool, for user: UInt32?, _ cancellation: Cancellation?, deadline: Int64
    ) throws(Refusal) {
        let counts = counts
        let handler = cancellation?.onCancel {
            // Under the lock, so that nobody is between looking and waiting.
            counts.withLock { _ in counts.wakeAll() }
        }
        defer { if let handler { cancellation?.remove(handler: handler) } }
        try counts.withLock { (state) throws(Refusal) in
            while true {
                if cancellation?.isCancelled ?? false { throw .cancelled }
                if state.total < requestsMax,
                    !isSearch || state.searches.mayTake(user, of: searchesMax)
                {
                    state.total += 1
                    if isSearch { state.searches.take(user) }
                    return
                }
                let now = MonotonicClock.milliseconds
                guard now < deadline else { throw .timeout }
                counts.wait(&state, milliseconds: Int(clamping: deadline - now))
            }
        }
    }

    /// Ends what `enter` began.
    func leave(isSearch: Bool, for user: UInt32?) {
        counts.withLock { state in
            state.total -= 1
            if isSearch { state.searches.giveBack(user) }
        }
        // All, for those that wait are of two kinds.
        counts.wakeAll()
    }
}
