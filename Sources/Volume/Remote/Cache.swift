internal import Base
internal import DequeModule
internal import Glibc
internal import InodeManifest
internal import Logging
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

// The cache is the content here that the node holds, too: flat files of published objects, and the
// parts of remote ones. What is not published is no cache, and is never let go.

/// What could be let go, in the order in which it came; what was used since goes to the end once.
struct CacheLedger {
    enum Candidate: Hashable {
        case object(UInt64)
        case part(object: UInt64, start: UInt64)
    }

    private var queue = Deque<Candidate>()
    private var objects: [UInt64: UInt64] = [:]
    private var used: Set<UInt64> = []
    /// Parts of remote objects that are here; the queue may have more, of which some went otherwise.
    private var partCount = 0
    /// Bytes of all of it.
    private(set) var bytes: UInt64 = 0

    mutating func add(object: UInt64, size: UInt64) {
        guard size > 0, objects.updateValue(size, forKey: object) == nil else { return }
        // In a damaged manifest sizes may be anything.
        bytes = bytes.addingReportingOverflow(size).overflow ? .max : bytes + size
        queue.append(.object(object))
    }

    mutating func remove(object: UInt64) {
        guard let size = objects.removeValue(forKey: object) else { return }
        bytes -= min(bytes, size)
        used.remove(object)
    }

    mutating func add(partOf object: UInt64, start: UInt64, bytes count: UInt64) {
        bytes += count
        partCount += 1
        queue.append(.part(object: object, start: start))
    }

    mutating func remove(_ parts: CachedExtents) {
        bytes -= min(bytes, parts.bytes)
        partCount -= min(partCount, parts.count)
    }

    /// Whether most of the queue is of things that went otherwise.
    var isStale: Bool { queue.count > 2 * (partCount + objects.count) + Self.staleMin }
    private static let staleMin = 4_096

    /// Gives the queue out, for what is of nobody any more to be taken from it; `putBack` must follow.
    mutating func takeQueue() -> [Candidate] {
        defer { queue = [] }
        return Array(queue)
    }

    /// Takes the queue again, before what came meanwhile.
    mutating func putBack(_ items: [Candidate]) {
        queue.prepend(contentsOf: items)
    }

    /// Notes that an object is read.
    mutating func use(_ object: UInt64) {
        if objects[object] != nil { used.insert(object) }
    }

    /// The next candidate of a pass; nil once each has been one.
    ///
    /// - Parameter left: how many are left in the pass; nil begins one. What is put back is none of them.
    mutating func next(_ left: inout Int?) -> Candidate? {
        var count = left ?? queue.count
        defer { left = count }
        while count > 0, let item = queue.popFirst() {
            count -= 1
            switch item {
            case .part: return item
            case .object(let object):
                guard objects[object] != nil else { continue }
                if used.remove(object) != nil {
                    queue.append(item)
                    continue
                }
                return item
            }
        }
        return nil
    }

    /// Puts a candidate back that cannot go now.
    mutating func keep(_ candidate: Candidate) { queue.append(candidate) }

    /// Whether an object is one that could be let go.
    func has(_ object: UInt64) -> Bool { objects[object] != nil }
}

/// Parts of remote objects that are here.
struct CachedExtents {
    var count = 0
    var bytes: UInt64 = 0
}

extension Volume {
    /// Notes that a remote object has become an ordinary one.
    func noteKept(_ object: UInt64, _ parts: CachedExtents, isInline: Bool) {
        guard let fetcher else { return }
        fetcher.cache.withLock { cache in
            cache.remove(parts)
            let size = parts.bytes
            if !isInline { cache.add(object: object, size: size) }
        }
    }

    /// Counts the flat files that the node holds, too, from earlier times. Blocks for SQLite.
    func countCache(_ fetcher: Fetcher) throws(Errno) {
        try manifest.checkpoint()
        var last: UInt64 = 0
        while true {
            let found = try reading { (state) throws(Errno) in
                try state.rows.publishedFlatObjects(after: last, limit: 1024)
            }
            fetcher.cache.withLock { cache in
                for (id, size) in found { cache.add(object: id, size: size) }
            }
            guard let end = found.last else { return }
            last = end.id
        }
    }

    /// Lets content go that the node holds, too, until what is left is within the limit.
    func trimCache(_ fetcher: Fetcher) {
        let gone = manifest.withLock { $0.sealed.drainInvalidated() }
        for id in gone { forgetRemote(id, fetcher) }
        if fetcher.cache.withLock({ $0.isStale }) { compactCache(fetcher) }
        guard let limit = fetcher.options.cacheSizeMax else { return }
        // Which files hold an object is asked of SQLite.
        if !fetcher.options.keptPaths.isEmpty { try? manifest.checkpoint() }
        var left: Int?
        while let candidate = fetcher.cache.withLock({ cache in
            cache.bytes > limit ? cache.next(&left) : nil
        }) {
            switch candidate {
            case .part(let object, let start):
                if !drop(partAt: start, of: object, fetcher) {
                    fetcher.cache.withLock { $0.keep(candidate) }
                }
            case .object(let object):
                if evict(object, fetcher) {
                    fetcher.cache.withLock { $0.remove(object: object) }
                } else {
                    fetcher.cache.withLock { $0.keep(candidate) }
                }
            }
        }
        // At once, so that a fast reader does not run ahead of what is let go.
        guard manifest.withLock({ $0.files.hasEvicted }) else { return }
        do throws(Errno) {
            try manifest.commit()
        } catch {
            log.warning("volume: what was let go takes room until it can be committed: \(error)")
        }
        removeDeletedObjects()
    }

