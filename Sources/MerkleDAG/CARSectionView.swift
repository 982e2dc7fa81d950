internal import Multiformats

/// A section of an archive, where its bytes lie.
struct CARSectionView {
    let cid: CID
    let block: UnsafeRawBufferPointer
    /// With its length in front.
    let byteCount: Int

    /// The section that the bytes begin with; nil where they do not have all of it.
    static func first(in bytes: UnsafeRawBufferPointer) throws(CARError) -> CARSectionView? {
        let (length, lengthCount): (UInt64, Int)
        do throws(VarintError) {
            (length, lengthCount) = try Varint.decode(bytes)
        } catch {
            guard error == .truncated else { throw .varint(error) }
            return nil
        }
        guard length <= UInt64(DAGNode.blockSizeMax + CAR.cidLengthMax) else {
            throw .sectionTooLong(length: length)
        }
        let byteCount = lengthCount + Int(length)
        guard bytes.count >= byteCount else { return nil }
        let content = UnsafeRawBufferPointer(rebasing: bytes[lengthCount..<byteCount])
        do throws(CIDError) {
            let (cid, cidCount) = try CID.decodePrefix(content)
            return CARSectionView(
                cid: cid, block: UnsafeRawBufferPointer(rebasing: content[cidCount...]),
                byteCount: byteCount)
        } catch {
            throw .cid(error)
        }
    }

    /// Compares the block with the hash of its CID.
    func verify() throws(CARError) {
        do throws(MultihashError) {
            try cid.verify(block)
        } catch {
            switch error {
            case .unsupportedFunction: throw .unsupportedHash(cid)
            default: throw .wrongBytes(cid)
            }
        }
    }
}
