internal import Kubo
public import KuboDouble
public import Logging
public import Multiformats
public import Remotes

/// A Kubo node that a volume under test publishes to, and what others do and see there. Tests of what
/// stands above the remotes know Kubo by this alone.
public struct KuboStand: Sendable {
    /// The double, or a real node.
    public let node: TestNode
    private let client: KuboClient

    public init(_ node: TestNode, log: Logger) throws {
        self.node = node
        client = try KuboClient(
            KuboConfiguration(address: try KuboAddress(node.address)), log: log)
    }

    /// The node as a volume has it.
    public var remote: some RemoteStore & MutableFileSystem { KuboRemote(client) }

    /// A node as a volume has it, by its address.
    ///
    /// - Parameter connectionsMax: how many calls may be under way at once.
    public static func remote(
        at address: String, connectionsMax: Int, log: Logger
    ) throws -> some RemoteStore & MutableFileSystem {
        var configuration = KuboConfiguration(address: try KuboAddress(address))
        configuration.connectionsMax = connectionsMax
        return KuboRemote(try KuboClient(configuration, log: log))
    }

    // MARK: MFS

    /// Puts a DAG to an MFS path, whose root block the node has.
    public func copy(
        _ root: CID, to path: String, makesParents: Bool = false, replacesFile: Bool = false
    ) throws {
        try client.filesCopy(
            from: MFSPath("/ipfs/\(root)"), to: MFSPath(path), parents: makesParents,
            force: replacesFile)
    }

    /// Removes what stands at an MFS path.
    ///
    /// - Parameter force: nothing there is no error.
    public func remove(_ path: String, isRecursive: Bool = false, force: Bool = false) throws {
        try client.filesRemove(MFSPath(path), isRecursive: isRecursive, force: force)
    }

    /// What stands at an MFS path; nil for nothing.
    public func status(of path: String) throws -> MFSStatus? {
        try client.filesStat(MFSPath(path))
    }

    // MARK: Blocks and pins

    /// Sends blocks as an archive.
    public func send(_ blocks: [(cid: CID, bytes: [UInt8])]) throws {
        var rest = blocks
        try client.importBlocks { () throws(Never) in rest.popLast() }
    }

    /// Sends blocks by their own.
    public func put(_ blocks: [(cid: CID, bytes: [UInt8])]) throws {
        try client.putBlocks(blocks)
    }

    /// Whether the node itself has a block.
    public func has(_ cid: CID) throws -> Bool { try client.hasBlock(cid) }

    /// A block, wherever the node has it from.
    public func block(_ cid: CID) throws -> [UInt8] { try client.block(cid) }

    /// How a root is pinned.
    public struct Pin: Sendable {
        public let isRecursive: Bool
        public let name: String?
    }

    /// How a root is pinned; nil where it is not.
    public func pin(of root: CID) throws -> Pin? {
        try client.pin(of: root).map { Pin(isRecursive: $0.kind == .recursive, name: $0.name) }
    }

    /// Ends a recursive pin.
    public func unpin(_ root: CID) throws { try client.pinRemove(root) }
}
