internal import Base
internal import InodeManifest
public import Kubo
internal import Logging
public import Multiformats
internal import Synchronization

public import struct SystemPackage.Errno

/// How a volume uses a Kubo node.
public struct NodeOptions: Sendable {
    /// Speaks with the node.
    public var client: KuboClient
    /// The MFS path at which the tree stands; nil takes `/registryfs/` and the volume's number.
    public var path: String?
    /// How long the tree rests before it is published, in milliseconds.
    public var quietMilliseconds = 500
    /// How long a tree that never rests waits to be published, in milliseconds; also how often the
    /// MFS path is looked at for changes that others made.
    public var publishIntervalMilliseconds = 5_000
    /// Bytes of content kept here that the node holds, too; nil for no limit.
    public var cacheSizeMax: UInt64?
    /// Paths whose content always stays here, as patterns of glob(7) from the root on.
    public var keptPaths: [String] = []
    /// fsync(2) returns only when the node has the blocks of the file.
    public var isDurableAtNode = false
    /// How long a read waits for one block, in milliseconds.
    public var fetchMilliseconds = 30_000
    /// How long the node may be at a pin and come to no further block, of which all should be there,
    /// in milliseconds; then some count as lost.
    public var pinMilliseconds = 120_000
    /// A new volume takes the tree that stands at the MFS path.
    public var adoptsTree = false
    /// Modes that come from the node may let the group and others write.
    public var trustsModes = false
    /// What it may take to look into one directory that comes from the node.
    public var expansion = ExpansionBounds()
    /// Parts of remote files that are known at a time, of all files together: leaves, and nodes that
    /// were not looked into. Each takes some 100 bytes of memory, twice that while a file's table grows.
    public var remotePartsMax = 1 << 19
    /// Bytes on the disk that what is fetched leaves to all else; nil for 64 MiB, or a sixteenth of a
    /// small disk. The manifest's own reserve is a part of them.
    public var diskReserve: UInt64?

    public init(client: KuboClient) {
        self.client = client
    }
}

/// What a volume knows of its node.
public struct NodeStatus: Sendable {
    /// The node's address.
    public var address = ""
    /// The version of its program; nil before it answered.
    public var version: String?
    /// Its peer id; nil before it answered.
    public var peer: String?
    /// The MFS path of the tree.
    public var path = ""
    /// Whether the last call to it was answered.
    public var isReachable = false
    /// The root that was published last.
    public var root: CID?
    /// When that was, in seconds since the epoch.
    public var publishedAt: Double?
    /// Files' contents that wait to be sent.
    public var waitingFiles: UInt64 = 0
    /// Their bytes.
    public var waitingBytes: UInt64 = 0
    /// Bytes that were sent since the mount.
    public var sentBytes: UInt64 = 0
    /// Bytes that were fetched since the mount.
    public var fetchedBytes: UInt64 = 0
    /// Bytes a second that were sent over the last ten seconds.
    public var sendRate: Double = 0
    /// Bytes a second that were fetched over the last ten seconds.
    public var fetchRate: Double = 0
    /// Bytes of content here that the node holds, too.
    public var cachedBytes: UInt64 = 0
    /// The bound of these; nil for none.
    public var cacheSizeMax: UInt64?
    /// What went wrong last, and when, in seconds since the epoch.
    public var lastError: String?
    public var lastErrorAt: Double?
}

/// Why nobody waits any longer for a volume to be published.
public struct NodeWaitError: Error, Sendable {
    /// One line.
    public let reason: String

    init(_ reason: String) { self.reason = reason }
}

/// The volume's side of its node: what is known of it, and what is on its way to it.
final class NodeLink: Sendable {
    struct State {
        /// Nil until the node was asked who it is.
        var peer: String?
        var version: String?
        var isReachable = false
        var isStopping = false
        /// Calls are held back until then, in milliseconds of `MonotonicClock`.
        var pausedUntil: Int64 = 0
        var pauseMilliseconds: Int64 = 0
        var problem: String?
        var problemTime: Timestamp?
        var sentBytes: UInt64 = 0
        var fetchedBytes: UInt64 = 0
        var sent = RateMeter()
        var fetched = RateMeter()
        /// Blocks may be at the node although nothing says so: something was cut off.
        var mayHaveMore = true
        /// Counts who asked for everything to be published, and up to whom that was done.
        var wantedSyncs = 0
        var doneSyncs = 0
        /// Why the newest attempt to publish failed; nil once one succeeded.
        var publishFailure: String?
        /// When the MFS path is looked at next although nothing changed here.
        var nextViewLook: Int64 = 0
        /// The pin failed for want of blocks that had all been sent.
        var mustAskPeers = false
    }

