internal import Base
internal import DequeModule
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

// The leaves of a large file go to the node before its nodes, in several requests at a time, and as
// soon as their hashes are known: while the rest of the file is still being hashed. They are read
// where they lie and not hashed once more on the way: the node compares each block with its CID and
// refuses a request with one that does not match (boxo's dag/import, seen of 0.42). Where it does,
// the stream is given up, and `Upload` sends what is left, each block compared here first; it
// finds and names the one that is damaged.

/// Leaves of one flat file on their way to the node.
final class LeafStream: Sendable {
    struct Leaf {
        let index: UInt64
        let cid: CID
    }

    private struct State {
        /// In the order in which they were hashed.
        var waiting = Deque<Leaf>()
        /// The one that was added last.
        var last: CID?
        /// Nothing will be added.
        var isComplete = false
        var isGivenUp = false
        /// Whether the node is known to lack the first leaf.
        var isWanted: Bool
        /// Requests under way.
        var requests = 0

        var hasNext: Bool { !isGivenUp && !waiting.isEmpty }
        var isOver: Bool { requests == 0 && (isGivenUp || isComplete && waiting.isEmpty) }
    }

    let content: Volume.Content
    let object: UInt64
    let size: UInt64
    private let isHeld: @Sendable () -> Bool
    private let state: Monitor<State>

    /// Leaves from which on a stream is worth its requests.
    static let leavesMin = 8
    /// One keeps one processor of the node at work.
    private static let requestsMax = 2

    /// A stream for a file that is being hashed: `add` and `complete` feed it.
    ///
    /// - Parameter isHeld: whether nothing is to be sent yet.
    init(_ file: ObjectFile, size: UInt64, isHeld: @escaping @Sendable () -> Bool) {
        content = .flat(file)
        object = file.id
        self.size = size
        self.isHeld = isHeld
        state = Monitor(State(isWanted: false))
    }

    /// A stream of leaves that the node lacks.
    init(_ file: ObjectFile, size: UInt64, _ leaves: [Leaf]) {
        content = .flat(file)
        object = file.id
        self.size = size
        isHeld = { false }
        state = Monitor(State(waiting: Deque(leaves), isComplete: true, isWanted: true))
    }

    /// Adds a leaf whose hash is known now. May be called by several threads.
    func add(_ leaf: Leaf) {
        state.withLock { state in
            // Long runs of equal leaves are those of empty room.
            guard !state.isGivenUp, state.last != leaf.cid else { return }
            state.waiting.append(leaf)
            state.last = leaf.cid
        }
        state.wakeAll()
    }

    /// Notes that all leaves were added.
    func complete() {
        state.withLock { $0.isComplete = true }
        state.wakeAll()
    }

    /// Lets no further leaf be taken.
    func giveUp() {
        state.withLock { $0.isGivenUp = true }
        state.wakeAll()
    }

    /// Whether nothing of it is sent any more.
    var isOver: Bool { state.withLock(\.isOver) }

    /// Begins a request, which `end` must end; nil where there is nothing to be sent at the moment, or
    /// requests enough.
    func begin() -> (first: Leaf, mustAsk: Bool)? {
        guard !isHeld() else { return nil }
        return state.withLock { state in
            waitForNext(&state)
            guard state.requests == 0 || state.isWanted && state.requests < Self.requestsMax,
                let first = take(&state)
            else { return nil }
            state.requests += 1
            return (first, !state.isWanted)
        }
    }

    /// The next leaf of a request that was begun; nil where it is to end.
    func next() -> Leaf? {
        state.withLock { state in
            // A request that ended whenever hashing is a little behind would be a small one.
            waitForNext(&state)
            return take(&state)
        }
    }

    private func waitForNext(_ state: inout State) {
        if !state.hasNext, !state.isComplete, !state.isGivenUp {
            self.state.wait(&state, milliseconds: Self.waitMilliseconds)
        }
    }

    private func take(_ state: inout State) -> Leaf? {
        guard state.hasNext else { return nil }
        return state.waiting.removeFirst()
    }

