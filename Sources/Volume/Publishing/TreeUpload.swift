internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

/// Sends the blocks below a root. Used once, by one thread.
final class TreeUpload {
    private struct Level {
        let inode: Inode
        /// What the parent says it is; nil where that is not known.
        let cid: CID?
        let name: [UInt8]
        /// Nil before the directory is listed; the last one comes next.
        var pending: [(name: FileName, inode: Inode)]?
        var builder: DirectoryBuilder
    }

    /// What an entry adds to its directory.
    private enum Child {
        /// A file's content, not published if there is an object.
        case file(CID, treeSize: UInt64, unpublished: UInt64?)
        case block(CID, treeSize: UInt64, [UInt8])
        case directory(CID?, treeSize: UInt64, isPublished: Bool)
        /// A file that somebody is writing.
        case unsealed
        case none
    }

    private let volume: Volume
    private let connection: RemoteConnection
    private let upload: Upload

    init(_ volume: Volume, _ connection: RemoteConnection) {
        self.volume = volume
        self.connection = connection
        upload = Upload(volume, connection)
    }

    /// Sends all blocks below a root that the node is not known to have, children first.
    ///
    /// Goes down by inodes, which may change meanwhile; so every directory is made again of what its
    /// entries are, and the walk ends where that is not what its parent said. Where a writer never
    /// rests, that would never come to an end: after some attempts the walk takes files and names as
    /// it finds them, each at its own moment.
    ///
    /// - Returns: the root of what was sent.
    func send(_ root: CID) throws(Volume.PublishFailure) -> CID {
        let isExact = volume.manifest.withLock { state in
            volume.publishing(state).publication.mayBeExact
        }
        var claimed: Set<UInt64> = []
        var walked: Set<Inode> = [.root]
        defer {
            upload.end()
            connection.outbox.withLock { $0.end(claimed) }
            connection.outbox.wakeAll()
        }
        var levels = [
            Level(
                inode: .root, cid: root, name: [], pending: nil,
                builder: DirectoryBuilder(profile: volume.profile))
        ]
        while let last = levels.indices.last {
            guard !connection.isStopping else { throw .changed }
            if levels[last].pending == nil {
                levels[last].pending = try names(in: levels[last].inode)
            }
            guard let entry = levels[last].pending?.popLast() else {
                let made = try sendDirectory(&levels[last])
                guard !isExact || made.cid == levels[last].cid else { throw .changed }
                let name = levels.removeLast().name
                guard let parent = levels.indices.last else {
                    try sending { () throws(RemoteError) in try upload.flush() }
                    guard upload.isWhole else { throw .changed }
                    return made.cid
                }
                levels[parent].builder.add(name: name, cid: made.cid, treeSize: made.treeSize)
                continue
            }
            let name = entry.name.bytes
            switch try child(entry.inode) {
            case .none: break
            case .file(let cid, let treeSize, let object):
                levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                // One that several names have is added once.
                if let object, !claimed.contains(object) {
                    try claim(object)
                    claimed.insert(object)
                    // Where it was sent meanwhile, or went, nothing is added.
                    try sending { () throws(RemoteError) in try upload.add(object: object) }
                }
            case .block(let cid, let treeSize, let bytes):
                levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                try sending { () throws(RemoteError) in try upload.add(cid, bytes) }
            case .unsealed:
                // Nobody has it open: its seal was not kept for a passing reason.
                if try sealForSending(entry.inode) {
                    levels[last].pending?.append(entry)
                    continue
                }
                let leaf = try sendContent(of: entry.inode)
                levels[last].builder.add(name: name, cid: leaf.cid, treeSize: leaf.treeSize)
            case .directory(let cid, let treeSize, let isPublished):
                if let cid, isPublished {
                    levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                    continue
                }
                guard cid != nil || !isExact else { throw .changed }
                // A damaged manifest may have one below itself.
                guard walked.insert(entry.inode).inserted else {
                    throw .failed("\(entry.inode): two names lead to this directory")
                }
                levels.append(
                    Level(
                        inode: entry.inode, cid: cid, name: name, pending: nil,
                        builder: DirectoryBuilder(profile: volume.profile)))
            }
        }
        throw .changed
    }

    private func sending(_ body: () throws(RemoteError) -> Void) throws(Volume.PublishFailure) {
        do throws(RemoteError) { try body() } catch { throw .remote(error) }
    }

