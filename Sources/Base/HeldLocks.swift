#if DEBUG || LOCK_RANKS

internal import Glibc

/// The locks that the calling thread holds, to check their order, and that no file call waits under the
/// manifest's: in debug builds, and where
/// LOCK_RANKS is defined (`.ci/lock-ranks`). Other builds have nothing of it.
final class HeldLocks {
    /// What a lock is called: its rank, and where it is made.
    struct Identity: Sendable, CustomStringConvertible {
        let rank: LockRank
        let file: StaticString
        let line: UInt

        var description: String { "\(rank) of \(file):\(line)" }
    }

    private var stack: [Identity] = []

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let code = pthread_key_create(&key) { locks in
            if let locks { Unmanaged<HeldLocks>.fromOpaque(locks).release() }
        }
        precondition(code == 0, "the process has no thread-specific key left")
        return key
    }()

    /// The calling thread's.
    static var own: HeldLocks {
        if let known = pthread_getspecific(key) {
            return Unmanaged<HeldLocks>.fromOpaque(known).takeUnretainedValue()
        }
        let new = HeldLocks()
        pthread_setspecific(key, Unmanaged.passRetained(new).toOpaque())
        return new
    }

    /// Checks that a lock may be taken now, and notes that it is; before the thread waits for it, so that
    /// a wrong order is found where nobody else happens to hold it.
    ///
    /// - Parameter waits: false for a lock that is taken only where it is free: that may be out of order.
    func push(_ lock: Identity, waits: Bool = true) {
        if waits, let inner = stack.max(by: { $0.rank.rawValue < $1.rank.rawValue }),
            inner.rank.rawValue >= lock.rank.rawValue
        {
            complain("lock order: the lock \(lock) is taken under the lock \(inner)")
        }
        stack.append(lock)
    }

    /// Notes that the lock that was taken last is free again: bodies of `withLock` end in reverse.
    func pop() { stack.removeLast() }

    /// Checks that the thread may wait for a disk now: not while all operations would wait with it.
    func refuseFileCall() {
        guard let lock = stack.first(where: { $0.rank == .manifest }) else { return }
        complain("lock order: a file is asked under the lock \(lock)")
    }

    /// Ends the process; with `LOCK_RANKS=report` in the environment, only says so, each time.
    private func complain(_ text: String) {
        // Optimized code ends without a word.
        let line = text + "\n"
        _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
        guard let wish = getenv("LOCK_RANKS"), String(cString: wish) == "report" else {
            preconditionFailure(text)
        }
    }
}

#endif
