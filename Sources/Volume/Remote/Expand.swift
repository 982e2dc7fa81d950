internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

// A directory that came from a CID is found out at its first use: the operation that needs its
// entries fails with `ManifestState.notLoaded` before it has changed anything, the entries are
// fetched without any lock, and the operation begins again.

extension Volume {
    /// Fetches the entries of a directory that is known by its CID only. Blocks for the node.
    ///
    /// - Throws: EIO where they are not to be had, EINTR where the wait was interrupted.
    func expand(_ inode: Inode) throws(Errno) {
        try remotes.waits.during { (wait) throws(Errno) in
            let found = try reading { (state) throws(Errno) -> CID? in
                let record = try record(inode, state)
                return record.isLoaded ? nil : record.cid
            }
            guard let cid = found else { return }
            // One who waits for another's expansion would be another to interrupt; blocks are asked
            // for twice at worst.
            let expansion = Expansion(self, fetcher, cancellation: wait.cancellation)
            defer { expansion.end() }
            let children: [ExpandedEntry]
            do throws(DAGReadError) {
                children = try expansion.children(of: cid, expansion.links(of: cid))
            } catch {
                guard !wait.isInterrupted else { throw .interrupted }
                fetcher?.health.note(problem: "directory \(cid): \(error.reason)")
                if options.domains != nil { domains.hurry() }
                throw .ioError.because("directory \(cid): \(error.reason)")
            }
            let nodes = expansion.nodes
            let treeSize = Expansion.ownTreeSize(cid, children, by: profile)
            try reading { (state) throws(Errno) in
                let record = try record(inode, state)
                guard !record.isLoaded, record.cid == cid else { return }
                // A Tsize that lies stands in the nodes above, which are not the profile's then.
                try fill(
                    record, with: children, nodes, isOwn: treeSize == record.treeSize, state)
            }
            keepChangesBounded()
        }
    }

    /// An entry of a directory in a DAG, and what it is.
    struct ExpandedEntry: Sendable {
        let name: FileName
        let cid: CID
        let treeSize: UInt64
        let entry: UnixFSEntry
    }

    /// Makes the inodes and entries of a directory. It keeps its CID where the profile makes the same
    /// of these entries; else it gets a new one, as after a change.
    private func fill(
        _ directory: InodeRecord, with children: [ExpandedEntry], _ nodes: [StoredNode],
        isOwn: Bool, _ state: ManifestState
    ) throws(Errno) {
        let admitted = try admitted(children, in: directory, state)
        directory.isLoaded = true
        directory.children.setComplete()
        for child in admitted { try materialize(child, into: directory, state) }
        state.mark(directory)
        if isOwn, admitted.count == children.count, let cid = directory.cid {
            state.setTree(
                of: directory, cid: cid, treeSize: directory.treeSize, nodes: nodes, isOlder: true)
            state.notePublished(directory)
        } else {
            try outdateTree(of: directory, state)
        }
    }

