import Base

/// Who asked for the unmount and hears its end.
final class Leaving: Sendable {
    private struct State {
        var waiting: [ControlAnswer] = []
        /// The kernel has no use of the filesystem any more; the volume is being closed.
        var isSessionOver = false
    }

    private let state = Monitor(State())

    /// How long a command waits for the session's end, in tenths of a second.
    private static let lingerTenths = 20

    /// Adds an answer that is to hear the end.
    func add(_ answer: ControlAnswer) {
        state.withLock { $0.waiting.append(answer) }
    }

    /// Takes an answer back; false where it has heard the end.
    func remove(_ answer: ControlAnswer) -> Bool {
        state.withLock { state in
            defer { state.waiting.removeAll { $0 === answer } }
            return state.waiting.contains { $0 === answer }
        }
    }

    /// Gives out all that wait, who are to hear the end now.
    func takeAll() -> [ControlAnswer] {
        state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
    }

    /// Notes that the kernel has no use of the filesystem any more.
    func noteSessionIsOver() {
        state.withLock { $0.isSessionOver = true }
        state.wakeAll()
    }

    /// Waits a while for that; whether it has come.
    func waitForEnd() -> Bool {
        state.withLock { state in
            for _ in 0..<Self.lingerTenths where !state.isSessionOver {
                self.state.wait(&state, milliseconds: 100)
            }
            return state.isSessionOver
        }
    }
}
