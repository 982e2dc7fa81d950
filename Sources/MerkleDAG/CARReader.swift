public import Multiformats

/// A block in an archive.
public struct CARSection: Sendable {
    /// The CID that stands before the block.
    public var cid: CID
    /// The block.
    public var block: [UInt8]
    /// Where the section begins, counted from the beginning of the CARv1, in bytes.
    public var offset: UInt64
}

/// Gives bytes one after the other to whoever takes them apart, and never more than there are.
struct CARInput {
    private static let bufferSize = 1 << 16

    private let read: (UnsafeMutableRawBufferPointer) throws -> Int
    private var buffer = [UInt8](repeating: 0, count: CARInput.bufferSize)
    /// What of `buffer` is not taken yet.
    private var available = 0..<0
    /// How many bytes were taken.
    private(set) var offset: UInt64 = 0

    init(read: @escaping (UnsafeMutableRawBufferPointer) throws -> Int) {
        self.read = read
    }

    private static func readSome(
        _ read: (UnsafeMutableRawBufferPointer) throws -> Int,
        into target: UnsafeMutableRawBufferPointer
    ) throws(CARError) -> Int {
        do {
            let count = try read(target)
            precondition((0...target.count).contains(count), "read past the buffer")
            return count
        } catch {
            throw .readFailed(error)
        }
    }

    /// - Returns: whether there is another byte.
    private mutating func fill() throws(CARError) -> Bool {
        guard available.isEmpty else { return true }
        let read = read
        let count = try buffer.withMutableRawBytes { (raw) throws(CARError) in
            try Self.readSome(read, into: raw)
        }
        available = 0..<count
        return count > 0
    }

    mutating func isAtEnd() throws(CARError) -> Bool {
        try !fill()
    }

    /// Fills `target` or throws `truncated`.
    mutating func take(into target: UnsafeMutableRawBufferPointer) throws(CARError) {
        var done = 0
        while done < target.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: target[done...])
            if available.isEmpty, rest.count >= Self.bufferSize {
                // Large blocks need no stay in the buffer.
                let count = try Self.readSome(read, into: rest)
                guard count > 0 else { throw .truncated }
                done += count
                offset += UInt64(count)
                continue
            }
            guard try fill() else { throw .truncated }
            let count = min(available.count, rest.count)
            buffer.withUnsafeBytes { bytes in
                let start = available.lowerBound
                rest.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)]))
            }
            available = (available.lowerBound + count)..<available.upperBound
            done += count
            offset += UInt64(count)
        }
    }

    /// - Precondition: the caller bounded `count`.
    mutating func take(_ count: Int) throws(CARError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withMutableRawBytes { (raw) throws(CARError) in
            try take(into: raw)
        }
        return bytes
    }

    mutating func skip(_ count: UInt64) throws(CARError) {
        var rest = count
        while rest > 0 {
            guard try fill() else { throw .truncated }
            let taken = Int(min(rest, UInt64(available.count)))
            available = (available.lowerBound + taken)..<available.upperBound
            offset += UInt64(taken)
            rest -= UInt64(taken)
        }
    }

    mutating func takeVarint() throws(CARError) -> (value: UInt64, length: Int) {
        var bytes: [UInt8] = []
        repeat {
            guard try fill() else { throw .truncated }
            bytes.append(buffer[available.lowerBound])
            available = (available.lowerBound + 1)..<available.upperBound
            offset += 1
        } while bytes[bytes.count - 1] >= 0x80 && bytes.count <= Varint.lengthMax
        do throws(VarintError) {
            return try bytes.withRawBytes { (raw) throws(VarintError) in try Varint.decode(raw) }
        } catch {
            throw .varint(error)
        }
    }
}

extension [UInt8] {
    /// `withUnsafeMutableBytes` that keeps the type of what `body` throws.
    fileprivate mutating func withMutableRawBytes<Result, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeMutableBufferPointer { (elements) throws(Failure) in
            try body(UnsafeMutableRawBufferPointer(elements))
        }
    }
}

/// Reads an archive of either version from its beginning to its end.
///
/// Keeps one block and a small buffer in memory, whatever the archive's size. Blocks for as
/// long as the bytes take to come. Not safe for use by several threads at once.
public struct CARReader {
    private var input: CARInput
    private let blockSizeMax: Int
    private let isVerifying: Bool
    private let header2: CARv2Header?
    /// Where the CARv1 begins.
    let payloadStart: UInt64
    private var isPayloadOver = false

