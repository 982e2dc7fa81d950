internal import Base

/// Brings the figures of `status` up to date, on a thread of its own for as long as that takes.
///
/// Whoever asks for them waits only for a moment: a lock that is held for long, or a disk that is slow,
/// is what a status has to be told in spite of. What is known is told then, as it was last.
package final class FigureRefresh: Sendable {
    private struct State {
        /// Counts who asked, and up to whom it was done.
        var wanted = 0
        var done = 0
        var isRunning = false
        var isStopped = false
        /// When the round that is under way began, in milliseconds of `MonotonicClock`.
        var begun: Int64 = 0
    }

    private let state = Monitor(State())

    /// How long anybody waits, in milliseconds.
    package static let waitMilliseconds: Int64 = 2_000

    package init() {}

    /// Has work done that begins after the call, once for all who ask meanwhile, and waits for its end.
    ///
    /// - Returns: whether it came to its end in time.
    @discardableResult
    package func run(_ work: @escaping @Sendable () -> Void) -> Bool {
        let deadline = MonotonicClock.milliseconds + Self.waitMilliseconds
        let (goal, starts) = state.withLock { state in
            state.wanted += 1
            let starts = !state.isRunning && !state.isStopped
            if starts { (state.isRunning, state.begun) = (true, MonotonicClock.milliseconds) }
            return (state.wanted, starts)
        }
        if starts {
            let thread: Void? = try? Threads.startDetached(name: "rfs-figures") { [self] in
                repeat {} while runRound(work)
            }
            if thread == nil { state.withLock { $0.isRunning = false } }
        }
        return state.withLock { state in
            while state.done < goal {
                // Who comes while one has been at it for so long would wait in vain.
                let now = MonotonicClock.milliseconds
                let left = min(deadline, state.begun + Self.waitMilliseconds) - now
                guard state.isRunning, left > 0 else { return false }
                self.state.wait(&state, milliseconds: Int(left))
            }
            return true
        }
    }

    private func runRound(_ work: () -> Void) -> Bool {
        let goal = state.withLock { state in
            state.begun = MonotonicClock.milliseconds
            return state.wanted
        }
        work()
        defer { state.wakeAll() }
        return state.withLock { state in
            state.done = goal
            state.isRunning = state.wanted > goal && !state.isStopped
            return state.isRunning
        }
    }

    /// Lets no work begin from now on, and waits for the end of what is under way.
    package func stop() {
        state.withLock { state in
            state.isStopped = true
            while state.isRunning { self.state.wait(&state) }
        }
    }
}
