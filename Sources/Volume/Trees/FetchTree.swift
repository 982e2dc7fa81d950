public import Base
internal import InodeManifest
internal import MerkleDAG

public import struct SystemPackage.Errno

/// What became of a tree that was fetched as a whole.
public struct FetchedTree: Sendable, Equatable {
    /// Regular files, and their bytes.
    public var files: UInt64 = 0
    public var bytes: UInt64 = 0
    /// Files whose DAG is not the one that the volume's profile makes: their bytes stay in the cache, which a mount
    /// begins without.
    public var cachedFiles: UInt64 = 0
    /// Files of such a DAG that were to be kept: they have the CID now that the profile gives them.
    public var convertedFiles: UInt64 = 0
}

extension Volume {
    /// Fetches all that is below an inode, so that nobody else is needed to read it. Blocks for the network.
    ///
    /// - Parameters:
    ///   - keepsAll: files whose DAG is not the one that the profile makes become files of the volume's own, under
    ///     another CID.
    ///   - progress: told of the bytes so far now and then; false ends it.
    /// - Throws: EIO where something cannot be had, EINTR where it was ended; what came stays.
    public func fetchTree(
        _ inode: Inode, keepsAll: Bool = false, progress: (FetchedTree) -> Bool
    ) throws(Errno) -> FetchedTree {
        var found = FetchedTree()
        var directories: [Inode] = []
        var files: [Inode] = []
        switch try attributes(of: inode).kind {
        case .directory: directories = [inode]
        case .regular: files = [inode]
        default: break
        }
        while true {
            while files.count < Self.filesAtOnce, let directory = directories.popLast() {
                for entry in try entries(in: directory) {
                    switch entry.kind {
                    case .directory: directories.append(entry.inode)
                    case .regular: files.append(entry.inode)
                    default: break
                    }
                }
            }
            guard !files.isEmpty else { break }
            let part = Array(files.suffix(Self.filesAtOnce))
            files.removeLast(part.count)
            try FileFetch(volume: self, files: part, keepsAll: keepsAll).run(&found)
            guard progress(found) else { throw .interrupted }
        }
        try manifest.commit()
        return found
    }

    /// Files that are fetched in one round, whose ends all wait for each other.
    private static let filesAtOnce = 256

    fileprivate enum Fetched {
        /// A file of the volume's own by now.
        case own
        /// Its bytes are in the cache.
        case cached
    }

    /// Reads a file to its end. Gives its size, and what has become of it; nil where it went meanwhile.
    fileprivate func fetchFile(
        _ inode: Inode
    ) throws(Errno) -> (bytes: UInt64, became: Fetched)? {
        let object: UInt64?
        do throws(Errno) {
            object = try reading { (state) throws(Errno) in
                let object = try state.object(of: try record(inode, state))
                return object?.state == .remote ? object?.id : nil
            }
        } catch {
            // It went meanwhile.
            guard error == Self.stale else { throw error }
            return nil
        }
        let size = try attributes(of: inode).size
        guard let object else { return (size, .own) }
        let opened = try open(inode, flags: OpenFlags(rawValue: 0), caller: .system)
        defer { release(opened.handle) }
        let buffer = OwnedBuffer(byteCount: 1 << 20)
        var offset: UInt64 = 0
        while offset < size {
            let count = try read(opened.handle, at: offset, into: buffer.bytes)
            guard count > 0 else { break }
            offset += UInt64(count)
        }
        // The thread that fetched the last block may still be at it.
        for _ in 0..<50 {
            let isOwn = try reading { (state) throws(Errno) in
                try state.object(object)?.state != .remote
            }
            if isOwn { return (offset, .own) }
            if staysRemote(object) { break }
            Threads.sleep(milliseconds: 10)
        }
        return (offset, .cached)
    }

    /// Makes the bytes of a file that is elsewhere the volume's own. They are durable with the next commit.
    func convertFile(_ inode: Inode) throws(Errno) {
        let file = try reading { (state) throws(Errno) in use(try record(inode, state), state) }
        defer {
            manifest.withLock { endUse(file, $0) }
            enqueueSeal(inode)
        }
        try withWriteLock(of: file) { () throws(Errno) in
            let isElsewhere = try reading { (state) throws(Errno) in
                try state.object(of: try record(inode, state))?.state == .remote
            }
            if isElsewhere { throw RemoteFile.elsewhere }
        }
        try synchronizeBytes(of: inode)
    }
}

/// Files that are fetched side by side: most of the time is waiting.
private final class FileFetch: Sendable {
    private struct State {
        var next = 0
        var found = FetchedTree()
        var failure: (Errno, String)?
    }

    private let volume: Volume
    private let files: [Inode]
    private let keepsAll: Bool
    private let state = Monitor(State())
    private static let threadsMax = 8

    init(volume: Volume, files: [Inode], keepsAll: Bool) {
        self.volume = volume
        self.files = files
        self.keepsAll = keepsAll
    }

    func run(_ found: inout FetchedTree) throws(Errno) {
        var threads: [JoinableThread] = []
        while threads.count < min(Self.threadsMax, files.count) - 1,
            let thread = try? Threads.start(name: "rfs-fetch-tree", { [self] in work() })
        {
            threads.append(thread)
        }
        work()
        for thread in threads { thread.join() }
        let (part, failure) = state.withLock { ($0.found, $0.failure) }
        found.files += part.files
        found.bytes += part.bytes
        found.cachedFiles += part.cachedFiles
        found.convertedFiles += part.convertedFiles
        if let (error, cause) = failure { throw error.because(cause) }
    }

    private func work() {
        while let inode = next() {
            do throws(Errno) {
                guard let (bytes, became) = try volume.fetchFile(inode) else { continue }
                let isConverted = keepsAll && became == .cached
                if isConverted { try volume.convertFile(inode) }
                state.withLock { state in
                    state.found.files += 1
                    state.found.bytes += bytes
                    if isConverted {
                        state.found.convertedFiles += 1
                    } else if became == .cached {
                        state.found.cachedFiles += 1
                    }
                }
            } catch {
                let cause = FailureCause.take() ?? "\(error)"
                state.withLock { $0.failure = $0.failure ?? (error, cause) }
            }
        }
    }

    private func next() -> Inode? {
        state.withLock { state in
            guard state.failure == nil, state.next < files.count else { return nil }
            defer { state.next += 1 }
            return files[state.next]
        }
    }
}
