internal import Base
internal import CFuse
internal import Volume

/// The requests that wait for a Kubo node.
///
/// One that waits holds its thread for as long as the Kubo node takes. All others must find one at any time,
/// and none of this may cost them anything.
///
/// By the device, a spare thread is started where a wait begins while fewer than half of the usual
/// number are free, and ends with the waits.
///
/// Each queue of io_uring's has threads of its own, because a request that waits keeps its place in
/// the queue, and all of them are there from the start: the kernel gives a place that is added nothing
/// of what is queued already until a request of that queue is answered, which may be never where all
/// of them wait. They cannot end before the session either, because a request may come to a place at any
/// moment; so they give back their memory.
///
/// Each user has a share of the waits of each crew. Of somebody who would have more, the one that has
/// waited longest ends with EIO, where that is long: most blocks that the Kubo node has come sooner.
///
/// The kernel's wish to interrupt a request ends its wait. The wish may overtake the request on its
/// way to here, or come before it waits; so the newest wishes are remembered.
final class WaitingRequests: RemoteWaitObserver {
    /// Threads that can stand in for each other.
    enum Crew: Hashable {
        /// Those that read the device.
        case device
        /// Those with a place in a queue.
        case queue(UInt16)
    }

    private struct CrewState {
        /// How many there are without spares.
        let usual: Int
        /// Threads that are kept free for requests that do not wait.
        var freeMin: Int
        /// Up to how many are started where waits leave too few free; a wait fails at once where there
        /// are as many. None of a queue's, which are there from the start.
        let threadsMax: Int
        /// Threads that serve, those that wait among them.
        var threads: Int
        var waiting = 0
        /// By user; those that were ended for another of the same user are left out.
        var shares = Shares<UInt32>()
        /// Threads whose buffers hold memory for having waited.
        var holders = 0
        /// Whether some are still to come without being asked for.
        var isGrowing = false
        /// Whether a wait began meanwhile.
        var hasEarlyWaits = false

        init(usual: Int, threads: Int, threadsMax: Int) {
            (self.usual, self.threads, self.threadsMax) = (usual, threads, threadsMax)
            freeMin = (usual + 1) / 2
        }

        /// How many may wait at once, all users together.
        var waitsMax: Int { max(threads, threadsMax) - freeMin }
    }

    /// A request that waits.
    private struct Waiting {
        let crew: Crew
        let user: UInt32
        /// In milliseconds of `MonotonicClock`.
        let begun: Int64
        /// More than one where a wait needs another.
        var waits: [RemoteWait]
        /// It was ended for another of its user.
        var isEnded = false
    }

    /// How long a request has waited at least, in milliseconds, that is ended for another of its user.
    static let turnMilliseconds: Int64 = 2_000

    /// More than there can be threads, each with a request that could be meant.
    private static let interruptsMax = 1024

    private struct State {
        var crews: [Crew: CrewState]
        /// By the number of the request.
        var waits: [UInt64: Waiting] = [:]
        /// The requests that the kernel wanted to interrupt last. Numbers of requests are never used
        /// twice, so those that are finished do no harm here.
        var interrupted = Recent<UInt64, Void>(countMax: WaitingRequests.interruptsMax)
        var isEnded = false
        /// Starts a thread that reads the device; false where the system has none to give.
        var startThread: (@Sendable () -> Bool)?
    }

    private let state: Monitor<State>

    /// - Parameter threads: the usual number of those that read the device, 1 or more.
    init(threads: Int, sparesMax: Int) {
        let device = CrewState(usual: threads, threads: threads, threadsMax: threads + sparesMax)
        state = Monitor(State(crews: [.device: device]))
    }

    /// Tells how spare threads are started, before anything is served.
    func begin(startThread: @escaping @Sendable () -> Bool) {
        state.withLock { $0.startThread = startThread }
    }

    /// Tells of a queue, before it is served. Each thread that comes to serve it is told of by `join`,
    /// and the end of that by `complete`.
    ///
    /// - Parameter usual: how many threads it would have if none ever waited, 1 or more.
    func add(queue: UInt16, usual: Int) {
        var crew = CrewState(usual: usual, threads: 0, threadsMax: 0)
        crew.isGrowing = true
        state.withLock { [crew] in $0.crews[.queue(queue)] = crew }
    }

    /// Tells of a thread that serves a queue from now on.
    func join(queue: UInt16) {
        state.withLock { $0.crews[.queue(queue)]?.threads += 1 }
    }

    /// Tells that all threads of a queue are there; whether something waited before that.
    func complete(queue: UInt16) -> Bool {
        state.withLock { state in
            guard var crew = state.crews[.queue(queue)] else { return false }
            crew.isGrowing = false
            // The system may have had few to give.
            crew.freeMin = min(crew.freeMin, crew.threads / 2)
            state.crews[.queue(queue)] = crew
            return crew.hasEarlyWaits
        }
    }

    // MARK: A wait

    private enum Verdict {
        case goOn, startThread, interrupt, refuse
    }

