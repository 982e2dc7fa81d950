public import Multiformats

/// What stands at a path of a remote's mutable file system.
public struct MFSStatus: Sendable, Hashable {
    public enum Kind: String, Sendable {
        /// A file, or a symbolic link, which a Kubo node does not tell apart here.
        case file
        case directory
    }

    public var cid: CID
    public var kind: Kind
    /// The bytes of a file; 0 for a directory.
    public var size: UInt64
    /// The bytes of all blocks, as the links say.
    public var cumulativeSize: UInt64

    public init(cid: CID, kind: Kind, size: UInt64, cumulativeSize: UInt64) {
        self.cid = cid
        self.kind = kind
        self.size = size
        self.cumulativeSize = cumulativeSize
    }
}
