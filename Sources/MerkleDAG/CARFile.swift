public import Multiformats

/// An archive whose blocks are read in any order.
///
/// Uses the index of a CARv2, or reads an archive without one through once to make an index. Blocks
/// the thread. Keeps the index in memory.
public struct CARFile: BlockSource {
    private let read: (UnsafeMutableRawBufferPointer, UInt64) throws -> Int
    private let payloadStart: UInt64
    private let index: CARIndex
    private let blockSizeMax: Int

    /// 1 or 2.
    public let version: Int
    /// The CIDs that the archive was written for.
    public let roots: [CID]
    /// How many sections the index leads to.
    public var indexedCount: Int { index.count }

    /// Opens an archive.
    ///
    /// - Parameters:
    ///   - countMax: throws `tooMany` for an archive with more sections.
    ///   - read: fills a part of the buffer with the bytes at an offset, at least one, and says how
    ///     many; 0 is the end.
    public init(
        blockSizeMax: Int = DAGNode.blockSizeMax, countMax: Int = 1 << 22,
        read: @escaping (UnsafeMutableRawBufferPointer, UInt64) throws -> Int
    ) throws(CARError) {
        var reader = try Self.reader(blockSizeMax: blockSizeMax, read)
        version = reader.version
        roots = reader.roots
        payloadStart = reader.payloadStart
        self.read = read
        self.blockSizeMax = blockSizeMax
        do throws(CARError) {
            if let index = try reader.readIndex(countMax: countMax) {
                self.index = index
                return
            }
        } catch {
            // An index of an unknown kind is as good as none.
            guard case .unsupportedIndex = error else { throw error }
        }
        reader = try Self.reader(blockSizeMax: blockSizeMax, read)
        var builder = CARIndexBuilder()
        while let section = try reader.next() {
            guard builder.count < countMax else { throw .tooMany(limit: countMax) }
            builder.add(section.cid.multihash, offset: section.offset)
        }
        index = builder.finish()
    }

    /// A reader from the beginning on. It checks no hashes: that is done when a block is asked for.
    private static func reader(
        blockSizeMax: Int, _ read: @escaping (UnsafeMutableRawBufferPointer, UInt64) throws -> Int
    ) throws(CARError) -> CARReader {
        var offset: UInt64 = 0
        return try CARReader(blockSizeMax: blockSizeMax, isVerifying: false) { buffer in
            let count = try read(buffer, offset)
            offset += UInt64(count)
            return count
        }
    }

    public func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        guard let offset = index.offset(of: cid.multihash) else { throw BlockUnavailable(cid) }
        do throws(CARError) {
            return try block(cid, at: offset)
        } catch {
            throw BlockUnavailable(cid, cause: error)
        }
    }

    private func block(_ cid: CID, at sectionOffset: UInt64) throws(CARError) -> [UInt8] {
        let (start, isOverflow) = payloadStart.addingReportingOverflow(sectionOffset)
        guard !isOverflow, start <= UInt64(Int64.max) else { throw .badIndex }
        var offset = start
        let read = read
        let section = try CARReader.readSection(blockSizeMax: blockSizeMax) { buffer in
            let count = try read(buffer, offset)
            offset += UInt64(count)
            return count
        }
        guard section.cid.multihash == cid.multihash else { throw .badIndex }
        return section.block
    }
}
