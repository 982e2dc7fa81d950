internal import Base
internal import InodeManifest
internal import Multiformats
internal import ObjectStore
internal import Synchronization

internal import struct SystemPackage.Errno

// The bytes of a remote object come leaf by leaf, each compared with its CID before anybody gets it,
// into a file of the cache. Which bytes are there is known in memory only; after a restart the cache
// begins empty. The DAG is found out as it is walked, so any layout is read, not only the profile's.

/// The bytes of a remote object, as far as they are here.
final class RemoteFile: Sendable {
    /// A extent of the file: a leaf, or the bytes below a node that was not looked into yet.
    struct Extent {
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
        var extents: [Extent]
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
        /// The end of the read before, and how many extents are fetched ahead of the next one.
        var nextOffset: UInt64?
        var window = 0
        /// Where the window grew last, so that it grows once for each wait.
        var grownAt: UInt64?
        /// Why extents could not be had, by where they start.
        var problems: [UInt64: String] = [:]
        var isGone = false
    }

    let object: UInt64
    let cid: CID
    let size: UInt64
    /// What all of the bytes have to be before anybody gets one; nil for what its CID alone says.
    let expected: GraftObject?
    private let verified: Atomic<Bool>
    let state: Monitor<State>
    let budget: RemoteExtents

    /// Parts that are fetched ahead of a sequential reader at most, and their bytes.
    static let windowMax = 16
    static let windowBytesMax: UInt64 = 16 << 20
    /// How long a extent that could not be had is not asked for again, in milliseconds.
    static let failureMilliseconds: Int64 = 5_000

    init(
        object: UInt64, cid: CID, size: UInt64, expected: GraftObject? = nil,
        _ budget: RemoteExtents
    ) {
        self.object = object
        self.cid = cid
        self.size = size
        self.expected = expected
        verified = Atomic(expected == nil)
        self.budget = budget
        budget.add(1)
        state = Monitor(State(extents: [Self.whole(cid, size)], missing: 1), rank: .remoteFile)
    }

    /// Whether the bytes may be given.
    var isVerified: Bool { verified.load(ordering: .acquiring) }
    func noteVerified() { verified.store(true, ordering: .releasing) }

    deinit { budget.remove(state.withLock { $0.extents.count }) }

    static func whole(_ cid: CID, _ size: UInt64) -> Extent {
        Extent(start: 0, length: size, cid: cid, depth: 0, pathLinks: 0)
    }

    /// Bytes that are here.
    var presentBytes: UInt64 { state.withLock { present($0).bytes } }

    /// What of the file is here.
    func present(_ state: State) -> CachedExtents {
        state.extents.reduce(into: CachedExtents()) { sum, extent in
            guard extent.isPresent else { return }
            sum.count += 1
            sum.bytes += extent.length
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
        _ fetcher: Fetcher
    ) throws(Errno) -> Int {
        guard offset < size else { return 0 }
        let wanted = Int(min(UInt64(buffer.count), size - offset))
        var count = 0
        while count < wanted {
            let range = offset + UInt64(count)..<offset + UInt64(wanted)
            let (file, end) = try beginRead(range, volume, fetcher)
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
        _ range: Range<UInt64>, _ volume: Volume, _ fetcher: Fetcher
    ) throws(Errno) -> (ObjectFile, end: UInt64) {
        if let found = try step(range, volume, fetcher) { return found }
        return try volume.remotes.waits.during(wake: { [state] in state.wakeAll() }) {
            (wait) throws(Errno) in
            // Longer than any fetch takes; each has its own deadline.
            let deadline =
                MonotonicClock.milliseconds + Int64(fetcher.options.fetchMilliseconds) * 2 + 1000
            while true {
                do throws(Errno) {
                    if let found = try step(range, volume, fetcher) { return found }
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
        switch state.extents[index(of: offset, state)].state {
        case .present, .failed: true
        case .missing, .fetching: state.isGone
        }
    }

    /// The bytes at the start of a range where they are here; else has them fetched.
    private func step(
        _ range: Range<UInt64>, _ volume: Volume, _ fetcher: Fetcher
    ) throws(Errno) -> (ObjectFile, end: UInt64)? {
        var wanted: [Extent] = []
        var joined: FetchPool.Ticket?
        var generation = 0
        let found = try state.withLock { (state) throws(Errno) -> (ObjectFile, UInt64)? in
            guard !state.isGone else { throw Self.gone }
            state.usedAt = MonotonicClock.milliseconds
            generation = state.generation
            var index = index(of: range.lowerBound, state)
            let first = index
            // Before anything is noted as fetched that nobody would fetch.
            if case .failed(let error, let until) = state.extents[first].state {
                guard MonotonicClock.milliseconds >= until else {
                    throw error.because(
                        "object \(object): \(state.problems[state.extents[first].start] ?? "\(cid)")"
                    )
                }
                state.extents[first].state = .missing
            }
            wanted = fetchAhead(from: first, reading: range, &state, fetcher)
            switch state.extents[first].state {
            case .present:
                while index < state.extents.count, state.extents[index].start < range.upperBound,
                    state.extents[index].isPresent
                {
                    index += 1
                }
                guard let file = try openFile(&state, volume.store) else {
                    throw .ioError.because("object \(object): it has no file in the cache")
                }
                state.readers += 1
                return (file, min(range.upperBound, state.extents[index - 1].end))
            case .fetching(let ticket): joined = ticket
            case .missing, .failed: break
            }
            return nil
        }
        guard !wanted.isEmpty || joined != nil else { return found }
        let user = volume.remotes.waits.user
        for extent in wanted {
            guard case .fetching(let ticket) = extent.state else { continue }
            let fetch = Fetch(extent: extent, generation: generation, ticket: ticket)
            fetcher.fetchPool.add(ticket, for: user) { [self] user, memory in
                self.fetch(fetch, for: user, volume, fetcher, memory)
            }
        }
        // Who asked for it first may have to wait for others of his own.
        if let joined {
            fetcher.fetchPool.join(joined, for: user)
            fetcher.searchPool.join(joined, for: user)
        }
        return found
    }

    /// Chooses what is to be fetched for a read: its first extent, and as much ahead as reading on in
    /// order has earned.
    private func fetchAhead(
        from first: Int, reading range: Range<UInt64>, _ state: inout State,
        _ fetcher: Fetcher
    ) -> [Extent] {
        if state.nextOffset == range.lowerBound || range.lowerBound == 0 {
            // Whoever has to wait should have had more on the way.
            if !state.extents[first].isPresent, state.grownAt != range.lowerBound {
                state.window = min(max(state.window * 2, 1), Self.windowMax)
                state.grownAt = range.lowerBound
            }
        } else if !(state.nextOffset.map { range.contains($0) } ?? false) {
            state.window = 0
        }
        var wanted: [Extent] = []
        var bytes: UInt64 = 0
        var index = first
        while index < state.extents.count, index <= first + state.window,
            index == first || bytes < Self.windowBytesMax
        {
            if case .missing = state.extents[index].state {
                state.extents[index].state = .fetching(fetcher.nextTicket())
                wanted.append(state.extents[index])
            }
            bytes += state.extents[index].length
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
        var (low, high) = (0, state.extents.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if state.extents[middle].start <= offset { low = middle } else { high = middle - 1 }
        }
        return low
    }
}