    private static let waitMilliseconds = 100

    /// Notes that the node lacks the first leaf, and so probably the others.
    func noteWanted() {
        state.withLock { $0.isWanted = true }
        state.wakeAll()
    }

    /// Ends a request.
    func end() {
        state.withLock { $0.requests -= 1 }
        state.wakeAll()
    }

    /// Waits a moment for others who are at it.
    func wait() {
        let isHeld = isHeld()
        state.withLock { state in
            if !state.isOver, state.requests > 0 || isHeld {
                self.state.wait(&state, milliseconds: Self.waitMilliseconds)
            }
        }
    }
}

/// The streams that are not over.
final class LeafStreams: Sendable {
    private let streams = Monitor<[LeafStream]>([], rank: .streams)

    func add(_ stream: LeafStream) {
        streams.withLock { streams in
            // What is hashed again has changed.
            for old in streams where old.object == stream.object { old.giveUp() }
            streams.append(stream)
        }
    }

    func all() -> [LeafStream] {
        streams.withLock { streams in
            streams.removeAll(where: \.isOver)
            return streams
        }
    }

    /// The one that sends an object's leaves.
    func of(_ object: UInt64) -> LeafStream? { all().last { $0.object == object } }
}

extension Volume {
    /// A stream for a file that is about to be hashed; nil where its leaves are not to be sent now.
    func openStream(_ file: ObjectFile, _ inode: Inode, size: UInt64) -> LeafStream? {
        guard let connection, !options.isReadOnly, connection.takesStreams,
            size >= UInt64(LeafStream.leavesMin) * UInt64(profile.chunkSize)
        else { return nil }
        let (manifest, opens) = (manifest, opens)
        // What the node writes meanwhile, the flush would wait for (data=ordered of ext4(5)).
        let stream = LeafStream(file, size: size) {
            manifest.withLock { state in opens(state).flushing.contains(inode.number) }
        }
        return open(stream, connection)
    }

    /// Shows a stream to the threads that send.
    private func open(_ stream: LeafStream, _ connection: RemoteConnection) -> LeafStream {
        connection.streams.add(stream)
        connection.outbox.wakeAll()
        return stream
    }

    /// Sends one request with leaves of some stream; false where there are none to be sent.
    func sendStreamed(_ connection: RemoteConnection) -> Bool {
        connection.streams.all().contains {
            sendLeaves(of: $0, connection, connection.cancellation)
        }
    }

    /// Sends leaves that the node lacks together with the threads that send, until none is left or the
    /// stream is given up.
    func send(
        _ leaves: [LeafStream.Leaf], of file: ObjectFile, size: UInt64,
        to connection: RemoteConnection,
        _ cancellation: Cancellation
    ) {
        finish(open(LeafStream(file, size: size, leaves), connection), connection, cancellation)
    }

    /// Takes part in a stream until it is over.
    func finish(_ stream: LeafStream, _ connection: RemoteConnection, _ cancellation: Cancellation)
    {
        while !stream.isOver, !cancellation.isCancelled {
            if !sendLeaves(of: stream, connection, cancellation) { stream.wait() }
        }
    }

    private func sendLeaves(
        of stream: LeafStream, _ connection: RemoteConnection, _ cancellation: Cancellation
    ) -> Bool {
        guard let (first, mustAsk) = stream.begin() else { return false }
        defer { stream.end() }
        do throws(RemoteStreamError<FileBlocks.Interruption>) {
            if mustAsk {
                guard try !isAtRemote(first, connection, cancellation) else {
                    // Then it may have more of it, and is asked for each leaf once all are known.
                    stream.giveUp()
                    return true
                }
                stream.noteWanted()
            }
            try background.run { () throws(RemoteStreamError<FileBlocks.Interruption>) in
                try importLeaves(of: stream, first, connection, cancellation)
            }
        } catch {
            stream.giveUp()
            // Nobody knows how much of the request is stored.
            connection.sentBlocks.noteDoubt()
            switch error {
            case .remote(let error): log.debug("leaves sent ahead: \(error)")
            case .source: break
            }
        }
        return true
    }

