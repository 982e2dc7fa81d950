internal import Base

/// When a volume works beside its operations: the thread that tidies up each second and commits, all other threads
/// that end with the volume, and who refreshes the figures of `status`.
final class VolumeClock: Sendable {
    private struct State {
        var isStopping = false
        var isCommitWanted = false
        var threads: [JoinableThread] = []
    }

    /// Work that keeps processors busy.
    let work = BackgroundWork()
    /// Who brings the figures of `status` up to date.
    let figures = FigureRefresh()
    private let state = Monitor(State())

    /// Takes threads that are joined at the end.
    func add(_ threads: [JoinableThread]) { state.withLock { $0.threads += threads } }

    /// Wakes the background for a commit without waiting for it.
    func requestCommit() {
        state.withLock { $0.isCommitWanted = true }
        state.wakeAll()
    }

    /// Waits until the next round of the background is due.
    ///
    /// - Returns: whether others follow it.
    func waitForRound(milliseconds: Int) -> Bool {
        state.withLock { state in
            if !state.isStopping && !state.isCommitWanted {
                self.state.wait(&state, milliseconds: milliseconds)
            }
            state.isCommitWanted = false
            return !state.isStopping
        }
    }

    /// Ends the rounds after one more.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.wakeAll()
    }

    /// Waits for the end of all threads. Each is joined once, also where closing fails and is tried again.
    func join() {
        let ended = state.withLock { state in
            defer { state.threads = [] }
            return state.threads
        }
        for thread in ended { thread.join() }
    }
}
