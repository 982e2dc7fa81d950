public import Remotes

/// How a volume uses a remote: a Kubo node.
public struct RemoteOptions: Sendable {
    /// Where blocks come from and go to.
    public var store: any RemoteStore
    /// Where the tree stands for others.
    public var names: any MutableFileSystem
    /// The MFS path at which the tree stands; nil takes `/registryfs/` and the volume's number.
    public var path: String?
    /// How long the tree rests before it is published, in milliseconds.
    public var quietMilliseconds = 500
    /// How long a tree that never rests waits to be published, in milliseconds; also how often the
    /// MFS path is looked at for changes that others made.
    public var publishIntervalMilliseconds = 5_000
    /// Bytes of content kept here that the node holds, too; nil for no limit.
    public var cacheSizeMax: UInt64?
    /// Paths whose content always stays here, as patterns of glob(7) from the root on.
    public var keptPaths: [String] = []
    /// fsync(2) returns only when the node has the blocks of the file.
    public var isDurableAtRemote = false
    /// How long a read waits for one block, in milliseconds.
    public var fetchMilliseconds = 30_000
    /// How long the node may be at a pin and come to no further block, of which all should be there,
    /// in milliseconds; then some count as lost.
    public var pinMilliseconds = 120_000
    /// A new volume takes the tree that stands at the MFS path.
    public var adoptsTree = false
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

    /// Uses a remote that is both.
    public init(_ remote: some RemoteStore & MutableFileSystem) {
        store = remote
        names = remote
    }
}
