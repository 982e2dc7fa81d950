internal import Base
internal import InodeManifest
internal import Logging
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
            if !manifest.wasClean { try reapUnheld() }
            if !manifest.wasClean { sweepAllSnapshots() }
            try manifest.commit()
            try manifest.setClean(false)
        } catch {
            throw .operation(failed: "recovering the volume in \(stateDirectoryPath)", error)
        }
    }

    /// Removes flat files that no row names: made after the last commit, or dropped by it.
    private func removeStrayFiles() throws(Errno) {
        let dropped = try reading { (state) throws(Errno) in try state.rows.deletedObjects() }
        var strays = dropped
        if !manifest.wasClean { strays += try store.files(from: manifest.firstUnstoredObject).ids }
        for id in strays {
            // A row that cannot be read may be of that file.
            let isNamed = manifest.withLock { state in
                told("object \(id)") { () throws(Errno) in
                    try state.object(id).map { $0.state != .remote } ?? false
                } ?? true
            }
            if !isNamed { try store.remove(id) }
        }
        manifest.withLock { $0.files.noteUnlinked(dropped) }
    }

    /// A staging object is as long as its flat file, which may have grown, or been cut by a power
    /// loss, since the last commit. What nobody writes any more is sealed.
    private func recoverStaging() throws(Errno) {
        let ids = try reading { (state) throws(Errno) in try state.rows.stagingObjects() }
        for id in ids {
            // What cannot be read here is told to whoever asks for it: the rest is of use without it.
            let found = manifest.withLock { state in
                told("object \(id)") { () throws(Errno) in
                    (try state.rows.inodes(holding: id), try state.object(id)?.isInline ?? true)
                }
            }
            guard let (owners, isInline) = found else { continue }
            let id = isInline ? id : copyIfStillOpen(id, of: owners) ?? id
            let size = isInline ? nil : try store.size(of: id)
            for owner in owners {
                if !isInline {
                    manifest.withLock { state in
                        _ = told("\(Inode(owner))") { () throws(Errno) in
                            try recoverFlat(Inode(owner), object: id, size: size, state)
                        }
                    }
                }
                enqueueSeal(Inode(owner))
            }
        }
    }

    /// Gives the inodes of an object a copy of its flat file, where somebody still has that open: a
    /// process goes on with the backing file that it had from the last daemon, unseen, and must not
    /// change what is sealed by now. Gives the copy's number; nil where there is nothing to fear.
    ///
    /// Nobody has a file with a lease: the last daemon ended just while it made sure of that. The kernel keeps the lease
    /// as long as it has the registered file, which it has as long as the dead mount is in use, and lets whoever opens
    /// the file wait for its end (45 s). The mount does not.
    private func copyIfStillOpen(_ id: UInt64, of owners: [UInt64]) -> UInt64? {
        guard let file = try? store.openWithoutWaiting(id), Sys.hasOtherUser(of: file.raw)
        else { return nil }
        log.notice("object \(id): copied, because a process of before still has it open")
        let copy = manifest.withLock { $0.numbers.reserve() }
        do throws(Errno) {
            let size = try Sys.status(of: file.raw).size
            let made = try fillFlatFile(copy, from: .flat(file), size: size)
            try made.synchronize(in: store)
            try reading { (state) throws(Errno) in
                guard let old = try state.object(id) else { return }
                let new = state.makeObject(id: copy, size: size)
                for (index, owner) in owners.enumerated() {
                    guard let record = try state.inode(Inode(owner)) else { continue }
                    if index > 0 { state.retain(new) }
                    record.object = new.id
                    state.mark(record)
                    state.release(old)
                }
            }
            return copy
        } catch {
            // The volume is of more use than none, and a read tells bytes that do not verify.
            log.error("object \(id): cannot be copied, and is in use: \(error)")
            discard(copy)
            return nil
        }
    }

    private func recoverFlat(
        _ inode: Inode, object: UInt64, size: UInt64?, _ state: ManifestState
    ) throws(Errno) {
        guard let record = try state.inode(inode) else { return }
        // The bytes may have been changed in place after the CIDs of the directories above were
        // computed.
        try outdateTree(above: record, state)
        if size == nil, let lost = try state.object(object) {
            log.warning("\(inode): its bytes were lost before they were made durable")
            record.object = nil
            record.blocks = 0
            state.release(lost)
        }
        guard size == nil || record.size != size else { return }
        record.size = size ?? 0
        state.mark(record)
    }

    /// Deletes the inodes that were open without a name, and what an import that did not end had made.
    private func reapUnlinked() throws(Errno) {
        let left = try manifest.withLock { (state) throws(Errno) in
            var left: [Inode] = []
            for id in try state.rows.unlinkedInodes() {
                let record = told("\(Inode(id))") { () throws(Errno) in try state.inode(Inode(id)) }
                guard let record, let record else { continue }
                reapIfUnused(record, state)
                // Of any other directory without a name `check` has to say what becomes of its entries.
                if record.kind == .directory, !record.isDeleted, record.parent.number == 0 {
                    left.append(record.inode)
                }
            }
            return left
        }
        for inode in left {
            _ = told("\(inode), an import that did not end") { () throws(Errno) in
                try removeNameless(inode)
            }
        }
    }

    /// Deletes the objects that were being read when their last inode let go.
    private func reapUnheld() throws(Errno) {
        try manifest.withLock { (state) throws(Errno) in
            for id in try state.rows.unheldObjects() {
                let object = told("object \(id)") { () throws(Errno) in try state.object(id) }
                if let object, let object { state.deleteIfUnused(object) }
            }
        }
    }

    /// What a row gives; logs where it cannot be read.
    private func told<Result>(_ what: String, _ body: () throws(Errno) -> Result) -> Result? {
        do throws(Errno) {
            return try body()
        } catch {
            log.error("\(what): not put in order: \(FailureCause.words(for: error))")
            return nil
        }
    }
}
