internal import Base
internal import CFuse
internal import Volume

/// The requests that wait for a node.
///
/// One that waits holds its thread for as long as the node takes, so spare threads are started while
/// fewer than half of the usual number are free. All others cost nothing of this: a spare is started
/// where a wait begins. Threads come in lanes: the kernel has a queue of requests for each processor
/// where io_uring is used, and a thread serves its own alone; lane 0 is the device. Those of the device
/// end with the waits: a thread whose request has waited ends where there are enough. Those of a queue
/// stay, because a place in it cannot be given up.
///
/// The kernel's wish to interrupt a request ends its wait. The wish may overtake the request on its
/// way to here, or come before it waits; so the newest wishes are remembered.
final class WaitingRequests: RemoteWaitObserver {
    private struct Lane {
        var threadsUsual: Int
        /// Threads that serve, those that wait among them.
        var threads: Int
        /// Those whose requests wait.
        var waiting = 0

        init(threads: Int) {
            (threadsUsual, self.threads) = (threads, threads)
        }

        /// Whether too few are free for requests that do not wait, with one more that waits.
        var isShort: Bool { threads - waiting - 1 < (threadsUsual + 1) / 2 }
    }

    private struct State {
        var lanes: [Lane]
        /// By the number of the request; more than one where a wait needs another.
        var waits: [UInt64: [RemoteWait]] = [:]
        var interrupted = RecentInterrupts()
        var isEnded = false
        /// Starts a thread that serves a lane; false where the system has none to give.
        var startThread: (@Sendable (Int) -> Bool)?
    }

    private let state: Guarded<State>

    /// Threads of a lane beside the usual ones at most. A wait for which there is none more fails at
    /// once.
    private let sparesMax: Int

    /// - Parameter threads: the usual number for the device, 1 or more.
    init(threads: Int, sparesMax: Int) {
        self.sparesMax = sparesMax
        state = Guarded(State(lanes: [Lane(threads: threads)]))
    }

    /// Tells how spare threads are started, before anything is served.
    func begin(startThread: @escaping @Sendable (Int) -> Bool) {
        state.withLock { $0.startThread = startThread }
    }

    /// Adds lanes beside the device's, before they are served, each with the same usual number.
    func addLanes(_ count: Int, threads: Int) {
        state.withLock { state in
            state.lanes += Array(repeating: Lane(threads: threads), count: count)
        }
    }

    /// Tells how many threads serve a lane of a queue, where they are fewer than expected.
    func reduce(lane: Int, to threads: Int) {
        state.withLock { state in
            // Spare ones may have come meanwhile.
            state.lanes[lane].threads += threads - state.lanes[lane].threadsUsual
            state.lanes[lane].threadsUsual = threads
        }
    }

    // MARK: A wait

    private enum Verdict {
        case goOn, startThread, interrupt, refuse
    }

    func willWait(_ wait: RemoteWait) {
        // Other threads than those of the session wait at nobody's cost.
        guard let worker = Current.worker else { return }
        let (unique, lane) = (worker.unique, worker.lane)
        let (verdict, startThread) = state.withLock { state in
            let verdict = judge(unique, lane, &state)
            if verdict == .goOn || verdict == .startThread {
                if state.waits[unique] == nil { state.lanes[lane].waiting += 1 }
                state.waits[unique, default: []].append(wait)
            }
            return (verdict, state.startThread)
        }
        switch verdict {
        case .goOn: break
        case .startThread:
            guard startThread?(lane) != true else { break }
            let isLast = state.withLock { state in
                state.lanes[lane].threads -= 1
                return state.lanes[lane].threads <= state.lanes[lane].waiting
            }
            if isLast { refuse(wait, worker) }
        case .interrupt: wait.interrupt()
        case .refuse: refuse(wait, worker)
        }
    }

    private func judge(_ unique: UInt64, _ lane: Int, _ state: inout State) -> Verdict {
        if state.isEnded { return .refuse }
        if state.interrupted.contains(unique) { return .interrupt }
        let counts = state.lanes[lane]
        guard state.waits[unique] == nil, counts.isShort else { return .goOn }
        guard counts.threads < counts.threadsUsual + sparesMax else { return .refuse }
        state.lanes[lane].threads += 1
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
            if var waits = state.waits[worker.unique] {
                waits.removeAll { $0 === wait }
                state.waits[worker.unique] = waits.isEmpty ? nil : waits
                if waits.isEmpty { state.lanes[worker.lane].waiting -= 1 }
            }
            return state.isEnded
        }
        if isEnded { worker.isRefused = true }
    }

    /// Whether a thread of the device's that has served a request that waited is to end, because
    /// there are enough.
    func takesSpare() -> Bool {
        state.withLock { state in
            let device = state.lanes[0]
            guard device.threads - device.waiting > device.threadsUsual else { return false }
            state.lanes[0].threads -= 1
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
