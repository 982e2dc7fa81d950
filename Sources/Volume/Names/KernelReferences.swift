public import Base
internal import Glibc
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// The room of names: lookup, listing, making, linking, renaming and removing of names, attributes, extended
// attributes, ACLs, and what a change of bytes or owner takes of privileges.
//
// Owns: the counts of what the kernel holds of each inode. Names and attributes themselves are the manifest's.
// Locks: the manifest's lock, for a moment in each operation; none of the files' write locks, but where a change
// of attributes has to see what a backing file got.
// Invariants: an inode without a name, an open handle and a reference of the kernel's is deleted at once, and one
// that has any of these is not. An operation that fails has changed nothing. Whoever changes a directory outdates
// the CIDs above it in the same step.

/// What the room of names has beside the manifest.
struct NamesRoom: Sendable {
    private let references = LockBound(KernelReferences())
    /// Who is told of names that others change at the remote.
    let names = Monitor<(any NamesObserver)?>(nil)
    /// Who is told of inodes that lost set-id bits.
    let privileges = Monitor<(@Sendable (Inode) -> Void)?>(nil)
    /// The user of this process.
    let ownUser = geteuid()

    func callAsFunction(_ lock: borrowing ManifestState) -> KernelReferences { references(lock) }
}

/// What the kernel holds of inodes.
final class KernelReferences {
    /// By inode number.
    var references: [UInt64: KernelReference] = [:]

    /// Notes whether the pages that the kernel has of a file hold; gives what was so before.
    @discardableResult
    func notePages(of inode: Inode, hold: Bool) -> Bool {
        guard let index = references.index(forKey: inode.number) else { return false }
        defer { references.values[index].pagesHold = hold }
        return references.values[index].pagesHold
    }
}

/// What the kernel holds of an inode. There is one for each that it knows, so it has 8 bytes.
struct KernelReference {
    /// The count, and `pagesHold` in the lowest bit.
    private var bits: UInt64 = 0

    /// Lookups that it has not taken back, below 2^63.
    var count: UInt64 {
        get { bits >> 1 }
        set { bits = newValue << 1 | bits & 1 }
    }

    /// Its cached pages of the file, if it has any, hold the file's bytes.
    var pagesHold: Bool {
        get { bits & 1 != 0 }
        set { bits = bits & ~1 | (newValue ? 1 : 0) }
    }
}

extension Volume {
    /// Counts one reference of the kernel, and gives what is known of the attributes that go with it. `attributes(_:)`
    /// cannot fail then: the reference keeps the inode.
    func referenced(_ record: InodeRecord, _ state: ManifestState) -> KnownAttributes {
        kernel(state).references[record.inode.number, default: KernelReference()].count += 1
        return knownAttributes(of: record, state)
    }

    /// Drops references of the kernel (FUSE_FORGET). An inode without a name, handle or reference
    /// is deleted.
    public func forget(_ inode: Inode, count: UInt64) {
        if inode.isOfView { return view.forget(inode, count: count) }
        manifest.withLock { state in
            let left = kernel(state).references[inode.number]?.count ?? 0
            guard left > count else {
                kernel(state).references.removeValue(forKey: inode.number)
                if let record = try? state.inode(inode) { reapIfUnused(record, state) }
                return
            }
            kernel(state).references[inode.number]?.count = left - count
        }
    }

    /// Deletes an inode that nobody can reach any more.
    func reapIfUnused(_ record: InodeRecord, _ state: ManifestState) {
        guard record.linkCount == 0, !record.isDeleted,
            opens(state).files[record.inode.number] == nil,
            kernel(state).references[record.inode.number] == nil,
            // An import has one with something in it.
            record.kind != .directory || (try? state.isEmpty(record)) == true
        else { return }
        do throws(Errno) {
            if let object = try state.object(of: record) {
                state.release(object, isLossNoted: record.isLossNoted)
            }
        } catch {
            log.error("\(record.inode): its object cannot be read, so it stays: \(error)")
            return
        }
        opens(state).forgetUnsynchronized(record.inode)
        seals(state).hashed[record.inode.number] = nil
        seals(state).missedDuplicates.remove(record.inode.number)
        if !record.isLossNoted { keepSymlink(record, state) }
        state.delete(record)
    }

    /// Keeps what an inode without a name has for the snapshots that there are. Who has it open, or knows it, may let it
    /// go much later: the snapshots that are made until then cannot have it.
    func noteLoss(of record: InodeRecord, _ state: ManifestState) {
        do throws(Errno) {
            if state.snapshots.newest > 0, let object = try state.object(of: record) {
                state.noteLoss(object)
            }
        } catch {
            log.error(
                "\(record.inode): its object cannot be read; it is kept once it is let go: \(error)"
            )
            return
        }
        keepSymlink(record, state)
        record.isLossNoted = true
    }

    private func keepSymlink(_ record: InodeRecord, _ state: ManifestState) {
        guard record.kind == .symlink, record.cid != nil else { return }
        let (root, block) = profile.symlink(target: record.target)
        state.keepSymlink(record, StoredNode(multihash: root.cid.multihash.bytes, bytes: block))
    }

    func dropKernelReferences() {
        view.forgetAll()
        manifest.withLock { state in
            let inodes = kernel(state).references.keys.map { Inode($0) }
            kernel(state).references = [:]
            for inode in inodes {
                if let record = try? state.inode(inode) { reapIfUnused(record, state) }
            }
        }
    }
}
