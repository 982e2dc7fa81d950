internal import Base
internal import InodeManifest

internal import struct SystemPackage.Errno

extension Volume {
    /// Runs an operation that only reads records.
    func reading<Result>(
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        try expanding { (unknown) throws(Errno) in
            try manifest.withLock { (state) throws(Errno) in
                do throws(Errno) {
                    return try body(state)
                } catch {
                    unknown = state.takeNotLoaded()
                    throw error
                }
            }
        }
    }

    /// Runs an operation again and again until all directories that it looks into are known. It tells
    /// the one that it needs: nobody may wait for one that another needs.
    private func expanding<Result>(
        _ body: (_ unknown: inout Inode?) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        while true {
            var unknown: Inode?
            do throws(Errno) {
                return try body(&unknown)
            } catch {
                guard error == ManifestState.notLoaded, let unknown else { throw error }
                try expand(unknown)
            }
        }
    }

    /// Runs an operation that changes records. Blocks while too many changes are uncommitted.
    func changing<Result>(
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        guard !options.isReadOnly else { throw .readOnlyFileSystem }
        var isForRoom = false
        do throws(Errno) {
            return try expanding { (unknown) throws(Errno) in
                try changeOnce(&isForRoom, &unknown, body)
            }
        } catch {
            guard isForRoom else { throw error }
            // The disk may have room again since it was refused.
            try manifest.checkpoint()
            manifest.keepReserve()
            return try expanding { (unknown) throws(Errno) in
                try changeOnce(&isForRoom, &unknown, body)
            }
        }
    }

    /// - Parameters:
    ///   - isForRoom: set where the body failed because a commit had (`checkRoom`). Asked for later,
    ///     the commit may have been made up for by another thread.
    ///   - unknown: set to the directory for whose entries it failed.
    private func changeOnce<Result>(
        _ isForRoom: inout Bool, _ unknown: inout Inode?,
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var (count, wantsCommit) = (0, false)
        let result = try manifest.withLock { (state) throws(Errno) in
            defer { (count, wantsCommit) = (state.changeCount, state.wantsCommit) }
            publishing(state).changes &+= 1
            do throws(Errno) {
                return try body(state)
            } catch {
                isForRoom =
                    state.commitFailure == error || state.isReserveSpent && error == .noSpace
                unknown = state.takeNotLoaded()
                throw error
            }
        }
        afterChange(count: count, wantsCommit: wantsCommit)
        return result
    }

    /// Starts a commit where the changes that work of our own left behind make it due, or waits for
    /// it where they are too many.
    func keepChangesBounded() {
        let (count, wantsCommit) = manifest.withLock { ($0.changeCount, $0.wantsCommit) }
        afterChange(count: count, wantsCommit: wantsCommit)
    }

    private func afterChange(count: Int, wantsCommit: Bool) {
        if count > ManifestBounds.changesUncommittedMax {
            // A failure is told by the next fsync, and by ENOSPC to whoever needs room.
            try? manifest.commit()
        } else if wantsCommit {
            requestCommit()
        }
    }

    /// Refuses to take more room while the disk is known to be full.
    func checkRoom(_ state: ManifestState) throws(Errno) {
        if let failure = state.commitFailure {
            throw failure.because(
                "changes cannot be made durable: \(state.commitFailureCause ?? "\(failure)")")
        }
        if state.isReserveSpent {
            throw .noSpace.because("the disk of the state directory is full: \(stateDirectoryPath)")
        }
    }
}
