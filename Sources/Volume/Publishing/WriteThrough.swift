internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

// What goes to the node before a file is sealed: all of it, where fsync(2) is to return only then; or
// the leaves behind the write position of a large file, so that less is left to send at its end.
// Content addressing makes a wrong guess harmless: what is written again is sent again.

extension Volume {
    /// Waits until the node has the blocks of a file as it is now.
    ///
    /// - Throws: EIO where the node does not take them for a while, EINTR.
    func waitUntilAtRemote(_ inode: Inode, _ connection: RemoteConnection) throws(Errno) {
        try remotes.waits.during { (wait) throws(Errno) in
            let deadline =
                MonotonicClock.milliseconds + Int64(connection.fetcher.options.fetchMilliseconds)
            var problem = "it takes too long"
            while true {
                guard !wait.isInterrupted else { throw .interrupted }
                do throws(PublishFailure) {
                    if try publishContent(of: inode, connection, wait) { return }
                } catch {
                    switch error {
                    case .remote(let error):
                        connection.note(error)
                        problem = "\(error)"
                    case .changed: problem = "its content changed all the time"
                    case .failed(let reason):
                        connection.health.note(problem: "\(inode): \(reason)")
                        problem = reason
                    }
                }
                guard MonotonicClock.milliseconds < deadline else {
                    throw .ioError.because("\(inode): the node does not have all of it: \(problem)")
                }
                Threads.sleep(milliseconds: 50)
            }
        }
    }

    /// Sends what the node lacks of a file's blocks; false where the content changed meanwhile.
    private func publishContent(
        of inode: Inode, _ connection: RemoteConnection, _ wait: RemoteWait
    ) throws(PublishFailure) -> Bool {
        if try publishSealed(inode, connection, wait) { return true }
        var isSent = false
        let isStill = try withBlocks(of: inode) { (blocks, _) throws(PublishFailure) in
            isSent = try send(connection, wait) { (upload) throws(RemoteError) in
                try upload.add(blocks)
            }
        }
        return isSent && isStill
    }

    /// Runs a body with the blocks of a file as it is now, hashed for it where they are not known.
    ///
    /// - Returns: whether the content was the same all the time.
    func withBlocks(
        of inode: Inode, _ body: (FileBlocks, UInt64) throws(PublishFailure) -> Void
    ) throws(PublishFailure) -> Bool {
        beginHashing(inode)
        var isHashing = true
        defer { if isHashing { endHashing(inode) } }
        let source = try reporting { () throws(Errno) in
            try syncFromBacking(inode)
            return try beginSeal(inode)
        }
        // What is sealed by now is an object, and comes as one.
        guard case .content(let content, let size, let version, let modified, let file) = source
        else { return false }
        defer { manifest.withLock { endUse(file, $0) } }
        func isStill() -> Bool {
            let isSame = modified.map { isUnchanged(content, size: size, modified: $0) } ?? true
            return isSame && isCurrent(inode, version)
        }
        let result = try reporting { () throws(Errno) in
            try sealResult(of: content, inode, size: size, isWanted: isStill)
        }
        endHashing(inode)
        isHashing = false
        guard let result else { return false }
        try body(FileBlocks(content, size: size, result, of: self), result.treeSize)
        return isStill()
    }

    private func reporting<Result>(
        _ body: () throws(Errno) -> Result
    ) throws(PublishFailure) -> Result {
        do throws(Errno) { return try body() } catch { throw .failed("\(error)") }
    }

    /// Sends a file that is sealed, or empty; false where it is neither.
    private func publishSealed(
        _ inode: Inode, _ connection: RemoteConnection, _ wait: RemoteWait
    ) throws(PublishFailure) -> Bool {
        try reporting { () throws(Errno) in try syncFromBacking(inode) }
        let (isSynced, object) = manifest.withLock { state -> (Bool, UInt64?) in
            guard let record = try? state.inode(inode), let id = record.object,
                let object = try? state.object(id)
            else {
                return (opens(state).files[inode.number]?(state).backing?.isWritable != true, nil)
            }
            guard object.state != .staging else { return (false, nil) }
            let isMissing = object.state == .sealed && !state.isPublished(object)
            return (true, isMissing ? id : nil)
        }
        guard let object, isSynced else { return isSynced }
        return try send(connection, wait) { (upload) throws(RemoteError) in
            try upload.add(object: object)
        }
    }

