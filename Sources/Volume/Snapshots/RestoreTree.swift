public import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// A tree is brought to what it was by comparing CIDs: where they are the same nothing is looked at. Names that are there before and
// after keep their inodes where they are directories; a file that differs gets another inode, with the attributes that the old one
// had, so programs that have it open keep what they had. UnixFS has no owners, and of modes only what the profile wrote: what comes
// back under a name that is gone gets the owner of its directory. What UnixFS cannot hold (fifos, sockets, device nodes) stays as it is.
//
// A row of `restoration` says what is under way from before the first change until after the last: after a crash the next opening goes
// on. So it is done whole, or was never begun.

extension Volume {
    /// Brings the tree, or what is at a path of it, to what it was in a snapshot: what did not change is not touched, and
    /// programs that have a file open keep what they had. Where the snapshot has nothing at the path, what is there goes. Blocks for
    /// what is elsewhere.
    ///
    /// - Throws: `snapshot`, `tree`, `operation`.
    public func restore(
        _ name: String, path: [FileName] = []
    ) throws(VolumeError) -> RestoredTree {
        FailureCause.take()
        let found = try snapshot(named: name)
        guard !options.isReadOnly else {
            throw .operation("restoring snapshot \(name)", .readOnlyFileSystem)
        }
        guard !following.isFollowed else {
            throw .snapshot("the tree goes with its name: restore nothing in it")
        }
        let restoration = Restoration(name: name, root: found.root, path: path)
        try begin(restoration)
        return try finish(restoration)
    }

    private func begin(_ restoration: Restoration) throws(VolumeError) {
        // Whether it can be had is known before anything is changed.
        _ = try target(of: restoration)
        var isGone = false
        let other = manifest.withLock { state -> Restoration? in
            // What another one has left undone is done anew, or no longer wanted.
            if state.snapshots.isRestoring, let other = state.snapshots.restoration { return other }
            // Deleted since it was looked at, it would lose its blocks under this.
            guard state.snapshots.named(restoration.name)?.root == restoration.root else {
                isGone = true
                return nil
            }
            state.setRestoration(restoration, isUnderWay: true)
            return nil
        }
        guard !isGone else {
            throw .snapshot(
                "snapshot \(restoration.name) was just deleted: see registryfs snapshot list")
        }
        if let other {
            throw .snapshot("snapshot \(other.name) is being restored: wait until that is done")
        }
        do throws(Errno) {
            try changing { (state) throws(Errno) in try checkRoom(state) }
            try manifest.commit()
        } catch {
            manifest.withLock { $0.setRestoration(nil) }
            throw .operation(failed: "restoring snapshot \(restoration.name)", error)
        }
    }

    private func finish(_ restoration: Restoration) throws(VolumeError) -> RestoredTree {
        defer {
            manifest.withLock { $0.setRestoration(nil) }
            try? manifest.commit()
        }
        var restoring = TreeRestoring(self, restoration.name)
        for _ in 0..<Self.restoreAttemptsMax {
            let target = try target(of: restoration)
            do throws(RestoreStop) {
                try restoring.run(restoration.path, to: target)
                return restoring.done
            } catch {
                switch error {
                case .changed: continue
                case .failed(let error): throw error
                }
            }
        }
        throw .snapshot(
            "snapshot \(restoration.name): the tree is changed faster than it is restored")
    }

    private static let restoreAttemptsMax = 32

    /// Goes on with what a crash has cut off. What cannot be had now is tried again at the next opening.
    ///
    /// - Throws: `tree`, `operation` for a tree that is not whole yet because a manifest tells of it.
    func resumeRestoration() throws(VolumeError) {
        guard let restoration = manifest.withLock({ $0.snapshots.restoration })
        else { return }
        if restoration.root.codec == .dagCBOR { return try loadManifest(restoration.root) }
        guard !options.isReadOnly else { return }
        log.notice("snapshot \(restoration.name): the restoring of it goes on")
        manifest.withLock { $0.setRestoration(restoration, isUnderWay: true) }
        do throws(VolumeError) {
            _ = try finish(restoration)
        } catch {
            log.error("snapshot \(restoration.name): it is restored in part: \(error)")
            manifest.withLock { $0.setRestoration(restoration) }
        }
    }

    /// What is to be at the path; nil for nothing.
    private func target(of restoration: Restoration) throws(VolumeError) -> ExpandedEntry? {
        let source = DAGSource(volume: self, cancellation: nil)
        do throws(Errno) {
            try manifest.checkpoint()
        } catch {
            throw .operation(failed: "restoring snapshot \(restoration.name)", error)
        }
        do throws(DAGReadError) {
            var cid = restoration.root
            for name in restoration.path {
                guard case .directory = try source.unixfsEntry(cid),
                    let next = try DirectoryReader(root: cid, source: source).entry(name.bytes)
                else { return nil }
                cid = next.cid
            }
            let block = try source.verifiedBlock(cid)
            return ExpandedEntry(
                name: restoration.path.last ?? FileName(""), cid: cid,
                treeSize: Self.treeSize(of: cid, block), entry: try source.unixfsEntry(cid))
        } catch {
            throw .tree("snapshot \(restoration.name): it cannot be read: \(error.reason)")
        }
    }
}
