internal import Base
internal import Synchronization

/// Decides which of the session's threads wait for requests, and which rest.
///
/// The kernel hands requests to waiting readers in turn, so with all threads waiting each request
/// would run on the one whose caches are coldest (measured for a lookup: 17.4 µs with 16 threads,
/// 15.0 with one). So only a few wait in read(2); a thread that has finished while enough others
/// wait rests, and one that takes the last waiting place wakes a resting one, so that somebody
/// always listens while others are busy (in fsync, say). A thread's buffer is not touched before
/// its first request either.
///
/// All of it is in one atomic word, so that no decision misses a change made meanwhile.
package final class ReaderThrottle: Sendable {
    /// Low 32 bits: threads that wait or are about to; the next 31: threads that rest; the highest:
    /// closed.
    private let counts = Atomic<UInt64>(0)
    private let waitingMax: UInt64
    private let wakes = Semaphore()

    private static let oneWaiting: UInt64 = 1
    private static let oneResting: UInt64 = 1 << 32
    private static let closed: UInt64 = 1 << 63

    /// - Parameter waitingMax: how many threads may wait for requests at once, 1 or more.
    package init(waitingMax: Int) {
        self.waitingMax = UInt64(waitingMax)
    }

    /// Joins those that wait, or rests until it is this thread's turn; false where the session
    /// ends.
    package func enter() -> Bool {
        var seen = counts.load(ordering: .relaxed)
        while seen & Self.closed == 0 {
            let mayWait = seen & UInt64(UInt32.max) < waitingMax
            let (isDone, current) = counts.weakCompareExchange(
                expected: seen, desired: seen &+ (mayWait ? Self.oneWaiting : Self.oneResting),
                ordering: .acquiringAndReleasing)
            if isDone {
                if mayWait { return true }
                wakes.wait()
                return counts.load(ordering: .acquiring) & Self.closed == 0
            }
            seen = current
        }
        return false
    }

    /// Leaves those that wait, with a request; wakes another where nobody waits any more.
    package func leave() {
        var seen = counts.load(ordering: .relaxed)
        while true {
            let isLast = seen & UInt64(UInt32.max) == 1
            let wakesOther = isLast && (seen & ~Self.closed) >= Self.oneResting
            // The woken thread takes the place over, so the number that wait stays.
            let next = seen &- (wakesOther ? Self.oneResting : Self.oneWaiting)
            let (isDone, current) = counts.weakCompareExchange(
                expected: seen, desired: next, ordering: .acquiringAndReleasing)
            if isDone {
                if wakesOther { wakes.signal() }
                return
            }
            seen = current
        }
    }

    /// Ends all resting, now and from now on.
    package func close() {
        let seen = counts.bitwiseOr(Self.closed, ordering: .acquiringAndReleasing).oldValue
        for _ in 0..<((seen & ~Self.closed) >> 32) { wakes.signal() }
    }
}
