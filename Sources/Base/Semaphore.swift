internal import Glibc

/// Counts signals for threads that wait for them (sem_overview(7)).
///
/// Sendable although unchecked: the semaphore lives at a fixed address from init to deinit, and
/// sem_post(3) and sem_wait(3) may be called from any thread.
public final class Semaphore: @unchecked Sendable {
    private let semaphore: UnsafeMutablePointer<sem_t>

    /// Begins without a signal.
    public init() {
        semaphore = .allocate(capacity: 1)
        let code = sem_init(semaphore, 0, 0)
        precondition(code == 0, "an unnamed semaphore with value 0 is always to be had")
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    /// Lets one thread go on that waits, or the next that will. What was written before is seen by it.
    public func signal() {
        sem_post(semaphore)
    }

    /// Blocks until there is a signal, and takes it.
    public func wait() {
        while sem_wait(semaphore) != 0 && errno == EINTR {}
    }
}
