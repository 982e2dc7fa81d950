public import Base
internal import InodeManifest
internal import Logging
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    /// Counts one reference of the kernel, and gives the attributes that go with it.
    func referenced(_ record: InodeRecord, _ state: ManifestState) -> Attributes {
        running.kernelReferences[record.inode.number, default: KernelReference()].count += 1
        return attributes(of: record, state)
    }

    /// Drops references of the kernel (FUSE_FORGET). An inode without a name, handle or reference
    /// is deleted.
    public func forget(_ inode: Inode, count: UInt64) {
        manifest.withLock { state in
            let left = running.kernelReferences[inode.number]?.count ?? 0
            guard left > count else {
                running.kernelReferences.removeValue(forKey: inode.number)
                if let record = try? state.inode(inode) { reapIfUnused(record, state) }
                return
            }
            running.kernelReferences[inode.number]?.count = left - count
        }
    }

    /// Deletes an inode that nobody can reach any more.
    func reapIfUnused(_ record: InodeRecord, _ state: ManifestState) {
        guard record.linkCount == 0, !record.isDeleted,
            running.openFiles[record.inode.number] == nil,
            running.kernelReferences[record.inode.number] == nil
        else { return }
        do throws(Errno) {
            if let object = try state.object(of: record) { state.release(object) }
        } catch {
            log.error("\(record.inode): its object cannot be read, so it stays: \(error)")
            return
        }
        running.forgetUnsynchronized(record.inode)
        running.hashed[record.inode.number] = nil
        running.missedDuplicates.remove(record.inode.number)
        state.delete(record)
    }

    func dropKernelReferences() {
        manifest.withLock { state in
            let inodes = running.kernelReferences.keys.map { Inode($0) }
            running.kernelReferences = [:]
            for inode in inodes {
                if let record = try? state.inode(inode) { reapIfUnused(record, state) }
            }
        }
    }
}