    private func names(in inode: Inode) throws(Volume.PublishFailure) -> [(
        name: FileName, inode: Inode
    )] {
        var names: [(name: FileName, inode: Inode)] = []
        do throws(Errno) {
            try volume.manifest.withLock { (state) throws(Errno) in
                guard let record = try state.inode(inode) else { throw Volume.stale }
                try state.forEachEntry(of: record, after: 0) { name, entry in
                    names.append((name, entry.inode))
                    return true
                }
            }
        } catch {
            throw .changed
        }
        return names
    }

    private func child(_ inode: Inode) throws(Volume.PublishFailure) -> Child {
        let found: Child?
        do throws(Errno) {
            found = try volume.manifest.withLock { (state) throws(Errno) in try child(inode, state)
            }
        } catch {
            throw .failed("\(inode): \(FailureCause.words(for: error))")
        }
        guard let found else { throw .changed }
        return found
    }

    /// Nil where the entry went, or its content is not known any more.
    private func child(_ inode: Inode, _ state: ManifestState) throws(Errno) -> Child? {
        guard let record = try state.inode(inode) else { return nil }
        switch record.kind {
        case .regular:
            guard let object = try state.object(of: record) else {
                let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
                let leaf = volume.profile.leaf(nothing)
                return .block(leaf.cid, treeSize: leaf.treeSize, volume.profile.leafBlock(nothing))
            }
            guard object.state != .staging, let cid = object.cid else { return .unsealed }
            let isMissing = object.state == .sealed && !state.isPublished(object)
            return .file(
                cid, treeSize: object.treeSize, unpublished: isMissing ? object.id : nil)
        case .symlink:
            let (root, block) = volume.profile.symlink(target: record.target)
            return .block(root.cid, treeSize: root.treeSize, block)
        case .directory:
            // What was never looked into is at the node, where it came from.
            return .directory(
                record.cid, treeSize: record.treeSize,
                isPublished: state.isPublished(record) || !record.isLoaded)
        case .fifo, .socket, .characterDevice, .blockDevice:
            return Child.none
        }
    }

    /// Claims an object, once nobody is at it. The claim ends when it is sent, not when it is added.
    private func claim(_ object: UInt64) throws(Volume.PublishFailure) {
        let isOurs = connection.outbox.withLock { outbox in
            while outbox.isUnderWay(object), !connection.isStopping {
                connection.outbox.wait(&outbox, milliseconds: 500)
            }
            return outbox.claim(object)
        }
        guard isOurs else { throw .changed }
    }

    /// Adds the nodes of a directory whose entries are all in its builder.
    private func sendDirectory(
        _ level: inout Level
    ) throws(Volume.PublishFailure) -> DAGRoot {
        var nodes: [(CID, [UInt8])] = []
        let root: DAGRoot
        do {
            root = try level.builder.finish { (cid, block) throws(Never) in
                nodes.append((cid, block))
            }
        } catch {
            throw .failed("\(level.inode): its directory node cannot be made: \(error)")
        }
        for (cid, block) in nodes {
            try sending { () throws(RemoteError) in try upload.add(cid, block) }
        }
        upload.completes(level.inode, root.cid)
        return root
    }

    /// Seals a file that has no writer; false where it is not sealed after that.
    private func sealForSending(_ inode: Inode) throws(Volume.PublishFailure) -> Bool {
        for _ in 0..<3 {
            let isOpen = volume.manifest.withLock { state in
                volume.opens(state).files[inode.number]?(state).hasWriters ?? false
            }
            guard !isOpen else { return false }
            do throws(Errno) { _ = try volume.seal(inode, attempts: 1) } catch { throw .changed }
            let isSealed = volume.manifest.withLock { state in
                guard let record = try? state.inode(inode) else { return false }
                return (try? state.object(of: record))?.state != .staging
            }
            if isSealed { return true }
            Threads.sleep(milliseconds: 10)
        }
        return false
    }

    /// Adds the blocks of a file as it is now, somebody writing it or not.
    private func sendContent(
        of inode: Inode
    ) throws(Volume.PublishFailure) -> (cid: CID, treeSize: UInt64) {
        var found: (cid: CID, treeSize: UInt64)?
        let isDone = try volume.withBlocks(of: inode) {
            (blocks, treeSize) throws(Volume.PublishFailure) in
            found = (blocks.root, treeSize)
            // At once: the content may not be the same for long.
            try sending { () throws(RemoteError) in
                try upload.add(blocks)
                try upload.flush()
            }
        }
        guard isDone, upload.isWhole, let found else { throw .changed }
        return found
    }
}
