internal import Base
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    /// Runs an operation that only reads records.
    func reading<Result>(
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        try prepared { (attempt) throws(Errno) in
            try manifest.withLock { (state) throws(Errno) in
                try attempt.run(self, state) { () throws(Errno) in try body(state) }
            }
        }
    }

    /// What an operation under the manifest's lock turns out to need, to be had without that.
    private struct Attempt {
        /// The flat files that are open for it.
        var files: [FileAhead] = []
        /// The directory for whose entries it failed.
        var unknown: Inode?
        /// The flat file for which it failed.
        var wanted: WantedFile?

        mutating func run<Result>(
            _ volume: Volume, _ state: ManifestState, _ body: () throws(Errno) -> Result
        ) throws(Errno) -> Result {
            (unknown, wanted) = (nil, nil)
            volume.opens.filesAhead(state).begin(files)
            defer { volume.opens.filesAhead(state).end(state) }
            do throws(Errno) {
                return try body()
            } catch {
                unknown = state.takeNotLoaded()
                if error == FilesAhead.notOpen {
                    wanted = volume.opens.filesAhead(state).takeWanted()
                }
                throw error
            }
        }
    }

    /// Runs an operation again and again until all directories that it looks into are known, and all flat files
    /// that it needs are open. It tells the one that it needs: nobody may wait for one that another needs.
    private func prepared<Result>(
        _ body: (_ attempt: inout Attempt) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var attempt = Attempt()
        while true {
            do throws(Errno) {
                return try body(&attempt)
            } catch {
                if error == ManifestState.notLoaded, let unknown = attempt.unknown {
                    try expand(unknown)
                } else if error == FilesAhead.notOpen, let wanted = attempt.wanted {
                    attempt.files.append(
                        FileAhead(
                            file: try openPinned(wanted), isWritable: wanted.forWriting,
                            exchanges: wanted.exchanges))
                } else {
                    throw error
                }
            }
        }
    }

    /// Opens a flat file that is pinned, and ends that.
    private func openPinned(_ wanted: WantedFile) throws(Errno) -> ObjectFile {
        defer {
            manifest.withLock { state in
                if let record = try? state.object(wanted.object) { state.unpin(record) }
            }
        }
        return try openFlatFile(wanted.object, forWriting: wanted.forWriting)
    }

    /// Runs an operation that changes records. Blocks while too many changes are uncommitted.
    func changing<Result>(
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        guard !options.isReadOnly else { throw .readOnlyFileSystem }
        var isForRoom = false
        do throws(Errno) {
            return try prepared { (attempt) throws(Errno) in
                try changeOnce(&isForRoom, &attempt, body)
            }
        } catch {
            guard isForRoom else { throw error }
            // The disk may have room again since it was refused.
            try manifest.checkpoint()
            manifest.keepReserve()
            return try prepared { (attempt) throws(Errno) in
                try changeOnce(&isForRoom, &attempt, body)
            }
        }
    }

    /// - Parameters:
    ///   - isForRoom: set where the body failed because a commit had (`checkRoom`). Asked for later,
    ///     the commit may have been made up for by another thread.
    ///   - attempt: what it has, and what it turned out to need.
    private func changeOnce<Result>(
        _ isForRoom: inout Bool, _ attempt: inout Attempt,
        _ body: (ManifestState) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var (count, wantsCommit) = (0, false)
        let result = try manifest.withLock { (state) throws(Errno) in
            defer { (count, wantsCommit) = (state.changeCount, state.wantsCommit) }
            publishing(state).changes &+= 1
            do throws(Errno) {
                return try attempt.run(self, state) { () throws(Errno) in try body(state) }
            } catch {
                isForRoom =
                    state.commitFailure == error || state.isReserveSpent && error == .noSpace
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
            clock.requestCommit()
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
