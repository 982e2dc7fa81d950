internal import Base

/// A share of the threads that requests block, for requests that may wait long for somebody else: so those of another kind find a
/// thread.
public final class RequestShare: Sendable {
    private struct State {
        var runningCount = 0
        var waitingCount = 0
        /// When the last one ended, or all began to run; in milliseconds of `MonotonicClock`.
        var movedAt: Int64 = 0
    }

    private let runningMax: Int
    private let waitingMax: Int
    private let patience: Int64
    private let state = Monitor(State())

    /// - Parameters:
    ///   - runningMax: how many run at a time, 1 or more.
    ///   - waitingMax: how many may wait for one to end whatever happens, 0 or more.
    ///   - patienceMilliseconds: each further one waits as long as there was an end in this time; 0 for not at all.
    public init(runningMax: Int, waitingMax: Int, patienceMilliseconds: Int = 0) {
        self.runningMax = max(1, runningMax)
        self.waitingMax = max(0, waitingMax)
        patience = Int64(clamping: max(0, patienceMilliseconds))
    }

    /// How many run, and how many wait for one to end; for figures and tests.
    public var counts: (running: Int, waiting: Int) {
        state.withLock { ($0.runningCount, $0.waitingCount) }
    }

    /// Runs a body once there is room; blocks the thread until then.
    ///
    /// - Parameter end: until when to wait for room, by `MonotonicClock.milliseconds`.
    /// - Throws: `unavailable` where too many wait already, `timedOut` where there was no room in time, and what the body throws.
    public func run<Result>(
        until end: Int64, _ body: () throws(ServeFault) -> Result
    ) throws(ServeFault) -> Result {
        try begin(until: end)
        defer {
            state.withLock { state in
                state.runningCount -= 1
                state.movedAt = MonotonicClock.milliseconds
            }
            state.wakeOne()
        }
        return try body()
    }

    private func begin(until end: Int64) throws(ServeFault) {
        let fault: ServeFault? = state.withLock { state in
            if state.runningCount >= runningMax {
                state.waitingCount += 1
                defer { state.waitingCount -= 1 }
                while state.runningCount >= runningMax {
                    let now = MonotonicClock.milliseconds
                    var left = end - now
                    guard left > 0 else { return .timedOut }
                    if state.waitingCount > waitingMax {
                        left = min(left, state.movedAt + patience - now)
                        guard left > 0 else { return .unavailable }
                    }
                    self.state.wait(&state, milliseconds: Int(left))
                }
            }
            state.runningCount += 1
            if state.runningCount == runningMax { state.movedAt = MonotonicClock.milliseconds }
            return nil
        }
        guard let fault else { return }
        // This thread may be the one that was woken for the room that there is.
        state.wakeOne()
        throw fault
    }
}