    let options: NodeOptions
    let path: MFSPath
    let pinName: String
    let cancellation = Cancellation()
    let outbox = Monitor(Outbox())
    let cache = Guarded(CacheLedger())
    let fetches = Fetches(threadsMax: 64)
    /// Fetches of blocks that the node lacks and looks for among its peers: they may all take as long
    /// as they are let, and hold up none that it has.
    let searches = Fetches(threadsMax: 256)
    private let tickets = Atomic<UInt64>(0)
    let expansions = Expansions()
    let parts: RemoteParts
    let ahead = Guarded(AheadLeaves())
    let streams = LeafStreams()
    let state = Monitor(State())
    let log: Logger
    private let recent = Guarded(RecentBlocks())

    var client: KuboClient { options.client }

    init(options: NodeOptions, volume uuid: String, log: Logger) {
        self.options = options
        self.log = log
        parts = RemoteParts(countMax: options.remotePartsMax)
        let text = options.path ?? "/registryfs/\(uuid)"
        path = MFSPath(text)
        pinName = String(text.drop { $0 == "/" })
    }

    /// A number for a fetch that no other has.
    func nextTicket() -> Fetches.Ticket { tickets.add(1, ordering: .relaxed).newValue }

    /// Ends all calls, and all waiting for them.
    func stop() {
        state.withLock { $0.isStopping = true }
        cancellation.cancel()
        state.wakeAll()
        outbox.wakeAll()
    }

    var isStopping: Bool { state.withLock { $0.isStopping } }

    /// Blocks until calls are to be made again; false once the link is stopped.
    func waitUntilUsable() -> Bool {
        state.withLock { state in
            while !state.isStopping {
                let left = state.pausedUntil - MonotonicClock.milliseconds
                if left <= 0, state.peer != nil { return true }
                self.state.wait(&state, milliseconds: Int(max(100, min(left, 1000))))
            }
            return false
        }
    }

    // MARK: What went wrong

    /// Notes that a call failed, and holds further ones back for a time that grows.
    func note(_ error: KuboError) {
        guard error.kind != .cancelled else { return }
        let isNew = state.withLock { state in
            defer {
                state.problem = error.description
                state.problemTime = .now()
                state.isReachable = error.kind != .offline && error.kind != .timeout
                state.mayHaveMore = true
                state.pauseMilliseconds = min(
                    max(Self.pauseMin, state.pauseMilliseconds * 2), Self.pauseMax)
                state.pausedUntil = MonotonicClock.milliseconds + state.pauseMilliseconds
            }
            return state.problem != error.description
        }
        if isNew { log.warning("\(error)") } else { log.debug("\(error)") }
    }

    /// Notes what is wrong here with something that was to be sent.
    func note(problem: String) {
        let isNew = state.withLock { state in
            defer { (state.problem, state.problemTime) = (problem, .now()) }
            return state.problem != problem
        }
        if isNew { log.error("\(problem)") }
    }

    /// Notes that the node does what it is asked.
    func noteSuccess() {
        state.withLock { state in
            state.isReachable = true
            state.pauseMilliseconds = 0
            state.pausedUntil = 0
        }
    }

    private static let pauseMin: Int64 = 250
    private static let pauseMax: Int64 = 15_000

    /// Whether it is time to look for what others changed at the MFS path.
    func isViewDue() -> Bool {
        state.withLock { state in
            guard MonotonicClock.milliseconds >= state.nextViewLook else { return false }
            state.nextViewLook =
                MonotonicClock.milliseconds + Int64(options.publishIntervalMilliseconds)
            return true
        }
    }

    // MARK: What was sent

    func noteSent(_ cids: [CID], bytes: Int) {
        recent.withLock { recent in for cid in cids { recent.insert(cid) } }
        state.withLock { state in
            state.sentBytes += UInt64(bytes)
            state.sent.add(bytes, at: MonotonicClock.milliseconds)
        }
        noteSuccess()
    }

    func noteFetched(bytes: Int) {
        state.withLock { state in
            state.fetchedBytes += UInt64(bytes)
            state.fetched.add(bytes, at: MonotonicClock.milliseconds)
            state.isReachable = true
        }
    }

    /// Whether the node has acknowledged a block not long ago.
    func wasSent(_ cid: CID) -> Bool { recent.withLock { $0.contains(cid) } }

    func forgetSent() { recent.withLock { $0 = RecentBlocks() } }

    /// Whether some of an object's blocks may be at the node, so that asking for them is worth it.
    func mayHave(_ blocks: FileBlocks) throws(KuboError) -> Bool {
        guard blocks.count > 1 else { return false }
        if state.withLock({ $0.mayHaveMore }) { return true }
        return try client.hasBlock(blocks.root, cancellation: cancellation)
    }
}

/// The blocks that were sent last; at least `countMax` of them.
private struct RecentBlocks {
    private static let countMax = 16_384
    private var newer: Set<CID> = []
    private var older: Set<CID> = []

