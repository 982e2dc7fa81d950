internal import Base
internal import MerkleDAG
internal import Multiformats
internal import RegistryNames

/// Blocks and entries of a static registry, which count.
final class StaticReading<Source: BlockSource & Sendable>: BlockSource, Sendable {
    private struct Used {
        var blocks = 0
        var bytes = 0
        var entries = 0
    }

    private let source: Source
    private let bounds: StaticLayoutBounds
    private let deadline: Int64
    private let used = Monitor(Used())

    init(_ source: Source, _ bounds: StaticLayoutBounds) {
        self.source = source
        self.bounds = bounds
        deadline = MonotonicClock.milliseconds + bounds.milliseconds
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        guard MonotonicClock.milliseconds < deadline else {
            throw fault(cid, "it took longer than \(bounds.milliseconds) ms to come to it")
        }
        let block = try source.block(cid)
        let used = self.used.withLock { used in
            used.blocks += 1
            used.bytes += block.count
            return used
        }
        guard used.blocks <= bounds.blocksMax, used.bytes <= bounds.readBytesMax else {
            throw fault(
                cid,
                "more than \(bounds.blocksMax) blocks, or \(bounds.readBytesMax) bytes, lead to it")
        }
        return block
    }

    func expect(_ cids: [CID]) { source.expect(cids) }

    private func fault(_ cid: CID, _ reason: String) -> BlockUnavailable {
        BlockUnavailable(cid, cause: StaticLayoutFault(reason: "block \(cid): \(reason)"))
    }

    /// The entries of a directory, in no order.
    ///
    /// - Parameter refusesNames: whether a name that no file can have, or an entry that is nothing of a file system, is an error.
    func entries(
        of directory: CID, refusesNames: Bool = true
    ) throws(DAGReadError) -> [MerkleDAG.DirectoryEntry] {
        var entries: [MerkleDAG.DirectoryEntry] = []
        var failure: DAGReadError?
        try DirectoryReader(root: directory, source: self).forEachEntry { entry in
            let count = used.withLock { used in
                used.entries += 1
                return used.entries
            }
            if count > bounds.entriesMax {
                failure = refusal(directory, "brings it to more than \(bounds.entriesMax) entries")
            } else if refusesNames, !Volume.isUsable(entry.name) {
                let name = shown(Array(entry.name.prefix(64)))
                failure = refusal(directory, "has an entry \(name), which no file can be called")
            } else if refusesNames, entry.cid.codec != .raw, entry.cid.codec != .dagPB {
                failure = .unsupportedCodec(entry.cid)
            } else {
                entries.append(entry)
            }
            return failure == nil
        }
        if let failure { throw failure }
        return entries
    }

    private func refusal(_ directory: CID, _ reason: String) -> DAGReadError {
        DAGReadError(directory, StaticLayoutFault(reason: "directory \(directory) \(reason)"))
    }

    /// Reads a manifest and hashes it.
    func digest(
        of manifest: CID, sizeMax: UInt64
    ) throws(DAGReadError) -> (digest: RegistryDigest, size: UInt64) {
        var reader = try FileReader(root: manifest, source: self)
        guard reader.size <= sizeMax else {
            throw DAGReadError(
                manifest,
                StaticLayoutFault(
                    reason: "block \(manifest) is no manifest: it has \(reader.size) bytes, "
                        + "more than \(sizeMax)"))
        }
        var hasher = SHA256Hasher()
        var offset: UInt64 = 0
        while let leaf = try reader.leaf(at: offset), leaf.fileRange.upperBound > offset {
            leaf.block.withUnsafeBytes { block in
                hasher.update(UnsafeRawBufferPointer(rebasing: block[leaf.contentRange]))
            }
            offset = leaf.fileRange.upperBound
        }
        guard offset == reader.size, let digest = RegistryDigest(hasher.finalize()) else {
            throw .malformed(manifest, .inconsistentSizes)
        }
        return (digest, offset)
    }
}
