internal import Base
internal import Multiformats

/// One request of a set, and the sources that are asked because of it, one or a few at a time. The first block
/// ends all of them.
final class SourceRace: Sendable {
    /// What became of a source.
    enum Outcome {
        /// It lacks the block.
        case absent
        /// It will not give it, however often it is asked.
        case final(RemoteError)
        /// It may, a little later.
        case failed(RemoteError)

        var error: RemoteError? {
            switch self {
            case .absent: nil
            case .final(let error), .failed(let error): error
            }
        }
    }

    /// A source's part in the race.
    struct Attempt {
        let source: Int
        let cancellation: Cancellation
        /// Whether others run already because it was waited for too long.
        let isHedge: Bool
    }

    private struct State {
        var block: [UInt8]?
        var winner: Int?
        var isOver = false
        var running: [Int: Cancellation] = [:]
        var attempts: [Int: Int] = [:]
        var outcomes: [Int: Outcome] = [:]
    }

    /// How often one source is asked for one request, at most.
    static let attemptsMax = 4

    let request: BlockRequest
    /// By the set's clock.
    let deadline: Int64
    private let state = Monitor(State())

    init(_ request: BlockRequest, deadline: Int64) {
        self.request = request
        self.deadline = deadline
    }

    var isOver: Bool { state.withLock(\.isOver) }

    /// The block, if it has come.
    var block: [UInt8]? { state.withLock(\.block) }

    var winner: Int? { state.withLock(\.winner) }

    var runningCount: Int { state.withLock { $0.running.count } }

    /// What became of the sources that were asked.
    var outcomes: [Int: Outcome] { state.withLock(\.outcomes) }

    /// Whether a source may be asked, some time or other.
    func mayAsk(_ source: Int) -> Bool {
        state.withLock { Self.mayAsk(source, $0) }
    }

    private static func mayAsk(_ source: Int, _ state: State) -> Bool {
        guard state.running[source] == nil, state.attempts[source, default: 0] < attemptsMax else {
            return false
        }
        switch state.outcomes[source] {
        case nil, .failed: return true
        case .absent, .final: return false
        }
    }

    /// Begins to ask the first of some sources that may be asked; nil where there is none, or all is over.
    func begin(_ sources: [Int], runningMax: Int) -> Attempt? {
        state.withLock { state in
            guard !state.isOver, state.running.count < runningMax,
                let source = sources.first(where: { Self.mayAsk($0, state) })
            else { return nil }
            let cancellation = Cancellation()
            let isHedge = !state.running.isEmpty
            state.running[source] = cancellation
            state.attempts[source, default: 0] += 1
            return Attempt(source: source, cancellation: cancellation, isHedge: isHedge)
        }
    }

    /// Ends a source's part with success.
    ///
    /// - Parameter block: what the caller, who waits in another source's part, is to be given; nil where
    ///   he has it already: he may want to use its memory again, so nobody else has it.
    func finish(_ attempt: Attempt, with block: [UInt8]?) {
        let others = state.withLock { state in
            state.running[attempt.source] = nil
            guard !state.isOver else { return [Cancellation]() }
            state.block = block
            state.winner = attempt.source
            return Self.end(&state)
        }
        for other in others { other.cancel() }
        state.wakeAll()
    }

    /// Ends a source's part without a block.
    func finish(_ attempt: Attempt, _ outcome: Outcome?) {
        state.withLock { state in
            state.running[attempt.source] = nil
            if let outcome { state.outcomes[attempt.source] = outcome }
        }
        state.wakeAll()
    }

    /// Takes back a part that was not begun after all.
    func giveBack(_ attempt: Attempt) {
        state.withLock { state in
            state.running[attempt.source] = nil
            state.attempts[attempt.source, default: 1] -= 1
        }
        state.wakeAll()
    }

    /// Ends all parts. Any thread may do so, more than once.
    func end() {
        let running = state.withLock { Self.end(&$0) }
        for cancellation in running { cancellation.cancel() }
        state.wakeAll()
    }

    private static func end(_ state: inout State) -> [Cancellation] {
        state.isOver = true
        defer { state.running = [:] }
        return Array(state.running.values)
    }

    /// Blocks while so many sources run, until all is over or a time has passed.
    func wait(milliseconds: Int64, whileRunning count: Int) {
        state.withLock { state in
            let end = MonotonicClock.milliseconds + milliseconds
            while !state.isOver, state.running.count == count {
                let left = end - MonotonicClock.milliseconds
                guard left > 0 else { return }
                self.state.wait(&state, milliseconds: Int(left))
            }
        }
    }
}
