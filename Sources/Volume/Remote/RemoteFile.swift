internal import Base
internal import Glibc
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

// The bytes of a remote object come leaf by leaf, each compared with its CID before anybody gets it,
// into a file of the cache. Which bytes are there is known in memory only; after a restart the cache
// begins empty. The DAG is found out as it is walked, so any layout is read, not only the profile's.

/// The bytes of a remote object, as far as they are here.
final class RemoteFile: Sendable {
    /// A part of the file: a leaf, or the bytes below a node that was not looked into yet.
    struct Part {
        enum State {
            case missing
            /// It is being fetched, or is to be.
            case fetching(FetchPool.Ticket)
            case present
            /// It could not be had; it is not asked for again before a time of the monotonic clock.
            case failed(Errno, until: Int64)
        }

        let start: UInt64
        let length: UInt64
        let cid: CID
        /// The links from the root to here.
        let depth: UInt16
        /// The links that the nodes on the way here have together.
        let pathLinks: UInt32
        var state: State = .missing

        var end: UInt64 { start + length }

        var isPresent: Bool {
            if case .present = state { true } else { false }
        }
    }

    struct State {
        /// In order, without gaps.
        var parts: [Part]
        var missing: Int
        /// Made with the first bytes, and closed while nobody has the object open.
        var file: ObjectFile?
        /// Somebody has the object open.
        var isOpen = true
        /// There is a file in the cache.
        var isStored = false
        /// Counts how often all was let go: what was asked for before is not taken any more.
        var generation = 0
        /// When it was read last, in milliseconds of `MonotonicClock`.
        var usedAt: Int64 = 0
        /// Reads of `file` under way.
        var readers = 0
        /// The end of the read before, and how many parts are fetched ahead of the next one.
        var nextOffset: UInt64?
        var window = 0
        /// Where the window grew last, so that it grows once for each wait.
        var grownAt: UInt64?
        /// Why parts could not be had, by where they start.
        var problems: [UInt64: String] = [:]
        var isGone = false
    }

    let object: UInt64
    let cid: CID
    let size: UInt64
    let state: Monitor<State>
    private let budget: RemoteParts

    /// Parts that are fetched ahead of a sequential reader at most, and their bytes.
    static let windowMax = 16
    static let windowBytesMax: UInt64 = 16 << 20
    /// Nodes below each other; no writer makes so many.
    private static let depthMax: UInt16 = 64
    /// The most links that the nodes on the way to one leaf may have together.
    private static let pathLinksMax = 1 << 17
    /// How long a part that could not be had is not asked for again, in milliseconds.
    static let failureMilliseconds: Int64 = 5_000
    /// The bound of `problems`.
    private static let problemsMax = 64

    init(object: UInt64, cid: CID, size: UInt64, _ budget: RemoteParts) {
        self.object = object
        self.cid = cid
        self.size = size
        self.budget = budget
        budget.add(1)
        state = Monitor(State(parts: [Self.whole(cid, size)], missing: 1))
    }

    deinit { budget.remove(state.withLock { $0.parts.count }) }

    private static func whole(_ cid: CID, _ size: UInt64) -> Part {
        Part(start: 0, length: size, cid: cid, depth: 0, pathLinks: 0)
    }

    /// Bytes that are here.
    var presentBytes: UInt64 { state.withLock { present($0).bytes } }

    /// What of the file is here.
    func present(_ state: State) -> CachedParts {
        state.parts.reduce(into: CachedParts()) { sum, part in
            guard part.isPresent else { return }
            sum.count += 1
            sum.bytes += part.length
        }
    }

    /// Tells that the object is to be looked at again; no error of the system's.
    static let gone = Errno(rawValue: 1_000_002)
    /// Tells that bytes are at the node that have to be here, and that nothing was changed yet; no
    /// error of the system's.
    static let elsewhere = Errno(rawValue: 1_000_003)

    // MARK: Reading

