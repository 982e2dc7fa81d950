internal import Base

/// Bytes that went to a remote and came from it since the mount.
final class Traffic: Sendable {
    struct State {
        var sentBytes: UInt64 = 0
        var fetchedBytes: UInt64 = 0
        var sent = RateMeter()
        var fetched = RateMeter()
    }

    private let state = Monitor(State())

    func addSent(_ bytes: Int) {
        state.withLock { state in
            state.sentBytes += UInt64(bytes)
            state.sent.add(bytes, at: MonotonicClock.milliseconds)
        }
    }

    func addFetched(_ bytes: Int) {
        state.withLock { state in
            state.fetchedBytes += UInt64(bytes)
            state.fetched.add(bytes, at: MonotonicClock.milliseconds)
        }
    }

    var sentBytes: UInt64 { state.withLock(\.sentBytes) }

    /// All counts and rates of this moment.
    func with<Result>(_ body: (inout State) -> Result) -> Result { state.withLock(body) }
}
