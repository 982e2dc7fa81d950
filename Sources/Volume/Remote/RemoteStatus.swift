internal import Base
internal import InodeManifest
public import Multiformats
internal import Remotes

public import struct SystemPackage.Errno

/// What a volume knows of its node.
public struct RemoteStatus: Sendable {
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

extension Volume {
    /// What is known of the volume's node, which is not asked; nil where it has none. Reads every
    /// object's row.
    public func remoteStatus() throws(Errno) -> RemoteStatus? {
        guard let connection else { return nil }
        var status = RemoteStatus()
        status.address = connection.store.address
        status.path = "\(connection.path)"
        status.cacheSizeMax = connection.fetcher.options.cacheSizeMax
        status.cachedBytes = connection.fetcher.cache.withLock { $0.bytes }
        let health = connection.health.current
        status.version = health.identity?.version
        status.peer = health.identity?.id
        status.isReachable = health.isReachable
        status.lastError = health.problem
        status.lastErrorAt = health.problemTime.map { Double($0.nanoseconds) / 1e9 }
        connection.traffic.with { traffic in
            let now = MonotonicClock.milliseconds
            status.sentBytes = traffic.sentBytes
            status.fetchedBytes = traffic.fetchedBytes
            status.sendRate = traffic.sent.rate(at: now)
            status.fetchRate = traffic.fetched.rate(at: now)
        }
        refreshFigures()
        try reading { (state) throws(Errno) in
            (status.waitingFiles, status.waitingBytes) = try state.rows.unpublishedTotals()
            status.root = state.published?.root
            status.publishedAt =
                status.root == nil ? nil : state.published.map { Double($0.time.nanoseconds) / 1e9 }
        }
        return status
    }
}
