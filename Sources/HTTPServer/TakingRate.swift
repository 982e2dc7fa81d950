/// Judges whether a client takes its answer fast enough, by looks now and then.
///
/// A client that takes nothing for a while is too slow; so is one that takes something, but in a window of time less than there must
/// be: else a byte a minute would hold an answer, with its file and its memory, for ever. Only time counts in which bytes wait for the
/// client. A window begins with each answer, so the first one is a grace. Times are in milliseconds of one clock.
package struct TakingRate {
    private let stall: Int64
    private let window: Int64
    private let bytesPerSecond: UInt64
    private var lastTaken: UInt64 = 0
    private var movedAt: Int64
    private var windowBegin: Int64
    /// What was taken at its begin; nil where nobody has looked since.
    private var takenBefore: UInt64?

    /// - Parameters:
    ///   - stall: how long a client may take nothing.
    ///   - window: in which it has to take `bytesPerSecond`; 0 of these for no such bound.
    package init(stall: Int64, window: Int64, bytesPerSecond: UInt64, at now: Int64) {
        self.stall = stall
        self.window = window
        self.bytesPerSecond = bytesPerSecond
        movedAt = now
        windowBegin = now
    }

    /// Nothing waits for the client.
    package mutating func rest(at now: Int64) {
        movedAt = now
        windowBegin = now
        takenBefore = nil
    }

    /// Bytes wait for the client.
    ///
    /// - Parameter taken: what it has taken of all, in bytes.
    /// - Returns: whether that is too little.
    package mutating func isTooSlow(taken: UInt64, at now: Int64) -> Bool {
        if taken != lastTaken {
            lastTaken = taken
            movedAt = now
        }
        if now - movedAt > stall { return true }
        guard let before = takenBefore else {
            takenBefore = taken
            windowBegin = now
            return false
        }
        let elapsed = now - windowBegin
        guard elapsed >= window else { return false }
        takenBefore = taken
        windowBegin = now
        let least = bytesPerSecond.multipliedReportingOverflow(by: UInt64(max(0, elapsed)))
        return taken < before
            || taken - before < (least.overflow ? .max : least.partialValue) / 1_000
    }
}
