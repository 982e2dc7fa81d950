internal import Base
internal import Glibc
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    /// Has a file sealed in the background once it has rested.
    ///
    /// - Parameter isLarge: what is hashed of it is kept should it be opened again, so that it need
    ///   not rest.
    func enqueueSeal(_ inode: Inode, isLarge: Bool = false) {
        guard options.sealThreads > 0, !options.isReadOnly else { return }
        seals.queue.add(
            inode,
            delayMilliseconds: isLarge
                ? min(Self.sealDelayOfLargeFiles, options.sealDelayMilliseconds)
                : options.sealDelayMilliseconds)
    }

    /// In milliseconds.
    private static let sealDelayOfLargeFiles = 30

    func sealInBackground(_ inode: Inode) {
        // Somebody who asked for the CID is at it: this only sees to it that it is kept.
        guard manifest.withLock({ state in seals(state).underWay[inode.number] == nil }) else {
            return enqueueSeal(inode)
        }
        do throws(Errno) {
            // With a writer about, what is found is kept beside the manifest until its close.
            _ = try seal(inode, attempts: 1)
            try shareMissedDuplicate(inode)
        } catch {
            // Changed meanwhile: the next close brings it again. Gone meanwhile: nothing is left to do.
            _ = manifest.withLock { state in seals(state).missedDuplicates.remove(inode.number) }
            guard error != .resourceTemporarilyUnavailable, error != Errno(rawValue: ESTALE)
            else { return }
            log.warning("\(inode): cannot be sealed: \(FailureCause.words(for: error))")
        }
    }

    /// The CID and the Tsize of a regular file as it is now; computes them where they are not
    /// known. Blocks for the reading and hashing of the whole content.
    ///
    /// - Parameter attempts: how often to begin again when the content changes meanwhile; the
    ///   last one fails with EAGAIN.
    func seal(_ inode: Inode, attempts: Int) throws(Errno) -> (cid: CID, treeSize: UInt64) {
        manifest.withLock { state in seals(state).underWay[inode.number, default: 0] += 1 }
        defer {
            manifest.withLock { state in
                let left = seals(state).underWay[inode.number, default: 1] - 1
                seals(state).underWay[inode.number] = left == 0 ? nil : left
            }
        }
        for _ in 0..<attempts {
            // Else two who ask at the same time would both hash all of it.
            beginHashing(inode)
            defer { endHashing(inode) }
            try syncFromBacking(inode)
            let source = try beginSeal(inode)
            if case .behindBacking = source { continue }
            guard case .content(let content, let size, let version, let modified, let file) = source
            else {
                if case .known(let cid, let treeSize) = source { return (cid, treeSize) }
                throw Errno(rawValue: ESTALE).because("\(inode) is gone, or no file")
            }
            let outcome: SealResult?
            do throws(Errno) {
                outcome = try sealResult(of: content, inode, size: size) {
                    if let modified, !isUnchanged(content, size: size, modified: modified) {
                        return false
                    }
                    return isCurrent(inode, version)
                }
            } catch {
                manifest.withLock { endUse(file, $0) }
                throw error
            }
            guard let outcome else {
                manifest.withLock { endUse(file, $0) }
                continue
            }
            if let modified, !isUnchanged(content, size: size, modified: modified) {
                manifest.withLock { endUse(file, $0) }
                continue
            }
            if try endSeal(file, outcome, version: version, size: size) {
                return (outcome.cid, outcome.treeSize)
            }
        }
        throw .resourceTemporarilyUnavailable.because(
            "\(inode): its bytes never stand still, or its flat file is too short")
    }

    /// Seals what was written by requests and lies in the manifest; under the manifest's lock.
    func sealIfInline(_ inode: Inode, _ state: ManifestState) throws(Errno) {
        guard !options.isReadOnly, let record = try state.inode(inode), record.linkCount > 0,
            let object = try state.object(of: record), object.isInline, object.state == .staging
        else { return }
        sealInline(object, of: record, try state.inlineBytes(of: object), state)
    }

    /// Seals content that lies in the manifest, under the manifest's lock: so little is hashed sooner
    /// than a queue would come to it, and its row is written once. A duplicate is looked for later.
    func sealInline(
        _ object: ObjectRecord, of record: InodeRecord, _ bytes: [UInt8], _ state: ManifestState
    ) {
        let result = SealResult.sealing(bytes, profile: profile)
        state.seal(object, as: result, size: UInt64(bytes.count))
        seals(state).missedDuplicates.insert(record.inode.number)
    }

    /// Waits for the others who hash a file.
    func beginHashing(_ inode: Inode) {
        seals.hashing.withLock { inodes in
            while inodes.contains(inode.number) { seals.hashing.wait(&inodes) }
            inodes.insert(inode.number)
        }
    }

    func endHashing(_ inode: Inode) {
        seals.hashing.withLock { _ = $0.remove(inode.number) }
        seals.hashing.wakeAll()
    }

    func isCurrent(_ inode: Inode, _ version: UInt64) -> Bool {
        manifest.withLock { state in (try? state.inode(inode))?.contentVersion == version }
    }

    /// What a file's CID is to be computed of.
    enum SealSource {
        case known(CID, treeSize: UInt64)
        /// With the time of the last write to a backing file that may be written meanwhile.
        case content(Content, size: UInt64, version: UInt64, modified: Timestamp?, OpenFile)
        /// The backing file was written since it was synced.
        case behindBacking
        case gone
    }

    /// Begins to seal; the file of `content` is in use then until `endUse`.
    func beginSeal(_ inode: Inode) throws(Errno) -> SealSource {
        let (source, isBehindBacking) = try beginSealOfKnown(inode)
        guard isBehindBacking, case .content(.flat(let flat), _, let version, _, let file) = source
        else { return source }
        do throws(Errno) {
            let status = try Sys.status(of: flat.raw)
            // A commit must not tell of a CID above this one that belongs to newer bytes than it has of this
            // file.
            let isTaken = manifest.withLock { state in
                file(state).passthrough.hasTaken(status)
            }
            if isTaken {
                return .content(
                    .flat(flat), size: status.size, version: version, modified: status.modified,
                    file)
            }
        } catch {
            manifest.withLock { endUse(file, $0) }
            throw error
        }
        manifest.withLock { endUse(file, $0) }
        return .behindBacking
    }

    /// `beginSeal` as far as the manifest knows, and whether somebody may write to a backing file.
    private func beginSealOfKnown(_ inode: Inode) throws(Errno) -> (SealSource, Bool) {
        try reading { (state) throws(Errno) in
            guard let record = try state.inode(inode), record.kind == .regular else {
                return (.gone, false)
            }
            let backing = opens(state).files[inode.number]?(state).backing
            let isBehindBacking = backing?.isWritable ?? false
            if isBehindBacking {
                // What the manifest knows may be older than what the backing file holds.
            } else if let object = try state.object(of: record) {
                if object.state != .staging, let cid = object.cid {
                    return (.known(cid, treeSize: object.treeSize), false)
                }
            } else {
                let leaf = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0))
                return (.known(leaf.cid, treeSize: leaf.treeSize), false)
            }
            let file = use(record, state)
            do throws(Errno) {
                let content = try content(of: file, record, state)
                return (
                    .content(
                        content, size: record.size, version: record.contentVersion, modified: nil,
                        file),
                    isBehindBacking
                )
            } catch {
                endUse(file, state)
                throw error
            }
        }
    }

    /// Keeps what sealing found, where the content stood still; false where it did not.
    private func endSeal(
        _ file: OpenFile, _ outcome: SealResult, version: UInt64, size: UInt64
    ) throws(Errno) -> Bool {
        defer { manifest.withLock { endUse(file, $0) } }
        let hasWriters = manifest.withLock { state in file(state).hasWriters }
        if hasWriters { return isCurrent(file.inode, version) }
        // A sealed object is not looked at after a crash: its bytes must be durable before it is.
        try synchronizeBytes(of: file.inode)
        let duplicate = try duplicate(of: file.inode, outcome.cid, size: size)
        let (isCurrent, flat) = try manifest.withLock {
            (state) throws(Errno) -> (Bool, UInt64?) in
            guard let record = try state.inode(file.inode), record.contentVersion == version
            else { return (false, nil) }
            // With a writer about, the CID is told but not kept: the next write would have to
            // take it back durably first.
            guard !file(state).hasWriters, !options.isReadOnly else { return (true, nil) }
            guard record.size == size, let object = try state.object(of: record) else {
                return (false, nil)
            }
            guard object.state == .staging, opens(state).unsynchronized[file.inode.number] == nil
            else { return (true, nil) }
            seals(state).hashed[file.inode.number] = nil
            if let duplicate {
                if try share(duplicate, with: record, outcome.cid, state) { return (true, nil) }
                if file(state).backing != nil {
                    seals(state).missedDuplicates.insert(file.inode.number)
                }
            }
            state.seal(object, as: outcome, size: size)
            return (true, object.isInline ? nil : object.id)
        }
        // Blocks of a flat file that was written just now are known only on the disk.
        if let flat, let blocks = try? store.blocks(of: flat) {
            noteBlocks(of: file.inode, object: flat, blocks)
        }
        return isCurrent
    }

    /// Lets an inode name a sealed object of the same content in place of its own; false where that
    /// cannot be.
    private func share(
        _ duplicate: UInt64, with record: InodeRecord, _ cid: CID, _ state: ManifestState
    ) throws(Errno) -> Bool {
        let file = opens(state).files[record.inode.number]
        // Whoever has it open reads and maps the backing file that it had when they opened it.
        guard file?(state).backing == nil, let object = try state.object(of: record),
            let other = try state.object(duplicate), other.state == .sealed, other.cid == cid
        else { return false }
        // The node has the blocks of one CID, whichever object they were sent for.
        if state.isPublished(object) { state.notePublished(other) }
        state.retain(other)
        record.object = other.id
        file?(state).file = nil
        opens(state).forgetUnsynchronized(record.inode)
        state.mark(record)
        state.release(object)
        return true
    }

    /// Shares the content of a sealed file with a duplicate that was found while it had a backing file.
    private func shareMissedDuplicate(_ inode: Inode) throws(Errno) {
        let sealed = try reading { (state) throws(Errno) -> (CID, UInt64)? in
            guard seals(state).missedDuplicates.remove(inode.number) != nil,
                let record = try state.inode(inode), let object = try state.object(of: record),
                object.state == .sealed, object.references == 1, let cid = object.cid
            else { return nil }
            return (cid, record.size)
        }
        guard let (cid, size) = sealed, let duplicate = try duplicate(of: inode, cid, size: size)
        else {
            return
        }
        try reading { (state) throws(Errno) in
            guard let record = try state.inode(inode), let object = try state.object(of: record),
                object.state == .sealed, object.cid == cid, object.id != duplicate
            else { return }
            _ = try share(duplicate, with: record, cid, state)
        }
    }

    /// Another object with the same content, read and compared to be sure of it.
    private func duplicate(
        of inode: Inode, _ cid: CID, size: UInt64
    ) throws(Errno) -> UInt64? {
        let candidate = try reading { (state) throws(Errno) -> (UInt64, Content, Content)? in
            guard let record = try state.inode(inode), let object = try state.object(of: record)
            else { return nil }
            for id in try state.objects(with: cid) where id != object.id {
                guard let other = try state.object(id), other.state == .sealed,
                    other.cid == cid, other.size == size, other.isInline == object.isInline
                else { continue }
                let own: Content =
                    object.isInline
                    ? .inline(try state.inlineBytes(of: object))
                    : .flat(try opens.filesAhead(state).file(object.id, forWriting: false, state))
                let its: Content =
                    other.isInline
                    ? .inline(try state.inlineBytes(of: other))
                    : .flat(try opens.filesAhead(state).file(id, forWriting: false, state))
                return (id, own, its)
            }
            return nil
        }
        guard let (id, own, its) = candidate else { return nil }
        switch (own, its) {
        case (.inline(let one), .inline(let other)): return one == other ? id : nil
        case (.flat(let one), .flat(let other)):
            guard try Self.haveEqualBytes(one, other, size: size) else {
                log.error("object \(id): its bytes are not those of its CID: run registryfs check")
                return nil
            }
            // The duplicate takes the place of bytes that are durable already.
            try other.synchronize(in: store)
            try store.synchronizeName(of: id)
            return id
        default: return nil
        }
    }

    private static func haveEqualBytes(
        _ one: ObjectFile, _ other: ObjectFile, size: UInt64
    ) throws(Errno) -> Bool {
        let partSize = 1 << 18
        let left = OwnedBuffer(byteCount: partSize)
        let right = OwnedBuffer(byteCount: partSize)
        var offset: UInt64 = 0
        while offset < size {
            let wanted = Int(min(UInt64(partSize), size - offset))
            let countOne = try Sys.read(
                one.raw, at: offset,
                into: UnsafeMutableRawBufferPointer(rebasing: left.bytes[..<wanted]))
            let countOther = try Sys.read(
                other.raw, at: offset,
                into: UnsafeMutableRawBufferPointer(rebasing: right.bytes[..<wanted]))
            guard countOne == wanted, countOther == wanted,
                let a = left.bytes.baseAddress, let b = right.bytes.baseAddress,
                memcmp(a, b, wanted) == 0
            else { return false }
            offset += UInt64(wanted)
        }
        return true
    }
}
