internal import Base
internal import InodeManifest
internal import Logging
internal import Multiformats
internal import Remotes

/// The volume's side of the remote that it publishes to: each part owns its state, and the calls end together.
final class RemoteConnection: Sendable {
    let options: RemoteOptions
    /// Where the tree stands for others.
    let path: MFSPath
    let pinName: String
    /// Ends all calls.
    let cancellation = Cancellation()
    /// Where the blocks of others come from: this remote, and others beside it.
    let fetcher: Fetcher
    let health: RemoteHealth
    var traffic: Traffic { fetcher.traffic }
    let log: Logger

    let outbox = Monitor(Outbox(), rank: .outbox)
    let sentBlocks = SentBlocks()
    let goals = PublishGoals()
    let ahead = Monitor(AheadLeaves())
    let streams = LeafStreams()
    let snapshotPins = SnapshotPins()

    var store: any RemoteStore { options.store }
    var names: any MutableFileSystem { options.names }

    init(options: RemoteOptions, _ fetcher: Fetcher, volume uuid: String, log: Logger) {
        self.options = options
        self.fetcher = fetcher
        self.log = log
        // What one of several sources gives tells nothing of this one.
        health = options.hasOtherSources ? RemoteHealth(log: log) : fetcher.health
        let text = options.path ?? "/registryfs/\(uuid)"
        path = MFSPath(text)
        pinName = String(text.drop { $0 == "/" })
    }

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

    /// Whether some of an object's blocks may be at the remote, so that asking for them is worth it.
    func mayHave(_ blocks: FileBlocks) throws(RemoteError) -> Bool {
        guard blocks.count > 1 else { return false }
        if sentBlocks.mayBeMore { return true }
        return try store.has(blocks.root, cancellation: cancellation)
    }
}
