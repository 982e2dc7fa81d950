package import Multiformats

/// Where the parts of an archive lie in its file.
package struct CARLayout: Sendable {
    /// 1 or 2.
    package let version: Int
    /// The CIDs that the archive was written for.
    package let roots: [CID]
    /// Where the CARv1 lies, from which the offsets of an index count.
    package let payload: Range<UInt64>
    /// Where its first section begins, in the file.
    package let sectionsStart: UInt64
    /// Where the index begins, in the file; nil where there is none.
    package let indexStart: UInt64?

    /// Reads the headers of an archive.
    ///
    /// - Parameters:
    ///   - byteCount: the length of the file.
    ///   - read: fills a part of the buffer with the bytes at an offset, at least one, and says how many; 0
    ///     is the end.
    package init(
        byteCount: UInt64, read: @escaping (UnsafeMutableRawBufferPointer, UInt64) throws -> Int
    ) throws(CARError) {
        func reader(from start: UInt64) -> (UnsafeMutableRawBufferPointer) throws -> Int {
            var offset = start
            return { buffer in
                let count = try read(buffer, offset)
                offset += UInt64(count)
                return count
            }
        }
        let archive = try CARReader(isVerifying: false, read: reader(from: 0))
        version = archive.version
        roots = archive.roots
        let start = archive.payloadStart
        if archive.version == 2 {
            var input = CARInput(read: reader(from: UInt64(CAR.pragma.count)))
            let bytes = try input.take(CAR.version2HeaderLength)
            let header = try bytes.withRawBytes { (raw) throws(CARError) in
                try CARv2Header(decoding: raw)
            }
            payload = start..<(start + header.dataSize)
            indexStart = header.indexOffset > 0 ? header.indexOffset : nil
            guard payload.upperBound <= byteCount else { throw .truncated }
        } else {
            payload = start..<max(start, byteCount)
            indexStart = nil
        }
        var input = CARInput(read: reader(from: start))
        let (headerLength, lengthLength) = try input.takeVarint()
        sectionsStart = start + UInt64(lengthLength) + headerLength
        guard sectionsStart <= payload.upperBound else { throw .truncated }
    }
}

/// What stands before the block in a section.
package struct CARSectionHead: Sendable {
    /// The most bytes that it has.
    package static let byteCountMax = Varint.lengthMax + CAR.cidLengthMax

    package let cid: CID
    /// The bytes of the length and the CID.
    package let byteCount: Int
    package let blockByteCount: Int

    /// Reads the head of a section.
    ///
    /// - Parameters:
    ///   - bytes: begin with the section, and have `byteCountMax` of its bytes or all to the archive's end.
    ///   - left: how many bytes there are to the archive's end.
    package init(
        decoding bytes: UnsafeRawBufferPointer, left: UInt64
    ) throws(CARError) {
        let (length, lengthCount): (UInt64, Int)
        do throws(VarintError) {
            (length, lengthCount) = try Varint.decode(bytes)
        } catch {
            throw error == .truncated ? .truncated : .varint(error)
        }
        // A CID has a version, a codec, a function and a length; `01 55 00 00` is the shortest.
        guard length >= 4 else { throw .sectionTooShort(length: length) }
        guard length <= UInt64(DAGNode.blockSizeMax + CAR.cidLengthMax) else {
            throw .sectionTooLong(length: length)
        }
        let isWhole = UInt64(lengthCount) + length <= left
        let content = bytes[lengthCount...].prefix(Int(length))
        do throws(CIDError) {
            let (cid, cidCount) = try CID.decodePrefix(UnsafeRawBufferPointer(rebasing: content))
            self.cid = cid
            byteCount = lengthCount + cidCount
            blockByteCount = Int(length) - cidCount
        } catch {
            throw isWhole ? .cid(error) : .truncated
        }
        guard isWhole else { throw .cutOff(cid) }
        guard blockByteCount <= DAGNode.blockSizeMax else { throw .sectionTooLong(length: length) }
    }
}
