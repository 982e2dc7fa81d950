public import Multiformats

/// A block cannot be had.
public struct BlockUnavailable: Error {
    /// The block.
    public var cid: CID
    /// What happened; nil if the block is simply not there.
    public var cause: (any Error)?

    /// Makes the error.
    public init(_ cid: CID, cause: (any Error)? = nil) {
        self.cid = cid
        self.cause = cause
    }
}

/// A place that blocks come from.
///
/// What it gives is not trusted: readers check every block against its hash. Blocks whose CID holds
/// the content itself (identity) are never asked for.
public protocol BlockSource {
    /// Gives the block of this CID. May block the thread.
    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8]

    /// Told of blocks that will be asked for, the next one first, so that they can be got ahead; does not block.
    func expect(_ cids: [CID])
}

extension BlockSource {
    public func expect(_ cids: [CID]) {}
}

/// A source that is a closure.
public struct ClosureBlockSource: BlockSource {
    private let body: (CID) throws(BlockUnavailable) -> [UInt8]

    /// Makes a source that asks `body` for each block.
    public init(_ body: @escaping (CID) throws(BlockUnavailable) -> [UInt8]) {
        self.body = body
    }

    public func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        try body(cid)
    }
}

/// Why a DAG cannot be read.
public enum DAGReadError: Error {
    /// The source does not have a block.
    case unavailable(BlockUnavailable)
    /// The source gave other bytes than the CID asks for.
    case wrongBytes(CID)
    /// The hash function of the CID is not known here, so its block cannot be checked.
    case unsupportedHash(CID)
    /// The block is neither raw nor dag-pb.
    case unsupportedCodec(CID)
    /// The block is not what its CID says it is, or does not fit its parent.
    case malformed(CID, BlockFormatError)
    /// The DAG is deeper, or wider on the way to one leaf, than any writer makes it.
    case tooDeep(CID)
    /// The CID is not a file.
    case notFile(CID)
    /// The CID is not a directory.
    case notDirectory(CID)
    /// The directory holds two entries of one name.
    case duplicateName(CID, [UInt8])
    /// The directory has no entry of this name.
    case noSuchEntry(CID, name: [UInt8])
    /// There is more than the caller wants to have.
    case tooMany(limit: Int)

    /// Whether the blocks themselves are at fault: whoever gives them, the same is found.
    public var isOfContent: Bool {
        switch self {
        case .unavailable, .wrongBytes, .unsupportedHash: false
        case .unsupportedCodec, .malformed, .tooDeep, .notFile, .notDirectory, .duplicateName,
            .noSuchEntry, .tooMany:
            true
        }
    }
}

extension BlockSource {
    /// Gives a block whose bytes are those that the CID asks for.
    public func verifiedBlock(_ cid: CID) throws(DAGReadError) -> [UInt8] {
        if cid.multihash.code == .identity {
            return cid.multihash.digest
        }
        let block: [UInt8]
        do throws(BlockUnavailable) {
            block = try self.block(cid)
        } catch {
            throw .unavailable(error)
        }
        guard block.count <= DAGNode.blockSizeMax else {
            throw .malformed(cid, .blockTooLarge(byteCount: block.count))
        }
        do throws(MultihashError) {
            try block.withRawBytes { (raw) throws(MultihashError) in try cid.verify(raw) }
        } catch {
            switch error {
            case .unsupportedFunction: throw .unsupportedHash(cid)
            default: throw .wrongBytes(cid)
            }
        }
        return block
    }

    /// Gives a block of a file, directory or symlink, decoded but with its data where it lies.
    func unixfsBlock(_ cid: CID) throws(DAGReadError) -> UnixFSBlock {
        let block = try verifiedBlock(cid)
        switch cid.codec {
        case .raw:
            return UnixFSBlock(cid: cid, bytes: block, links: [], fields: nil)
        case .dagPB:
            do throws(BlockFormatError) {
                return try UnixFSBlock(cid: cid, decoding: block)
            } catch {
                throw .malformed(cid, error)
            }
        default:
            throw .unsupportedCodec(cid)
        }
    }
}

/// A decoded block of a file, directory or symlink.
struct UnixFSBlock {
    var cid: CID
    var bytes: [UInt8]
    var links: [DAGLink]
    /// Nil for a raw leaf.
    var fields: UnixFSFields?

    init(cid: CID, bytes: [UInt8], links: [DAGLink], fields: UnixFSFields?) {
        self.cid = cid
        self.bytes = bytes
        self.links = links
        self.fields = fields
    }

    init(cid: CID, decoding bytes: [UInt8]) throws(BlockFormatError) {
        let (links, fields) = try bytes.withRawBytes { (raw) throws(BlockFormatError) in
            let layout = try DAGNodeLayout(decoding: raw)
            guard let range = layout.dataRange else { throw BlockFormatError.noUnixFSData }
            return (layout.links, try UnixFSFields(decoding: raw, in: range))
        }
        self.init(cid: cid, bytes: bytes, links: links, fields: fields)
    }

    /// Where the UnixFS data, or the whole of a raw leaf, lies in `bytes`.
    var contentRange: Range<Int> {
        guard let fields else { return 0..<bytes.count }
        return fields.dataRange ?? 0..<0
    }

    /// Whether this is a file or a part of one.
    var isFilePart: Bool {
        guard let fields else { return true }
        return fields.kind == .file || fields.kind == .raw
    }
}

/// What a CID is in a file system.
public enum UnixFSEntry: Hashable, Sendable {
    /// A file of `size` bytes.
    case file(size: UInt64, metadata: UnixFSMetadata)
    /// A directory, in one DAG node or in several.
    case directory(isSharded: Bool, metadata: UnixFSMetadata)
    /// A symbolic link to `target`, which a file system can have.
    case symlink(target: [UInt8], metadata: UnixFSMetadata)

    /// The longest target of a symbolic link, in bytes: PATH_MAX of linux/limits.h without its NUL.
    public static let symlinkTargetLengthMax = 4095
}

extension BlockSource {
    /// Says what a CID is, from its root block alone.
    ///
    /// - Throws: `malformed`, among others, for a symlink whose target no file system can have.
    public func unixfsEntry(_ cid: CID) throws(DAGReadError) -> UnixFSEntry {
        let block = try unixfsBlock(cid)
        guard let fields = block.fields else {
            return .file(size: UInt64(block.bytes.count), metadata: .none)
        }
        switch fields.kind {
        case .file, .raw:
            return .file(size: try FileNode(block).size, metadata: fields.metadata)
        case .directory, .hamtShard:
            return .directory(isSharded: fields.kind == .hamtShard, metadata: fields.metadata)
        case .symlink:
            let target = block.bytes[block.contentRange]
            guard (1...UnixFSEntry.symlinkTargetLengthMax).contains(target.count),
                !target.contains(0)
            else { throw .malformed(cid, .badSymlinkTarget) }
            return .symlink(target: Array(target), metadata: fields.metadata)
        case .metadata:
            throw .malformed(cid, .unknownType(fields.kind.rawValue))
        }
    }
}
