internal import Base
internal import Glibc
internal import InodeManifest
internal import Logging
internal import ObjectStore

internal import struct SystemPackage.Errno

// What is written to a backing file comes to the manifest here: at fsync, at the last close, before
// a CID is computed, and once a second. Between two of these the inode's row is as it was at the
// last one, with its content, so a commit at any time tells of a state that was.

extension Volume {
    /// Takes over what was written to the backing file of an inode, if it has one.
    ///
    /// - Parameter isForced: looks at the bytes although the file's time is as it was. A store to a
    ///   mapped page that is dirty already moves no time.
    func syncFromBacking(_ inode: Inode, isForced: Bool = false) throws(Errno) {
        let file = manifest.withLock { state in
            let file = opens(state).files[inode.number]
            if isForced { file?(state).passthrough.doubtSynced() }
            return file
        }
        guard let file else { return }
        try file.writeLock.withLock { (_) throws(Errno) in try syncFromBacking(file) }
    }

    /// Takes over what was written to all backing files. What fails is tried again a second later.
    ///
    /// - Parameter passesBusy: leaves out those that somebody is changing by a request, which may take
    ///   as long as it takes to copy a large file.
    func syncAllFromBacking(passesBusy: Bool = false) {
        let files = manifest.withLock { state in
            opens(state).files.values.filter { $0(state).passthrough.state.isWritable }
        }
        for file in files {
            do throws(Errno) {
                if passesBusy {
                    try file.writeLock.withLockIfFree { (_) throws(Errno) in
                        try syncFromBacking(file)
                    }
                } else {
                    try file.writeLock.withLock { (_) throws(Errno) in try syncFromBacking(file) }
                }
            } catch {
                log.warning(
                    "\(file.inode): what was written cannot be read: \(FailureCause.words(for: error))"
                )
            }
        }
    }

    /// `syncFromBacking`; the caller holds the write lock.
    func syncFromBacking(_ file: OpenFile) throws(Errno) {
        let current = try manifest.withLock { (state) throws(Errno) -> (Backing, InodeRecord)? in
            guard let backing = file(state).backing, backing.isWritable,
                let record = try state.inode(file.inode)
            else { return nil }
            return (backing, record)
        }
        guard let (backing, record) = current else { return }
        let status = try Sys.status(of: backing.file.raw)
        let (isDone, isFlat, isReplacing) = manifest.withLock { state in
            (
                file(state).passthrough.isSynced(status), record.object == backing.file.id,
                record.object != nil
            )
        }
        // A store to a page that is mapped and dirty already changes no time. Of a flat file the
        // next flush takes it along; bytes that are kept elsewhere are compared.
        guard !(isDone && isFlat) else { return }
        // A write within the clock's step after this would leave the time as it is; so it counts as
        // taken over only where that can no longer happen.
        let isSettled = status.modified.isPast
        let inline =
            isFlat || status.size > options.inlineSizeMax
            ? nil : try inlineContent(of: backing, size: Int(status.size))
        // Older content may be durable already; the newer must be before it takes its place.
        if inline == nil, !isFlat, isReplacing { try backing.file.synchronize(in: store) }
        try manifest.withLock { (state) throws(Errno) in
            if let inline {
                try keep(inline, of: record, file, status, state)
            } else {
                try keepFlat(backing.file, of: record, file, status, state)
            }
            file(state).passthrough.noteSynced(status, isSettled: isSettled)
        }
        keepChangesBounded()
    }

