internal import Base
internal import Glibc
internal import InodeManifest
internal import Logging
public import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

/// The root that is told to others: the tree's own where that has a CID, else the one of before while the next one is computed, on
/// a thread of its own for as long as somebody asks.
final class ServedRoot: Sendable {
    private struct State {
        /// The root that was the tree's last, as far as is known, and when, in milliseconds of `MonotonicClock`.
        var known: (cid: CID, at: Int64)?
        var isRunning = false
        var isStopped = false
        /// No computation before it.
        var restsUntil: Int64 = 0
        var problem: String?
    }

    private let state = Monitor(State())

    /// How old a root may be that is told without a wait, in milliseconds.
    static let freshMilliseconds: Int64 = 500
    /// How long an older one is waited for, and how long the first one.
    static let waitMilliseconds: Int64 = 250
    static let firstWaitMilliseconds: Int64 = 5_000

    var known: (cid: CID, at: Int64)? { state.withLock { $0.known } }
    var problem: String? { state.withLock { $0.problem } }

    /// Notes that the tree has a root.
    func note(_ cid: CID) {
        state.withLock { state in
            state.known = (cid, MonotonicClock.milliseconds)
            state.problem = nil
        }
        state.wakeAll()
    }

    /// Waits for a root that is the tree's after a time; for the end of the computation at most.
    func wait(since begin: Int64, milliseconds: Int64) -> CID? {
        let deadline = MonotonicClock.milliseconds + milliseconds
        return state.withLock { state in
            while true {
                if let known = state.known, known.at >= begin { return known.cid }
                let left = deadline - MonotonicClock.milliseconds
                guard left > 0, state.isRunning else { return nil }
                self.state.wait(&state, milliseconds: Int(left))
            }
        }
    }

    /// Has a root computed where nobody is at it.
    func compute(_ volume: Volume) {
        let starts = state.withLock { state in
            defer { state.isRunning = state.isRunning || !state.isStopped }
            return !state.isRunning && !state.isStopped
        }
        guard starts else { return }
        let thread: Void? = try? Threads.startDetached(name: "rfs-root") { [self] in
            run(volume)
            state.withLock { $0.isRunning = false }
            state.wakeAll()
        }
        guard thread == nil else { return }
        state.withLock { $0.isRunning = false }
        state.wakeAll()
    }

    /// Lets no computation begin from now on, and waits for the end of the one that is under way.
    func stop() {
        state.withLock { $0.isStopped = true }
        state.wakeAll()
        state.withLock { state in
            while state.isRunning { self.state.wait(&state) }
        }
    }

    private func run(_ volume: Volume) {
        // The computation holds a lock that snapshots and publishing wait for: what is being written is not hashed under it, but
        // now and then, as publishing does it.
        let patience = MonotonicClock.milliseconds + Self.patienceMilliseconds
        while true {
            if let current = volume.currentRoot { return note(current) }
            let now = MonotonicClock.milliseconds
            let mayBegin =
                now >= patience || volume.bytesBeingWritten < Self.writtenBytesMax
            let rests = state.withLock { $0.restsUntil }
            if mayBegin, now >= rests { break }
            let isStopped = state.withLock { state in
                if !state.isStopped { self.state.wait(&state, milliseconds: 20) }
                return state.isStopped
            }
            if isStopped { return }
        }
        let begin = MonotonicClock.milliseconds
        let result: Result<CID, Errno>
        do throws(Errno) {
            // The end of the volume must not wait for all that is not hashed yet.
            result = .success(try volume.rootCID { !state.withLock { $0.isStopped } })
        } catch {
            result = .failure(error)
        }
        let now = MonotonicClock.milliseconds
        switch result {
        case .success(let cid): note(cid)
        case .failure(let error):
            let problem = FailureCause.words(for: error)
            state.withLock { $0.problem = problem }
        }
        state.withLock { state in
            state.restsUntil = now + min(Self.restMax, (now - begin) * Self.restFactor)
        }
    }

    /// How long what is being written may put a computation off, in milliseconds.
    private static let patienceMilliseconds: Int64 = 30_000
    /// Bytes of files that somebody may write to, which are hashed at each computation.
    private static let writtenBytesMax: UInt64 = 4 << 20
    /// A computation is followed by a rest of so many times its length, and of so many milliseconds at most: it takes no more than a
    /// small part of one processor.
    private static let restFactor: Int64 = 9
    private static let restMax: Int64 = 60_000
}

extension Volume {
    /// The newest root CID: the tree's own where that is known; else that of a moment ago, while the next one is computed in
    /// the background. Waits for a quarter of a second where it is older than half a second, and for five seconds where
    /// there is none yet; never for a large file.
    ///
    /// - Throws: `unavailable` where there is none by then.
    public func newestRoot() throws(ServingFailure) -> CID {
        if let current = currentRoot {
            serving.root.note(current)
            return current
        }
        let now = MonotonicClock.milliseconds
        let known = serving.root.known
        serving.root.compute(self)
        if let known, now - known.at <= ServedRoot.freshMilliseconds { return known.cid }
        let earlier = known?.cid ?? earlierRoot
        let patience =
            earlier == nil ? ServedRoot.firstWaitMilliseconds : ServedRoot.waitMilliseconds
        if let newer = serving.root.wait(since: now, milliseconds: patience) { return newer }
        guard let earlier else {
            throw .unavailable(
                reason: "the tree has no CID yet: \(serving.root.problem ?? "it is being computed")"
            )
        }
        return earlier
    }

    /// The root's CID, while it is that of the tree.
    var currentRoot: CID? { manifest.withLock { state in (try? state.inode(.root))?.cid } }

    /// A root that the tree had some time: the published one, or that of the newest snapshot.
    private var earlierRoot: CID? {
        manifest.withLock { state in state.published?.root ?? state.snapshots.all.last?.root }
    }

    /// The bytes of files that somebody may write to.
    var bytesBeingWritten: UInt64 {
        let sizes = manifest.withLock { state in
            opens(state).files.values.compactMap { file -> KnownSize? in
                guard file(state).hasWriters, let record = try? state.inode(file.inode) else {
                    return nil
                }
                return KnownSize(file(state).backing, record)
            }
        }
        return sizes.reduce(0) { sum, known in
            let size = (try? known.now) ?? 0
            return sum.addingReportingOverflow(size).overflow ? .max : sum + size
        }
    }
}
