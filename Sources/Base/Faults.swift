internal import Glibc
internal import Synchronization

package import struct SystemPackage.Errno

/// Failures that a test asks for; nothing happens here unless one did.
///
/// A plan holds for the whole process, so a test that makes one runs in a process of its own.
package enum Faults {
    /// A kind of call that can be made to fail.
    package enum Call: Sendable, CaseIterable {
        case open, read, write, synchronize, truncate, allocate, copy, status, makeDirectory
        case unlink, list, exchange, rename
        /// A commit of the manifest, before it begins and after it is durable.
        case beginCommit, endCommit
        /// The transaction of a checkpoint, likewise.
        case beginTransaction, endTransaction

        fileprivate var isOfFile: Bool {
            switch self {
            case .beginCommit, .endCommit, .beginTransaction, .endTransaction: false
            default: true
            }
        }
    }

    /// What becomes of a call that a plan is about.
    package enum Outcome: Sendable {
        case failure(Errno)
        /// The process ends at once, as by kill -9.
        case death
        /// The call does not return while the process lives.
        case pause
    }

    private struct Plan {
        var calls: Set<Call>
        /// Calls that go through before.
        var passing: Int
        /// Calls that are struck after those; each later one goes through again.
        var striking: Int
        var outcome: Outcome
        var struckCount = 0
    }

    private static let isArmed = Atomic<Bool>(false)
    private static let plan = Monitor<Plan?>(nil, rank: .faults)

    /// Has calls fail from now on, in place of the plan before.
    ///
    /// - Parameters:
    ///   - passing: how many calls of these kinds go through first.
    ///   - striking: how many are struck then.
    package static func arm(
        _ calls: Set<Call>, passing: Int, striking: Int = 1, outcome: Outcome
    ) {
        plan.withLock {
            $0 = Plan(calls: calls, passing: passing, striking: striking, outcome: outcome)
        }
        isArmed.store(true, ordering: .releasing)
    }

    /// Ends the plan; gives the number of calls that it struck.
    @discardableResult
    package static func disarm() -> Int {
        isArmed.store(false, ordering: .releasing)
        return plan.withLock { plan in
            defer { plan = nil }
            return plan?.struckCount ?? 0
        }
    }

    /// The calls that the plan has struck so far.
    package static var struckCount: Int { plan.withLock { $0?.struckCount ?? 0 } }

    /// Fails, or does not return, where the plan says so.
    @inline(__always)
    package static func check(_ call: Call) throws(Errno) {
        #if DEBUG || LOCK_RANKS
        if call.isOfFile { HeldLocks.own.refuseFileCall() }
        #endif
        guard isArmed.load(ordering: .relaxed) else { return }
        try checkPlan(call)
    }

    @inline(never)
    private static func checkPlan(_ call: Call) throws(Errno) {
        let outcome = plan.withLock { plan -> Outcome? in
            guard let current = plan, current.calls.contains(call) else { return nil }
            if current.passing > 0 {
                plan?.passing -= 1
                return nil
            }
            guard current.struckCount < current.striking else { return nil }
            plan?.struckCount += 1
            return current.outcome
        }
        switch outcome {
        case .failure(let errno): throw errno.because("a test has this fail: \(call)")
        case .death:
            kill(getpid(), SIGKILL)
            // The signal may take a moment; nothing more may be done meanwhile.
            while true { Glibc.pause() }
        case .pause:
            while true { Glibc.pause() }
        case nil: return
        }
    }
}
