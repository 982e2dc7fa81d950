public import Base
public import Multiformats

/// Who a remote says that it is.
public struct RemoteIdentity: Sendable, Hashable {
    /// Stays the same as long as it is the same store: a peer id. What another one holds is not known.
    public var id: String
    /// The version of its program.
    public var version: String

    public init(id: String, version: String) {
        self.id = id
        self.version = version
    }
}

/// A request that a remote keeps all blocks below a root.
public struct PinRequest: Sendable {
    public var root: CID
    /// The root that was pinned before and need not be kept any longer; nil for none. The new one is
    /// pinned before this one's pin ends.
    public var replacing: CID?
    /// At most 255 bytes; the pin has it once the request is done.
    public var name: String
    /// Whether the remote looks among its peers for what it lacks.
    public var asksPeers = false
    /// How long the remote may come to no further block, in milliseconds; nil for as long as it likes.
    public var stallMilliseconds: Int?
    public var cancellation: Cancellation?

    public init(_ root: CID, replacing: CID?, name: String) {
        self.root = root
        self.replacing = replacing
        self.name = name
    }
}

/// A root that a remote keeps all blocks of.
public struct RemotePin: Sendable, Hashable {
    public var root: CID
    public var name: String

    public init(root: CID, name: String) {
        self.root = root
        self.name = name
    }
}

/// Somebody who takes blocks and keeps them: a Kubo node.
///
/// Requests block like those of `RemoteBlocks`.
public protocol RemoteStore: RemoteBlocks {
    /// Asks the remote who it is.
    func identity(cancellation: Cancellation?) throws(RemoteError) -> RemoteIdentity

    /// Says whether the remote itself holds a block. Asks no peers.
    func has(_ cid: CID, cancellation: Cancellation?) throws(RemoteError) -> Bool

    /// Streams blocks to the remote, one in memory at a time. After a failure any part of them may be
    /// stored; sending them all again is harmless.
    ///
    /// - Parameter next: the next block, whose bytes must be those of its CID, or the remote may refuse all
    ///   of them; nil at the end. There must be one at least. Called on the calling thread; its time
    ///   counts towards no deadline.
    func importBlocks<Failure: Error>(
        cancellation: Cancellation?, _ next: () throws(Failure) -> (cid: CID, bytes: [UInt8])?
    ) throws(RemoteStreamError<Failure>)

    /// Has the remote keep all blocks below a root. Asked for again, it changes nothing.
    ///
    /// - Throws: `notFound` or `timeout` where blocks are missing.
    func pin(_ request: PinRequest) throws(RemoteError)

    /// The name of a root's pin, empty for one that has none; nil where it is not pinned.
    func pinName(of root: CID, cancellation: Cancellation?) throws(RemoteError) -> String?

    /// The pins whose names begin so, in no order.
    func pins(
        namePrefix: String, cancellation: Cancellation?
    ) throws(RemoteError) -> [RemotePin]

    /// Ends the pin of a root, whatever its name is.
    ///
    /// - Throws: `notFound` where it is not pinned.
    func unpin(_ root: CID, cancellation: Cancellation?) throws(RemoteError)
}
