internal import Base
internal import DequeModule
internal import InodeManifest
internal import ObjectStore

// What is known of the blocks of remote files costs memory, and whoever writes a file decides how much:
// one of 8 MiB may have eight million leaves. So the extents of all files are counted. Where they are too
// many, files that nobody has open are let go as if nothing of them had been read, the one that was closed
// first before others; then those that were not read for the longest.

/// Counts the extents of all remote files.
final class RemoteExtents: Sendable {
    let countMax: Int
    private let count = Monitor(0)

    init(countMax: Int) { self.countMax = countMax }

    /// Parts of files that nobody has open, at most.
    var closedMax: Int { countMax / 4 }
    /// Where extents were too many, so many are left, so that they are not for some time.
    var goal: Int { countMax / 4 * 3 }

    var total: Int { count.withLock { $0 } }

    /// Counts extents; false, and none, where they would be too many.
    func reserve(_ more: Int) -> Bool {
        count.withLock { count in
            guard count + more <= countMax else { return false }
            count += more
            return true
        }
    }

    func add(_ more: Int) { count.withLock { $0 += more } }

    func remove(_ less: Int) { count.withLock { $0 -= less } }
}

/// The remote objects that nobody has open, in the order in which they were closed.
struct ClosedRemotes {
    private struct Closed {
        let serial: UInt64
        let extentCount: Int
    }

    private var queue = Deque<(object: UInt64, serial: UInt64)>()
    private var closed: [UInt64: Closed] = [:]
    private var serial: UInt64 = 0
    /// Their extents, as many as they had when they were closed.
    private(set) var extentCount = 0

    mutating func add(_ object: UInt64, extentCount count: Int) {
        remove(object)
        serial += 1
        closed[object] = Closed(serial: serial, extentCount: count)
        extentCount += count
        queue.append((object, serial))
        guard queue.count > 2 * closed.count + 1024 else { return }
        queue.removeAll { closed[$0.object]?.serial != $0.serial }
    }

    mutating func remove(_ object: UInt64) {
        if let old = closed.removeValue(forKey: object) { extentCount -= old.extentCount }
    }

    /// Takes out the one that was closed first.
    mutating func takeFirst() -> UInt64? {
        while let (object, serial) = queue.popFirst() {
            guard closed[object]?.serial == serial else { continue }
            remove(object)
            return object
        }
        queue = []
        return nil
    }
}

extension RemoteFile {
    var extentCount: Int { state.withLock { $0.extents.count } }
}

extension Volume {
    /// Lets go of what is known of files that nobody has open, until it is within its bound.
    func letClosedGo(_ fetcher: Fetcher) {
        while let file = manifest.withLock({ takeClosed(beyond: fetcher.extents.closedMax, $0) }
        ) {
            letGo(file, fetcher)
        }
    }

    private func takeClosed(beyond bound: Int, _ state: ManifestState) -> RemoteFile? {
        while remotes(state).closed.extentCount > bound,
            let object = remotes(state).closed.takeFirst()
        {
            if let file = remotes(state).files[object] { return file }
        }
        return nil
    }

    /// Counts extents of a file that are about to be known, and lets others go where they are too many.
    /// Blocks where files are being read that could go.
    func reserveExtents(_ count: Int, _ fetcher: Fetcher) -> Bool {
        guard count > 0, !fetcher.extents.reserve(count) else { return true }
        for _ in 0..<Self.roomAttemptsMax {
            makeRoom(forExtents: count, fetcher)
            if fetcher.extents.reserve(count) { return true }
            guard count <= fetcher.extents.countMax, !fetcher.isStopping else { return false }
            Threads.sleep(milliseconds: 10)
        }
        return false
    }

    private static let roomAttemptsMax = 100

    private func makeRoom(forExtents count: Int, _ fetcher: Fetcher) {
        let goal = max(0, min(fetcher.extents.goal, fetcher.extents.countMax - count))
        while fetcher.extents.total > goal,
            let file = manifest.withLock({ takeClosed(beyond: 0, $0) })
        {
            letGo(file, fetcher)
        }
        guard fetcher.extents.total > goal else { return }
        let files = manifest.withLock { state in Array(remotes(state).files.values) }
            .map { file in
                file.state.withLock { (file: file, usedAt: $0.usedAt, extents: $0.extents.count) }
            }
            .filter { $0.extents > 1 }
            .sorted { $0.usedAt < $1.usedAt }
        for (file, _, _) in files where fetcher.extents.total > goal { letGo(file, fetcher) }
    }

    /// Lets a remote file be as if nothing of it had been read.
    private func letGo(_ file: RemoteFile, _ fetcher: Fetcher) {
        guard let extents = file.reset(store) else { return }
        fetcher.cache.withLock { $0.remove(extents) }
        manifest.withLock { state in
            guard !remotes(state).isOpen(file.object),
                remotes(state).files[file.object] === file, file.retire()
            else { return }
            remotes(state).closed.remove(file.object)
            remotes(state).files[file.object] = nil
            // Of no length by now.
            try? store.removeCached(file.object)
        }
    }
}

extension Volume {
    /// Parts of remote files that are known at the moment.
    package var remoteExtentCount: Int { fetcher?.extents.total ?? 0 }
}
