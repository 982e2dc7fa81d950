internal import Base

/// Does things after a time, and has threads for what blocks then.
///
/// One thread waits for all of them, which runs only while there are some; the others, up to a bound, are
/// started as there is work. All end when they have had none for a while, so nothing has to be stopped.
final class Hedger: Sendable {
    /// Names what was armed.
    typealias Ticket = UInt64

    private struct Alarm {
        let due: Int64
        let action: @Sendable () -> Void
    }

    private struct Alarms {
        var byTicket: [Ticket: Alarm] = [:]
        var lastTicket: Ticket = 0
        /// When the thread that waits will look again; nil where there is none.
        var looksAt: Int64?
        var hasThread = false
    }

    private struct Work {
        var next: (@Sendable () -> Void)?
        var threads = 0
        var idle = 0
    }

    /// How long a thread stays that has nothing to do.
    private static let idleMilliseconds: Int64 = 5_000

    private let threadsMax: Int
    private let alarms = Monitor(Alarms())
    private let work = Monitor(Work())

    /// - Parameter threadsMax: for what blocks.
    init(threadsMax: Int) {
        self.threadsMax = threadsMax
    }

    // MARK: Time

    /// Has an action done after a time, on a thread that all share: it must not block.
    func arm(milliseconds: Int64, _ action: @escaping @Sendable () -> Void) -> Ticket {
        let due = MonotonicClock.milliseconds + max(0, milliseconds)
        let (ticket, startsThread, wakes) = alarms.withLock { state in
            state.lastTicket += 1
            state.byTicket[state.lastTicket] = Alarm(due: due, action: action)
            let startsThread = !state.hasThread
            state.hasThread = true
            return (state.lastTicket, startsThread, state.looksAt.map { due < $0 } ?? false)
        }
        if wakes { alarms.wakeAll() }
        if startsThread {
            let thread: Void? = try? Threads.startDetached(name: "rfs-hedge-time") { [self] in
                watch()
            }
            // Then nothing is done in time: who waits has his first source still.
            if thread == nil { alarms.withLock { $0.hasThread = false } }
        }
        return ticket
    }

    /// Forgets what was armed, which may be done at this moment.
    func disarm(_ ticket: Ticket) {
        alarms.withLock { _ = $0.byTicket.removeValue(forKey: ticket) }
    }

    private func watch() {
        var idleSince = MonotonicClock.milliseconds
        while true {
            let due: [@Sendable () -> Void]? = alarms.withLock { state in
                let now = MonotonicClock.milliseconds
                let tickets = state.byTicket.filter { $0.value.due <= now }.map(\.key)
                if !tickets.isEmpty {
                    return tickets.compactMap { state.byTicket.removeValue(forKey: $0)?.action }
                }
                if !state.byTicket.isEmpty { idleSince = now }
                let end = idleSince + Self.idleMilliseconds
                guard now < end else {
                    state.hasThread = false
                    return nil
                }
                let next = min(state.byTicket.values.map(\.due).min() ?? end, end)
                state.looksAt = next
                alarms.wait(&state, milliseconds: Int(max(1, next - now)))
                state.looksAt = nil
                return []
            }
            guard let due else { return }
            for action in due { action() }
        }
    }

    // MARK: Threads

    /// Has work done on a thread for it; false where all are busy.
    func run(_ body: @escaping @Sendable () -> Void) -> Bool {
        let (isTaken, startsThread) = work.withLock { state in
            guard state.next == nil else { return (false, false) }
            if state.idle == 0 {
                guard state.threads < threadsMax else { return (false, false) }
                state.threads += 1
                state.next = body
                return (true, true)
            }
            state.next = body
            return (true, false)
        }
        if startsThread {
            let thread: Void? = try? Threads.startDetached(name: "rfs-hedge") { [self] in serve() }
            if thread == nil {
                return work.withLock { state in
                    state.threads -= 1
                    state.next = nil
                    return false
                }
            }
        } else if isTaken {
            work.wakeOne()
        }
        return isTaken
    }

    private func serve() {
        while true {
            let body: (@Sendable () -> Void)? = work.withLock { state in
                let end = MonotonicClock.milliseconds + Self.idleMilliseconds
                while true {
                    if let body = state.next.take() { return body }
                    let left = end - MonotonicClock.milliseconds
                    guard left > 0 else {
                        state.threads -= 1
                        return nil
                    }
                    state.idle += 1
                    work.wait(&state, milliseconds: Int(left))
                    state.idle -= 1
                }
            }
            guard let body else { return }
            body()
        }
    }
}