    /// Sends what a body adds; false where some of it changed meanwhile.
    private func send(
        _ connection: RemoteConnection, _ wait: RemoteWait,
        _ add: (Upload) throws(RemoteError) -> Void
    ) throws(PublishFailure) -> Bool {
        let upload = Upload(self, connection, cancellation: wait.cancellation)
        defer { upload.end() }
        do throws(RemoteError) {
            try add(upload)
            try upload.flush()
        } catch {
            throw .remote(error)
        }
        return upload.isWhole
    }

    // MARK: Ahead of the seal

    /// Sends leaves of a file that is still being written, up to some way behind its end. Blocks for
    /// the node.
    ///
    /// - Returns: whether there was anything to send.
    func sendAhead(_ connection: RemoteConnection) throws(RemoteError) -> Bool {
        guard let (file, flat, first, count) = nextAhead(connection) else { return false }
        defer { manifest.withLock { endUse(file, $0) } }
        let chunk = profile.chunkSize
        let buffer = OwnedBuffer(byteCount: chunk)
        let upload = Upload(self, connection)
        defer { upload.end() }
        try background.run { () throws(RemoteError) in
            for number in first..<first + count {
                let isRead =
                    (try? Sys.read(flat.raw, at: number * UInt64(chunk), into: buffer.bytes))
                guard isRead == chunk else { break }
                let raw = UnsafeRawBufferPointer(buffer.bytes)
                try upload.add(profile.leaf(raw).cid, profile.leafBlock(raw))
            }
            try upload.flush()
        }
        return true
    }

    /// Leaves that are sent in one round; all of them are in memory.
    private static let aheadLeavesMax: UInt64 = 8
    /// How long a file must have been written before leaves of it are sent. To send them takes
    /// processors and the disk from its writer; one who is done sooner than that has them sent as they
    /// are hashed.
    private static let aheadMilliseconds: Int64 = 2_000
    /// How far from the end of the file leaves are taken for written.
    private static let aheadMargin: UInt64 = 1

    /// A file with enough new leaves; its use must be ended.
    private func nextAhead(
        _ connection: RemoteConnection
    ) -> (OpenFile, ObjectFile, first: UInt64, count: UInt64)? {
        let written = manifest.withLock { state in
            connection.ahead.withLock { ahead in
                ahead.keep { opens(state).files[$0]?(state).hasWriters ?? false }
                return opens(state).files.values.compactMap { file -> (OpenFile, ObjectFile)? in
                    guard file(state).hasWriters,
                        let flat = file(state).backing?.file ?? file(state).file,
                        MonotonicClock.milliseconds - ahead.sent(file.inode).since
                            >= Self.aheadMilliseconds
                    else { return nil }
                    return (file, flat)
                }
            }
        }
        for (file, flat) in written {
            guard let size = try? Sys.status(of: flat.raw).size else { continue }
            let whole = size / UInt64(profile.chunkSize)
            let first = manifest.withLock { state -> UInt64? in
                connection.ahead.withLock { ahead in
                    let first = ahead.sent(file.inode).count
                    guard whole >= first + Self.aheadLeavesMax + Self.aheadMargin,
                        file(state).hasWriters,
                        (file(state).backing?.file ?? file(state).file) === flat,
                        let record = try? state.inode(file.inode), record.linkCount > 0
                    else { return nil }
                    _ = use(record, state)
                    // What fails is sent after the seal.
                    ahead.note(file.inode, sent: first + Self.aheadLeavesMax)
                    return first
                }
            }
            if let first { return (file, flat, first, Self.aheadLeavesMax) }
        }
        return nil
    }
}

/// How many leaves of files that are still being written were sent.
struct AheadLeaves {
    private var files: [UInt64: (count: UInt64, since: Int64)] = [:]

    /// How many were sent, and since when the file is known here, in milliseconds of `MonotonicClock`.
    mutating func sent(_ inode: Inode) -> (count: UInt64, since: Int64) {
        if let known = files[inode.number] { return known }
        let new = (count: UInt64(0), since: MonotonicClock.milliseconds)
        files[inode.number] = new
        return new
    }

    mutating func note(_ inode: Inode, sent count: UInt64) { files[inode.number]?.count = count }

    /// Forgets the files that are closed.
    mutating func keep(where isOpen: (UInt64) -> Bool) {
        guard !files.isEmpty else { return }
        files = files.filter { isOpen($0.key) }
    }
}
