internal import Base
internal import GRDB
internal import Glibc
internal import Logging
internal import Synchronization

package import struct SystemPackage.Errno

// A commit makes changes durable by a record of the redo log. SQLite is told later, of the changes of
// many commits at once: that is a *checkpoint*. Both take turns:
//
//   isCommitting      has a batch, and the log until that is durable
//   isCheckpointing   has a batch for SQLite; begins at a moment when nobody commits, with a commit of
//                     its own, so that what SQLite is told is what the log says at that moment
//
// Who finds the turn taken stands in a queue. Who ends a turn wakes each whose changes it covered, and
// gives the turn to one of the others: a thread is woken once, for what it waited for, and needs no
// lock after it.
//
// Without a log, or where a batch has no room in it, the transaction is the commit.

extension InodeManifest {
    /// Makes every change that was made before the call durable. Blocks for a flush of the disk
    /// where there is any such change, and not at all where there is none.
    ///
    /// - Throws: ENOSPC or EIO; the changes then stay in memory, and the next commit tries again.
    package func commit() throws(Errno) {
        guard hasLog.load(ordering: .acquiring) else { return try checkpoint() }
        let batch: CommitBatch
        switch nextBatch() {
        case .done: return
        case .behind: return try checkpoint()
        case .lead(let own): batch = own
        }
        let room: LogRoom
        do throws(Errno) {
            room = try append(batch)
        } catch {
            let cause = failed(error)
            end(batch, .failed(error, cause))
            throw error.because(cause)
        }
        end(batch, room == .none ? .notDone : .done, isDue: room == .scarce)
        if room == .none { try checkpoint() }
    }

    /// Makes a checkpoint: commits, and tells SQLite of all commits. Whoever looks for rows rather than for records finds
    /// then what was changed before the call. Blocks for the disk, and not at all where SQLite
    /// has everything.
    ///
    /// - Throws: ENOSPC or EIO, as `commit`.
    package func checkpoint() throws(Errno) {
        guard let (batch, rows) = nextRows() else { return }
        var isLogged = false
        do throws(Errno) {
            redo.withLock { $0?.turn() }
            isLogged = batch.isEmpty
            if !isLogged { isLogged = try append(batch) != .none }
        } catch {
            let cause = failed(error)
            state.withLock { $0.restoreNotCheckpointed(rows) }
            endCheckpoint(.failed(error, cause))
            end(batch, .failed(error, cause))
            throw error.because(cause)
        }
        // Of other commits, which go on from here, SQLite is not told yet.
        let number = redo.withLock { isLogged ? $0?.durable : $0?.takeNumber() }
        if isLogged { end(batch, .done) }
        let failure = background.run { () throws(Never) in write(rows, number: number) }
        state.withLock { state in
            guard failure == nil else {
                return state.restoreNotCheckpointed(rows)
            }
            state.turns.checkpointed = rows.generation
            state.sealed.forget(checkpointed: rows.generation)
            state.blocks.forget(checkpointed: rows.generation)
            state.pending.endCheckpoint()
            state.cache.retire(rows)
        }
        if failure == nil, let number { redo.withLock { $0?.noteApplied(number) } }
        let outcome = failure.map { Outcome.failed($0, FailureCause.take() ?? "\($0)") } ?? .done
        endCheckpoint(outcome)
        if !isLogged { end(batch, outcome) }
        if case .failed(let error, let cause) = outcome { throw error.because(cause) }
    }

    /// Logs why a commit failed, and gives it in words.
    private func failed(_ error: Errno) -> String {
        let cause = FailureCause.take() ?? "\(error)"
        log.error("manifest: commit failed: \(cause)")
        return cause
    }

    private enum Turn {
        case done
        /// The caller is to commit the batch, for itself and for those that wait.
        case lead(CommitBatch)
        /// SQLite has to be told first.
        case behind
    }

    private enum Outcome {
        case done
        /// There is no room in the log.
        case notDone
        /// With the cause in words.
        case failed(Errno, String)
    }

    /// Waits until everything is committed that was there at the call, or until the caller is to
    /// do it.
    private func nextBatch() -> Turn {
        let place = state.withLock { state in
            let open = state.turns.generation
            let goal = state.hasChanges ? open : open - 1
            return state.turns.takePlace(for: .commit, goal: goal)
        }
        guard place.waitForTurn() else { return .done }
        let (turn, woken) = state.withLock { state -> (Turn, [CommitPlace]) in
            // What SQLite has not got stays in memory, so there is a bound to it.
            if state.pending.notCheckpointedCount > ManifestBounds.changesUncommittedMax {
                return (.behind, state.turns.end(.commit))
            }
            return (.lead(state.takeBatch()), [])
        }
        for place in woken { place.wake() }
        return turn
    }

