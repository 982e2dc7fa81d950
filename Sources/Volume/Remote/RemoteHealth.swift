internal import Base
internal import Logging
internal import Remotes

/// Whether a remote does what it is asked, and when it is asked again where it did not.
final class RemoteHealth: Sendable {
    struct State {
        /// Who it is; nil until it was asked.
        var identity: RemoteIdentity?
        var isReachable = false
        var isStopping = false
        /// Calls are held back until then, in milliseconds of `MonotonicClock`.
        var pausedUntil: Int64 = 0
        var pauseMilliseconds: Int64 = 0
        /// What went wrong last.
        var problem: String?
        var problemTime: Timestamp?
    }

    private let state = Monitor(State())
    private let log: Logger

    private static let pauseMin: Int64 = 250
    private static let pauseMax: Int64 = 15_000

    init(log: Logger) {
        self.log = log
    }

    /// What is known at this moment.
    var current: State { state.withLock { $0 } }

    var isStopping: Bool { state.withLock(\.isStopping) }

    /// Whether calls may be made now.
    var isUsable: Bool {
        state.withLock { state in
            state.identity != nil && state.isReachable && !state.isStopping
                && state.pausedUntil <= MonotonicClock.milliseconds
        }
    }

    func stop() {
        state.withLock { $0.isStopping = true }
        state.wakeAll()
    }

    /// Blocks until calls are to be made again; false once it is stopped.
    func waitUntilUsable() -> Bool {
        state.withLock { state in
            while !state.isStopping {
                let left = state.pausedUntil - MonotonicClock.milliseconds
                if left <= 0, state.identity != nil { return true }
                self.state.wait(&state, milliseconds: Int(max(100, min(left, 1000))))
            }
            return false
        }
    }

    /// Notes that a call failed, and holds further ones back for a time that grows.
    func note(_ error: RemoteError) {
        let isNew = state.withLock { state in
            defer {
                state.problem = error.description
                state.problemTime = .now()
                state.isReachable = error.kind != .unreachable && error.kind != .timeout
                state.pauseMilliseconds = min(
                    max(Self.pauseMin, state.pauseMilliseconds * 2), Self.pauseMax)
                state.pausedUntil = MonotonicClock.milliseconds + state.pauseMilliseconds
            }
            return state.problem != error.description
        }
        if isNew { log.warning("\(error)") } else { log.debug("\(error)") }
    }

    /// Notes what is wrong here with something that was to be sent or fetched.
    func note(problem: String) {
        let isNew = state.withLock { state in
            defer { (state.problem, state.problemTime) = (problem, .now()) }
            return state.problem != problem
        }
        if isNew { log.error("\(problem)") }
    }

    /// Notes that nothing is wrong any more.
    func clearProblem() {
        state.withLock { ($0.problem, $0.problemTime) = (nil, nil) }
    }

    /// Notes that the remote answered.
    func noteReachable() {
        state.withLock { $0.isReachable = true }
    }

    /// Notes that the remote does what it is asked.
    func noteSuccess() {
        state.withLock { state in
            state.isReachable = true
            state.pauseMilliseconds = 0
            state.pausedUntil = 0
        }
    }

    /// Notes who the remote is, and that it does what it is asked.
    func note(_ identity: RemoteIdentity) {
        state.withLock { $0.identity = identity }
        noteSuccess()
        state.wakeAll()
    }
}