    /// Takes from the ledger's queue what went otherwise than by it.
    private func compactCache(_ fetcher: Fetcher) {
        let files = manifest.withLock { state in remotes(state).files }
        let queue = fetcher.cache.withLock { $0.takeQueue() }
        var seen: Set<CacheLedger.Candidate> = []
        let live = queue.filter { item in
            switch item {
            case .part(let object, let start):
                files[object]?.hasPart(at: start) == true && seen.insert(item).inserted
            case .object(let object):
                fetcher.cache.withLock { $0.has(object) } && seen.insert(item).inserted
            }
        }
        fetcher.cache.withLock { $0.putBack(live) }
    }

    private func forgetRemote(_ object: UInt64, _ fetcher: Fetcher) {
        fetcher.cache.withLock { $0.remove(object: object) }
        let file = manifest.withLock { state in
            remotes(state).closed.remove(object)
            return remotes(state).files.removeValue(forKey: object)
        }
        guard let file else { return }
        let parts = file.end()
        fetcher.cache.withLock { $0.remove(parts) }
        try? store.removeCached(object)
    }

    /// Lets a part of a remote object go; false where that cannot be now.
    private func drop(partAt start: UInt64, of object: UInt64, _ fetcher: Fetcher)
        -> Bool
    {
        // Of an object that became whole, or went, the parts are no candidates any more.
        let known = manifest.withLock { state in remotes(state).files[object] }
        guard let file = known else { return true }
        guard let bytes = file.drop(partAt: start, store) else { return !file.hasPart(at: start) }
        fetcher.cache.withLock { $0.remove(CachedExtents(count: 1, bytes: bytes)) }
        return true
    }

    // MARK: Room on the disk

    /// Lets parts of remote objects go until so many bytes more leave the disk its reserve; false where
    /// they would not.
    ///
    /// What one file claims has no bound but this: its leaves may be the same one again and again.
    func makeRoomInCache(for count: UInt64, _ fetcher: Fetcher) -> Bool {
        guard !hasRoom(for: count, fetcher) else { return true }
        var left: Int?
        while let candidate = fetcher.cache.withLock({ $0.next(&left) }) {
            var isGone = false
            if case .part(let object, let start) = candidate {
                isGone = drop(partAt: start, of: object, fetcher)
            }
            if !isGone {
                fetcher.cache.withLock { $0.keep(candidate) }
            } else if hasRoom(for: count, fetcher) {
                return true
            }
        }
        return hasRoom(for: count, fetcher)
    }

    /// Whether so many bytes of what the node holds, too, leave the disk its reserve.
    func hasRoom(for count: UInt64, _ fetcher: Fetcher) -> Bool {
        // What cannot be asked is told by the write.
        guard let disk = try? store.filesystemStatus() else { return true }
        let reserve =
            fetcher.options.diskReserve
            ?? min(Self.diskReserveMax, disk.blocks / 16 * disk.blockSize)
        let free = disk.blocksAvailable * disk.blockSize
        return free >= reserve && free - reserve >= count
    }

    /// Room that what comes from the node leaves on the disk, in bytes.
    private static let diskReserveMax: UInt64 = 64 << 20

    /// Leaves the bytes of an object to the node; false where that cannot be now.
    private func evict(_ object: UInt64, _ fetcher: Fetcher) -> Bool {
        let isKept = !fetcher.options.keptPaths.isEmpty && mustStay(object, fetcher)
        guard !isKept else { return false }
        return manifest.withLock { state in
            guard let record = try? state.object(object), record.state == .sealed,
                !record.isInline, state.isPublished(record), record.pins == 0,
                state.isInNoSnapshot(record) || areSnapshotsPinned(state),
                passthrough(state).backed[object] == nil, opens(state).sharedReads[object] == nil,
                !opens(state).files.values.contains(where: { $0(state).file?.id == object })
            else { return false }
            state.evict(record)
            return true
        }
    }

    /// Whether a file of an object lies at a path that is to stay here.
    private func mustStay(_ object: UInt64, _ fetcher: Fetcher) -> Bool {
        let found = try? reading { (state) throws(Errno) in
            var all: [[UInt8]] = []
            for id in try state.rows.inodes(holding: object) {
                if let record = try state.inode(Inode(id)) { all += try paths(of: record, state) }
            }
            return all
        }
        guard let found else { return true }
        return found.contains { path in
            fetcher.options.keptPaths.contains { pattern in
                // A directory's content stays with the directory.
                fnmatch(pattern, String(decoding: path, as: UTF8.self), Self.leadingDirectory) == 0
            }
        }
    }

    /// The paths of a file from the root on, one for each of its names.
    private func paths(
        of record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> [[UInt8]] {
        var paths: [[UInt8]] = []
        for parent in [record.parent] + record.otherParents {
            guard parent.number != 0 else { continue }
            for name in try state.names(of: record.inode, in: parent) {
                var path = [UInt8(ascii: "/")] + name
                var directory = try self.record(parent, state)
                for _ in 0...4096 where directory.inode != .root {
                    guard let own = try state.names(of: directory.inode, in: directory.parent).first
                    else { break }
                    path = [UInt8(ascii: "/")] + own + path
                    directory = try self.record(directory.parent, state)
                }
                paths.append(path)
            }
        }
        return paths
    }

    /// FNM_LEADING_DIR of fnmatch(3): a pattern that matches a directory matches what is below it.
    private static let leadingDirectory: Int32 = 8
}

extension RemoteFile {
    func hasPart(at start: UInt64) -> Bool {
        state.withLock { state in
            let part = state.extents[index(of: start, state)]
            return !state.isGone && part.start == start && part.isPresent
        }
    }

    /// Ends the use of the file; gives what was here.
    func end() -> CachedExtents {
        let parts = state.withLock { state in
            state.isGone = true
            state.file = nil
            return present(state)
        }
        state.wakeAll()
        return parts
    }
}
