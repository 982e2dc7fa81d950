public import Base
public import Multiformats

/// A request for one block.
public struct BlockRequest: Sendable {
    public var cid: CID
    /// Whether the remote looks among its own peers for what it lacks. That may take until the deadline;
    /// without it a block that the remote does not hold is `notFound` at once.
    public var asksPeers = false
    /// How long all of it may take, in milliseconds: waiting for a connection and repetitions counted.
    public var deadlineMilliseconds: Int
    /// Ends the request; nil for none.
    public var cancellation: Cancellation?
    /// On whose behalf, so that nobody takes all connections; nil for the volume's own.
    public var user: UInt32?
    /// The addresses of those announced sources of a set that are asked; empty for all of them.
    var announcedBy: [String] = []

    public init(_ cid: CID, deadlineMilliseconds: Int) {
        self.cid = cid
        self.deadlineMilliseconds = deadlineMilliseconds
    }
}

/// Somebody who has blocks: a Kubo node, a gateway, a peer, a CAR.
///
/// Every request blocks the calling thread until it is done or its deadline has passed, and may be made
/// from any thread of our own; never from Swift's cooperative pool.
public protocol RemoteBlocks: Sendable {
    /// What and where it is, for people, as in `127.0.0.1:5001`. No credentials.
    var address: String { get }

    /// Gives a block, compared with its CID.
    ///
    /// - Parameter memory: what the block is received into; the caller may give it back with the block.
    /// - Throws: `notFound`, `unreachable`, `timeout`, `refused` for a hash function that is not known here,
    ///   `wrongBytes` for other bytes than the CID's and for more than 2 MiB, `busy`, `cancelled`, `failed`.
    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8]
}