    /// Waits until SQLite has what was there at the call, or gives the caller what is to be
    /// committed and what SQLite is to be told.
    private func nextRows() -> (batch: CommitBatch, rows: CommitBatch)? {
        let place = state.withLock { state in
            let open = state.turns.generation
            let goal = state.hasChanges ? open : open - 1
            return state.turns.takePlace(for: .checkpoint, goal: goal)
        }
        guard place.waitForTurn() else { return nil }
        return state.withLock { state in
            let batch = state.takeBatch()
            var rows = state.pending.takeNotCheckpointed(&state.cache)
            rows.generation = batch.generation
            return (batch, rows)
        }
    }

    /// - Parameter isDue: the log needs a checkpoint.
    private func end(_ batch: CommitBatch, _ outcome: Outcome, isDue: Bool = false) {
        let (woken, wakesCheckpoints) = state.withLock { state -> ([CommitPlace], Bool) in
            guard case .done = outcome else {
                // A batch's number never becomes committed by itself then: its changes carry on
                // in the generation that is open now.
                if case .failed(let errno, let cause) = outcome {
                    state.logFailure = errno
                    state.commitFailureCause = cause
                }
                state.restore(batch)
                return (state.turns.end(.commit), false)
            }
            state.logFailure = nil
            state.turns.committed = batch.generation
            state.files.noteCommitted(batch)
            let wakesCheckpoints =
                !state.turns.isCheckpointing
                && (isDue
                    || state.pending.notCheckpointedCount > ManifestBounds.changesPerCommit)
            return (state.turns.end(.commit), wakesCheckpoints)
        }
        // Those that wake find the lock free.
        for place in woken { place.wake() }
        if wakesCheckpoints { checkpointSignal.raise() }
    }

    private func endCheckpoint(_ outcome: Outcome) {
        let woken = state.withLock { state in
            if case .failed(let errno, let cause) = outcome {
                state.checkpointFailure = errno
                state.commitFailureCause = cause
            } else {
                state.checkpointFailure = nil
            }
            return state.turns.end(.checkpoint)
        }
        for place in woken { place.wake() }
    }

    // MARK: The log

    private enum LogRoom {
        case none
        /// The batch is in the log, and a checkpoint is due soon.
        case scarce
        case ample
    }

    /// Writes a batch to the log; says whether that had room for it. Blocks for a flush of the disk.
    private func append(_ batch: CommitBatch) throws(Errno) -> LogRoom {
        try Faults.check(.beginCommit)
        let room = try redo.withLock { (log) throws(Errno) in
            guard try log?.append(batch) == true else { return LogRoom.none }
            return log?.isDue == true ? .scarce : .ample
        }
        if room != .none { try Faults.check(.endCommit) }
        return room
    }

    // MARK: SQLite

    private func write(_ rows: CommitBatch, number: UInt64?) -> Errno? {
        var rows = rows
        rows.simplify()
        do {
            try transact(rows, number: number)
            return nil
        } catch {
            guard Errno(database: error) == .noSpace, unlink(reservePath) == 0 else {
                log.error("manifest: commit failed: \(error)")
                return Errno(database: error)
            }
        }
        // The reserve was kept for this: the file's room lets deletions through on a full disk.
        state.withLock { $0.isReserveSpent = true }
        do {
            try transact(rows, number: number)
            return nil
        } catch {
            log.error("manifest: commit failed with the reserve given up: \(error)")
            return Errno(database: error)
        }
    }

    private func transact(_ rows: CommitBatch, number: UInt64?) throws {
        try Faults.check(.beginTransaction)
        // Without GRDB's own transaction, whose bookkeeping costs as much as a small batch.
        try writer.unsafeReentrantWrite { db in
            var begin = try BoundStatement("BEGIN IMMEDIATE", in: db)
            try begin.run()
            do {
                try rows.write(to: db)
                if let number { try RedoTail.note(number, in: db) }
                var commit = try BoundStatement("COMMIT", in: db)
                try commit.run()
            } catch {
                var rollback = try BoundStatement("ROLLBACK", in: db)
                // SQLite may have rolled back by itself, on a full disk.
                try? rollback.run()
                throw error
            }
        }
        try Faults.check(.endTransaction)
    }
}