    /// Reads from an offset as many bytes as the buffer has room for, or up to the end. Waits for what
    /// is not here.
    func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, _ volume: Volume,
        _ connection: RemoteConnection
    ) throws(Errno) -> Int {
        guard offset < size else { return 0 }
        let wanted = Int(min(UInt64(buffer.count), size - offset))
        var count = 0
        while count < wanted {
            let range = offset + UInt64(count)..<offset + UInt64(wanted)
            let (file, end) = try beginRead(range, volume, connection)
            defer { endRead() }
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[count..<count + Int(end - range.lowerBound)])
            guard try Sys.read(file.raw, at: range.lowerBound, into: part) == part.count else {
                throw .ioError.because("object \(object): its file in the cache is too short")
            }
            count += part.count
        }
        state.withLock { $0.nextOffset = offset + UInt64(wanted) }
        return wanted
    }

    /// Waits for the first bytes of a range, and tells how far they go.
    private func beginRead(
        _ range: Range<UInt64>, _ volume: Volume, _ connection: RemoteConnection
    ) throws(Errno) -> (ObjectFile, end: UInt64) {
        if let found = try step(range, volume, connection) { return found }
        return try volume.waits.during(wake: { [state] in state.wakeAll() }) {
            (wait) throws(Errno) in
            // Longer than any fetch takes; each has its own deadline.
            let deadline =
                MonotonicClock.milliseconds + Int64(connection.options.fetchMilliseconds) * 2 + 1000
            while true {
                do throws(Errno) {
                    if let found = try step(range, volume, connection) { return found }
                } catch {
                    // What ends the wait may have ended the fetch as well.
                    throw error == .ioError && wait.isInterrupted ? .interrupted : error
                }
                guard !wait.isInterrupted else { throw .interrupted }
                guard MonotonicClock.milliseconds < deadline else {
                    throw .ioError.because("object \(object): the node takes too long for \(cid)")
                }
                state.withLock { state in
                    guard !isReady(range.lowerBound, state) else { return }
                    self.state.wait(&state, milliseconds: 500)
                }
            }
        }
    }

    private func isReady(_ offset: UInt64, _ state: State) -> Bool {
        switch state.parts[index(of: offset, state)].state {
        case .present, .failed: true
        case .missing, .fetching: state.isGone
        }
    }

    /// The bytes at the start of a range where they are here; else has them fetched.
    private func step(
        _ range: Range<UInt64>, _ volume: Volume, _ connection: RemoteConnection
    ) throws(Errno) -> (ObjectFile, end: UInt64)? {
        var wanted: [Part] = []
        var joined: FetchPool.Ticket?
        var generation = 0
        let found = try state.withLock { (state) throws(Errno) -> (ObjectFile, UInt64)? in
            guard !state.isGone else { throw Self.gone }
            state.usedAt = MonotonicClock.milliseconds
            generation = state.generation
            var index = index(of: range.lowerBound, state)
            let first = index
            // Before anything is noted as fetched that nobody would fetch.
            if case .failed(let error, let until) = state.parts[first].state {
                guard MonotonicClock.milliseconds >= until else {
                    throw error.because(
                        "object \(object): \(state.problems[state.parts[first].start] ?? "\(cid)")")
                }
                state.parts[first].state = .missing
            }
            wanted = fetchAhead(from: first, reading: range, &state, connection)
            switch state.parts[first].state {
            case .present:
                while index < state.parts.count, state.parts[index].start < range.upperBound,
                    state.parts[index].isPresent
                {
                    index += 1
                }
                guard let file = try openFile(&state, volume.store) else {
                    throw .ioError.because("object \(object): it has no file in the cache")
                }
                state.readers += 1
                return (file, min(range.upperBound, state.parts[index - 1].end))
            case .fetching(let ticket): joined = ticket
            case .missing, .failed: break
            }
            return nil
        }
        guard !wanted.isEmpty || joined != nil else { return found }
        let user = volume.waits.user
        for part in wanted {
            guard case .fetching(let ticket) = part.state else { continue }
            let fetch = Fetch(part: part, generation: generation, ticket: ticket)
            connection.fetchPool.add(ticket, for: user) { [self] user, memory in
                self.fetch(fetch, for: user, volume, connection, memory)
            }
        }
        // Who asked for it first may have to wait for others of his own.
        if let joined {
            connection.fetchPool.join(joined, for: user)
            connection.searchPool.join(joined, for: user)
        }
        return found
    }

    /// Chooses what is to be fetched for a read: its first part, and as much ahead as reading on in
    /// order has earned.
    private func fetchAhead(
        from first: Int, reading range: Range<UInt64>, _ state: inout State,
        _ connection: RemoteConnection
    ) -> [Part] {
        if state.nextOffset == range.lowerBound || range.lowerBound == 0 {
            // Whoever has to wait should have had more on the way.
            if !state.parts[first].isPresent, state.grownAt != range.lowerBound {
                state.window = min(max(state.window * 2, 1), Self.windowMax)
                state.grownAt = range.lowerBound
            }
        } else if !(state.nextOffset.map { range.contains($0) } ?? false) {
            state.window = 0
        }
        var wanted: [Part] = []
        var bytes: UInt64 = 0
        var index = first
        while index < state.parts.count, index <= first + state.window,
            index == first || bytes < Self.windowBytesMax
        {
            if case .missing = state.parts[index].state {
                state.parts[index].state = .fetching(connection.nextTicket())
                wanted.append(state.parts[index])
            }
            bytes += state.parts[index].length
            index += 1
        }
        return wanted
    }

    /// All bytes where they are here; nil where some are not, or no longer. Waits for nobody.
    func wholeBytes(_ store: ObjectStore) throws(Errno) -> [UInt8]? {
        let file = try state.withLock { (state) throws(Errno) -> ObjectFile? in
            guard !state.isGone, state.missing == 0, let file = try openFile(&state, store)
            else { return nil }
            state.readers += 1
            return file
        }
        guard let file else { return nil }
        defer { endRead() }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try Sys.read(file.raw, at: 0, into: buffer)
        }
        return count == bytes.count ? bytes : nil
    }

    func endRead() {
        state.withLock { state in
            state.readers -= 1
            closeIfUnused(&state)
        }
    }

    func index(of offset: UInt64, _ state: State) -> Int {
        var (low, high) = (0, state.parts.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if state.parts[middle].start <= offset { low = middle } else { high = middle - 1 }
        }
        return low
    }

    // MARK: Fetching

    private struct Fetch {
        let part: Part
        let generation: Int
        let ticket: FetchPool.Ticket
        var asksPeers = false
    }

    /// Fetches the block of a part that is marked so, and keeps what it holds. On a thread for it.
    private func fetch(
        _ fetch: Fetch, for user: UInt32?, _ volume: Volume, _ connection: RemoteConnection,
        _ memory: ReplyMemory
    ) {
        let part = fetch.part
        var added: UInt64 = 0
        var isWhole = false
        do throws(FetchFailure) {
            let source = VolumeBlocks(
                volume: volume, connection: connection, asksPeers: fetch.asksPeers, user: user)
            let bytes = try block(part.cid, source, memory)
            let block = try decode(part, bytes)
            // Before they are in memory twice.
            guard volume.reserveParts(block.children.count, connection) else {
                throw .tooMany(part.cid)
            }
            var reserved = block.children.count
            defer { budget.remove(reserved) }
            if !block.contentRange.isEmpty {
                try keep(bytes, block.contentRange, fetch, volume, connection)
            }
            isWhole = state.withLock { state in
                defer { closeIfUnused(&state) }
                guard let more = replace(fetch, by: block, &state) else { return false }
                // More only by parts that were reserved: a part's place is taken by one at least.
                reserved -= more
                added = UInt64(block.contentRange.count)
                if added > 0 {
                    // Together with the part, so that whoever lets that go takes it off again.
                    connection.cache.withLock {
                        $0.add(partOf: object, start: part.start, bytes: added)
                    }
                }
                return state.missing == 0
            }
            memory.keep(consume bytes)
        } catch {
            if case .missing = error, !fetch.asksPeers {
                // They may be many, and each rests for long.
                var again = fetch
                again.asksPeers = true
                connection.searchPool.add(fetch.ticket, for: user) { [self, again] user, _ in
                    self.fetch(again, for: user, volume, connection, ReplyMemory())
                }
                return
            }
            // Of a file that went, nobody wants it any more.
            if !state.withLock({ $0.isGone }) {
                connection.health.note(problem: "object \(object): \(error.reason)")
            }
            state.withLock { state in
                guard let index = index(of: fetch, state) else { return }
                if state.problems.count >= Self.problemsMax { state.problems = [:] }
                state.problems[part.start] = error.reason
                state.parts[index].state = .failed(
                    .ioError, until: MonotonicClock.milliseconds + Self.failureMilliseconds)
            }
        }
        state.wakeAll()
        // At once, so that a fast reader does not run ahead of what is let go.
        if added > 0 { volume.trimCache(connection) }
        if isWhole { volume.keepWhole(self) }
    }

    /// Where the part of a fetch is; nil where it was let go meanwhile.
    private func index(of fetch: Fetch, _ state: State) -> Int? {
        guard state.generation == fetch.generation, !state.isGone else { return nil }
        let index = index(of: fetch.part.start, state)
        let part = state.parts[index]
        guard part.start == fetch.part.start, part.length == fetch.part.length,
            part.cid == fetch.part.cid
        else { return nil }
        return index
    }

    private enum FetchFailure: Error {
        case unavailable(CID, String)
        /// The node does not have it.
        case missing(CID, String)
        case malformed(CID, String)
        /// The parts of remote files are too many already.
        case tooMany(CID)
        case disk(Errno)
        /// The cache would leave too little room to all else.
        case full

        var reason: String {
            switch self {
            case .unavailable(let cid, let reason), .missing(let cid, let reason):
                "block \(cid) is not to be had: \(reason)"
            case .malformed(let cid, let reason): "block \(cid) is no part of this file: \(reason)"
            case .tooMany(let cid):
                "block \(cid): more parts of remote files are being read than fit into memory"
            case .disk(let error): "the cache cannot be written: \(FailureCause.words(for: error))"
            case .full: "the cache has no room: make room on the disk of the state directory"
            }
        }
    }

    private func block(
        _ cid: CID, _ source: VolumeBlocks, _ memory: ReplyMemory
    ) throws(FetchFailure) -> [UInt8] {
        do throws(BlockUnavailable) {
            return try source.block(cid, memory: memory)
        } catch {
            let reason = DAGReadError.unavailable(error).reason
            if (error.cause as? RemoteError)?.kind == .notFound { throw .missing(cid, reason) }
            throw .unavailable(cid, reason)
        }
    }

    private func decode(_ part: Part, _ bytes: [UInt8]) throws(FetchFailure) -> FileBlock {
        let block: FileBlock
        do throws(DAGReadError) {
            block = try FileBlock(part.cid, verified: bytes)
        } catch {
            throw .malformed(part.cid, error.reason)
        }
        guard block.size == part.length else {
            throw .malformed(part.cid, "it has \(block.size) bytes, not \(part.length)")
        }
        guard block.children.isEmpty || part.depth < Self.depthMax,
            Int(part.pathLinks) + block.children.count <= Self.pathLinksMax
        else { throw .malformed(part.cid, "the file is too deep") }
        return block
    }

    private func keep(
        _ bytes: [UInt8], _ range: Range<Int>, _ fetch: Fetch, _ volume: Volume,
        _ connection: RemoteConnection
    ) throws(FetchFailure) {
        guard volume.makeRoomInCache(for: UInt64(range.count), connection) else { throw .full }
        do throws(Errno) {
            let file = try state.withLock { (state) throws(Errno) in
                guard !state.isGone else { throw Volume.stale }
                if let file = try openFile(&state, volume.store) { return file }
                let made = try volume.store.createCached(object)
                state.file = made
                state.isStored = true
                return made
            }
            try bytes.withBytes { (raw) throws(Errno) in
                try Sys.write(
                    file.raw, at: fetch.part.start, UnsafeRawBufferPointer(rebasing: raw[range]))
            }
        } catch {
            throw .disk(error)
        }
    }

    /// The file in the cache, opened where it was closed; nil where there is none.
    func openFile(_ state: inout State, _ store: ObjectStore) throws(Errno) -> ObjectFile? {
        if state.file == nil, state.isStored { state.file = try store.openCached(object) }
        return state.file
    }

    /// Puts what a block turned out to be in its part's place.
    ///
    /// - Returns: by how many the parts have become more; nil where the part was let go meanwhile.
    private func replace(_ fetch: Fetch, by block: FileBlock, _ state: inout State) -> Int? {
        guard let index = index(of: fetch, state) else { return nil }
        let part = fetch.part
        var parts: [Part] = []
        parts.reserveCapacity(block.children.count + 1)
        let pathLinks = part.pathLinks + UInt32(block.children.count)
        var start = part.start
        if !block.contentRange.isEmpty {
            parts.append(
                Part(
                    start: start, length: UInt64(block.contentRange.count), cid: part.cid,
                    depth: part.depth, pathLinks: part.pathLinks, state: .present))
            start += UInt64(block.contentRange.count)
        }
        for child in block.children {
            parts.append(
                Part(
                    start: start, length: child.size, cid: child.cid, depth: part.depth + 1,
                    pathLinks: pathLinks))
            start += child.size
        }
        // The index comes back to the same place: an empty part is never replaced by none.
        state.missing += parts.count { !$0.isPresent } - 1
        state.parts.replaceSubrange(index...index, with: parts)
        return parts.count - 1
    }

    // MARK: Letting go

    /// Lets go of the bytes of the part that begins at an offset; nil while somebody reads, or
    /// where they are not here.
    func drop(partAt start: UInt64, _ store: ObjectStore) -> UInt64? {
        state.withLock { state in
            let index = index(of: start, state)
            let part = state.parts[index]
            guard state.readers == 0, !state.isGone, part.start == start, part.isPresent else {
                return nil
            }
            do throws(Errno) {
                let wasOpen = state.file != nil
                guard let file = try openFile(&state, store) else { return nil }
                if !wasOpen { state.file = nil }
                try Sys.allocate(
                    file.raw, mode: Self.punchHole, offset: start,
                    length: part.length)
            } catch {
                return nil
            }
            state.parts[index].state = .missing
            state.missing += 1
            return part.length
        }
    }

    /// Lets go of all bytes, and of what is known of the blocks; nil while somebody reads. Whoever waits
    /// for some of it has it fetched again.
    func reset(_ store: ObjectStore) -> CachedParts? {
        let gone = state.withLock { state -> CachedParts? in
            guard state.readers == 0, !state.isGone else { return nil }
            let gone = present(state)
            do throws(Errno) {
                if let file = try openFile(&state, store) { try Sys.truncate(file.raw, to: 0) }
            } catch {
                return nil
            }
            budget.remove(state.parts.count - 1)
            state.parts = [Self.whole(cid, size)]
            state.missing = 1
            state.file = nil
            state.generation += 1
            (state.nextOffset, state.window, state.grownAt) = (nil, 0, nil)
            return gone
        }
        state.wakeAll()
        return gone
    }

    /// Notes whether somebody has the object open; else the file in the cache is closed, for there may be
    /// more of them than descriptors.
    func note(isOpen: Bool) {
        state.withLock { state in
            state.isOpen = isOpen
            closeIfUnused(&state)
        }
    }

    private func closeIfUnused(_ state: inout State) {
        if !state.isOpen, state.readers == 0 { state.file = nil }
    }

    /// Ends the use of a file of which nothing is here; false where something is, or is on its way.
    func retire() -> Bool {
        state.withLock { state in
            guard state.readers == 0, !state.isGone, state.parts.count == 1, state.file == nil
            else { return false }
            switch state.parts[0].state {
            case .fetching, .present: return false
            case .missing, .failed: break
            }
            state.isGone = true
            return true
        }
    }

    /// FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE of linux/falloc.h.
    private static let punchHole: Int32 = 0x02 | 0x01
}
