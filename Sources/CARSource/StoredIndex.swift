internal import Base
internal import MerkleDAG
internal import Multiformats
internal import Remotes

/// The index in the file of a CARv2, which stays there: each look-up reads a few records of it. Its layout
/// stands at the head of `CARIndex.swift`.
struct StoredIndex: Sendable {
    /// Records of digests of one length, and of one function if the format tells those apart.
    private struct Bucket {
        /// Nil in an index that is sorted by digest only.
        let code: UInt64?
        let digestLength: Int
        /// In the file.
        let start: UInt64
        let count: UInt64

        var width: Int { digestLength + 8 }
    }

    /// The most hash functions of an index; the table of them all has not many more.
    private static let functionsMax = 64
    /// What is read at once when a search has come as near.
    private static let windowBytes = 4096

    private let buckets: [Bucket]

    /// How many sections the index leads to.
    var count: UInt64 { buckets.reduce(0) { $0 + $1.count } }

    /// Reads where the buckets lie; nil for an index of a kind that is not known here.
    ///
    /// - Throws: `wrongBytes` for one that is damaged, or goes beyond the file.
    init?(at start: UInt64, in file: ArchiveFile) throws(RemoteError) {
        guard start < file.byteCount else { throw file.error(.badIndex, at: start) }
        var offset = start
        let head = try file.bytes(
            at: start, count: Int(min(file.byteCount - start, UInt64(Varint.lengthMax))))
        let (codec, length): (UInt64, Int)
        do throws(VarintError) {
            (codec, length) = try head.withBytes { (raw) throws(VarintError) in
                try Varint.decode(raw)
            }
        } catch {
            throw file.error(.badIndex, at: start)
        }
        offset += UInt64(length)
        var buckets: [Bucket] = []
        switch Multicodec(rawValue: codec) {
        case .carIndexSorted:
            try Self.readBuckets(of: nil, &offset, file, into: &buckets)
        case .carMultihashIndexSorted:
            let functionCount = try Self.word32(&offset, file)
            guard functionCount <= Self.functionsMax else { throw file.error(.badIndex, at: start) }
            for _ in 0..<functionCount {
                let place = offset
                let code = try Self.word64(&offset, file)
                guard buckets.last?.code.map({ $0 < code }) ?? true else {
                    throw file.error(.badIndex, at: place)
                }
                try Self.readBuckets(of: code, &offset, file, into: &buckets)
            }
        default: return nil
        }
        self.buckets = buckets
    }

    private static func readBuckets(
        of code: UInt64?, _ offset: inout UInt64, _ file: ArchiveFile,
        into buckets: inout [Bucket]
    ) throws(RemoteError) {
        let bucketCount = try word32(&offset, file)
        var lastWidth: UInt32 = 0
        for _ in 0..<bucketCount {
            let place = offset
            let width = try word32(&offset, file)
            let byteCount = try word64(&offset, file)
            // Widths ascend, so there are no more buckets than lengths of digests.
            guard (8...UInt32(Multihash.digestLengthMax + 8)).contains(width), width > lastWidth,
                byteCount % UInt64(width) == 0, byteCount <= file.byteCount - offset
            else { throw file.error(.badIndex, at: place) }
            lastWidth = width
            buckets.append(
                Bucket(
                    code: code, digestLength: Int(width) - 8, start: offset,
                    count: byteCount / UInt64(width)))
            offset += byteCount
        }
    }

    private static func word32(
        _ offset: inout UInt64, _ file: ArchiveFile
    ) throws(RemoteError) -> UInt32 {
        let bytes = try file.bytes(at: offset, count: 4)
        offset += 4
        return bytes.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
    }

    private static func word64(
        _ offset: inout UInt64, _ file: ArchiveFile
    ) throws(RemoteError) -> UInt64 {
        let bytes = try file.bytes(at: offset, count: 8)
        offset += 8
        return bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
    }

    // MARK: Looking up

    /// Where sections may begin that have this block, counted from the CARv1's beginning: one for each
    /// record of the digest, at most `Lookup.candidatesMax`.
    func offsets(
        of multihash: Multihash, in file: ArchiveFile
    ) throws(RemoteError) -> [UInt64] {
        let digest = multihash.digest
        var found: [UInt64] = []
        for bucket in buckets
        where bucket.digestLength == digest.count
            && (bucket.code ?? multihash.code.rawValue) == multihash.code.rawValue
        {
            found += try Self.offsets(of: digest, in: bucket, file)
        }
        return found
    }

    private static func offsets(
        of digest: [UInt8], in bucket: Bucket, _ file: ArchiveFile
    ) throws(RemoteError) -> [UInt64] {
        let width = bucket.width
        func place(_ index: UInt64) -> UInt64 { bucket.start + index * UInt64(width) }
        // The first record whose digest is not below the one wanted lies in low...high.
        var (low, high) = (UInt64(0), bucket.count)
        var floor: [UInt8]?
        var ceiling: [UInt8]?
        while (high - low) * UInt64(width) > UInt64(windowBytes) {
            let middle = low + (high - low) / 2
            let found = try file.bytes(at: place(middle), count: bucket.digestLength)
            // A search in what is not sorted would say of blocks that are there that they are not.
            guard !(floor.map { found.lexicographicallyPrecedes($0) } ?? false),
                !(ceiling?.lexicographicallyPrecedes(found) ?? false)
            else { throw file.error(.badIndex, at: place(middle)) }
            if found.lexicographicallyPrecedes(digest) {
                (low, floor) = (middle + 1, found)
            } else {
                (high, ceiling) = (middle, found)
            }
        }
        // Records of one digest stand together, and may go on behind the window.
        let end = min(bucket.count, high + UInt64(Lookup.candidatesMax))
        let records = try file.bytes(at: place(low), count: Int(end - low) * width)
        var found: [UInt64] = []
        for start in stride(from: 0, to: records.count, by: width) {
            let split = start + bucket.digestLength
            guard records[start..<split].elementsEqual(digest) else { continue }
            found.append(
                records.withUnsafeBytes {
                    UInt64(
                        littleEndian: $0.loadUnaligned(fromByteOffset: split, as: UInt64.self))
                })
            if found.count == Lookup.candidatesMax { break }
        }
        return found
    }
}

/// What both kinds of look-up have in common.
enum Lookup {
    /// The most places that are looked at for one block, where digests are told apart only there.
    static let candidatesMax = 64
}
