internal import Base
internal import CFuse
internal import Glibc

internal import struct SystemPackage.Errno

/// The threads that serve a session, each from its start until it is joined.
final class WorkerThreads: Sendable {
    private struct State {
        /// INIT is answered.
        var isInitialized = false
        var runningCount = 0
        /// Workers that are not joined yet, by their numbers.
        var threads: [Int: JoinableThread] = [:]
        /// The numbers of those that have ended.
        var ended: [Int] = []
        var lastNumber = 0
        /// Workers whose reads `interrupt` interrupts.
        var identities: [pthread_t] = []
        /// A queue has lost a place with a request in it, whose user would wait for ever.
        var isBroken = false
    }

    private let throttle: ReaderThrottle
    private let state = Monitor(State(), rank: .workers)

    /// - Parameter waitingMax: how many threads may wait for requests of the device at once.
    init(waitingMax: Int) {
        throttle = ReaderThrottle(waitingMax: waitingMax)
    }

    /// Notes that INIT is answered.
    func noteInitialized() {
        state.withLock { $0.isInitialized = true }
        state.wakeAll()
    }

    /// Starts workers for the device that no signal but the wake signal gets through to.
    func startForDevice(_ mounted: MountedSession, count: Int) throws(Errno) {
        var mask = sigset_t()
        rfs_block_signals(&mask)
        defer { pthread_sigmask(SIG_SETMASK, &mask, nil) }
        for _ in 0..<count { _ = try start(mounted, queue: nil) }
    }

    /// Starts a worker, with the calling thread's signals.
    ///
    /// - Parameter queue: the queue that it serves; nil for the device.
    func start(_ mounted: MountedSession, queue: UInt16?) throws(Errno) -> StartupResult {
        let startup = StartupResult()
        let number = state.withLock { state in
            state.runningCount += 1
            state.lastNumber += 1
            return state.lastNumber
        }
        do throws(Errno) {
            let thread = try Threads.start(name: "fuse-\(number)") { [self] in
                work(mounted, number, queue, startup)
            }
            state.withLock { $0.threads[number] = thread }
        } catch {
            state.withLock { $0.runningCount -= 1 }
            state.wakeAll()
            throw error
        }
        // It may have ended before it was noted.
        state.wakeAll()
        return startup
    }

    private func work(
        _ mounted: MountedSession, _ number: Int, _ queue: UInt16?, _ startup: StartupResult
    ) {
        let identity = pthread_self()
        state.withLock { $0.identities.append(identity) }
        let source: Worker.Source =
            queue.map { .queue($0) { startup.tell($0) } } ?? .device(throttle)
        let worker = Worker(session: mounted.session, context: mounted.context, source: source)
        let isOver = worker.serve()
        // Whoever still waits for a Kubo node has nobody to answer.
        if isOver { mounted.context.waits.end() }
        if worker.isBroken { state.withLock { $0.isBroken = true } }
        // From here on no signal may be sent to this thread: it may be joined.
        state.withLock { state in
            state.identities.removeAll { pthread_equal($0, identity) != 0 }
            state.runningCount -= 1
            state.ended.append(number)
        }
        state.wakeAll()
    }

    /// Blocks until INIT is answered; false where all workers ended before that.
    func waitForInit() -> Bool {
        state.withLock { state in
            while !state.isInitialized && state.runningCount > 0 { self.state.wait(&state) }
            return state.isInitialized
        }
    }

    /// Joins workers as they end; returns once there are none any more.
    func joinAll(_ mounted: MountedSession) {
        while let ended = waitForEnded(mounted) {
            for thread in ended { thread.join() }
        }
    }

    /// Waits for workers to end; nil where all have been joined.
    private func waitForEnded(_ mounted: MountedSession) -> [JoinableThread]? {
        state.withLock { state in
            while true {
                let numbers = state.ended.filter { state.threads[$0] != nil }
                if !numbers.isEmpty {
                    state.ended.removeAll { numbers.contains($0) }
                    return numbers.compactMap { state.threads.removeValue(forKey: $0) }
                }
                if state.runningCount == 0, state.ended.isEmpty { return nil }
                if state.isBroken {
                    mounted.context.waits.end()
                    interrupt(&state, mounted)
                } else {
                    self.state.wait(&state)
                }
            }
        }
    }

    /// Waits a while for all workers to end by themselves; whether they have.
    func waitForEnd(milliseconds: Int) -> Bool {
        var waited = 0
        return state.withLock { state in
            while state.runningCount > 0, waited < milliseconds {
                self.state.wait(&state, milliseconds: Self.waitStepMilliseconds)
                waited += Self.waitStepMilliseconds
            }
            return state.runningCount == 0
        }
    }

    /// Interrupts the workers until all have ended.
    func interruptAll(_ mounted: MountedSession) {
        state.withLock { state in
            while state.runningCount > 0 { interrupt(&state, mounted) }
        }
    }

    /// Has the workers end, and waits a little: a read that blocks returns EINTR, and `serve` then
    /// sees the exit flag. The signal may come just before the read, so this is done until all have
    /// gone.
    private func interrupt(_ state: inout State, _ mounted: MountedSession) {
        fuse_session_exit(mounted.session)
        throttle.close()
        for worker in state.identities { pthread_kill(worker, rfs_wake_signal()) }
        self.state.wait(&state, milliseconds: Self.waitStepMilliseconds)
    }

    private static let waitStepMilliseconds = 10
}
