internal import Base
internal import Volume

/// Ends handles a moment after RELEASE was answered, many at a time.
///
/// Nobody waits for RELEASE: close(2) returns without it. But where a queue of io_uring brings it, its
/// thread would run on the processor of the very process that closes, before what that does next; and
/// on another thread it would hold the locks that the next request needs. So a thread of its own looks
/// for handles every few milliseconds as long as some come, and rests on a condition only after a
/// while without, so that it need not be woken for each.
final class DeferredReleases: Sendable {
    private struct State {
        var handles: [HandleID] = []
        var thread: JoinableThread?
        /// The thread looks by itself, soon.
        var isLooking = false
        var isEnded = false
    }

    private let state = Monitor(State())
    private let release: @Sendable (HandleID) -> Void

    /// Handles that wait, each perhaps with a file that is open; beyond that whoever closes does it.
    private static let waitingMax = 256
    private static let pauseMilliseconds = 3
    /// How often nothing is found before the thread rests.
    private static let emptyLooksMax = 40

    /// - Parameter release: ends a handle; may block for the disk.
    init(release: @escaping @Sendable (HandleID) -> Void) {
        self.release = release
    }

    /// Takes a handle over; false where it stays the caller's to end.
    func add(_ handle: HandleID) -> Bool {
        let (isTaken, mustWake) = state.withLock { state in
            guard !state.isEnded, state.handles.count < Self.waitingMax else {
                return (false, false)
            }
            if state.thread == nil {
                state.thread = try? Threads.start(name: "fuse-release") { [self] in run() }
                guard state.thread != nil else { return (false, false) }
            }
            state.handles.append(handle)
            defer { state.isLooking = true }
            return (true, !state.isLooking)
        }
        if mustWake { state.wakeAll() }
        return isTaken
    }

    private func run() {
        var handles: [HandleID] = []
        while take(&handles) {
            for handle in handles { release(handle) }
        }
    }

    /// Blocks until there are handles; false where there will be none any more.
    private func take(_ handles: inout [HandleID]) -> Bool {
        handles.removeAll(keepingCapacity: true)
        state.withLock { state in
            var emptyLooks = 0
            while state.handles.isEmpty, !state.isEnded {
                if emptyLooks < Self.emptyLooksMax {
                    self.state.wait(&state, milliseconds: Self.pauseMilliseconds)
                    emptyLooks += 1
                } else {
                    state.isLooking = false
                    self.state.wait(&state)
                }
            }
            swap(&handles, &state.handles)
        }
        return !handles.isEmpty
    }

    /// Ends all handles that wait, and the thread; from now on `add` refuses.
    func end() {
        let thread = state.withLock { state in
            state.isEnded = true
            return state.thread.take()
        }
        state.wakeAll()
        thread?.join()
    }
}
