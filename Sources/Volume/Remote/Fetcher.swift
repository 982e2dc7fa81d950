internal import Base
internal import InodeManifest
internal import Logging
internal import Remotes
internal import Synchronization

// The room of what is elsewhere: remote files and directories, the threads that fetch, and the cache.
//
// Owns: where blocks come from, with its health; of each remote file the extents that are here; the ledger of
// what could be let go; directories that are known by their CID until somebody looks into them.
// Locks: a remote file's own, below the manifest's; all others for a few statements. Nothing is asked of a remote
// under any lock.
// Invariants: no byte is given that was not compared with its CID. What waits can be interrupted, has a deadline, and
// takes nothing from other users beyond its share. What is not published, open with a backing file, or kept by a
// pattern is never let go.

/// What the room of what is elsewhere has.
struct RemoteRoom: Sendable {
    private let files = LockBound(RemoteFiles())
    /// How the bytes come that are not here.
    let fetcher: Fetcher
    /// The remote that the volume publishes to; nil without one.
    let connection: RemoteConnection?
    /// Operations that wait for what is elsewhere.
    let waits = RemoteWaits()
    /// Files whose content is being fetched because it is to be changed, by inode number.
    let arriving = Monitor<Set<UInt64>>([], rank: .arrivals)
    /// Expansions of what is here alone.
    let localExpansions = Expansions()

    init(fetcher: Fetcher, connection: RemoteConnection?) {
        self.fetcher = fetcher
        self.connection = connection
    }

    func callAsFunction(_ lock: borrowing ManifestState) -> RemoteFiles { files(lock) }
}

/// How the volume gets what is not here.
final class Fetcher: Sendable {
    let options: FetchOptions
    /// Ends all calls.
    let cancellation = Cancellation()
    let health: RemoteHealth
    let traffic = Traffic()

    let fetchPool = FetchPool(threadsMax: 64)
    /// Fetches of blocks that the remote lacks and looks for among its peers: they may all take as long
    /// as they are let, and hold up none that it has.
    let searchPool = FetchPool(threadsMax: 256)
    private let tickets = Atomic<UInt64>(0)
    /// Sources for the time of one import, asked before all others.
    private let guests = Monitor<[Int: any RemoteBlocks]>([:])
    private let guestCount = Atomic<Int>(0)
    private let isGiven: Bool
    let expansions = Expansions()
    let seen = SeenNodes()
    let extents: RemoteExtents
    let cache = Monitor(CacheLedger())

    /// - Parameter options: nil where the volume was told of nobody who has blocks.
    init(_ options: FetchOptions?, log: Logger) {
        isGiven = options != nil
        let options = options ?? FetchOptions(Nobody())
        self.options = options
        health = RemoteHealth(log: log)
        extents = RemoteExtents(countMax: options.remoteExtentsMax)
    }

    /// Whether there is anybody to ask, now.
    var hasSources: Bool { isGiven || guestCount.load(ordering: .relaxed) > 0 }

    /// Has a source asked while a body runs.
    func with<Result, Failure: Error>(
        _ source: any RemoteBlocks, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let number = guestCount.add(1, ordering: .relaxed).newValue
        let key = guests.withLock { guests in
            let key = (guests.keys.max() ?? 0) + number
            guests[key] = source
            return key
        }
        defer {
            guests.withLock { $0[key] = nil }
            guestCount.subtract(1, ordering: .relaxed)
        }
        return try body()
    }

    /// Gets a block from whoever has it.
    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        guard guestCount.load(ordering: .relaxed) > 0 else {
            return try options.blocks.block(request, memory: memory)
        }
        var refusal: RemoteError?
        for guest in guests.withLock({ Array($0.values) }) {
            do throws(RemoteError) {
                return try guest.block(request, memory: nil)
            } catch {
                if refusal?.kind ?? .notFound == .notFound { refusal = error }
            }
        }
        do throws(RemoteError) {
            return try options.blocks.block(request, memory: memory)
        } catch {
            // That nobody has it tells less than that a guest's bytes are damaged, or that there is but him.
            guard error.kind == .notFound, let refusal, !isGiven || refusal.kind != .notFound else {
                throw error
            }
            throw refusal
        }
    }

    /// A number for a fetch that no other has.
    func nextTicket() -> FetchPool.Ticket { tickets.add(1, ordering: .relaxed).newValue }

    /// Ends all calls, and all waiting for them.
    func stop() {
        health.stop()
        cancellation.cancel()
    }

    var isStopping: Bool { health.isStopping }

    func noteFetched(bytes: Int) {
        traffic.addFetched(bytes)
        health.noteReachable()
    }
}

/// Who has blocks where nobody was named.
private struct Nobody: RemoteBlocks {
    let address = "nobody"

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        throw RemoteError(
            .notFound,
            "block \(request.cid) is not here: mount the volume with --kubo, --gateway or --car")
    }
}
