public import Remotes

/// Where a volume gets blocks that are not here, and what that may take.
public struct FetchOptions: Sendable {
    /// Where blocks come from.
    public var blocks: any RemoteBlocks
    /// How long a read waits for one block, in milliseconds.
    public var fetchMilliseconds = 30_000
    /// Bytes of content kept here that the node holds, too; nil for no limit.
    public var cacheSizeMax: UInt64?
    /// Paths whose content always stays here, as patterns of glob(7) from the root on.
    public var keptPaths: [String] = []
    /// Modes that come from the node may let the group and others write.
    public var trustsModes = false
    /// What it may take to look into one directory that comes from the node.
    public var expansion = ExpansionBounds()
    /// Parts of remote files that are known at a time, of all files together: leaves, and nodes that
    /// were not looked into. Each takes some 100 bytes of memory, twice that while a file's table grows.
    public var remoteExtentsMax = 1 << 19
    /// Bytes on the disk that what is fetched leaves to all else; nil for 64 MiB, or a sixteenth of a
    /// small disk. The manifest's own reserve is a part of them.
    public var diskReserve: UInt64?

    /// Takes blocks from somewhere.
    public init(_ blocks: any RemoteBlocks) {
        self.blocks = blocks
    }
}
