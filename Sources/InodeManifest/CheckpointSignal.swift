internal import Base

/// Wakes the thread that makes checkpoints.
final class CheckpointSignal: Sendable {
    private struct State {
        var isRaised = false
        var isStopped = false
    }

    private let state = Monitor(State())

    func raise() {
        state.withLock { $0.isRaised = true }
        state.wakeAll()
    }

    func stop() {
        state.withLock { $0.isStopped = true }
        state.wakeAll()
    }

    /// Waits for `raise`; false after `stop`.
    func wait() -> Bool {
        state.withLock { state in
            while !state.isRaised && !state.isStopped { self.state.wait(&state) }
            state.isRaised = false
            return !state.isStopped
        }
    }
}