    /// 1 or 2.
    public let version: Int
    /// The CIDs that the archive was written for. May be none; a gateway promises nothing here.
    public let roots: [CID]

    /// Whether there is an index for `readIndex` to read.
    public var hasIndex: Bool { header2.map { $0.indexOffset > 0 } ?? false }

    /// Opens an archive: reads its header.
    ///
    /// - Parameters:
    ///   - blockSizeMax: a section with a larger block is an error; in bytes.
    ///   - isVerifying: whether every block is checked against its CID.
    ///   - read: fills a part of the buffer, at least one byte, and says how many; 0 is the end.
    public init(
        blockSizeMax: Int = DAGNode.blockSizeMax, isVerifying: Bool = true,
        read: @escaping (UnsafeMutableRawBufferPointer) throws -> Int
    ) throws(CARError) {
        var input = CARInput(read: read)
        var header = try Self.readHeader(&input)
        if header.version == 2, header.roots == nil {
            let bytes = try input.take(CAR.version2HeaderLength)
            let header2 = try bytes.withRawBytes { (raw) throws(CARError) in
                try CARv2Header(decoding: raw)
            }
            try input.skip(header2.dataOffset - input.offset)
            self.header2 = header2
            version = 2
            payloadStart = header2.dataOffset
            header = try Self.readHeader(&input)
            guard input.offset - payloadStart <= header2.dataSize else { throw .truncated }
        } else {
            header2 = nil
            version = 1
            payloadStart = 0
        }
        guard header.version == 1 else { throw .unsupportedVersion(header.version) }
        guard let roots = header.roots else { throw .badHeader }
        self.roots = roots
        self.input = input
        self.blockSizeMax = blockSizeMax
        self.isVerifying = isVerifying
    }

    private static func readHeader(_ input: inout CARInput) throws(CARError) -> CARHeader {
        let length = try input.takeVarint().value
        guard length <= UInt64(CAR.headerLengthMax) else { throw .headerTooLong(length: length) }
        let bytes = try input.take(Int(length))
        return try bytes.withRawBytes { (raw) throws(CARError) in try CARHeader(decoding: raw) }
    }

    /// The next block, or nil at the end.
    public mutating func next() throws(CARError) -> CARSection? {
        let offset = input.offset - payloadStart
        if let header2 {
            isPayloadOver = isPayloadOver || offset == header2.dataSize
        } else if try input.isAtEnd() {
            isPayloadOver = true
        }
        guard !isPayloadOver else { return nil }

        let left = header2.map { $0.dataSize - offset } ?? .max
        let (cid, block) = try Self.readSection(&input, blockSizeMax: blockSizeMax, left: left)
        if isVerifying {
            try Self.verify(block, cid)
        }
        return CARSection(cid: cid, block: block, offset: offset)
    }

    /// - Parameter left: how many bytes there are before the CARv1 ends.
    private static func readSection(
        _ input: inout CARInput, blockSizeMax: Int, left: UInt64
    ) throws(CARError) -> (CID, [UInt8]) {
        let (length, lengthLength) = try input.takeVarint()
        // A CID has a version, a codec, a function and a length; `01 55 00 00` is the shortest.
        guard length >= 4 else { throw .sectionTooShort(length: length) }
        guard length <= UInt64(blockSizeMax + CAR.cidLengthMax) else {
            throw .sectionTooLong(length: length)
        }
        guard UInt64(lengthLength) + length <= left else { throw .truncated }

        let head = try input.take(min(Int(length), CAR.cidLengthMax))
        let (cid, cidLength): (CID, Int)
        do throws(CIDError) {
            (cid, cidLength) = try head.withRawBytes { (raw) throws(CIDError) in
                try CID.decodePrefix(raw)
            }
        } catch {
            throw .cid(error)
        }
        guard Int(length) - cidLength <= blockSizeMax else {
            throw .sectionTooLong(length: length)
        }
        var block = [UInt8](repeating: 0, count: Int(length) - cidLength)
        let headCount = head.count - cidLength
        try block.withMutableRawBytes { (block) throws(CARError) in
            block.copyBytes(from: head[cidLength...])
            try input.take(into: UnsafeMutableRawBufferPointer(rebasing: block[headCount...]))
        }
        return (cid, block)
    }

    /// Reads the section that the bytes begin with. The hash is not checked.
    static func readSection(
        blockSizeMax: Int, read: @escaping (UnsafeMutableRawBufferPointer) throws -> Int
    ) throws(CARError) -> (cid: CID, block: [UInt8]) {
        var input = CARInput(read: read)
        return try readSection(&input, blockSizeMax: blockSizeMax, left: .max)
    }

