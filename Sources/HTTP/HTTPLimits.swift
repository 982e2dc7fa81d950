internal import Base

/// How long a request may take. Each of its times is kept between 1 ms and 24 days.
///
/// A request ends by its deadline where it has one. It ends as well when nothing moved for a time,
/// and when it took longer than its waiting may last and its bytes take at the least rate: so that what
/// drips has an end. What the caller's closures take, and what a limit of uploads holds back, counts for
/// the deadline alone.
public struct HTTPLimits: Sendable, Hashable {
    /// The longest that connecting may take, in milliseconds.
    public var connectMilliseconds = 5_000
    /// The longest from the last byte of the request to the first of its reply.
    public var firstByteMilliseconds = 30_000
    /// The longest without a byte moved while the request is sent or the reply received.
    public var stallMilliseconds = 30_000
    /// What has to move on the average, request and reply together, in bytes a second.
    public var bytesPerSecondMin = 4 << 10
    /// How long all of it may take in place of the time of its bytes at that rate, in milliseconds: for
    /// replies that tell of progress and have few bytes. Nil for the time of the bytes.
    public var transferMilliseconds: Int?
    /// When the request ends at the latest, redirects and the wait for a connection counted, by
    /// `MonotonicClock.milliseconds`; nil for no such time.
    public var deadline: Int64?

    public init() {}

    /// Sets the deadline to a time from now, 0 or more.
    public mutating func end(inMilliseconds milliseconds: Int) {
        deadline = MonotonicClock.milliseconds + Int64(min(max(0, milliseconds), Int(Int32.max)))
    }

    /// The same, with every limit in its range.
    var bounded: HTTPLimits {
        func inRange(_ value: Int) -> Int { min(max(1, value), Int(Int32.max)) }
        var bounded = self
        bounded.connectMilliseconds = inRange(connectMilliseconds)
        bounded.firstByteMilliseconds = inRange(firstByteMilliseconds)
        bounded.stallMilliseconds = inRange(stallMilliseconds)
        bounded.bytesPerSecondMin = inRange(bytesPerSecondMin)
        bounded.transferMilliseconds = transferMilliseconds.map(inRange)
        return bounded
    }

    /// What a request may take without the time of its bytes, in milliseconds.
    var baseMilliseconds: Int {
        transferMilliseconds ?? connectMilliseconds + firstByteMilliseconds + stallMilliseconds
    }

    /// How much time bytes that moved are worth, in milliseconds.
    func earnedMilliseconds(byMovedBytes count: Int64) -> Int64 {
        transferMilliseconds == nil ? count / max(1, Int64(bytesPerSecondMin) / 1000) : 0
    }

    /// What is said where that was not enough.
    var slowness: String {
        transferMilliseconds == nil
            ? "it moved fewer than \(bytesPerSecondMin) bytes a second"
            : "it was not done within \(baseMilliseconds / 1000) s"
    }
}
