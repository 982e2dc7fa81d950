internal import Base
internal import Logging
internal import Multiformats
internal import Remotes
internal import Synchronization

// The room of what is elsewhere: remote files and directories, the threads that fetch, and the cache.
//
// Owns: the connection to the remote, with its health; of each remote file the extents that are here; the ledger of
// what could be let go; directories that are known by their CID until somebody looks into them.
// Locks: a remote file's own, below the manifest's; all others for a few statements. Nothing is asked of a remote
// under any lock.
// Invariants: no byte is given that was not compared with its CID. What waits can be interrupted, has a deadline, and
// takes nothing from other users beyond its share. What is not published, open with a backing file, or kept by a
// pattern is never let go.

/// The volume's side of its remote: each part owns its state, and the calls end together.
final class RemoteConnection: Sendable {
    let options: RemoteOptions
    /// Where the tree stands for others.
    let path: MFSPath
    let pinName: String
    /// Ends all calls.
    let cancellation = Cancellation()
    let health: RemoteHealth
    let traffic = Traffic()
    let log: Logger

    // What is fetched.
    let fetchPool = FetchPool(threadsMax: 64)
    /// Fetches of blocks that the remote lacks and looks for among its peers: they may all take as long
    /// as they are let, and hold up none that it has.
    let searchPool = FetchPool(threadsMax: 256)
    private let tickets = Atomic<UInt64>(0)
    let expansions = Expansions()
    let extents: RemoteExtents
    let cache = Monitor(CacheLedger())

    // What is sent.
    let outbox = Monitor(Outbox(), rank: .outbox)
    let sentBlocks = SentBlocks()
    let goals = PublishGoals()
    let ahead = Monitor(AheadLeaves())
    let streams = LeafStreams()

    var store: any RemoteStore { options.store }
    var names: any MutableFileSystem { options.names }

    init(options: RemoteOptions, volume uuid: String, log: Logger) {
        self.options = options
        self.log = log
        health = RemoteHealth(log: log)
        extents = RemoteExtents(countMax: options.remoteExtentsMax)
        let text = options.path ?? "/registryfs/\(uuid)"
        path = MFSPath(text)
        pinName = String(text.drop { $0 == "/" })
    }

    /// A number for a fetch that no other has.
    func nextTicket() -> FetchPool.Ticket { tickets.add(1, ordering: .relaxed).newValue }

    /// Ends all calls, and all waiting for them.
    func stop() {
        health.stop()
        cancellation.cancel()
        goals.wakeAll()
        outbox.wakeAll()
    }

    var isStopping: Bool { health.isStopping }

    /// Notes that a call failed, and holds further ones back for a time that grows.
    func note(_ error: RemoteError) {
        guard error.kind != .cancelled else { return }
        sentBlocks.noteDoubt()
        health.note(error)
    }

    func noteSent(_ cids: [CID], bytes: Int) {
        sentBlocks.add(cids)
        traffic.addSent(bytes)
        health.noteSuccess()
    }

    func noteFetched(bytes: Int) {
        traffic.addFetched(bytes)
        health.noteReachable()
    }

    /// Whether some of an object's blocks may be at the remote, so that asking for them is worth it.
    func mayHave(_ blocks: FileBlocks) throws(RemoteError) -> Bool {
        guard blocks.count > 1 else { return false }
        if sentBlocks.mayBeMore { return true }
        return try store.has(blocks.root, cancellation: cancellation)
    }
}
