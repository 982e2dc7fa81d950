internal import Base
internal import InodeManifest
internal import ObjectStore
internal import struct SystemPackage.Errno

extension Volume {
    /// Mends what the end of the last process left behind; doing it twice changes nothing more.
    func recover() throws(VolumeError) {
        do throws(Errno) {
            if options.isReadOnly { return }
            try removeStrayFiles()
            try recoverStaging()
            try reapUnlinked()
            try manifest.commit()
            try manifest.setClean(false)
        } catch {
            throw .operation("recovering the volume in \(stateDirectoryPath)", error)
        }
    }

    /// Removes flat files that no row names: made after the last commit, or dropped by it.
    private func removeStrayFiles() throws(Errno) {
        let dropped = try reading { (state) throws(Errno) in try state.deletedObjects() }
        var strays = dropped
        if !manifest.wasClean { strays += try store.files(from: manifest.firstUnstoredObject).ids }
        for id in strays {
            let isNamed = try reading { (state) throws(Errno) in try state.object(id) != nil }
            if !isNamed { try store.remove(id) }
        }
        manifest.withLock { $0.noteUnlinked(dropped) }
    }

    /// A staging object is as long as its flat file, which may have grown, or been cut by a power
    /// loss, since the last commit. What nobody writes any more is sealed.
    private func recoverStaging() throws(Errno) {
        let ids = try reading { (state) throws(Errno) in try state.stagingObjects() }
        for id in ids {
            let (owners, isInline) = try reading { (state) throws(Errno) in
                (try state.inodes(holding: id), try state.object(id)?.isInline ?? true)
            }
            let size = isInline ? nil : try store.size(of: id) ?? 0
            for owner in owners {
                try manifest.withLock { (state) throws(Errno) in
                    guard let record = try state.inode(Inode(owner)), let size,
                        record.size != size
                    else { return }
                    record.size = size
                    state.mark(record)
                }
                enqueueSeal(Inode(owner))
            }
        }
    }

    /// Deletes the inodes that were open without a name.
    private func reapUnlinked() throws(Errno) {
        try manifest.withLock { (state) throws(Errno) in
            for id in try state.unlinkedInodes() {
                if let record = try state.inode(Inode(id)) { reapIfUnused(record, state) }
            }
        }
    }
}
