internal import Base
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

// Content that is at the node is fetched before it can be changed, which may take as long as the node
// lets it. So it is fetched under no lock, into a flat file that nobody knows; then the write lock is
// taken, and where the inode's content is still the same, that file takes its place.

/// What was fetched of a remote file, in a flat file of a reserved number.
private struct Arrival {
    let file: ObjectFile
    /// Bytes; fewer than there were where the rest is to be cut off.
    let size: UInt64
    /// The object that it is a copy of.
    let remote: UInt64
}

extension Volume {
    /// Runs a body that changes a file's bytes, its size or its object, under the file's write lock.
    ///
    /// Where it fails with `RemoteFile.elsewhere`, having changed nothing, what it keeps of the content
    /// is fetched without the lock, and it begins again. Blocks for the node then.
    ///
    /// - Parameter keeping: how many bytes of the content are wanted.
    /// - Throws: EIO where the content is not to be had, EINTR where the wait was interrupted.
    func withWriteLock<Result>(
        of file: OpenFile, keeping: UInt64 = .max, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var arrival: Arrival?
        for _ in 0..<Self.arrivalsMax {
            do throws(Errno) {
                return try file.writeLock.withLock { (_) throws(Errno) in
                    if let arrived = arrival.take() { try moveIn(arrived, of: file) }
                    return try body()
                }
            } catch {
                guard error == RemoteFile.elsewhere else { throw error }
            }
            arrival = try fetchContent(of: file, keeping: keeping)
        }
        if let arrival { discard(arrival.file.id) }
        throw .ioError
    }

    /// Fetches the content of a file that is being opened to be written. At its first write it would be
    /// late: the kernel holds the file's lock then, and whoever removes the file waits for that with the
    /// lock of the directory.
    ///
    /// What cannot be had is told by the first write: who opens it may want to cut it.
    ///
    /// - Throws: EINTR where the wait was interrupted.
    func fetchBeforeWrites(to file: OpenFile) throws(Errno) {
        guard fetcher != nil else { return }
        do throws(Errno) {
            try withWriteLock(of: file) { () throws(Errno) in
                let object = try reading { (state) throws(Errno) in
                    try state.object(of: try record(file.inode, state))
                }
                if object?.state == .remote { throw RemoteFile.elsewhere }
            }
        } catch {
            guard error != .interrupted else { throw error }
        }
    }

    /// How often a change begins again because the content went to the node meanwhile.
    private static let arrivalsMax = 8

    /// Makes what was fetched the content, where that is the same still.
    private func moveIn(_ arrival: Arrival, of file: OpenFile) throws(Errno) {
        var isTaken = false
        defer { if !isTaken { discard(arrival.file.id) } }
        isTaken = try changing { (state) throws(Errno) in
            let record = try record(file.inode, state)
            guard record.object == arrival.remote,
                try state.object(of: record)?.state == .remote
            else { return false }
            try take(arrival.file, size: arrival.size, as: file, record, state)
            return true
        }
    }

    /// Fetches the first bytes of content that is at the node; nil where it is not there only any more.
    private func fetchContent(of file: OpenFile, keeping: UInt64) throws(Errno) -> Arrival? {
        guard try beginArrival(file.inode) else { return nil }
        defer { endArrival(file.inode) }
        let found = try changing { (state) throws(Errno) -> (RemoteFile, UInt64, UInt64)? in
            let record = try record(file.inode, state)
            guard let object = try state.object(of: record), object.state == .remote else {
                return nil
            }
            try checkRoom(state)
            let remote = try remoteFile(of: object, state)
            return (remote, min(record.size, keeping), state.numbers.reserve())
        }
        guard let (remote, size, id) = found else { return nil }
        do throws(Errno) {
            let made = try store.create(id)
            try copy(remote, size: size, to: made)
            return Arrival(file: made, size: size, remote: remote.object)
        } catch {
            discard(id)
            // It has become a flat file meanwhile, or went from the cache as a whole.
            guard error == RemoteFile.gone else { throw error }
            return nil
        }
    }

    /// Begins to fetch a file's content; false where another did so, and has ended.
    private func beginArrival(_ inode: Inode) throws(Errno) -> Bool {
        let arriving = remotes.arriving
        guard !arriving.withLock({ !$0.insert(inode.number).inserted }) else {
            // Else each of many writers would make a copy of it.
            try remotes.waits.during(wake: { [arriving] in arriving.wakeAll() }) {
                (wait) throws(Errno) in
                arriving.withLock { inodes in
                    while inodes.contains(inode.number), !wait.isInterrupted {
                        arriving.wait(&inodes, milliseconds: 500)
                    }
                }
                guard !wait.isInterrupted else { throw .interrupted }
            }
            return false
        }
        return true
    }

    private func endArrival(_ inode: Inode) {
        remotes.arriving.withLock { _ = $0.remove(inode.number) }
        remotes.arriving.wakeAll()
    }
}
