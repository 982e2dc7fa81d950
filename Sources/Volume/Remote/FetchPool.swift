internal import Base
internal import DequeModule

/// Threads that fetch blocks; as many as there is work for, up to a bound.
///
/// A block that cannot be had holds a thread until its deadline. So each user has a share of the
/// threads only, and a queue of his own; who has the fewest threads comes next.
final class FetchPool: Sendable {
    /// Work of a thread: for whom it is done, and memory that all of it has in turn.
    typealias Work = @Sendable (_ user: UInt32?, ReplyMemory) -> Void

    /// Names a piece of work that was added, and was not begun yet.
    typealias Ticket = UInt64

    private struct Job {
        let work: Work
        /// In whose queues it stands; whoever comes to it first has it done.
        var users: Set<UInt32?>
    }

    private struct Queue {
        var tickets = Deque<Ticket>()

        var isEmpty: Bool { tickets.isEmpty }

        mutating func next() -> Ticket { tickets.removeFirst() }
    }

    private struct State {
        var jobs: [Ticket: Job] = [:]
        /// By user; nil for the volume's own.
        var queues: [UInt32?: Queue] = [:]
        var running = Shares<UInt32?>()
        var threads = 0
        var idle = 0
        var isStopped = false
    }

    private let threadsMax: Int
    private let state = Monitor(State())

    /// - Parameter threadsMax: what all users have together; one has half of it.
    init(threadsMax: Int) { self.threadsMax = threadsMax }

    /// Has work done for a user, under a ticket that was never used before.
    func add(_ ticket: Ticket, for user: UInt32?, _ work: @escaping Work) {
        let startsThread = state.withLock { state in
            guard !state.isStopped else { return false }
            state.jobs[ticket] = Job(work: work, users: [user])
            state.queues[user, default: Queue()].tickets.append(ticket)
            guard state.idle < state.jobs.count, state.threads < threadsMax,
                state.running.mayTake(user, of: threadsMax)
            else { return false }
            state.threads += 1
            return true
        }
        start(startsThread)
    }

    /// Has work done for another user as well, who waits for it too, where it was not begun yet.
    func join(_ ticket: Ticket, for user: UInt32?) {
        let startsThread = state.withLock { state in
            guard !state.isStopped, state.jobs[ticket]?.users.insert(user).inserted == true else {
                return false
            }
            state.queues[user, default: Queue()].tickets.append(ticket)
            guard state.idle == 0, state.threads < threadsMax,
                state.running.mayTake(user, of: threadsMax)
            else { return false }
            state.threads += 1
            return true
        }
        start(startsThread)
    }

    private func start(_ startsThread: Bool) {
        state.wakeOne()
        guard startsThread else { return }
        let thread: Void? = try? Threads.startDetached(name: "rfs-fetch") { [self] in run() }
        if thread == nil { state.withLock { $0.threads -= 1 } }
    }

    private func run() {
        let memory = ReplyMemory()
        while let (user, work) = next() {
            work(user, memory)
            state.withLock { $0.running.giveBack(user) }
        }
        state.withLock { $0.threads -= 1 }
        state.wakeAll()
    }

    private func next() -> (user: UInt32?, work: Work)? {
        state.withLock { state in
            let end = MonotonicClock.milliseconds + Self.idleMilliseconds
            while !state.isStopped {
                if let next = takeNext(&state) { return next }
                let left = end - MonotonicClock.milliseconds
                guard left > 0 else { return nil }
                state.idle += 1
                // One that was not idle may be sooner at the work.
                self.state.wait(&state, milliseconds: Int(left))
                state.idle -= 1
            }
            return nil
        }
    }

    /// The next work of whoever has the fewest threads, and may have one more.
    private func takeNext(_ state: inout State) -> (user: UInt32?, work: Work)? {
        while true {
            let users = state.queues.keys.filter { state.running.mayTake($0, of: threadsMax) }
            let fewest = users.min { state.running.count(of: $0) < state.running.count(of: $1) }
            guard let user = fewest, var queue = state.queues.removeValue(forKey: user) else {
                return nil
            }
            let job = state.jobs.removeValue(forKey: queue.next())
            if !queue.isEmpty { state.queues[user] = queue }
            // Else it was done for another user.
            guard let job else { continue }
            state.running.take(user)
            return (user, job.work)
        }
    }

    /// How long a thread stays that has nothing to do.
    private static let idleMilliseconds: Int64 = 5_000

    /// Ends all threads, after what they are at.
    func stop() {
        state.withLock { state in
            state.isStopped = true
            state.jobs = [:]
            state.queues = [:]
        }
        state.wakeAll()
        state.withLock { state in
            while state.threads > 0 { self.state.wait(&state) }
        }
    }
}