    private func isAtRemote(
        _ leaf: LeafStream.Leaf, _ connection: RemoteConnection, _ cancellation: Cancellation
    ) throws(RemoteStreamError<FileBlocks.Interruption>) -> Bool {
        // Sent ahead, while the file was being written.
        guard !connection.sentBlocks.contains(leaf.cid) else { return false }
        do throws(RemoteError) {
            return try connection.store.has(leaf.cid, cancellation: cancellation)
        } catch {
            throw .remote(error)
        }
    }

    private func importLeaves(
        of stream: LeafStream, _ first: LeafStream.Leaf, _ connection: RemoteConnection,
        _ cancellation: Cancellation
    ) throws(RemoteStreamError<FileBlocks.Interruption>) {
        var bytes = 0
        var sent: Set<CID> = []
        var buffers = LeafBuffers()
        var held: LeafStream.Leaf? = first
        func next() throws(FileBlocks.Interruption) -> (cid: CID, bytes: [UInt8])? {
            while bytes < Upload.requestBytesMax, let leaf = held ?? stream.next() {
                held = nil
                guard !connection.sentBlocks.contains(leaf.cid), !isPublished(leaf.cid),
                    sent.insert(leaf.cid).inserted
                else { continue }
                guard let block = try read(leaf, of: stream, &buffers) else { throw .outdated }
                bytes += block.count
                return (leaf.cid, block)
            }
            return nil
        }
        // A request without any block is refused.
        var start: (cid: CID, bytes: [UInt8])?
        do throws(FileBlocks.Interruption) { start = try next() } catch { throw .source(error) }
        guard start != nil else { return }
        try connection.store.importBlocks(cancellation: cancellation) {
            () throws(FileBlocks.Interruption) in
            guard let block = start else { return try next() }
            start = nil
            return block
        }
        connection.noteSent(Array(sent), bytes: bytes)
    }

    private func read(
        _ leaf: LeafStream.Leaf, of stream: LeafStream, _ buffers: inout LeafBuffers
    ) throws(FileBlocks.Interruption) -> [UInt8]? {
        let start = leaf.index * UInt64(profile.chunkSize)
        do throws(Errno) {
            guard profile.rawLeaves, start + UInt64(profile.chunkSize) <= stream.size,
                case .flat(let file) = stream.content
            else { return try leafBlock(leaf.index, of: stream.content, size: stream.size) }
            return try buffers.read(file, at: start, byteCount: profile.chunkSize)
        } catch {
            throw .failed(error)
        }
    }

    /// Whether the node is known to have a block as a leaf of another object.
    func isPublished(_ cid: CID) -> Bool {
        manifest.withLock { state in (try? state.rows.isLeafPublished(cid.multihash.bytes)) ?? false
        }
    }
}

/// Memory for the leaves of a request, used in turn: memory that is new for each costs as much as to
/// read into it.
private struct LeafBuffers {
    private var buffers: [[UInt8]] = []
    private var last = 0
    /// More than the request holds at a time, so that none is copied for being held.
    private static let countMax = 4

    /// The bytes of a file from a place on; nil where there are fewer.
    mutating func read(
        _ file: ObjectFile, at start: UInt64, byteCount: Int
    ) throws(Errno) -> [UInt8]? {
        if buffers.count < Self.countMax {
            buffers.append([UInt8](repeating: 0, count: byteCount))
            last = buffers.count - 1
        } else {
            last = (last + 1) % Self.countMax
        }
        let count = try buffers[last].withMutableBytes { (buffer) throws(Errno) in
            try Sys.read(file.raw, at: start, into: buffer)
        }
        return count == byteCount ? buffers[last] : nil
    }
}

extension RemoteConnection {
    /// Whether leaves of a file may be sent as they are hashed: the node answers, and lacks what it is
    /// not known to have.
    fileprivate var takesStreams: Bool {
        health.isUsable && !sentBlocks.mayBeMore
    }
}
