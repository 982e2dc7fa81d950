public import Base
internal import MerkleDAG
public import Multiformats
public import Remotes

/// A CAR file as a remote, of either version, of which nothing but a table is in memory.
///
/// A CARv2 is looked up by its own index, which stays on the disk: a few reads a block. Where there is none,
/// or one of an unknown kind, the heads of all sections are read once when it is opened, into a table of 16
/// bytes a block (`ScannedIndex`).
///
/// The file must not change while it is used: that is looked at with each block, and is an error then. Errors
/// name the file and the place in it.
public final class CARFileRemote: RemoteBlocks {
    /// The most blocks of an archive without an index: their table takes 64 MiB.
    public static let scannedBlocksMax = 1 << 22

    private enum Index {
        case stored(StoredIndex)
        case scanned(ScannedIndex)
    }

    private let file: ArchiveFile
    private let layout: CARLayout
    private let index: Index

    /// Opens an archive. Blocks for as long as the pass takes where it has no index: that reads some 4 KiB a
    /// block, or all of it where blocks are small.
    ///
    /// - Parameters:
    ///   - scannedBlocksMax: the most blocks of an archive without an index.
    ///   - cancellation: ends the pass.
    ///   - progress: told the bytes that the pass has done, and those of the file, about every 16 MiB and at
    ///     its end; not at all where there is an index. Called on the calling thread.
    /// - Throws: `notFound` where there is no such file, `wrongBytes` for what is damaged, cut off or no
    ///   archive, `failed` for too many blocks, `cancelled`.
    public init(
        _ path: String, scannedBlocksMax: Int = CARFileRemote.scannedBlocksMax,
        cancellation: Cancellation? = nil, progress: (UInt64, UInt64) -> Void = { _, _ in }
    ) throws(RemoteError) {
        let file = try ArchiveFile(path)
        let layout = try Self.layout(of: file)
        if let start = layout.indexStart, let stored = try StoredIndex(at: start, in: file) {
            index = .stored(stored)
        } else {
            index = .scanned(
                try ScannedIndex(
                    of: layout, in: file, countMax: scannedBlocksMax, cancellation, progress))
            try file.checkUnchanged()
        }
        self.file = file
        self.layout = layout
    }

    /// 1 or 2.
    public var version: Int { layout.version }
    /// The CIDs that the archive was written for, in its order; none, or ones that are not in it, are
    /// possible.
    public var roots: [CID] { layout.roots }
    /// The length of the file.
    public var byteCount: UInt64 { file.byteCount }
    /// How many blocks the index leads to, repetitions counted.
    public var indexedBlockCount: UInt64 {
        switch index {
        case .stored(let stored): stored.count
        case .scanned(let scanned): scanned.count
        }
    }
    /// Whether the archive has an index of its own, which is used.
    public var isIndexed: Bool {
        if case .stored = index { true } else { false }
    }

    public var address: String { file.path }

    public func block(
        _ request: BlockRequest, memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8] {
        let cid = request.cid
        if request.cancellation?.isCancelled ?? false {
            throw RemoteError(.cancelled, "\(address): \(cid): cancelled (cancelled)")
        }
        if cid.multihash.code == .identity { return cid.multihash.digest }
        try file.checkUnchanged()
        switch index {
        case .scanned(let scanned):
            for offset in scanned.offsets(of: cid.multihash) {
                if let block = try block(cid, at: offset, memory) { return block }
            }
        case .stored(let stored):
            let offsets = try stored.offsets(of: cid.multihash, in: file)
            for offset in offsets {
                let (start, isOverflow) = layout.payload.lowerBound.addingReportingOverflow(offset)
                guard !isOverflow, start >= layout.sectionsStart, start < layout.payload.upperBound
                else {
                    throw file.error(
                        .wrongBytes, at: layout.indexStart ?? 0,
                        "the index leads to byte \(offset) of the blocks, which is not among them")
                }
                if let block = try block(cid, at: start, memory) { return block }
            }
            // Of records for the digest, one at least must lead to it; others may be of another function.
            guard offsets.isEmpty else {
                throw file.error(
                    .wrongBytes, at: layout.payload.lowerBound + offsets[0],
                    "the index leads to another block than \(cid)")
            }
        }
        throw RemoteError(.notFound, "\(address): there is no block \(cid) (notFound)")
    }

    /// The block of the section that begins at an offset; nil where it is another's.
    private func block(
        _ cid: CID, at offset: UInt64, _ memory: ReplyMemory?
    ) throws(RemoteError) -> [UInt8]? {
        let left = layout.payload.upperBound - offset
        let bytes = try file.bytes(
            at: offset, count: Int(min(left, UInt64(CARSectionHead.byteCountMax))))
        let head: CARSectionHead
        do throws(CARError) {
            head = try bytes.withBytes { (raw) throws(CARError) in
                try CARSectionHead(decoding: raw, left: left)
            }
        } catch {
            throw file.error(error, at: offset)
        }
        guard head.cid.multihash == cid.multihash else { return nil }
        var block = memory?.take() ?? []
        block.append(contentsOf: repeatElement(0, count: head.blockByteCount))
        let count = try block.withMutableBytes { (buffer) throws(RemoteError) in
            try file.read(at: offset + UInt64(head.byteCount), into: buffer)
        }
        guard count == head.blockByteCount else { throw file.error(.truncated, at: offset) }
        do throws(MultihashError) {
            try block.withBytes { (raw) throws(MultihashError) in try cid.verify(raw) }
        } catch {
            switch error {
            case .unsupportedFunction: throw file.error(.unsupportedHash(cid), at: offset)
            default: throw file.error(.wrongBytes(cid), at: offset)
            }
        }
        return block
    }

    private static func layout(of file: ArchiveFile) throws(RemoteError) -> CARLayout {
        do throws(CARError) {
            return try CARLayout(byteCount: file.byteCount) { buffer, offset in
                try file.read(at: offset, into: buffer)
            }
        } catch {
            throw file.error(error, at: 0)
        }
    }
}
