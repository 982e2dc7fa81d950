public import Multiformats

/// Writes a CARv1.
///
/// Whoever writes decides which blocks, and in which order; see `BlockSource.forEachBlock`.
public struct CARWriter<Failure: Error> {
    private let sink: (UnsafeRawBufferPointer) throws(Failure) -> Void

    /// How many bytes were written.
    public private(set) var byteCount: UInt64 = 0

    /// Begins an archive: writes its header.
    ///
    /// - Parameters:
    ///   - roots: what the archive is written for, usually one CID.
    ///   - sink: takes the bytes, one piece after the other. A piece is only valid during the call.
    public init(
        roots: [CID], sink: @escaping (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        self.sink = sink
        try write(CAR.encodedHeader(roots: roots))
    }

    private mutating func write(_ bytes: [UInt8]) throws(Failure) {
        try bytes.withRawBytes(sink)
        byteCount += UInt64(bytes.count)
    }

    /// Writes a section. The hash is not checked here.
    ///
    /// - Returns: where the section begins, in bytes.
    @discardableResult
    public mutating func write(
        _ cid: CID, _ block: UnsafeRawBufferPointer
    ) throws(Failure) -> UInt64 {
        let offset = byteCount
        try write(CAR.encodedSectionHead(cid, blockByteCount: block.count))
        try sink(block)
        byteCount += UInt64(block.count)
        return offset
    }

    /// Writes a section. The hash is not checked here.
    ///
    /// - Returns: where the section begins, in bytes.
    @discardableResult
    public mutating func write(_ cid: CID, _ block: [UInt8]) throws(Failure) -> UInt64 {
        try block.withRawBytes { (raw) throws(Failure) in try write(cid, raw) }
    }
}

/// Writes a CARv2 with an index.
///
/// Everything is written in order, except the header, which is written once more at the end, when
/// its numbers are known.
public struct CARv2Writer<Failure: Error> {
    private let sink: (UnsafeRawBufferPointer, UInt64) throws(Failure) -> Void
    private var payload: CARWriter<Failure>
    private var index = CARIndexBuilder()
    private var isFullyIndexed = true

    /// Begins an archive: writes its headers.
    ///
    /// - Parameters:
    ///   - roots: what the archive is written for, usually one CID.
    ///   - sink: takes bytes and the offset in the file where they belong. The bytes are only valid
    ///     during the call.
    public init(
        roots: [CID], sink: @escaping (UnsafeRawBufferPointer, UInt64) throws(Failure) -> Void
    ) throws(Failure) {
        self.sink = sink
        // The header is all zero until the end, so an archive that was cut off is not valid.
        let start = CAR.pragma + [UInt8](repeating: 0, count: CAR.version2HeaderLength)
        try start.withRawBytes { (raw) throws(Failure) in try sink(raw, 0) }
        var position = UInt64(CAR.dataOffsetMin)
        payload = try CARWriter(roots: roots) { (bytes) throws(Failure) in
            try sink(bytes, position)
            position += UInt64(bytes.count)
        }
    }

    /// Writes a section. The hash is not checked here.
    public mutating func write(_ cid: CID, _ block: UnsafeRawBufferPointer) throws(Failure) {
        let offset = try payload.write(cid, block)
        if cid.multihash.code == .identity {
            // Nobody looks for a block that lies in its CID.
            isFullyIndexed = false
        } else {
            index.add(cid.multihash, offset: offset)
        }
    }

    /// Writes a section. The hash is not checked here.
    public mutating func write(_ cid: CID, _ block: [UInt8]) throws(Failure) {
        try block.withRawBytes { (raw) throws(Failure) in try write(cid, raw) }
    }

    /// Ends the archive: writes the index and the header. The writer is used up.
    ///
    /// - Parameter indexCodec: `carMultihashIndexSorted`, `carIndexSorted`, or nil for no index.
    /// - Returns: the length of the archive in bytes.
    @discardableResult
    public mutating func finish(
        indexCodec: Multicodec? = .carMultihashIndexSorted
    ) throws(Failure) -> UInt64 {
        let dataOffset = UInt64(CAR.dataOffsetMin)
        let dataEnd = dataOffset + payload.byteCount
        let encoded = indexCodec.map { index.finish(codec: $0).encoded() } ?? []
        let sink = sink
        if !encoded.isEmpty {
            try encoded.withRawBytes { (raw) throws(Failure) in try sink(raw, dataEnd) }
        }
        let header = CARv2Header(
            isFullyIndexed: isFullyIndexed && !encoded.isEmpty, dataOffset: dataOffset,
            dataSize: payload.byteCount, indexOffset: encoded.isEmpty ? 0 : dataEnd)
        try header.encoded.withRawBytes { (raw) throws(Failure) in
            try sink(raw, UInt64(CAR.pragma.count))
        }
        return dataEnd + UInt64(encoded.count)
    }
}
