public import Multiformats

/// Takes a CARv1 in pieces of any length, as they come, and gives the blocks of one DAG from it.
///
/// Given are the root, and what a block that was given links to, each once, and each compared with its
/// CID. All else is passed over: the roots that the archive names, repetitions, and blocks that nothing
/// links to. So who makes the archive decides only what is left out. Knows the links of dag-pb; blocks
/// of other codecs have none.
///
/// Keeps one section and one piece in memory, and the links that lead to no block yet.
public struct CARStream {
    /// The most links that may lead to no block yet; some 100 bytes each.
    public static let linksMax = 1 << 17

    /// The most blocks of one archive; each is kept in mind, so that it is given once.
    public static let blocksMax = 1 << 17

    /// What came and was not given on.
    private var pending: [UInt8] = []
    /// Whether the header of an archive has come.
    public private(set) var isHeaderTaken = false
    /// What is linked to, and did not come yet.
    private var wanted: Set<Multihash>
    /// What came, so that it is given once.
    private var given: Set<Multihash> = []

    /// How many blocks were given.
    public var blockCount: Int { given.count }
    /// Whether so many links lead to no block yet, or so many blocks were given, that no further ones are
    /// kept: the caller had better take no more.
    public private(set) var isFull = false
    /// Whether the stream is between two sections, where an archive may end.
    public var isBetweenSections: Bool { isHeaderTaken && pending.isEmpty }

    public init(root: CID) {
        wanted = [root.multihash]
    }

    /// Takes a piece, and gives on the blocks that it completes.
    ///
    /// - Parameter body: takes a block; false to have no more.
    /// - Returns: false where `body` wants no more.
    /// - Throws: `CARStreamError.archive` for what is no archive, or a block of this DAG with other bytes
    ///   than its CID's.
    public mutating func take<Failure: Error>(
        _ piece: UnsafeRawBufferPointer,
        _ body: (CID, [UInt8]) throws(Failure) -> Bool
    ) throws(CARStreamError<Failure>) -> Bool {
        var bytes = pending
        pending = []
        bytes.append(contentsOf: piece)
        let (count, goesOn) = try bytes.withRawBytes { (raw) throws(CARStreamError<Failure>) in
            try give(raw, body)
        }
        pending = Array(bytes[count...])
        return goesOn
    }

    /// - Returns: how many of the bytes are done with, and whether there is to be more.
    private mutating func give<Failure: Error>(
        _ bytes: UnsafeRawBufferPointer, _ body: (CID, [UInt8]) throws(Failure) -> Bool
    ) throws(CARStreamError<Failure>) -> (Int, Bool) {
        var end = 0
        do throws(CARError) {
            if !isHeaderTaken {
                guard let count = try Self.headerCount(bytes) else { return (0, true) }
                isHeaderTaken = true
                end = count
            }
        } catch {
            throw .archive(error)
        }
        while true {
            let block: [UInt8]?
            let section: CARSectionView
            do throws(CARError) {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[end...])
                guard let found = try CARSectionView.first(in: rest) else { return (end, true) }
                section = found
                block = try take(found)
            } catch {
                throw .archive(error)
            }
            end += section.byteCount
            guard let block else { continue }
            do throws(Failure) {
                guard try body(section.cid, block) else { return (end, false) }
            } catch {
                throw .body(error)
            }
        }
    }

    /// A block that is wanted; nil for others.
    private mutating func take(_ section: CARSectionView) throws(CARError) -> [UInt8]? {
        guard wanted.contains(section.cid.multihash) else { return nil }
        guard section.block.count <= DAGNode.blockSizeMax else {
            throw .sectionTooLong(length: UInt64(section.byteCount))
        }
        try section.verify()
        wanted.remove(section.cid.multihash)
        given.insert(section.cid.multihash)
        if given.count >= Self.blocksMax { isFull = true }
        // What is malformed is for its reader to say; nothing is below it here.
        if section.cid.codec == .dagPB, let node = try? DAGNodeLayout(decoding: section.block) {
            for link in node.links where link.cid.multihash.code != .identity {
                guard !given.contains(link.cid.multihash) else { continue }
                guard wanted.count < Self.linksMax else {
                    isFull = true
                    break
                }
                wanted.insert(link.cid.multihash)
            }
        }
        return Array(section.block)
    }

    /// How long the header is; nil where it has not come as a whole.
    private static func headerCount(_ bytes: UnsafeRawBufferPointer) throws(CARError) -> Int? {
        let (length, lengthCount): (UInt64, Int)
        do throws(VarintError) {
            (length, lengthCount) = try Varint.decode(bytes)
        } catch {
            guard error == .truncated else { throw .varint(error) }
            return nil
        }
        guard length <= UInt64(CAR.headerLengthMax) else { throw .headerTooLong(length: length) }
        let count = lengthCount + Int(length)
        guard bytes.count >= count else { return nil }
        var offset = 0
        let reader = try CARReader { buffer in
            let piece = min(buffer.count, count - offset)
            buffer.copyBytes(from: bytes[offset..<(offset + piece)])
            offset += piece
            return piece
        }
        guard reader.version == 1 else { throw .unsupportedVersion(UInt64(reader.version)) }
        return count
    }
}

/// Why blocks could not be given from an archive.
public enum CARStreamError<Failure: Error>: Error {
    /// It is none, or lies.
    case archive(CARError)
    /// Whoever takes the blocks failed.
    case body(Failure)
}
