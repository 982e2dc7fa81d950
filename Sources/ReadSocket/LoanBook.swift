internal import Base
internal import Serving

/// What the daemon has lent, by session.
///
/// Whoever was lent a file by the volume is told when the last lets go of it, so nothing is let go of under the lock.
final class LoanBook: Sendable {
    private struct Session {
        var user: UInt32
        var connectionCount = 1
        var loans: [UInt64: SharedFile] = [:]
    }

    private struct State {
        var sessions: [SessionID: Session] = [:]
        var loanCount = 0
        var isClosed = false
    }

    enum Outcome {
        case lent
        /// There are as many as there may be.
        case full
        /// The session has a loan of that number.
        case taken
    }

    private let countMax: Int
    private let sessionCountMax: Int
    private let state = Monitor(State())

    /// - Parameters:
    ///   - countMax: of all loans.
    ///   - sessionCountMax: of the loans of one session.
    init(countMax: Int, sessionCountMax: Int) {
        self.countMax = countMax
        self.sessionCountMax = sessionCountMax
    }

    /// How many there are now.
    var count: Int { state.withLock { $0.loanCount } }

    /// Begins a session with its first connection; nil where the book is closed.
    func begin(user: UInt32) -> SessionID? {
        state.withLock { state in
            guard !state.isClosed else { return nil }
            let id = SessionID.random()
            state.sessions[id] = Session(user: user)
            return id
        }
    }

    /// Adds a connection to a session; false where there is none of that number for the user.
    func join(_ id: SessionID, user: UInt32) -> Bool {
        state.withLock { state in
            guard state.sessions[id]?.user == user else { return false }
            state.sessions[id]?.connectionCount += 1
            return true
        }
    }

    /// Takes a connection from a session; with the last one all loans end.
    func leave(_ id: SessionID) {
        let ended: Session? = state.withLock { state in
            state.sessions[id]?.connectionCount -= 1
            guard state.sessions[id]?.connectionCount == 0 else { return nil }
            let ended = state.sessions.removeValue(forKey: id)
            state.loanCount -= ended?.loans.count ?? 0
            return ended
        }
        withExtendedLifetime(ended) {}
    }

    func lend(_ file: SharedFile, as number: UInt64, to id: SessionID) -> Outcome {
        state.withLock { state in
            guard let count = state.sessions[id]?.loans.count, count < sessionCountMax,
                state.loanCount < countMax
            else { return .full }
            guard state.sessions[id]?.loans[number] == nil else { return .taken }
            state.sessions[id]?.loans[number] = file
            state.loanCount += 1
            return .lent
        }
    }

    /// Ends loans; numbers of none are passed over.
    func end(_ numbers: [UInt64], of id: SessionID) {
        let ended: [SharedFile] = state.withLock { state in
            let ended = numbers.compactMap { state.sessions[id]?.loans.removeValue(forKey: $0) }
            state.loanCount -= ended.count
            return ended
        }
        withExtendedLifetime(ended) {}
    }

    /// Ends all loans, and lends nothing any more.
    func close() {
        let ended: [SessionID: Session] = state.withLock { state in
            state.isClosed = true
            state.loanCount = 0
            defer { state.sessions = [:] }
            return state.sessions
        }
        withExtendedLifetime(ended) {}
    }
}
