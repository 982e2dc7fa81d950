public import Base
public import Multiformats

/// Which blocks a server gives.
public enum BlockScope: UInt8, Sendable {
    /// What belongs to the volume's tree, its snapshots and its published roots, but for uploads under way.
    case tree
    /// Whatever block is here.
    case any
}

/// Where a server may look for what it is asked.
public enum BlockReach: UInt8, Sendable {
    /// Here only (`Cache-Control: only-if-cached`).
    case here
    /// Also with the sources of the volume.
    case everywhere
}

/// A range of an open file whose bytes never change, to be sent as it lies.
public struct FileRange: Sendable {
    /// Who closes it, once the last range that has it is gone.
    public var file: SharedFile
    /// In bytes.
    public var offset: UInt64
    public var count: UInt64

    public init(_ file: SharedFile, offset: UInt64, count: UInt64) {
        self.file = file
        self.offset = offset
        self.count = count
    }
}

/// An open file, read-only, that several answers may have; closed when the last lets go of it. What it was lent
/// by is told then.
public final class SharedFile: Sendable {
    /// The number, for as long as this object lives.
    public let raw: Int32
    /// Nil where somebody else closes it.
    private let descriptor: OwnedDescriptor?
    private let owner: (any AnyObject & Sendable)?
    private let onEnd: (@Sendable () -> Void)?

    /// - Parameter onEnd: called once, on any thread, when nobody has the file any more; must not block.
    public init(_ descriptor: consuming OwnedDescriptor, onEnd: (@Sendable () -> Void)? = nil) {
        raw = descriptor.raw
        self.descriptor = consume descriptor
        owner = nil
        self.onEnd = onEnd
    }

    /// - Parameter owner: closes the descriptor when it is let go; letting go of it must not block.
    public init(keeping owner: any AnyObject & Sendable, raw: Int32) {
        self.raw = raw
        descriptor = nil
        self.owner = owner
        onEnd = nil
    }

    deinit { onEnd?() }
}

/// Bytes in memory, or where they lie.
public enum BytesPlace: Sendable {
    case bytes([UInt8])
    case file(FileRange)

    public var count: UInt64 {
        switch self {
        case .bytes(let bytes): UInt64(bytes.count)
        case .file(let range): range.count
        }
    }
}

/// What a server serves: the blocks of a volume, or of a tree that somebody else has.
///
/// All of it blocks the thread, up to a deadline that the content has itself. Nothing of it is trusted to be within bounds by
/// its callers' clients: those give CIDs and names as they like.
public protocol ServedContent: Sendable {
    /// The tree as it is now.
    var tree: any ServedTree { get }

    /// The newest root CID; it may be some moments old.
    func root() throws(ServeFault) -> CID

    /// A block, verified, or where it lies: a file range is of a leaf whose bytes the volume has hashed.
    ///
    /// - Throws: `notFound` for what is out of scope as for what is nowhere.
    func block(_ cid: CID, scope: BlockScope, reach: BlockReach) throws(ServeFault) -> BytesPlace

    /// All bytes of the file of a CID as one run, where they lie so here; nil where they do not, or nobody knows the file.
    func wholeFile(_ cid: CID, scope: BlockScope) throws(ServeFault) -> BytesPlace?

    /// Whether a block is here and in scope, without getting it.
    func has(_ cid: CID, scope: BlockScope) throws(ServeFault) -> Bool

    /// Tells of blocks that will be asked for, next first; does not block.
    func expect(_ cids: [CID])
}

extension ServedContent {
    public func expect(_ cids: [CID]) {}
}
