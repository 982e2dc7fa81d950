internal import Base
internal import Logging

/// Log lines that others can bring about, one in a while.
final class Complaints: Sendable {
    private struct State {
        var nextMilliseconds: Int64 = 0
        var unsaidCount = 0
    }

    private static let pauseMilliseconds: Int64 = 10_000

    private let log: Logger
    private let state = Monitor(State())

    init(log: Logger) {
        self.log = log
    }

    /// Logs a line, or counts it for the next one.
    func warn(_ text: String) {
        let now = MonotonicClock.milliseconds
        let unsaid: Int? = state.withLock { state in
            guard now >= state.nextMilliseconds else {
                state.unsaidCount += 1
                return nil
            }
            state.nextMilliseconds = now + Self.pauseMilliseconds
            defer { state.unsaidCount = 0 }
            return state.unsaidCount
        }
        guard let unsaid else { return }
        let rest = unsaid > 0 ? " (and \(unsaid) more since the last such line)" : ""
        log.warning("\(oneLine(text))\(rest)")
    }
}
