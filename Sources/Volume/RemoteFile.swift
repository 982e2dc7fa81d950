internal import Base
internal import Glibc
internal import Kubo
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

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
            case fetching(Fetches.Ticket)
            case present
            /// It could not be had; it is not asked for again before a time of the monotonic clock.
            case failed(Errno, until: Int64)
        }

        let start: UInt64
        let length: UInt64
        let cid: CID
        /// The links from the root to here.
        let depth: Int
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
        /// Made with the first bytes.
        var file: ObjectFile?
        /// Reads of `file` under way.
        var readers = 0
        /// The end of the read before, and how many parts are fetched ahead of the next one.
        var nextOffset: UInt64?
        var window = 0
        /// Where the window grew last, so that it grows once for each wait.
        var grownAt: UInt64?
        var isGone = false
    }

    let object: UInt64
    let cid: CID
    let size: UInt64
    let state: Monitor<State>

    /// Parts that are fetched ahead of a sequential reader at most, and their bytes.
    static let windowMax = 16
    static let windowBytesMax: UInt64 = 16 << 20
    /// Nodes below each other; no writer makes so many.
    private static let depthMax = 64
    /// The most parts; a file of more is refused.
    private static let partsMax = 1 << 22
    /// How long a part that could not be had is not asked for again, in milliseconds.
    static let failureMilliseconds: Int64 = 5_000

    init(object: UInt64, cid: CID, size: UInt64) {
        self.object = object
        self.cid = cid
        self.size = size
        state = Monitor(
            State(parts: [Part(start: 0, length: size, cid: cid, depth: 0)], missing: 1))
    }

    /// Bytes that are here.
    var presentBytes: UInt64 {
        state.withLock { state in
            state.parts.reduce(0) { $0 + ($1.isPresent ? $1.length : 0) }
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
        _ node: NodeLink
    ) throws(Errno) -> Int {
        guard offset < size else { return 0 }
        let wanted = Int(min(UInt64(buffer.count), size - offset))
        var count = 0
        while count < wanted {
            let range = offset + UInt64(count)..<offset + UInt64(wanted)
            let (file, end) = try beginRead(range, volume, node)
            defer { endRead() }
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[count..<count + Int(end - range.lowerBound)])
            guard try Sys.read(file.raw, at: range.lowerBound, into: part) == part.count else {
                throw .ioError
            }
            count += part.count
        }
        state.withLock { $0.nextOffset = offset + UInt64(wanted) }
        return wanted
    }

    /// Waits for the first bytes of a range, and tells how far they go.
    private func beginRead(
        _ range: Range<UInt64>, _ volume: Volume, _ node: NodeLink
    ) throws(Errno) -> (ObjectFile, end: UInt64) {
        if let found = try step(range, volume, node) { return found }
        return try volume.waits.during(wake: { [state] in state.wakeAll() }) {
            (wait) throws(Errno) in
            // Longer than any fetch takes; each has its own deadline.
            let deadline =
                MonotonicClock.milliseconds + Int64(node.options.fetchMilliseconds) * 2 + 1000
            while true {
                if let found = try step(range, volume, node) { return found }
                guard !wait.isInterrupted else { throw .interrupted }
                guard MonotonicClock.milliseconds < deadline else { throw .ioError }
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
        _ range: Range<UInt64>, _ volume: Volume, _ node: NodeLink
    ) throws(Errno) -> (ObjectFile, end: UInt64)? {
        var wanted: [Part] = []
        var joined: Fetches.Ticket?
        let found = try state.withLock { (state) throws(Errno) -> (ObjectFile, UInt64)? in
            guard !state.isGone else { throw Self.gone }
            var index = index(of: range.lowerBound, state)
            let first = index
            // Before anything is noted as fetched that nobody would fetch.
            if case .failed(let error, let until) = state.parts[first].state {
                guard MonotonicClock.milliseconds >= until else { throw error }
                state.parts[first].state = .missing
            }
            wanted = fetchAhead(from: first, reading: range, &state, node)
            switch state.parts[first].state {
            case .present:
                while index < state.parts.count, state.parts[index].start < range.upperBound,
                    state.parts[index].isPresent
                {
                    index += 1
                }
                guard let file = state.file else { throw .ioError }
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
            node.fetches.add(ticket, for: user) { [self] user, memory in
                fetch(part, ticket, for: user, volume, node, asksPeers: false, memory)
            }
        }
        // Who asked for it first may have to wait for others of his own.
        if let joined {
            node.fetches.join(joined, for: user)
            node.searches.join(joined, for: user)
        }
        return found
    }

    /// Chooses what is to be fetched for a read: its first part, and as much ahead as reading on in
    /// order has earned.
    private func fetchAhead(
        from first: Int, reading range: Range<UInt64>, _ state: inout State, _ node: NodeLink
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
                state.parts[index].state = .fetching(node.nextTicket())
                wanted.append(state.parts[index])
            }
            bytes += state.parts[index].length
            index += 1
        }
        return wanted
    }

    /// All bytes where they are here; nil where some are not, or no longer. Waits for nobody.
    func wholeBytes() throws(Errno) -> [UInt8]? {
        let file = state.withLock { state -> ObjectFile? in
            guard !state.isGone, state.missing == 0, let file = state.file else { return nil }
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

    private func endRead() {
        state.withLock { $0.readers -= 1 }
    }

    private func index(of offset: UInt64, _ state: State) -> Int {
        var (low, high) = (0, state.parts.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if state.parts[middle].start <= offset { low = middle } else { high = middle - 1 }
        }
        return low
    }

    // MARK: Fetching

    /// Fetches the block of a part that is marked so, and keeps what it holds. On a thread for it.
    private func fetch(
        _ part: Part, _ ticket: Fetches.Ticket, for user: UInt32?, _ volume: Volume,
        _ node: NodeLink, asksPeers: Bool, _ memory: ReplyMemory
    ) {
        var added: UInt64 = 0
        var isWhole = false
        do throws(FetchFailure) {
            let source = NodeBlocks(
                volume: volume, node: node, asksPeers: asksPeers, user: user)
            let bytes = try block(part.cid, source, memory)
            let block = try decode(part, bytes)
            if !block.contentRange.isEmpty {
                try keep(bytes, block.contentRange, at: part.start, volume)
            }
            isWhole = try state.withLock { (state) throws(FetchFailure) in
                try replace(part, by: block, &state)
                added = UInt64(block.contentRange.count)
                return state.missing == 0
            }
            memory.keep(consume bytes)
        } catch {
            if case .missing = error, !asksPeers {
                // They may be many, and each rests for long.
                node.searches.add(ticket, for: user) { [self] user, _ in
                    fetch(part, ticket, for: user, volume, node, asksPeers: true, ReplyMemory())
                }
                return
            }
            // Of a file that went, nobody wants it any more.
            if !state.withLock({ $0.isGone }) {
                node.note(problem: "object \(object): \(error.reason)")
            }
            state.withLock { state in
                let index = index(of: part.start, state)
                guard state.parts[index].cid == part.cid, state.parts[index].length == part.length
                else { return }
                state.parts[index].state = .failed(
                    .ioError, until: MonotonicClock.milliseconds + Self.failureMilliseconds)
            }
        }
        state.wakeAll()
        if added > 0 { volume.noteCached(self, start: part.start, bytes: added, node) }
        if isWhole { volume.keepWhole(self) }
    }

    private enum FetchFailure: Error {
        case unavailable(CID, String)
        /// The node does not have it.
        case missing(CID, String)
        case malformed(CID, String)
        case disk(Errno)

        var reason: String {
            switch self {
            case .unavailable(let cid, let reason), .missing(let cid, let reason):
                "block \(cid) is not to be had: \(reason)"
            case .malformed(let cid, let reason): "block \(cid) is no part of this file: \(reason)"
            case .disk(let error): "the cache cannot be written: \(error)"
            }
        }
    }

    private func block(
        _ cid: CID, _ source: NodeBlocks, _ memory: ReplyMemory
    ) throws(FetchFailure) -> [UInt8] {
        do throws(BlockUnavailable) {
            return try source.block(cid, memory: memory)
        } catch {
            let reason = DAGReadError.unavailable(error).reason
            if (error.cause as? KuboError)?.kind == .notFound { throw .missing(cid, reason) }
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
        guard block.children.isEmpty || part.depth < Self.depthMax else {
            throw .malformed(part.cid, "the file is too deep")
        }
        return block
    }

    private func keep(
        _ bytes: [UInt8], _ range: Range<Int>, at offset: UInt64, _ volume: Volume
    ) throws(FetchFailure) {
        do throws(Errno) {
            let file = try state.withLock { (state) throws(Errno) in
                guard !state.isGone else { throw Volume.stale }
                if let file = state.file { return file }
                let made = try volume.store.createCached(object)
                state.file = made
                return made
            }
            try bytes.withBytes { (raw) throws(Errno) in
                try Sys.write(file.raw, at: offset, UnsafeRawBufferPointer(rebasing: raw[range]))
            }
        } catch {
            throw .disk(error)
        }
    }

    /// Puts what a block turned out to be in its part's place.
    private func replace(
        _ part: Part, by block: FileBlock, _ state: inout State
    ) throws(FetchFailure) {
        let index = index(of: part.start, state)
        guard state.parts[index].start == part.start, state.parts[index].cid == part.cid else {
            return
        }
        guard state.parts.count + block.children.count <= Self.partsMax else {
            throw .malformed(part.cid, "the file has too many blocks")
        }
        var parts: [Part] = []
        var start = part.start
        if !block.contentRange.isEmpty {
            parts.append(
                Part(
                    start: start, length: UInt64(block.contentRange.count), cid: part.cid,
                    depth: part.depth, state: .present))
            start += UInt64(block.contentRange.count)
        }
        for child in block.children {
            parts.append(
                Part(start: start, length: child.size, cid: child.cid, depth: part.depth + 1))
            start += child.size
        }
        // The index comes back to the same place: an empty part is never replaced by none.
        state.missing += parts.count { !$0.isPresent } - 1
        state.parts.replaceSubrange(index...index, with: parts)
    }

    // MARK: Letting go

    /// Lets go of the bytes of the part that begins at an offset; false while somebody reads, or
    /// where they are not here.
    func drop(partAt start: UInt64) -> UInt64? {
        state.withLock { state in
            let index = index(of: start, state)
            let part = state.parts[index]
            guard state.readers == 0, part.start == start, part.isPresent, let file = state.file
            else { return nil }
            do throws(Errno) {
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

    /// FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE of linux/falloc.h.
    private static let punchHole: Int32 = 0x02 | 0x01
}
