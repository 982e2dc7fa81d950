internal import Base
internal import MerkleDAG
public import Multiformats

extension Volume {
    /// Writes the whole DAG below a CID as a CARv1, each block once, a node before its children,
    /// as `ipfs dag export` does. Blocks for the disk, and for whoever has what is not here, of which some is
    /// fetched ahead.
    ///
    /// - Parameter sink: takes the pieces in order; its error ends the export.
    public func exportCAR<Failure: Error>(
        _ root: CID, to sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(VolumeError) {
        // The root's own block is asked for first: an unknown CID must not leave half a file.
        _ = try block(root)
        try withoutActuallyEscaping(sink) { (sink) throws(VolumeError) in
            try export(root, to: sink)
        }
    }

    private func export<Failure: Error>(
        _ root: CID, to sink: @escaping (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(VolumeError) {
        let blocks = BlocksAhead(volume: self, fetcher: fetcher)
        do {
            var writer = try CARWriter(roots: [root], sink: sink)
            try blocks.forEachBlock(below: root) { (cid, block) throws(Failure) in
                try writer.write(cid, block)
            }
        } catch let error as DAGWalkError<Failure> {
            switch error {
            case .read(let cause): throw VolumeError.export(root, reason: cause.reason)
            case .sink(let cause): throw VolumeError.export(root, reason: "\(cause)")
            }
        } catch {
            throw VolumeError.export(root, reason: "\(error)")
        }
    }
}

/// The blocks of an export, of which those that come next are got side by side where some may be elsewhere: so the
/// network is waited for once, and not for each.
private final class BlocksAhead: BlockSource, Sendable {
    private enum Entry {
        case wanted
        case begun
        case ended(Result<[UInt8], VolumeError>)
    }

    private let volume: Volume
    private let fetcher: Fetcher?
    /// By CID, in version 1. Taken out by whoever writes.
    private let entries = Monitor<[CID: Entry]>([:])

    /// Blocks that are got ahead, or are here and not written yet.
    private static let countMax = 16

    init(volume: Volume, fetcher: Fetcher?) {
        self.volume = volume
        self.fetcher = fetcher
    }

    func expect(_ cids: [CID]) {
        guard let fetcher else { return }
        for cid in cids {
            let isNew = entries.withLock { entries in
                guard entries.count < Self.countMax, entries[cid.asV1] == nil else { return false }
                entries[cid.asV1] = .wanted
                return true
            }
            guard isNew else { continue }
            fetcher.fetchPool.add(fetcher.nextTicket(), for: nil) { [self] _, _ in get(cid) }
        }
    }

    /// On a thread for it.
    private func get(_ cid: CID) {
        let isWanted = entries.withLock { entries in
            guard case .wanted = entries[cid.asV1] else { return false }
            entries[cid.asV1] = .begun
            return true
        }
        guard isWanted else { return }
        let result: Result<[UInt8], VolumeError>
        do throws(VolumeError) {
            result = .success(try volume.committedBlock(cid, isOfTree: true))
        } catch {
            result = .failure(error)
        }
        entries.withLock { $0[cid.asV1] = .ended(result) }
        entries.wakeAll()
    }

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        let ahead = entries.withLock { entries -> Result<[UInt8], VolumeError>? in
            // What was not begun is got here: its turn may come late.
            while case .begun = entries[cid.asV1] { self.entries.wait(&entries) }
            guard case .ended(let result) = entries.removeValue(forKey: cid.asV1) else {
                return nil
            }
            return result
        }
        do throws(VolumeError) {
            guard let ahead else { return try volume.committedBlock(cid, isOfTree: true) }
            return try ahead.get()
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }
}