    static func verify(_ block: [UInt8], _ cid: CID) throws(CARError) {
        do throws(MultihashError) {
            try block.withRawBytes { (raw) throws(MultihashError) in try cid.verify(raw) }
        } catch {
            switch error {
            case .unsupportedFunction: throw .unsupportedHash(cid)
            default: throw .wrongBytes(cid)
            }
        }
    }

    /// The index, or nil if the archive has none.
    ///
    /// Skips the blocks that were not read yet; the reader is at its end afterwards.
    ///
    /// - Parameter countMax: throws `tooMany` beyond; a record takes some 40 bytes of memory.
    public mutating func readIndex(countMax: Int = 1 << 22) throws(CARError) -> CARIndex? {
        isPayloadOver = true
        guard let header2, header2.indexOffset > 0 else { return nil }
        guard header2.indexOffset >= input.offset else { throw .badIndex }
        try input.skip(header2.indexOffset - input.offset)
        var decoder = CARIndexDecoder(countMax: countMax)
        return try decoder.decode(&input)
    }
}

/// Reads an index.
private struct CARIndexDecoder {
    let countMax: Int
    private var count = 0

    init(countMax: Int) {
        self.countMax = countMax
    }

    mutating func decode(_ input: inout CARInput) throws(CARError) -> CARIndex {
        let codec = Multicodec(rawValue: try input.takeVarint().value)
        var buckets: [CARIndex.Bucket] = []
        switch codec {
        case .carIndexSorted:
            try decodeBuckets(&input, code: nil, into: &buckets)
        case .carMultihashIndexSorted:
            let functionCount = try takeCount(&input)
            var lastCode: UInt64?
            for _ in 0..<functionCount {
                let code = try takeWord(&input)
                if let lastCode, code <= lastCode { throw .badIndex }
                lastCode = code
                try decodeBuckets(&input, code: code, into: &buckets)
            }
        default:
            throw .unsupportedIndex(codec)
        }
        guard try input.isAtEnd() else { throw .badIndex }
        return CARIndex(codec: codec, buckets: buckets)
    }

    private mutating func decodeBuckets(
        _ input: inout CARInput, code: UInt64?, into buckets: inout [CARIndex.Bucket]
    ) throws(CARError) {
        let bucketCount = try takeCount(&input)
        var lastWidth: UInt32 = 0
        for _ in 0..<bucketCount {
            let bytes = try input.take(4)
            let width = bytes.withUnsafeBytes {
                UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))
            }
            let byteCount = try takeWord(&input)
            // Widths ascend, so there are at most `digestLengthMax` buckets for a function.
            guard (8...UInt32(Multihash.digestLengthMax + 8)).contains(width), width > lastWidth,
                byteCount % UInt64(width) == 0
            else { throw .badIndex }
            lastWidth = width
            let recordCount = byteCount / UInt64(width)
            guard recordCount <= UInt64(countMax - count) else { throw .tooMany(limit: countMax) }
            count += Int(recordCount)
            let records = try takeRecords(&input, count: Int(recordCount), width: Int(width))
            buckets.append(
                CARIndex.Bucket(code: code, digestLength: Int(width) - 8, records: records))
        }
    }

    /// Takes records piece by piece, so that a count that lies does not cost memory.
    private func takeRecords(
        _ input: inout CARInput, count: Int, width: Int
    ) throws(CARError) -> [UInt8] {
        var records: [UInt8] = []
        var left = count
        while left > 0 {
            let piece = min(left, 4096)
            records += try input.take(piece * width)
            left -= piece
        }
        // Offsets are little-endian, so only the digests have an order that can be relied on.
        let digestLength = width - 8
        let isSorted = records.withUnsafeBytes { records in
            (1..<max(1, count)).allSatisfy { index in
                let before = records[((index - 1) * width)...].prefix(digestLength)
                let digest = records[(index * width)...].prefix(digestLength)
                return !digest.lexicographicallyPrecedes(before)
            }
        }
        guard isSorted else { throw .badIndex }
        return records
    }

    private func takeCount(_ input: inout CARInput) throws(CARError) -> Int32 {
        let count = try input.take(4).withUnsafeBytes {
            Int32(littleEndian: $0.loadUnaligned(as: Int32.self))
        }
        guard count >= 0 else { throw .badIndex }
        return count
    }

    private func takeWord(_ input: inout CARInput) throws(CARError) -> UInt64 {
        try input.take(8).withUnsafeBytes { $0.littleEndian64(at: 0) }
    }
}
