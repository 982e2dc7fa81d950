internal import Base
internal import InodeManifest
public import Multiformats

internal import struct SystemPackage.Errno

/// Why nobody waits any longer for a volume to be published.
public struct PublishWaitError: Error, Sendable {
    /// One line.
    public let reason: String

    init(_ reason: String) { self.reason = reason }
}

/// How far a volume has come with publishing.
public struct PublishProgress: Sendable {
    /// Bytes that were sent since the wait began.
    public let sentBytes: UInt64
    /// Bytes of sealed content that wait to be sent.
    public let waitingBytes: UInt64
}

extension Volume {
    /// Waits until the tree as it is now is published: all its blocks at the node, its root pinned,
    /// the MFS mirror equal to it. Blocks for as long as that makes progress.
    ///
    /// - Parameters:
    ///   - stallMilliseconds: how long nothing may move before it is given up.
    ///   - progress: called several times a second; false ends the wait.
    /// - Returns: the published root; nil where `progress` ended the wait.
    /// - Throws: why it is given up, for people.
    public func waitUntilPublished(
        stallMilliseconds: Int, progress: (PublishProgress) -> Bool
    ) throws(PublishWaitError) -> CID? {
        guard let connection else {
            throw PublishWaitError("the volume has no node: mount it with --kubo")
        }
        let sentBefore = connection.traffic.sentBytes
        let goal = connection.goals.add()
        var (seen, movedAt) = (UInt64.max, MonotonicClock.milliseconds)
        var (waitingBytes, countDue) = (UInt64(0), Int64.min)
        while true {
            let isDone = connection.goals.wait(
                for: goal, milliseconds: 200, unless: connection.isStopping)
            let (isStopping, sent) = (connection.isStopping, connection.traffic.sentBytes)
            if isDone { return manifest.withLock { $0.published?.root } }
            if isStopping { throw PublishWaitError("the volume was unmounted meanwhile") }
            if MonotonicClock.milliseconds >= countDue {
                // Goes through all objects, under the manifest's lock.
                let start = MonotonicClock.milliseconds
                let totals = try? reading { (state) throws(Errno) in
                    try state.rows.unpublishedTotals()
                }
                waitingBytes = totals?.bytes ?? 0
                let end = MonotonicClock.milliseconds
                countDue = end + max(1_000, 20 * (end - start))
            }
            let now = PublishProgress(sentBytes: sent - sentBefore, waitingBytes: waitingBytes)
            guard progress(now) else { return nil }
            if now.sentBytes != seen {
                (seen, movedAt) = (now.sentBytes, MonotonicClock.milliseconds)
            }
            guard MonotonicClock.milliseconds - movedAt < Int64(stallMilliseconds) else {
                throw PublishWaitError(
                    connection.goals.failure ?? connection.health.current.problem
                        ?? "the tree never rests")
            }
        }
    }
}
