// The index of a CARv2: where the section of each block begins.
//
// Layout:   uv(0x0400) ‖ buckets, or uv(0x0401) ‖ int32 count of hash functions ‖ for each, in
//           ascending order: uint64 code ‖ buckets.
//           Buckets = int32 count ‖ for each, by ascending width: uint32 width ‖ uint64 length of the
//           records in bytes ‖ records. Record = digest ‖ uint64 offset, sorted bytewise; width =
//           length of the digest + 8. All numbers little-endian. An offset counts from the beginning
//           of the CARv1 to the length of the section.
// Validity: widths ascend and are not wider than a digest can be; records are whole and sorted.
// Source:   go-car v2 index package; the prose of the specification leaves parts of this out

public import Multiformats

/// The places of blocks in an archive, by digest.
public struct CARIndex: Sendable {
    /// Digests of one length, and of one function if the format tells those apart.
    struct Bucket: Sendable {
        /// Nil in an index that is sorted by digest only.
        var code: UInt64?
        var digestLength: Int
        /// Digest ‖ offset, as in the file.
        var records: [UInt8]

        var width: Int { digestLength + 8 }
        var count: Int { records.count / width }
    }

    /// `carIndexSorted` or `carMultihashIndexSorted`.
    public let codec: Multicodec
    let buckets: [Bucket]

    /// How many sections the index leads to.
    public var count: Int { buckets.reduce(0) { $0 + $1.count } }

    /// Where the section of a block begins, counted from the beginning of the CARv1.
    ///
    /// If the block is there several times, this is the first. Takes logarithmic time.
    public func offset(of multihash: Multihash) -> UInt64? {
        let code = multihash.code.rawValue
        return multihash.withDigest { digest in
            for bucket in buckets
            where bucket.digestLength == digest.count && (bucket.code ?? code) == code {
                if let offset = bucket.offset(of: digest) { return offset }
            }
            return nil
        }
    }

    /// The index in the form of the file, codec in front.
    public func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        Varint.append(codec.rawValue, to: &bytes)
        guard codec == .carMultihashIndexSorted else {
            Self.append(buckets[...], to: &bytes)
            return bytes
        }
        var groups: [ArraySlice<Bucket>] = []
        var rest = buckets[...]
        while let first = rest.first {
            let group = rest.prefix { $0.code == first.code }
            groups.append(group)
            rest = rest.dropFirst(group.count)
        }
        bytes.appendLittleEndian(Int32(groups.count))
        for group in groups {
            bytes.appendLittleEndian(group.first?.code ?? 0)
            Self.append(group, to: &bytes)
        }
        return bytes
    }

    private static func append(_ buckets: ArraySlice<Bucket>, to bytes: inout [UInt8]) {
        bytes.appendLittleEndian(Int32(buckets.count))
        for bucket in buckets {
            bytes.appendLittleEndian(UInt32(bucket.width))
            bytes.appendLittleEndian(UInt64(bucket.records.count))
            bytes.append(contentsOf: bucket.records)
        }
    }
}

extension CARIndex.Bucket {
    fileprivate func offset(of digest: UnsafeRawBufferPointer) -> UInt64? {
        records.withUnsafeBytes { records in
            func record(_ index: Int) -> UnsafeRawBufferPointer {
                UnsafeRawBufferPointer(rebasing: records[(index * width)..<((index + 1) * width)])
            }
            // The first record whose digest is not below the one wanted.
            var low = 0
            var high = count
            while low < high {
                let middle = (low + high) / 2
                if record(middle).prefix(digestLength).lexicographicallyPrecedes(digest) {
                    low = middle + 1
                } else {
                    high = middle
                }
            }
            guard low < count, record(low).prefix(digestLength).elementsEqual(digest) else {
                return nil
            }
            return record(low).littleEndian64(at: digestLength)
        }
    }
}

/// Collects the places of blocks while an archive is written or read.
///
/// Keeps 48 bytes a block.
public struct CARIndexBuilder: Sendable {
    private var records: [(multihash: Multihash, offset: UInt64)] = []

    /// Begins without blocks.
    public init() {}

    /// How many blocks there are.
    public var count: Int { records.count }

    /// Adds a block.
    ///
    /// - Parameter offset: where its section begins, counted from the beginning of the CARv1.
    public mutating func add(_ multihash: Multihash, offset: UInt64) {
        records.append((multihash, offset))
    }

    /// The index of all blocks. The builder is used up.
    ///
    /// - Precondition: `codec` is `carIndexSorted` or `carMultihashIndexSorted`.
    public mutating func finish(codec: Multicodec = .carMultihashIndexSorted) -> CARIndex {
        precondition(codec == .carIndexSorted || codec == .carMultihashIndexSorted)
        let byFunction = codec == .carMultihashIndexSorted
        records.sort { left, right in
            let (leftHash, rightHash) = (left.multihash, right.multihash)
            if byFunction, leftHash.code != rightHash.code {
                return leftHash.code.rawValue < rightHash.code.rawValue
            }
            if leftHash.digestLength != rightHash.digestLength {
                return leftHash.digestLength < rightHash.digestLength
            }
            let isEqual = leftHash.withDigest { left in
                rightHash.withDigest { left.elementsEqual($0) }
            }
            guard !isEqual else { return left.offset < right.offset }
            return leftHash.withDigest { left in
                rightHash.withDigest { left.lexicographicallyPrecedes($0) }
            }
        }
        var buckets: [CARIndex.Bucket] = []
        for (multihash, offset) in records {
            let code = byFunction ? multihash.code.rawValue : nil
            let length = multihash.digestLength
            if buckets.last?.code != code || buckets.last?.digestLength != length {
                buckets.append(CARIndex.Bucket(code: code, digestLength: length, records: []))
            }
            let last = buckets.count - 1
            multihash.withDigest { buckets[last].records.append(contentsOf: $0) }
            buckets[last].records.appendLittleEndian(offset)
        }
        records = []
        return CARIndex(codec: codec, buckets: buckets)
    }
}