    /// Makes an inode of what the node holds under a CID, and gives it a name that is free. The
    /// directory's own CID and times are the caller's to change.
    @discardableResult
    func materialize(
        _ child: ExpandedEntry, into directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> InodeRecord {
        let (kind, mode, metadata, target): (FileKind, UInt32, UnixFSMetadata, [UInt8])
        switch child.entry {
        case .file(_, let own): (kind, mode, metadata, target) = (.regular, 0o644, own, [])
        case .directory(_, let own): (kind, mode, metadata, target) = (.directory, 0o755, own, [])
        case .symlink(let path, let own):
            (kind, mode, metadata, target) = (.symlink, 0o777, own, path)
        }
        let record = state.makeInode(
            kind: kind, mode: permitted(metadata.mode, of: kind) ?? mode,
            uid: directory.uid, gid: directory.gid, parent: directory.inode, target: target)
        if let time = metadata.mtime.flatMap({ Timestamp($0) }) { record.modified = time }
        switch child.entry {
        case .directory:
            record.cid = child.cid
            record.treeSize = child.treeSize
            record.isLoaded = false
            directory.addLink()
            state.mark(directory)
        case .symlink:
            let root = profile.symlink(target: target).root
            record.cid = root.cid
            record.treeSize = root.treeSize
        case .file(let size, _):
            record.size = size
            record.blocks = size / 512 + (size % 512 == 0 ? 0 : 1)
            if size > 0 {
                let object = try object(
                    for: child.cid, size: size, treeSize: child.treeSize,
                    digest: graftDigest(of: child, in: directory, state), state)
                record.object = object.id
            }
        }
        state.insert(child.name, in: directory, inode: record.inode, kind: kind)
        return record
    }

    /// What a mode from outside grants here; nil where it says nothing. Whoever writes the MFS path is
    /// not the owner: of set-id bits he would make another's programs, and of write permission for all
    /// another's files.
    private func permitted(_ mode: UInt32?, of kind: FileKind) -> UInt32? {
        guard let mode, kind != .symlink else { return nil }
        guard fetcher?.options.trustsModes == true else { return mode & 0o755 }
        // Where all may write, the sticky bit keeps them from each other's names.
        return mode & (kind == .directory ? 0o1777 : 0o777)
    }

    /// The object of a CID with a reference more, made where there is none.
    ///
    /// - Parameters:
    ///   - digest: the SHA-256 that its bytes have to have; nil for any. An object of which that has to be found out is
    ///     shared with no other: what is asked of its bytes would be asked of others' as well.
    ///   - graft: who says so; empty where the tree says it, as it was here before: then an object that is here has it.
    func object(
        for cid: CID, size: UInt64, treeSize: UInt64, digest: [UInt8]? = nil, graft: String = "",
        _ state: ManifestState
    ) throws(Errno) -> ObjectRecord {
        for id in try state.objects(with: cid) {
            let expected = state.grafts.unverified[id]?.digest
            guard expected == digest || expected == nil && graft.isEmpty else { continue }
            guard let object = try state.object(id), object.state != .staging, object.cid == cid,
                object.size == size
            else { continue }
            state.retain(object)
            return object
        }
        let made = state.makeRemoteObject(size: size, cid: cid, treeSize: treeSize)
        if let digest {
            state.put(
                GraftObject(object: made.id, digest: digest, graft: graft, isVerified: false))
        }
        return made
    }

    /// Begins a new volume with the tree that stands at the node's MFS path. Blocks for the node.
    func adoptTree(_ connection: RemoteConnection) throws(VolumeError) {
        let (isNew, isAdopted) = manifest.withLock { state in
            let isAdopted = state.published?.mirror != nil
            return (state.inodeCount == 1 && !isAdopted, isAdopted)
        }
        // A volume that has published or adopted one goes on with what it has.
        guard !isAdopted else { return }
        guard isNew else {
            throw .remote(
                "--from-mfs is for a new volume, and \(stateDirectoryPath) has files already")
        }
        let (peer, status): (String, MFSStatus?)
        do throws(RemoteError) {
            peer = try connection.store.identity(cancellation: connection.cancellation).id
            status = try connection.names.status(
                of: connection.path, cancellation: connection.cancellation)
        } catch {
            throw .remote("the tree at MFS \(connection.path) cannot be had: \(error)")
        }
        guard let status, status.kind == .directory else {
            throw .remote(
                status == nil
                    ? "there is nothing at MFS \(connection.path): give its --mfs-path"
                    : "MFS \(connection.path) is no directory: give another --mfs-path")
        }
        do throws(Errno) {
            try changing { (state) throws(Errno) in
                let root = try record(.root, state)
                root.cid = status.cid
                root.treeSize = status.cumulativeSize
                root.isLoaded = false
                root.children.setComplete(false)
                state.published = PublishedState(
                    peer: peer, epoch: 1, path: "\(connection.path)", root: nil, mirror: status.cid,
                    time: .now())
                state.mark(root)
            }
            try manifest.commit()
        } catch {
            throw .operation(failed: "taking the tree at MFS \(connection.path)", error)
        }
    }
}

extension Timestamp {
    /// A time of UnixFS; nil where it is out of range.
    init?(_ time: UnixFSTime) {
        let (base, isOverflow) = time.seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, isBeyond) = base.addingReportingOverflow(Int64(time.nanoseconds))
        guard !isOverflow, !isBeyond else { return nil }
        self.init(nanoseconds: sum)
    }
}
