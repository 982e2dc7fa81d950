internal import Base

/// Who waits for the tree to be published, and what the newest attempt came to.
final class PublishGoals: Sendable {
    private struct State {
        /// Counts who asked for everything to be published, and up to whom that was done.
        var wanted = 0
        var done = 0
        /// Why the newest attempt failed; nil once one succeeded.
        var failure: String?
        /// When the MFS path is looked at next although nothing changed here.
        var nextMirrorLook: Int64 = 0
        /// A pin failed for want of blocks that had all been sent.
        var mustAskPeers = false
    }

    private let state = Monitor(State())

    /// Asks for everything to be published as it is now; gives what `isDone` is to be asked.
    func add() -> Int {
        defer { state.wakeAll() }
        return state.withLock { state in
            state.wanted += 1
            state.failure = nil
            return state.wanted
        }
    }

    /// The newest goal, and whether it is to be reached still.
    var newest: (goal: Int, isWanted: Bool) { state.withLock { ($0.wanted, $0.done < $0.wanted) } }

    var failure: String? { state.withLock(\.failure) }

    /// Waits a moment for a goal to be reached; tells whether it is.
    func wait(for goal: Int, milliseconds: Int, unless isStopping: Bool) -> Bool {
        state.withLock { state in
            if state.done < goal, !isStopping {
                self.state.wait(&state, milliseconds: milliseconds)
            }
            return state.done >= goal
        }
    }

    /// Waits until it is time for the next look: a moment only while a goal is to be reached, unless calls
    /// are held back.
    func waitForNextLook(isPaused: Bool) {
        state.withLock { state in
            let isWaitedFor = state.wanted > state.done && !isPaused
            self.state.wait(
                &state,
                milliseconds: isWaitedFor ? Self.busyPollMilliseconds : Self.pollMilliseconds)
        }
    }

    private static let busyPollMilliseconds = 10
    private static let pollMilliseconds = 100

    func wakeAll() { state.wakeAll() }

    /// Notes why an attempt failed; nil where nothing is to be said of it.
    func fail(_ reason: String?) {
        state.withLock { state in state.failure = reason ?? state.failure }
        state.wakeAll()
    }

    /// Notes that all goals up to one are reached.
    func reach(_ goal: Int) {
        state.withLock { state in
            state.failure = nil
            state.done = max(state.done, goal)
        }
        state.wakeAll()
    }

    /// Whether it is time to look for what others changed at the MFS path.
    func isMirrorDue(intervalMilliseconds: Int) -> Bool {
        state.withLock { state in
            guard MonotonicClock.milliseconds >= state.nextMirrorLook else { return false }
            state.nextMirrorLook = MonotonicClock.milliseconds + Int64(intervalMilliseconds)
            return true
        }
    }

    /// Whether the remote is to look among its peers for blocks that it should have.
    var mustAskPeers: Bool {
        get { state.withLock(\.mustAskPeers) }
        set { state.withLock { $0.mustAskPeers = newValue } }
    }
}
