internal import Base
internal import Glibc
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

extension RemoteFile {
    /// Nodes below each other; no writer makes so many.
    private static let depthMax: UInt16 = 64
    /// The most links that the nodes on the way to one leaf may have together.
    private static let pathLinksMax = 1 << 17
    /// The bound of `problems`.
    private static let problemsMax = 64

    struct Fetch {
        let extent: Extent
        let generation: Int
        let ticket: FetchPool.Ticket
        var asksPeers = false
    }

    /// Fetches the block of a extent that is marked so, and keeps what it holds. On a thread for it.
    func fetch(
        _ fetch: Fetch, for user: UInt32?, _ volume: Volume, _ fetcher: Fetcher,
        _ memory: ReplyMemory
    ) {
        let extent = fetch.extent
        var added: UInt64 = 0
        var isWhole = false
        do throws(FetchFailure) {
            let source = VolumeBlocks(
                volume: volume, fetcher: fetcher, asksPeers: fetch.asksPeers, user: user)
            let bytes = try block(extent.cid, source, memory)
            let block = try decode(extent, bytes)
            // Before they are in memory twice.
            guard volume.reserveExtents(block.children.count, fetcher) else {
                throw .tooMany(extent.cid)
            }
            var reserved = block.children.count
            defer { budget.remove(reserved) }
            if !block.contentRange.isEmpty {
                try keep(bytes, block.contentRange, fetch, volume, fetcher)
            }
            isWhole = state.withLock { state in
                defer { closeIfUnused(&state) }
                guard let more = replace(fetch, by: block, &state) else { return false }
                // More only by extents that were reserved: a extent's place is taken by one at least.
                reserved -= more
                added = UInt64(block.contentRange.count)
                if added > 0 {
                    // Together with the extent, so that whoever lets that go takes it off again.
                    fetcher.cache.withLock {
                        $0.add(partOf: object, start: extent.start, bytes: added)
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
                fetcher.searchPool.add(fetch.ticket, for: user) { [self, again] user, _ in
                    self.fetch(again, for: user, volume, fetcher, ReplyMemory())
                }
                return
            }
            // Of a file that went, nobody wants it any more.
            if !state.withLock({ $0.isGone }) {
                fetcher.health.note(problem: "object \(object): \(error.reason)")
            }
            state.withLock { state in
                guard let index = index(of: fetch, state) else { return }
                if state.problems.count >= Self.problemsMax { state.problems = [:] }
                state.problems[extent.start] = error.reason
                state.extents[index].state = .failed(
                    .ioError, until: MonotonicClock.milliseconds + Self.failureMilliseconds)
            }
        }
        state.wakeAll()
        // At once, so that a fast reader does not run ahead of what is let go.
        if added > 0 { volume.trimCache(fetcher) }
        if isWhole { volume.keepWhole(self) }
    }

    /// Where the extent of a fetch is; nil where it was let go meanwhile.
    private func index(of fetch: Fetch, _ state: State) -> Int? {
        guard state.generation == fetch.generation, !state.isGone else { return nil }
        let index = index(of: fetch.extent.start, state)
        let extent = state.extents[index]
        guard extent.start == fetch.extent.start, extent.length == fetch.extent.length,
            extent.cid == fetch.extent.cid
        else { return nil }
        return index
    }

    private enum FetchFailure: Error {
        case unavailable(CID, String)
        /// The node does not have it.
        case missing(CID, String)
        case malformed(CID, String)
        /// The extents of remote files are too many already.
        case tooMany(CID)
        case disk(Errno)
        /// The cache would leave too little room to all else.
        case full

        var reason: String {
            switch self {
            case .unavailable(let cid, let reason), .missing(let cid, let reason):
                "block \(cid) is not to be had: \(reason)"
            case .malformed(let cid, let reason):
                "block \(cid) is no extent of this file: \(reason)"
            case .tooMany(let cid):
                "block \(cid): more extents of remote files are being read than fit into memory"
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

    private func decode(_ extent: Extent, _ bytes: [UInt8]) throws(FetchFailure) -> FileBlock {
        let block: FileBlock
        do throws(DAGReadError) {
            block = try FileBlock(extent.cid, verified: bytes)
        } catch {
            throw .malformed(extent.cid, error.reason)
        }
        guard block.size == extent.length else {
            throw .malformed(extent.cid, "it has \(block.size) bytes, not \(extent.length)")
        }
        guard block.children.isEmpty || extent.depth < Self.depthMax,
            Int(extent.pathLinks) + block.children.count <= Self.pathLinksMax
        else { throw .malformed(extent.cid, "the file is too deep") }
        return block
    }

    private func keep(
        _ bytes: [UInt8], _ range: Range<Int>, _ fetch: Fetch, _ volume: Volume,
        _ fetcher: Fetcher
    ) throws(FetchFailure) {
        guard volume.makeRoomInCache(for: UInt64(range.count), fetcher) else { throw .full }
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
                    file.raw, at: fetch.extent.start, UnsafeRawBufferPointer(rebasing: raw[range]))
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

    /// Puts what a block turned out to be in its extent's place.
    ///
    /// - Returns: by how many the extents have become more; nil where the extent was let go meanwhile.
    private func replace(_ fetch: Fetch, by block: FileBlock, _ state: inout State) -> Int? {
        guard let index = index(of: fetch, state) else { return nil }
        let extent = fetch.extent
        var extents: [Extent] = []
        extents.reserveCapacity(block.children.count + 1)
        let pathLinks = extent.pathLinks + UInt32(block.children.count)
        var start = extent.start
        if !block.contentRange.isEmpty {
            extents.append(
                Extent(
                    start: start, length: UInt64(block.contentRange.count), cid: extent.cid,
                    depth: extent.depth, pathLinks: extent.pathLinks, state: .present))
            start += UInt64(block.contentRange.count)
        }
        for child in block.children {
            extents.append(
                Extent(
                    start: start, length: child.size, cid: child.cid, depth: extent.depth + 1,
                    pathLinks: pathLinks))
            start += child.size
        }
        // The index comes back to the same place: an empty extent is never replaced by none.
        state.missing += extents.count { !$0.isPresent } - 1
        state.extents.replaceSubrange(index...index, with: extents)
        return extents.count - 1
    }
}
