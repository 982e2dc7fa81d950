internal import Base
internal import InodeManifest
public import MerkleDAG

/// How a volume is to be opened.
public struct VolumeOptions: Sendable {
    /// How content becomes DAGs; nil takes the volume's own, and unixfs-v1-2025 for a new one.
    public var profile: ImportProfile?
    /// Every change is refused with EROFS.
    public var isReadOnly = false
    /// The largest content that is kept in the manifest instead of a flat file, in bytes.
    public var inlineSizeMax = 16 << 10
    /// How long changes wait for a commit that nobody asked for, in milliseconds.
    public var commitIntervalMilliseconds = 1000
    /// How long a file rests after its last writer closed it until it is sealed, in milliseconds.
    public var sealDelayMilliseconds = 200
    /// The length of each of the redo log's two segments, in bytes; 0 for no log.
    public var logSegmentByteCount = ManifestBounds.logSegmentByteCount
    /// Threads that seal files in the background; 0 seals only when asked.
    public var sealThreads = Threads.processorCount
    /// The Kubo node that the content goes to; nil for none.
    public var remote: RemoteOptions?
    /// Where blocks come from without such a node; `remote` has its own.
    public var sources: FetchOptions?
    /// What the tree of a new volume begins with, or follows; nil for an empty one. A volume that has one keeps it
    /// where this is nil.
    public var origin: OriginOptions?
    /// Domains whose repositories come at their first lookup; nil for none.
    public var domains: DomainOptions?
    /// Whom the attribute `ipfs.cid` of a directory is for. It tells of all that is below.
    public var directoryCIDs = DirectoryCIDs.owner

    public init() {}
}

/// Whom the CID of a directory is told to; root and the user of this process always are. That of a file or
/// symlink is told to everyone who may read it.
public enum DirectoryCIDs: String, Sendable, CaseIterable {
    /// Everyone who may read the directory, whatever is below it.
    case readers
    /// Its owner.
    case owner
    /// Nobody else.
    case root
}
