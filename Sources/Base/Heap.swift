internal import CShims

/// What glibc's malloc keeps for itself.
public enum Heap {
    /// The arenas of a machine with many processors; more threads than that share.
    private static let arenasMax = 8
    private static let trimThresholdBytes = 1 << 20

    /// Keeps the heap of a process with many threads small: an arena for each processor instead of
    /// eight, and free memory goes back to the system from 1 MiB on, mallopt(3).
    ///
    /// Call it before other threads start: an arena that is there stays. With 32 threads on two
    /// processors, and 200,000 small files made, the daemon was at 153 MB without it, at 98 with.
    public static func bound() {
        rfs_bound_heap(
            Int32(min(max(Threads.processorCount, 2), arenasMax)), Int32(trimThresholdBytes))
    }

    /// Gives free memory back to the system, malloc_trim(3). Takes some milliseconds for a heap of
    /// 100 MB, in which allocations of other threads wait.
    public static func trim() {
        rfs_trim_heap()
    }
}
