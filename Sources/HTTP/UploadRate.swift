internal import Base

/// A limit of bytes per second over all bodies that are sent: a bucket that fills evenly and holds a
/// tenth of a second. Clients may share one.
public final class UploadRate: Sendable {
    /// The lowest limit; a lower one counts as this one.
    public static let bytesPerSecondMin: UInt64 = 1024

    private struct Bucket {
        /// In bytes times 1,000 (bytes per second times milliseconds).
        var milliBytes: UInt64
        var filledMilliseconds: Int64
    }

    private let bytesPerSecond: UInt64
    private let milliBytesMax: UInt64
    /// What is granted at least, unless less is asked for, so that packets do not get tiny.
    private let portionBytes: UInt64
    private let bucket: Monitor<Bucket>

    public init(bytesPerSecond: UInt64) {
        // A bucket of more than a terabyte per second limits nothing, and must not overflow.
        self.bytesPerSecond = min(
            max(bytesPerSecond, Self.bytesPerSecondMin), 1 << 40)
        milliBytesMax = self.bytesPerSecond * 100
        portionBytes = min(64 << 10, max(64, self.bytesPerSecond / 20))
        bucket = Monitor(
            Bucket(milliBytes: milliBytesMax, filledMilliseconds: MonotonicClock.milliseconds))
    }

    /// Takes what may be sent now.
    ///
    /// - Returns: how many bytes, at most `wanted`; or 0, and in how many milliseconds to ask again.
    func take(atMost wanted: Int) -> (granted: Int, waitMilliseconds: Int64) {
        bucket.withLock { bucket in
            let now = MonotonicClock.milliseconds
            let passed = UInt64(min(max(0, now - bucket.filledMilliseconds), 1000))
            bucket.filledMilliseconds = now
            bucket.milliBytes = min(milliBytesMax, bucket.milliBytes + passed * bytesPerSecond)
            let portion = min(portionBytes, UInt64(wanted))
            let available = bucket.milliBytes / 1000
            guard available >= portion else {
                let missing = portion * 1000 - bucket.milliBytes
                return (0, Int64(missing / bytesPerSecond) + 1)
            }
            let granted = min(available, UInt64(wanted))
            bucket.milliBytes -= granted * 1000
            return (Int(granted), 0)
        }
    }
}
