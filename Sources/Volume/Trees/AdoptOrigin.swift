internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats
internal import PortableManifest

internal import struct SystemPackage.Errno

// The room of trees: what makes a tree of a CID, and of the tree one that goes with a name.
//
// Owns: what is known of the origin (`Following`); the origin itself is the manifest's.
// Locks: none but the manifest's, for a moment; all that is fetched is fetched before.
// Invariants: a volume has one origin, and the same one for ever. A tree begins with its root's own DAG node alone:
// a directory is loaded when somebody looks into it, and content comes when it is read. What nobody changed keeps
// its CID.

extension Volume {
    /// Begins a new volume with the tree of its origin; of a volume that has one, checks that it is the same. Blocks for
    /// the network, for a new volume alone.
    func adoptOrigin(_ origin: OriginOptions) throws(VolumeError) {
        let (known, isNew) = manifest.withLock { state in
            let root = try? state.inode(.root)
            return (
                state.origin,
                state.inodeCount == 1 && root?.isLoaded == true && state.published?.root == nil
            )
        }
        if let known {
            guard known.reference == origin.reference else {
                throw .tree(
                    "state directory \(stateDirectoryPath) has the tree of \(known.reference), not of "
                        + "\(origin.reference): leave --from out, or give another --state-dir")
            }
            return
        }
        guard isNew else {
            throw .tree(
                "--from is for a new volume, and state directory \(stateDirectoryPath) has a tree of its "
                    + "own: leave --from out, or give another --state-dir")
        }
        let (cid, block, portable) = try directory(of: origin, cancellation: Cancellation())
        do throws(Errno) {
            // Nobody else is here yet, and a volume that refuses changes has to begin with something, too.
            try reading { (state) throws(Errno) in
                let root = try record(.root, state)
                root.cid = cid
                root.treeSize = Self.treeSize(of: cid, block)
                root.isLoaded = false
                root.children.setComplete(false)
                state.origin = Origin(
                    reference: origin.reference, root: cid, time: Timestamp.now().nanoseconds)
                if let portable { beginManifest(portable, state) }
                state.mark(root)
            }
            try manifest.commit()
        } catch {
            throw .operation(failed: "taking the tree of \(origin.reference)", error)
        }
    }

    /// The directory that an origin stands for now, with its root block, and the portable manifest that tells more of it; nil for
    /// none. Blocks for the network.
    func directory(
        of origin: OriginOptions, cancellation: Cancellation
    ) throws(VolumeError) -> (CID, [UInt8], manifest: CID?) {
        let found: OriginRoot
        do throws(OriginError) {
            found = try origin.resolve(cancellation)
        } catch {
            throw .tree("\(error)")
        }
        following.note(lifetimeSeconds: found.lifetimeSeconds)
        let source = DAGSource(volume: self, cancellation: cancellation)
        var portable: CID?
        var top = found.cid
        if top.codec == .dagCBOR {
            guard found.path.isEmpty, !origin.follows else {
                throw .tree(
                    "\(origin.reference): a portable manifest is taken as a whole, and not followed"
                )
            }
            portable = top
            top = try manifestRoot(top, source).tree
        }
        let (cid, entry, block): (CID, UnixFSEntry, [UInt8])
        do throws(DAGReadError) {
            cid = try source.resolve(found.path, from: top)
            block = try source.verifiedBlock(cid)
            fetcher?.seen.keep(cid, block)
            entry = try source.unixfsEntry(cid)
            // For whoever looks into it first.
            fetcher?.seen.keep(cid, block)
        } catch {
            throw .tree("\(origin.reference): the tree cannot be had: \(error.reason)")
        }
        guard case .directory = entry else {
            throw .tree(
                "\(origin.reference): \(cid) is no directory: mount one, or import it into a volume"
            )
        }
        return (cid, block, portable)
    }

    /// Where the tree came from; nil for one that began empty.
    public func originStatus() -> OriginStatus? {
        guard let origin = manifest.withLock({ $0.origin }) else { return nil }
        var status = OriginStatus(root: origin.root, rootAt: Double(origin.time) / 1e9)
        status.reference = origin.reference
        following.tell(&status)
        return status
    }
}
