internal import Base

/// Who may make a call now: calls wait here where too many are under way.
///
/// Two kinds are counted each on its own: those that have the node ask its peers, which take long, and all
/// others. One lock, and nothing is called under it.
final class Admission: Sendable {
    private struct Counts: Sendable {
        var busyCount = 0
        var uploadCount = 0
        /// By user.
        var searches = Shares<UInt32?>()
    }

    private let counts = Monitor(Counts(), rank: .connections)
    private let callsMax: Int
    private let uploadsMax: Int
    private let searchesMax: Int

    init(callsMax: Int, uploadsMax: Int, searchesMax: Int) {
        self.callsMax = callsMax
        self.uploadsMax = uploadsMax
        self.searchesMax = searchesMax
    }

    /// Blocks until the call may be made; `leave` follows.
    ///
    /// - Parameter deadline: by `MonotonicClock.milliseconds`.
    /// - Throws: `cancelled`, or `timeout` at the deadline.
    func enter(_ call: Call, deadline: Int64) throws(KuboError) {
        let counts = counts
        let handler = call.cancellation?.onCancel {
            // Under the lock, so that nobody is between looking and waiting.
            counts.withLock { _ in counts.wakeAll() }
        }
        defer { if let handler { call.cancellation?.remove(handler: handler) } }
        try counts.withLock { (state) throws(KuboError) in
            while true {
                if call.cancellation?.isCancelled ?? false {
                    throw call.error(.cancelled, "cancelled")
                }
                if take(call, from: &state) { return }
                let now = MonotonicClock.milliseconds
                guard now < deadline else {
                    throw call.error(.timeout, "no connection became free within the call's time")
                }
                counts.wait(&state, milliseconds: Int(clamping: deadline - now))
            }
        }
    }

    private func take(_ call: Call, from state: inout Counts) -> Bool {
        if call.asksPeers {
            guard state.searches.mayTake(call.user, of: searchesMax) else { return false }
            state.searches.take(call.user)
            return true
        }
        guard state.busyCount < callsMax, !call.isUpload || state.uploadCount < uploadsMax else {
            return false
        }
        state.busyCount += 1
        if call.isUpload { state.uploadCount += 1 }
        return true
    }

    /// Ends what `enter` began.
    func leave(_ call: Call) {
        counts.withLock { state in
            if call.asksPeers {
                state.searches.giveBack(call.user)
            } else {
                state.busyCount -= 1
                if call.isUpload { state.uploadCount -= 1 }
            }
        }
        // All, for those that wait are of two kinds.
        counts.wakeAll()
    }
}
