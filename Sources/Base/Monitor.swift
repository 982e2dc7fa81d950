internal import Glibc

/// A value that is reached only under a lock, and that threads can wait for to change.
///
/// Also where nobody waits: the condition variable costs 48 bytes and nothing else.
/// `Synchronization.Mutex` has none, and hands its value out as `sending`, which forbids a state made of
/// shared records; and Thread Sanitizer reports false races inside of it on Linux.
///
/// Sendable although unchecked: `state` and the two pthread objects live at fixed addresses from
/// init to deinit, and `state` is touched only between `pthread_mutex_lock` and `unlock`. What a
/// body returns is the caller's to keep Sendable.
public final class Monitor<State: ~Copyable>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private let state: UnsafeMutablePointer<State>
    #if DEBUG || LOCK_RANKS
    private let identity: HeldLocks.Identity
    #endif

    /// - Parameters:
    ///   - rank: its place in the order of the locks that one thread may hold at a time.
    ///   - file: by which it is named, with `line`, where that order is broken.
    public init(
        _ initial: consuming State, rank: LockRank = .leaf, file: StaticString = #fileID,
        line: UInt = #line
    ) {
        #if DEBUG || LOCK_RANKS
        identity = HeldLocks.Identity(rank: rank, file: file, line: line)
        #endif
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        state = .allocate(capacity: 1)
        state.initialize(to: initial)
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // Waits must not be moved by a change of the wall clock.
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        state.deinitialize(count: 1)
        condition.deallocate()
        mutex.deallocate()
        state.deallocate()
    }

    /// Runs a body with the state, alone; other threads block until it returns.
    public func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        #if DEBUG || LOCK_RANKS
        HeldLocks.own.push(identity)
        defer { HeldLocks.own.pop() }
        #endif
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state.pointee)
    }

    /// Runs a body with the state where the lock is free; does nothing where another thread has it.
    public func withLockIfFree<Failure: Error>(
        _ body: (inout State) throws(Failure) -> Void
    ) throws(Failure) {
        guard pthread_mutex_trylock(mutex) == 0 else { return }
        defer { pthread_mutex_unlock(mutex) }
        #if DEBUG || LOCK_RANKS
        HeldLocks.own.push(identity, waits: false)
        defer { HeldLocks.own.pop() }
        #endif
        try body(&state.pointee)
    }

    /// Gives the lock up until another thread calls `wakeAll`, then takes it again.
    ///
    /// Call it only inside a body of `withLock`, at a point where the state is whole: other
    /// threads change it meanwhile. It may return without cause; check the condition in a loop.
    ///
    /// - Parameter state: what the body was given. The compiler takes an `inout` value for the
    ///   body's alone and would keep it in registers across a wait that does not name it.
    public func wait(_ state: inout State) {
        wait(&state, until: nil)
    }

    /// `wait` with a limit in milliseconds, 0 or more.
    public func wait(_ state: inout State, milliseconds: Int) {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let nanoseconds = deadline.tv_nsec + (milliseconds % 1000) * 1_000_000
        deadline.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
        deadline.tv_nsec = nanoseconds % 1_000_000_000
        wait(&state, until: &deadline)
    }

    private func wait(_ state: inout State, until deadline: UnsafePointer<timespec>?) {
        withUnsafeMutablePointer(to: &state) { guarded in
            precondition(guarded == self.state, "wait is given the state of its own monitor")
            waitForCondition(condition, mutex, deadline, guarded)
        }
    }

    /// Wakes every thread that waits.
    public func wakeAll() {
        pthread_cond_broadcast(condition)
    }

    /// Wakes one of the threads that wait, where any of them will do.
    public func wakeOne() {
        pthread_cond_signal(condition)
    }
}
