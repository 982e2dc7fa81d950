internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

/// How a tree that goes with a name stands to it.
final class Following: Sendable {
    private struct State {
        var isFollowed = false
        var isStopping = false
        var lifetimeSeconds: Double?
        /// In milliseconds of `MonotonicClock`.
        var nextLook: Int64?
        var lastError: String?
        var failures = 0
    }

    private let state = Monitor(State())
    /// Ends a look that is under way.
    let cancellation = Cancellation()

    /// Between two looks, whatever the name's owner says, in seconds.
    private static let seconds: ClosedRange<Double> = 0.5...3_600
    /// Where nobody says how long a name holds.
    private static let secondsByDefault: Double = 60
    /// After a failure, in seconds; twice that after the next, up to the usual time.
    private static let secondsAfterFailure: Double = 5

    func begin() { state.withLock { $0.isFollowed = true } }

    /// The tree goes with a name.
    var isFollowed: Bool { state.withLock { $0.isFollowed } }

    func note(lifetimeSeconds: Double?) {
        state.withLock { $0.lifetimeSeconds = lifetimeSeconds }
    }

    /// Notes how a look ended, with what went wrong.
    func note(_ failure: String?) {
        state.withLock { state in
            state.lastError = failure
            state.failures = failure == nil ? 0 : state.failures + 1
        }
    }

    /// Waits for the time of the next look; false once it is stopped.
    func waitForLook() -> Bool {
        state.withLock { state in
            let usual = (state.lifetimeSeconds ?? Self.secondsByDefault)
                .clamped(to: Self.seconds)
            let wait =
                state.failures == 0
                ? usual
                : min(usual, Self.secondsAfterFailure * Double(1 << min(state.failures - 1, 16)))
            let next = MonotonicClock.milliseconds + Int64(wait * 1000)
            state.nextLook = next
            while !state.isStopping {
                let left = next - MonotonicClock.milliseconds
                guard left > 0 else { return true }
                self.state.wait(&state, milliseconds: Int(min(left, 60_000)))
            }
            return false
        }
    }

    func stop() {
        cancellation.cancel()
        state.withLock { $0.isStopping = true }
        state.wakeAll()
    }

    func tell(_ status: inout OriginStatus) {
        state.withLock { state in
            status.isFollowed = state.isFollowed
            status.lastError = state.lastError
            status.nextLookAt = state.nextLook.map {
                Double(Timestamp.now().nanoseconds) / 1e9
                    + Double($0 - MonotonicClock.milliseconds) / 1000
            }
        }
    }
}

extension Comparable {
    fileprivate func clamped(to range: ClosedRange<Self>) -> Self {
        min(max(self, range.lowerBound), range.upperBound)
    }
}

extension Volume {
    /// Has the tree go with the name that it comes from, from now on.
    func startFollowing(_ origin: OriginOptions) throws(Errno) -> JoinableThread {
        following.begin()
        return try Threads.start(name: "rfs-follow") { [weak self, following] in
            while following.waitForLook() { self?.follow(origin) }
        }
    }

    /// Looks what the name stands for, and brings the tree there.
    private func follow(_ origin: OriginOptions) {
        do throws(VolumeError) {
            let (root, block, _) = try directory(of: origin, cancellation: following.cancellation)
            try background.run { () throws(VolumeError) in try take(root, block, origin) }
            following.note(nil)
        } catch {
            guard !following.cancellation.isCancelled else { return }
            log.warning("\(error)")
            following.note("\(error)")
        }
    }

    /// Brings a tree that nobody else changes to another root: only what differs.
    private func take(
        _ root: CID, _ block: [UInt8], _ origin: OriginOptions
    ) throws(VolumeError) {
        guard let fetcher, let known = manifest.withLock({ $0.origin }), known.root != root else {
            return
        }
        log.notice("\(origin.reference): it stands for \(root) now")
        let isWhole = retargetRoot(from: known.root, to: root, block)
        if !isWhole {
            do throws(MergeStop) {
                try TreeMerge(self, fetcher, of: origin.reference, .takesTheirs)
                    .run(base: known.root, theirs: root)
            } catch {
                switch error {
                case .changed: throw .tree("\(origin.reference): the tree changed meanwhile")
                case .read(let error):
                    throw .tree("\(origin.reference): \(root) cannot be had: \(error.reason)")
                case .tree(let error): throw .operation(failed: origin.reference, error)
                }
            }
        }
        manifest.withLock { state in
            state.origin = Origin(
                reference: origin.reference, root: root, time: Timestamp.now().nanoseconds)
        }
        do throws(Errno) {
            try manifest.commit()
        } catch {
            throw .operation(failed: origin.reference, error)
        }
    }

    /// Lets a root that nobody has looked into stand for another one; false for one that somebody has.
    func retargetRoot(from old: CID, to new: CID, _ block: [UInt8]) -> Bool {
        manifest.withLock { state in
            guard let root = try? state.inode(.root), !root.isLoaded, root.cid == old else {
                return false
            }
            (root.cid, root.treeSize) = (new, Self.treeSize(of: new, block))
            let now = Timestamp.now()
            (root.modified, root.changed) = (now, now)
            state.mark(root)
            return true
        }
    }
}
