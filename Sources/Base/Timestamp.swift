internal import Glibc

/// A point in time in nanoseconds since the epoch, from the year 1677 to 2262.
public struct Timestamp: Hashable, Sendable, Comparable {
    /// Nanoseconds since 1970-01-01T00:00:00Z; negative before.
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    /// Makes a timestamp from the two halves of a timespec; what is out of range is clamped, as
    /// the kernel's timestamp_truncate does for a filesystem's limits.
    public init(seconds: Int64, nanoseconds: Int64) {
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: Self.perSecond)
        let (sum, overflowOfSum) = scaled.addingReportingOverflow(nanoseconds)
        if overflow || overflowOfSum {
            self.nanoseconds = seconds < 0 ? .min : .max
        } else {
            self.nanoseconds = sum
        }
    }

    private static let perSecond: Int64 = 1_000_000_000

    /// Whole seconds, rounded down, so that `subsecondNanoseconds` is never negative.
    public var seconds: Int64 {
        let (quotient, remainder) = nanoseconds.quotientAndRemainder(dividingBy: Self.perSecond)
        return remainder < 0 ? quotient - 1 : quotient
    }

    /// Nanoseconds past `seconds`, 0 to 999,999,999.
    public var subsecondNanoseconds: Int64 {
        let remainder = nanoseconds % Self.perSecond
        return remainder < 0 ? remainder + Self.perSecond : remainder
    }

    /// The wall clock now.
    public static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(seconds: Int64(time.tv_sec), nanoseconds: Int64(time.tv_nsec))
    }

    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.nanoseconds < right.nanoseconds
    }
}
