internal import Base
internal import MerkleDAG
internal import Multiformats
internal import Remotes

/// Where the blocks of an archive are that has no index: found by reading the heads of its sections once.
///
/// Takes 16 bytes of memory a block, and up to three times that while it is made.
struct ScannedIndex: Sendable {
    private struct Entry {
        /// The first bytes of the digest, which tell blocks apart but for a few.
        let prefix: UInt64
        /// Where the section begins, in the file.
        let offset: UInt64
    }

    /// What is read at once where sections are short.
    private static let windowBytes = 256 << 10
    /// What is read of a section behind a long one.
    private static let shortWindowBytes = 4 << 10
    /// How often progress is told.
    private static let progressBytes: UInt64 = 16 << 20

    private let entries: [Entry]

    /// How many sections there are, those left out that hold no more than their CID does.
    var count: UInt64 { UInt64(entries.count) }

    /// Reads the heads of all sections.
    ///
    /// - Parameters:
    ///   - countMax: the most blocks; more are an error.
    ///   - progress: told the bytes that were passed and those of the file, now and then.
    init(
        of layout: CARLayout, in file: ArchiveFile, countMax: Int,
        _ cancellation: Cancellation?, _ progress: (UInt64, UInt64) -> Void
    ) throws(RemoteError) {
        let end = layout.payload.upperBound
        var entries: [Entry] = []
        var window: [UInt8] = []
        var windowStart = layout.sectionsStart
        var offset = layout.sectionsStart
        var told = offset
        while offset < end {
            let left = end - offset
            let wanted = min(left, UInt64(CARSectionHead.byteCountMax))
            let windowEnd = windowStart + UInt64(window.count)
            if offset + wanted > windowEnd {
                if cancellation?.isCancelled ?? false {
                    throw file.error(.cancelled, at: offset, "cancelled")
                }
                let size = offset < windowEnd ? Self.windowBytes : Self.shortWindowBytes
                window = try file.bytes(at: offset, count: Int(min(left, UInt64(size))))
                windowStart = offset
            }
            let head: CARSectionHead
            do throws(CARError) {
                head = try window.withBytes { (raw) throws(CARError) in
                    let rest = UnsafeRawBufferPointer(rebasing: raw[Int(offset - windowStart)...])
                    return try CARSectionHead(decoding: rest, left: left)
                }
            } catch {
                throw file.error(error, at: offset)
            }
            if head.cid.multihash.code != .identity {
                guard entries.count < countMax else {
                    throw file.error(.tooMany(limit: countMax), at: offset)
                }
                entries.append(Entry(prefix: Self.prefix(head.cid.multihash), offset: offset))
            }
            offset += UInt64(head.byteCount + head.blockByteCount)
            if offset - told >= Self.progressBytes {
                progress(offset, file.byteCount)
                told = offset
            }
        }
        entries.sort { ($0.prefix, $0.offset) < ($1.prefix, $1.offset) }
        self.entries = entries
        progress(file.byteCount, file.byteCount)
    }

    /// Where sections may begin that have this block, in the file; the first that does is its.
    func offsets(of multihash: Multihash) -> ArraySlice<UInt64> {
        let prefix = Self.prefix(multihash)
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].prefix < prefix { low = middle + 1 } else { high = middle }
        }
        return entries[low...].prefix(Lookup.candidatesMax).prefix { $0.prefix == prefix }
            .map(\.offset)[...]
    }

    private static func prefix(_ multihash: Multihash) -> UInt64 {
        multihash.withDigest { digest in
            var prefix: UInt64 = 0
            for index in 0..<8 {
                prefix = prefix << 8 | (index < digest.count ? UInt64(digest[index]) : 0)
            }
            return prefix
        }
    }
}
