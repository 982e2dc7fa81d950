internal import Base
internal import CFuse
internal import Volume

/// The requests that wait for a node.
///
/// One that waits holds its thread for as long as the node takes, so spare threads are started while
/// fewer than half of the usual number are free, and end with the waits. All others cost nothing of
/// this: a spare is started where a wait begins, and it is a thread whose request has waited that ends.
///
/// All of it comes by the device: where there is a node, requests do not come by io_uring.
///
/// The kernel's wish to interrupt a request ends its wait. The wish may overtake the request on its
/// way to here, or come before it waits; so the newest wishes are remembered.
final class WaitingRequests: RemoteWaitObserver {
    private struct State {
        /// Threads that serve, those that wait among them.
        var threads: Int
        /// By the number of the request; more than one where a wait needs another.
        var waits: [UInt64: [RemoteWait]] = [:]
        var interrupted = RecentInterrupts()
        var isEnded = false
        /// Starts a thread that serves; false where the system has none to give.
        var startThread: (@Sendable () -> Bool)?
    }

    private let state: Guarded<State>
    private let threadsUsual: Int
    /// Threads that are kept free for requests that do not wait.
    private let freeMin: Int

    /// Threads beside the usual ones at most. A wait for which there is none more fails at once.
    private let sparesMax: Int

    /// - Parameter threads: the usual number, 1 or more.
    init(threads: Int, sparesMax: Int) {
        self.sparesMax = sparesMax
        threadsUsual = threads
        freeMin = (threads + 1) / 2
        state = Guarded(State(threads: threads))
    }

    /// Tells how spare threads are started, before anything is served.
    func begin(startThread: @escaping @Sendable () -> Bool) {
        state.withLock { $0.startThread = startThread }
    }

    // MARK: A wait

    private enum Verdict {
        case goOn, startThread, interrupt, refuse
    }

    func willWait(_ wait: RemoteWait) {
        // Other threads than those of the session wait at nobody's cost.
        guard let worker = Current.worker else { return }
        let unique = worker.unique
        let (verdict, startThread) = state.withLock { state in
            let verdict = judge(unique, &state)
            if verdict == .goOn || verdict == .startThread {
                state.waits[unique, default: []].append(wait)
            }
            return (verdict, state.startThread)
        }
        switch verdict {
        case .goOn: break
        case .startThread:
            guard startThread?() != true else { break }
            let isLast = state.withLock { state in
                state.threads -= 1
                return state.threads <= state.waits.count
            }
            if isLast { refuse(wait, worker) }
        case .interrupt: wait.interrupt()
        case .refuse: refuse(wait, worker)
        }
    }

    private func judge(_ unique: UInt64, _ state: inout State) -> Verdict {
        if state.isEnded { return .refuse }
        if state.interrupted.contains(unique) { return .interrupt }
        guard state.waits[unique] == nil, state.threads - state.waits.count - 1 < freeMin else {
            return .goOn
        }
        guard state.threads < threadsUsual + sparesMax else { return .refuse }
        state.threads += 1
        return .startThread
    }

    /// Ends a wait before it begins, with EIO.
    private func refuse(_ wait: RemoteWait, _ worker: Worker) {
        worker.isRefused = true
        wait.interrupt()
    }

    func didWait(_ wait: RemoteWait) {
        guard let worker = Current.worker else { return }
        worker.hasWaited = true
        let isEnded = state.withLock { state in
            state.waits[worker.unique]?.removeAll { $0 === wait }
            if state.waits[worker.unique]?.isEmpty ?? false { state.waits[worker.unique] = nil }
            return state.isEnded
        }
        if isEnded { worker.isRefused = true }
    }

    /// Whether a thread that has served a request that waited is to end, because there are enough.
    func takesSpare() -> Bool {
        state.withLock { state in
            guard state.threads - state.waits.count > threadsUsual else { return false }
            state.threads -= 1
            return true
        }
    }

    // MARK: Ends of waits

    /// Ends the wait of a request, now or when it comes to wait.
    func interrupt(_ unique: UInt64) {
        let waits = state.withLock { state in
            state.interrupted.add(unique)
            return state.waits[unique] ?? []
        }
        for wait in waits { wait.interrupt() }
    }

    /// Ends all waits, now and from now on: nobody is there to get an answer, or will be soon.
    func end() {
        let waits = state.withLock { state in
            state.isEnded = true
            state.startThread = nil
            return state.waits.values.flatMap { $0 }
        }
        for wait in waits { wait.interrupt() }
    }
}

/// The requests that the kernel wanted to interrupt last. Numbers of requests are never used twice,
/// so those that are finished do no harm here.
private struct RecentInterrupts {
    /// More than there can be threads, each with a request that could be meant.
    private static let countMax = 1024
    private var uniques: [UInt64] = []
    private var next = 0

    mutating func add(_ unique: UInt64) {
        if uniques.count < Self.countMax {
            uniques.append(unique)
        } else {
            uniques[next] = unique
            next = (next + 1) % Self.countMax
        }
    }

    func contains(_ unique: UInt64) -> Bool { uniques.contains(unique) }
}
