internal import Base

/// A place in the queue of those that commit, or make a checkpoint.
///
/// Sendable although unchecked: `hasTurn` is written before the signal and read after it.
final class CommitPlace: @unchecked Sendable {
    enum Aim {
        case commit
        /// To commit, and to tell SQLite.
        case checkpoint
    }

    fileprivate let aim: Aim
    /// The generation that has to be durable.
    fileprivate let goal: UInt64
    fileprivate var hasTurn = false
    private let signal = Semaphore()

    fileprivate init(_ aim: Aim, goal: UInt64) {
        self.aim = aim
        self.goal = goal
    }

    /// Blocks until another thread has done it, or this one is to.
    fileprivate func waitForTurn() -> Bool {
        signal.wait()
        return hasTurn
    }

    func wake() {
        signal.signal()
    }
}

/// What is found on entering the queue.
enum CommitEntry {
    case isDone
    case hasTurn
    case waits(CommitPlace)

    /// True where the caller is to do it, maybe after others; false where it is done. May block.
    func waitForTurn() -> Bool {
        switch self {
        case .isDone: false
        case .hasTurn: true
        case .waits(let place): place.waitForTurn()
        }
    }
}

/// Whose turn it is to commit and to make a checkpoint, and how far both have come.
struct CommitTurns {
    /// The number of the batch that collects changes now.
    var generation: UInt64 = 1
    /// All batches up to this one are on stable storage.
    var committed: UInt64 = 0
    /// SQLite has all batches up to this one, durably.
    var checkpointed: UInt64 = 0
    /// Somebody has a batch that is not committed yet.
    private(set) var isCommitting = false
    /// Somebody has a batch for SQLite.
    private(set) var isCheckpointing = false
    /// Those that wait for one of the two.
    private var queue: [CommitPlace] = []

    /// Takes the turn or a place in the queue, where a generation is not durable yet.
    mutating func takePlace(for aim: CommitPlace.Aim, goal: UInt64) -> CommitEntry {
        if isDone(aim, goal) { return .isDone }
        if isFree(for: aim) {
            begin(aim)
            return .hasTurn
        }
        let place = CommitPlace(aim, goal: goal)
        queue.append(place)
        return .waits(place)
    }

    /// Ends the commit, or the checkpoint, whose turn the caller has. Gives those that are to be woken: all
    /// whose goal is reached, and one that gets the turn where it is free.
    mutating func end(_ aim: CommitPlace.Aim) -> [CommitPlace] {
        if aim == .commit { isCommitting = false } else { isCheckpointing = false }
        var woken: [CommitPlace] = []
        let (committed, checkpointed) = (committed, checkpointed)
        queue.removeAll { place in
            guard (place.aim == .commit ? committed : checkpointed) >= place.goal else {
                return false
            }
            woken.append(place)
            return true
        }
        // Else commits could come one after the other for ever, and SQLite never have its moment.
        for aim in [CommitPlace.Aim.checkpoint, .commit] where isFree(for: aim) {
            guard let next = queue.firstIndex(where: { $0.aim == aim }) else { continue }
            let place = queue.remove(at: next)
            begin(aim)
            place.hasTurn = true
            woken.append(place)
        }
        return woken
    }

    private func isDone(_ aim: CommitPlace.Aim, _ goal: UInt64) -> Bool {
        (aim == .commit ? committed : checkpointed) >= goal
    }

    private func isFree(for aim: CommitPlace.Aim) -> Bool {
        !isCommitting && (aim == .commit || !isCheckpointing)
    }

    private mutating func begin(_ aim: CommitPlace.Aim) {
        isCommitting = true
        if aim == .checkpoint { isCheckpointing = true }
    }
}
