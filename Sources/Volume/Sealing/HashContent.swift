internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    func isUnchanged(_ content: Content, size: UInt64, modified: Timestamp) -> Bool {
        guard case .flat(let flat) = content, let status = try? Sys.status(of: flat.raw) else {
            return false
        }
        return status.size == size && status.modified == modified
    }

    func sealResult(
        of content: Content, _ inode: Inode, size: UInt64, isWanted: () -> Bool
    ) throws(Errno) -> SealResult? {
        switch content {
        case .empty: return SealResult.sealing([], profile: profile)
        case .inline(let bytes): return SealResult.sealing(bytes, profile: profile)
        // Its CID was known; it is asked for again.
        case .remote: return nil
        case .flat(let flat):
            return try sealResult(of: flat, inode, size: size, isWanted: isWanted)
        }
    }

    /// Hashes a flat file, unless that was done and nothing was written to it since.
    private func sealResult(
        of flat: ObjectFile, _ inode: Inode, size: UInt64, isWanted: () -> Bool
    ) throws(Errno) -> SealResult? {
        var status = try Sys.status(of: flat.raw)
        if size >= Self.worthWaitingSizeMin, !status.modified.isPast {
            // What is found then holds as long as the time of the last write stays.
            Threads.sleep(milliseconds: 25)
            status = try Sys.status(of: flat.raw)
        }
        let known = manifest.withLock { state in seals(state).hashed[inode.number] }
        if let known, known.object == flat.id, known.size == size, status.size == size,
            known.modified == status.modified
        {
            return known.result
        }
        let isLasting = try flushForHashing(flat, inode, status)
        // The disk works while the processors do; sealing needs the bytes durable in the end.
        Sys.beginWriteback(flat.raw)
        let helpers = takeHelpers()
        defer { giveBack(helpers) }
        let stream = openStream(flat, inode, size: size)
        let onLeaf = stream.map { stream in
            { @Sendable (index: Int, leaf: Leaf) in
                stream.add(LeafStream.Leaf(index: UInt64(index), cid: leaf.cid))
            }
        }
        let result: SealResult
        do throws(SealInterruption) {
            result = try background.run { () throws(SealInterruption) in
                try .sealing(
                    flat, size: size, profile: profile, helpers: helpers, isWanted: isWanted,
                    onLeaf: onLeaf)
            }
            stream?.complete()
        } catch {
            stream?.giveUp()
            switch error {
            case .outdated, .truncated: return nil
            case .failed(let errno): throw errno
            }
        }
        if isLasting {
            manifest.withLock { state in
                seals(state).noteHashed(
                    inode,
                    HashedFile(
                        object: flat.id, size: size, modified: status.modified, result: result))
            }
        }
        return result
    }

    /// Sees to it that a change of the bytes from now on changes the modification time; false where
    /// that cannot be had.
    ///
    /// The clock must have gone past the time that the file has; and pages that somebody has mapped
    /// must be clean, because only the first store to a clean page moves the time (page_mkwrite of
    /// the kernel; "st_mtime" in mmap(2)). That they are is known where the time stood still while
    /// they were flushed.
    private func flushForHashing(
        _ flat: ObjectFile, _ inode: Inode, _ before: FileStatus
    ) throws(Errno) -> Bool {
        guard before.modified.isPast else { return false }
        let isMappable = manifest.withLock { state in
            opens(state).files[inode.number]?(state).backing?.isMappable ?? false
        }
        guard isMappable else { return true }
        guard store.tellsStores else { return false }
        try flat.synchronizeBytes(in: store)
        return try Sys.status(of: flat.raw).modified == before.modified
    }

    /// The size from which hashing a file twice costs more than a moment's rest before.
    static let worthWaitingSizeMin: UInt64 = 32 << 20

    /// Threads for hashing beside the caller's, from those that all seals have together.
    private func takeHelpers() -> Int {
        seals.helpers.withLock { free in
            defer { free = 0 }
            return free
        }
    }

    private func giveBack(_ count: Int) {
        seals.helpers.withLock { $0 += count }
    }
}
