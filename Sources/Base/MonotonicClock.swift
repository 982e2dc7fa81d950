internal import Glibc

/// Time that no change of the wall clock moves (CLOCK_MONOTONIC), since some moment in the past.
public enum MonotonicClock {
    /// In nanoseconds.
    public static var nanoseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// In milliseconds.
    public static var milliseconds: Int64 { nanoseconds / 1_000_000 }
}
