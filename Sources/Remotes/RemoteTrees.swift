public import Base
public import Multiformats

/// A request for the blocks of a file or directory, root first.
public struct TreeRequest: Sendable {
    /// What is asked for below the root.
    public enum Scope: Sendable, Hashable {
        /// All blocks of a file; of a directory the blocks of itself, its shards, and none of its entries.
        case entity
        /// All that the root leads to.
        case all
    }

    public var root: CID
    public var scope = Scope.entity
    /// The most bytes of blocks that are taken, at least those of the root; no block is begun beyond.
    public var bytesMax = 32 << 20
    /// Whether the remote looks among its own peers for what it lacks.
    public var asksPeers = false
    /// How long all of it may take, in milliseconds.
    public var deadlineMilliseconds: Int
    /// Ends the request; nil for none.
    public var cancellation: Cancellation?
    /// On whose behalf, so that nobody takes all connections; nil for the volume's own.
    public var user: UInt32?

    public init(_ root: CID, deadlineMilliseconds: Int) {
        self.root = root
        self.deadlineMilliseconds = deadlineMilliseconds
    }
}

/// How a tree's blocks came to an end. What was given is verified in any case; whether all were, the links
/// in them tell, and not the remote.
public enum TreeEnding: Sendable {
    /// The remote says that these were all.
    case ended
    /// Some bound was reached: of bytes, or of the links that may be open at a time.
    case bounded
    /// The answer broke off behind the blocks that were given.
    case cut(RemoteError)
}

/// Somebody who gives many blocks for one request, where that saves round trips.
///
/// Requests block like those of `RemoteBlocks`.
public protocol RemoteTrees: RemoteBlocks {
    /// Gives the blocks of a tree, each once, the root first and each behind one that links to it. Each is
    /// compared with its CID before it is given; what nothing links to is passed over.
    ///
    /// - Parameter take: takes a block. Called on the calling thread.
    /// - Throws: what `block` throws, where no block came at all; `wrongBytes` also behind blocks that were
    ///   given, which are good.
    func blocks<Failure: Error>(
        _ request: TreeRequest, _ take: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(RemoteStreamError<Failure>) -> TreeEnding
}