    mutating func insert(_ cid: CID) {
        newer.insert(cid)
        guard newer.count >= Self.countMax else { return }
        older = newer
        newer = []
    }

    func contains(_ cid: CID) -> Bool { newer.contains(cid) || older.contains(cid) }
}

/// Bytes a second over the last ten seconds.
struct RateMeter {
    private var counts = [UInt64](repeating: 0, count: 10)
    private var second: Int64 = 0

    mutating func add(_ bytes: Int, at now: Int64) {
        move(to: now / 1000)
        counts[Int(second % 10)] += UInt64(bytes)
    }

    private mutating func move(to newSecond: Int64) {
        guard newSecond > second else { return }
        for step in 1...min(newSecond - second, 10) { counts[Int((second + step) % 10)] = 0 }
        second = newSecond
    }

    mutating func rate(at now: Int64) -> Double {
        move(to: now / 1000)
        return Double(counts.reduce(0, +)) / 10
    }
}

/// How far a volume has come with publishing.
public struct NodeProgress: Sendable {
    /// Bytes that were sent since the wait began.
    public let sentBytes: UInt64
    /// Bytes of sealed content that wait to be sent.
    public let waitingBytes: UInt64
}

extension Volume {
    /// Waits until the tree as it is now is published: all its blocks at the node, its root pinned,
    /// the MFS view equal to it. Blocks for as long as that makes progress.
    ///
    /// - Parameters:
    ///   - stallMilliseconds: how long nothing may move before it is given up.
    ///   - progress: called several times a second; false ends the wait.
    /// - Returns: the published root; nil where `progress` ended the wait.
    /// - Throws: why it is given up, for people.
    public func waitUntilPublished(
        stallMilliseconds: Int, progress: (NodeProgress) -> Bool
    ) throws(NodeWaitError) -> CID? {
        guard let node else { throw NodeWaitError("the volume has no node: mount it with --kubo") }
        let (goal, sentBefore) = node.state.withLock { state in
            state.wantedSyncs += 1
            state.publishFailure = nil
            return (state.wantedSyncs, state.sentBytes)
        }
        node.state.wakeAll()
        var (seen, movedAt) = (UInt64.max, MonotonicClock.milliseconds)
        var (waitingBytes, countDue) = (UInt64(0), Int64.min)
        while true {
            let (isDone, isStopping, sent, failure) = node.state.withLock { state in
                if state.doneSyncs < goal, !state.isStopping {
                    node.state.wait(&state, milliseconds: 200)
                }
                return (
                    state.doneSyncs >= goal, state.isStopping, state.sentBytes,
                    state.publishFailure ?? state.problem
                )
            }
            if isDone { return manifest.withLock { $0.published?.root } }
            if isStopping { throw NodeWaitError("the volume was unmounted meanwhile") }
            if MonotonicClock.milliseconds >= countDue {
                // Goes through all objects, under the manifest's lock.
                let start = MonotonicClock.milliseconds
                let totals = try? reading { (state) throws(Errno) in try state.unpublishedTotals() }
                waitingBytes = totals?.bytes ?? 0
                let end = MonotonicClock.milliseconds
                countDue = end + max(1_000, 20 * (end - start))
            }
            let now = NodeProgress(sentBytes: sent - sentBefore, waitingBytes: waitingBytes)
            guard progress(now) else { return nil }
            if now.sentBytes != seen {
                (seen, movedAt) = (now.sentBytes, MonotonicClock.milliseconds)
            }
            guard MonotonicClock.milliseconds - movedAt < Int64(stallMilliseconds) else {
                throw NodeWaitError(failure ?? "the tree never rests")
            }
        }
    }

    /// What is known of the volume's node, which is not asked; nil where it has none. Reads every
    /// object's row.
    public func nodeStatus() throws(Errno) -> NodeStatus? {
        guard let node else { return nil }
        var status = NodeStatus()
        status.address = "\(node.client.configuration.address)"
        status.path = "\(node.path)"
        status.cacheSizeMax = node.options.cacheSizeMax
        status.cachedBytes = node.cache.withLock { $0.bytes }
        node.state.withLock { state in
            let now = MonotonicClock.milliseconds
            status.version = state.version
            status.peer = state.peer
            status.isReachable = state.isReachable
            status.sentBytes = state.sentBytes
            status.fetchedBytes = state.fetchedBytes
            status.sendRate = state.sent.rate(at: now)
            status.fetchRate = state.fetched.rate(at: now)
            status.lastError = state.problem
            status.lastErrorAt = state.problemTime.map { Double($0.nanoseconds) / 1e9 }
        }
        refreshFigures()
        try reading { (state) throws(Errno) in
            (status.waitingFiles, status.waitingBytes) = try state.unpublishedTotals()
            status.root = state.published?.root
            status.publishedAt =
                status.root == nil ? nil : state.published.map { Double($0.time.nanoseconds) / 1e9 }
        }
        return status
    }
}
