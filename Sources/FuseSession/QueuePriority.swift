package import Base
internal import Synchronization

/// Lets a client stay on its processor when it is answered.
///
/// A thread of a queue wakes its client while it runs itself. So the scheduler finds that processor
/// busy and takes the client to an idle one, at each answer; its next request comes to that one's
/// queue, and each time a processor has to be woken: 30 µs a request for 12. A processor that runs
/// nothing but SCHED_IDLE counts as idle (`sched_idle_cpu` in kernel/sched/fair.c); so the threads of
/// queues have that policy while nothing else of this process keeps processors busy. What others run
/// is not in their group (`SchedulerGroup`), and has no more precedence than before.
package final class QueuePriority: Sendable {
    /// A thread of a queue.
    package final class Member: Sendable {
        fileprivate let thread = Threads.current
        fileprivate let isBehind = Atomic<Bool>(false)
    }

    private let background: BackgroundWork
    private let members = Monitor<[Member]>([])

    /// - Returns: nil where threads must not have that policy: others would take all of the processor
    ///   from them, or it could not be taken back.
    package init?(_ background: BackgroundWork, group: SchedulerGroup = SchedulerGroup()) {
        guard group.isOwn, Self.canComeBack() else { return nil }
        self.background = background
        background.observe { [weak self] in self?.raise() }
    }

    /// Tries it on a thread that can be done without.
    private static func canComeBack() -> Bool {
        let result = Monitor(false)
        let thread = try? Threads.start(name: "rfs-try") {
            let isBack = Threads.goBehind() && Threads.preferLatency()
            result.withLock { $0 = isBack }
        }
        thread?.join()
        return result.withLock { $0 }
    }

    /// Adds the calling thread.
    package func join() -> Member {
        let member = Member()
        members.withLock { $0.append(member) }
        return member
    }

    /// Removes a thread that is about to end.
    package func leave(_ member: Member) {
        members.withLock { $0.removeAll { $0 === member } }
    }

    /// Called by a member before each answer: it goes behind unless other work is under way.
    package func beforeAnswer(_ member: Member) {
        guard !member.isBehind.load(ordering: .relaxed), !background.isUnderWay else { return }
        member.isBehind.store(true, ordering: .sequentiallyConsistent)
        Threads.goBehind(member.thread)
        // It may have begun since it was asked for, and raised this thread too soon.
        if background.isUnderWay { raise(member) }
    }

    /// Has all come before the work that begins now.
    private func raise() {
        members.withLock { members in
            for member in members where member.isBehind.load(ordering: .sequentiallyConsistent) {
                raise(member)
            }
        }
    }

    private func raise(_ member: Member) {
        member.isBehind.store(false, ordering: .sequentiallyConsistent)
        Threads.preferLatency(member.thread)
    }
}