    var user: UInt32? { Current.worker?.user }

    func willWait(_ wait: RemoteWait) {
        // Other threads than those of the session wait at nobody's cost.
        guard let worker = Current.worker else { return }
        let crew = worker.crew
        let (verdict, ended, startThread) = state.withLock { state in
            var ended: [RemoteWait] = []
            let verdict = judge(worker, &state, &ended)
            if verdict == .goOn || verdict == .startThread { note(wait, worker, &state) }
            return (verdict, ended, state.startThread)
        }
        for wait in ended { wait.interrupt() }
        switch verdict {
        case .goOn: break
        case .startThread:
            guard startThread?() != true else { break }
            let isLast = state.withLock { state in
                state.crews[crew]?.threads -= 1
                return state.crews[crew].map { $0.threads <= $0.waiting } ?? true
            }
            if isLast { refuse(wait, worker) }
        case .interrupt: wait.interrupt()
        case .refuse: refuse(wait, worker)
        }
    }

    private func note(_ wait: RemoteWait, _ worker: Worker, _ state: inout State) {
        if state.waits[worker.unique] == nil {
            state.crews[worker.crew]?.waiting += 1
            state.crews[worker.crew]?.shares.take(worker.user)
            state.waits[worker.unique] = Waiting(
                crew: worker.crew, user: worker.user, begun: MonotonicClock.milliseconds, waits: [])
        }
        state.waits[worker.unique]?.waits.append(wait)
    }

    /// - Parameter ended: filled with the waits that are to end for this one.
    private func judge(
        _ worker: Worker, _ state: inout State, _ ended: inout [RemoteWait]
    ) -> Verdict {
        if state.isEnded { return .refuse }
        if state.interrupted.contains(worker.unique) { return .interrupt }
        guard state.waits[worker.unique] == nil, let crew = state.crews[worker.crew] else {
            return .goOn
        }
        if crew.isGrowing {
            state.crews[worker.crew]?.hasEarlyWaits = true
            return .goOn
        }
        let isThreadFree = crew.threads - crew.waiting - 1 >= crew.freeMin
        guard isThreadFree || crew.threads < crew.threadsMax else { return .refuse }
        if !crew.shares.mayTake(worker.user, of: crew.waitsMax) {
            guard let unique = longest(of: worker, state) else { return .refuse }
            ended = state.waits[unique]?.waits ?? []
            state.waits[unique]?.isEnded = true
            state.crews[worker.crew]?.shares.giveBack(worker.user)
        }
        if isThreadFree { return .goOn }
        state.crews[worker.crew]?.threads += 1
        return .startThread
    }

    /// The request of a worker's user that has waited longest, among those that have waited for long.
    private func longest(of worker: Worker, _ state: State) -> UInt64? {
        let latest = MonotonicClock.milliseconds - Self.turnMilliseconds
        let own = state.waits.filter { _, waiting in
            waiting.user == worker.user && waiting.crew == worker.crew && !waiting.isEnded
                && waiting.begun <= latest
        }
        return own.min { $0.value.begun < $1.value.begun }?.key
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
            guard var waiting = state.waits[worker.unique] else { return state.isEnded }
            waiting.waits.removeAll { $0 === wait }
            state.waits[worker.unique] = waiting.waits.isEmpty ? nil : waiting
            if waiting.waits.isEmpty {
                state.crews[worker.crew]?.waiting -= 1
                if !waiting.isEnded { state.crews[worker.crew]?.shares.giveBack(worker.user) }
            }
            return state.isEnded || waiting.isEnded
        }
        if isEnded { worker.isRefused = true }
    }

    /// Whether a thread of the device's that has served a request that waited is to end, because there
    /// are enough.
    func takesSpare() -> Bool {
        state.withLock { state in
            guard let crew = state.crews[.device], crew.threads - crew.waiting > crew.usual else {
                return false
            }
            state.crews[.device]?.threads -= 1
            return true
        }
    }

    /// Whether a thread of a queue's that has served a request that waited may keep the memory of its
    /// buffer, because few do.
    func keepsMemory(_ worker: Worker) -> Bool {
        state.withLock { state in
            guard !worker.isHolder, var crew = state.crews[worker.crew] else { return true }
            guard crew.holders < crew.usual else { return false }
            crew.holders += 1
            state.crews[worker.crew] = crew
            worker.isHolder = true
            return true
        }
    }

    // MARK: Ends of waits

    /// Ends the wait of a request, now or when it comes to wait.
    func interrupt(_ unique: UInt64) {
        let waits = state.withLock { state in
            state.interrupted.insert(unique)
            return state.waits[unique]?.waits ?? []
        }
        for wait in waits { wait.interrupt() }
    }

    /// Ends all waits, now and from now on: nobody is there to get an answer, or will be soon.
    func end() {
        let waits = state.withLock { state in
            state.isEnded = true
            state.startThread = nil
            return state.waits.values.flatMap(\.waits)
        }
        for wait in waits { wait.interrupt() }
    }
}
