public import Remotes

/// How a volume publishes to a remote: a Kubo node.
public struct RemoteOptions: Sendable {
    /// Where blocks go to.
    public var store: any RemoteStore
    /// Where blocks come from: the remote, and others beside it (`addSources`).
    public var fetch: FetchOptions
    /// Blocks come from others, too.
    private(set) var hasOtherSources = false
    /// Where the tree stands for others.
    public var names: any MutableFileSystem
    /// The MFS path at which the tree stands; nil takes `/registryfs/` and the volume's number.
    public var path: String?
    /// How long the tree rests before it is published, in milliseconds.
    public var quietMilliseconds = 500
    /// How long a tree that never rests waits to be published, in milliseconds; also how often the
    /// MFS path is looked at for changes that others made.
    public var publishIntervalMilliseconds = 5_000
    /// fsync(2) returns only when the node has the blocks of the file.
    public var isDurableAtRemote = false
    /// How long the node may be at a pin and come to no further block, of which all should be there,
    /// in milliseconds; then some count as lost.
    public var pinMilliseconds = 120_000
    /// A new volume takes the tree that stands at the MFS path.
    public var adoptsTree = false

    /// Uses a remote that is both.
    public init(_ remote: some RemoteStore & MutableFileSystem) {
        store = remote
        names = remote
        fetch = FetchOptions(remote)
    }

    /// Has blocks come from others as well.
    ///
    /// - Parameter all: these and the remote.
    public mutating func addSources(_ all: any RemoteBlocks) {
        fetch.blocks = all
        hasOtherSources = true
    }
}