    /// The first bytes of a backing file; fewer where it was cut since its size was asked for.
    private func inlineContent(of backing: Backing, size: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
            try Sys.read(backing.file.raw, at: 0, into: buffer)
        }
        bytes.removeLast(size - count)
        return bytes
    }

    private func keep(
        _ bytes: [UInt8], of record: InodeRecord, _ file: OpenFile, _ status: FileStatus,
        _ state: ManifestState
    ) throws(Errno) {
        let old = try state.object(of: record)
        let isSame: Bool
        if let old {
            isSame = old.isInline ? try state.inlineBytes(of: old) == bytes : false
        } else {
            isSame = bytes.isEmpty
        }
        if !isSame {
            if bytes.isEmpty {
                record.object = nil
                if let old { state.release(old) }
            } else {
                let own = try ownInlineObject(of: record, state)
                own.inlineBytes = bytes
                state.markInline(own)
                sealInline(own, of: record, bytes, state)
            }
            record.size = UInt64(bytes.count)
            record.blocks = (record.size + 511) / 512
            state.mark(record)
            try noteSynced(record, state)
        }
        takeOverTimes(of: record, file, status, state)
    }

    private func keepFlat(
        _ flat: ObjectFile, of record: InodeRecord, _ file: OpenFile, _ status: FileStatus,
        _ state: ManifestState
    ) throws(Errno) {
        if record.object != flat.id {
            let old = try state.object(of: record)
            record.object = state.makeObject(id: flat.id, size: status.size).id
            if let old { state.release(old) }
            passthrough(state).backed[flat.id] = record.inode
            state.mark(record)
        }
        // Of its bytes the row tells nothing, so a second fsync of the same has nothing to commit.
        if record.size != status.size || record.blocks != status.blocks {
            record.size = status.size
            record.blocks = status.blocks
            state.mark(record)
        }
        opens(state).noteUnsynchronized(flat, of: record.inode)
        try noteSynced(record, state)
        takeOverTimes(of: record, file, status, state)
    }

    private func noteSynced(_ record: InodeRecord, _ state: ManifestState) throws(Errno) {
        record.contentVersion += 1
        try outdateTree(above: record, state)
    }

    /// The inode's times follow its backing file's; under the manifest's lock.
    func takeOverTimes(
        of record: InodeRecord, _ file: OpenFile, _ status: FileStatus, _ state: ManifestState
    ) {
        let (modified, changed, accessed) = file(state).passthrough.times(of: record, status)
        file(state).passthrough.noteTimes(status)
        guard
            record.modified != modified || record.changed != changed || record.accessed != accessed
        else { return }
        record.modified = modified
        record.changed = changed
        record.accessed = accessed
        state.mark(record)
    }

    /// Notes that the volume itself changed a backing file, by a request; under the manifest's lock.
    ///
    /// - Parameter after: what the file tells of itself after the change, where it could be asked.
    func noteBackingChange(
        of record: InodeRecord, _ file: OpenFile, _ after: FileStatus?, by writer: Writer,
        _ state: ManifestState
    ) throws(Errno) {
        try noteChange(of: record, by: writer, state)
        file(state).passthrough.noteChange()
        if let after { file(state).passthrough.noteModified(after) }
    }

    /// Takes the backing file away after the last close, once no mapping of it is left either.
    func detachBacking(of file: OpenFile) {
        var wasWritable = false
        var isLarge = false
        var unused: BackingPool.Ready?
        file.writeLock.withLock { _ in
            let backing = manifest.withLock { state in
                file(state).opens == 0 ? file(state).backing : nil
            }
            guard let backing else { return }
            if !backing.isPooled { endRegistration(of: file) }
            guard isUnused(backing) else {
                manifest.withLock { state in
                    passthrough(state).mappedAfterClose.insert(file.inode.number)
                    file(state).passthrough.keepMapped()
                }
                return
            }
            let isNameless = !syncFromBackingForLastTime(file, backing)
            manifest.withLock { state in
                passthrough(state).mappedAfterClose.remove(file.inode.number)
                file(state).passthrough.takeAway()
                if passthrough(state).backed[backing.file.id] == file.inode {
                    passthrough(state).backed[backing.file.id] = nil
                }
                let object = (try? state.inode(file.inode))?.object
                if backing.isPooled, object != backing.file.id, let id = backing.id {
                    unused = BackingPool.Ready(file: backing.file, id: id)
                }
                wasWritable = backing.isWritable
                if wasWritable, !isNameless { noteSize(of: file, state) }
                isLarge = (try? state.inode(file.inode))?.size ?? 0 >= Self.worthWaitingSizeMin
                endUse(file, state)
            }
            if backing.isPooled, unused == nil {
                if let id = backing.id { passthrough.pool.unregister(id) }
                passthrough.pool.noteKept()
            }
        }
        if let unused { recycle(unused) }
        let missedDuplicate = manifest.withLock { state in
            seals(state).missedDuplicates.contains(file.inode.number)
        }
        if wasWritable || missedDuplicate { enqueueSeal(file.inode, isLarge: isLarge) }
    }

    private func endRegistration(of file: OpenFile) {
        let id = manifest.withLock { state in file(state).passthrough.endRegistration() }
        if let id { passthrough.pool.unregister(id) }
    }

    /// Whether nobody has the file any more. The kernel lets go of it just after it says so.
    private func isUnused(_ backing: Backing) -> Bool {
        for attempt in 0..<4 {
            if attempt > 0 { usleep(20) }
            if Sys.isSoleUser(of: backing.file.raw) { return true }
        }
        return false
    }

    /// - Returns: false where nobody can open the file again, so that its bytes are of no use.
    private func syncFromBackingForLastTime(_ file: OpenFile, _ backing: Backing) -> Bool {
        let isNameless = manifest.withLock { state in
            file(state).passthrough.doubtSynced()
            guard let record = try? state.inode(file.inode) else { return true }
            return record.linkCount == 0
                && kernel(state).references[file.inode.number] == nil
        }
        // Nobody can open it again, by /proc/self/fd of an O_PATH descriptor neither.
        if isNameless { return false }
        do throws(Errno) {
            try syncFromBacking(file)
        } catch {
            log.error(
                """
                \(file.inode): what was written cannot be read, and stays a file: \
                \(FailureCause.words(for: error))
                """)
            if let status = try? Sys.status(of: backing.file.raw) {
                manifest.withLock { state in
                    guard let record = try? state.inode(file.inode) else { return }
                    try? keepFlat(backing.file, of: record, file, status, state)
                }
            }
        }
        guard let status = try? Sys.status(of: backing.file.raw) else { return true }
        manifest.withLock { state in
            guard let record = try? state.inode(file.inode) else { return }
            takeOverTimes(of: record, file, status, state)
        }
        return true
    }

    /// Files whose backing file was still mapped after the last close.
    package var mappedFileCount: Int {
        manifest.withLock { state in passthrough(state).mappedAfterClose.count }
    }

    /// Tries again to take away backing files that were still mapped.
    package func detachMappedAfterClose() {
        let files = manifest.withLock { state in
            passthrough(state).mappedAfterClose.compactMap { opens(state).files[$0] }
        }
        for file in files { detachBacking(of: file) }
    }
}

extension Timestamp {
    /// A write now would have another timestamp than this one, on the slowest of kernel clocks too.
    var isPast: Bool {
        // The file may have any time, as far as the type goes.
        nanoseconds < Timestamp.now().nanoseconds - Self.clockStepMax
    }

    /// Two ticks at 100 a second, in nanoseconds.
    private static let clockStepMax: Int64 = 20_000_000
}
