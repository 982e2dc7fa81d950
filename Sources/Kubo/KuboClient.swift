internal import Base
internal import CCurl
public import Logging
internal import Multiformats

/// Speaks the HTTP RPC of a Kubo node (`/api/v0`).
///
/// Every call blocks the calling thread until it is done, from any thread of our own; never call it
/// on Swift's cooperative pool. Connections are kept and used again. What the node says is
/// not trusted: replies are bounded, blocks are checked against their CIDs, counts and keys against
/// what was sent.
///
/// A call that changes nothing by being repeated is tried again, after a short pause, when the node
/// is away, busy, or (once) too slow; each call's comment says so. Any call is tried again
/// where it certainly did not reach the node.
public final class KuboClient: Sendable {
    /// What the client was made with.
    public let configuration: KuboConfiguration
    let log: Logger

    /// Makes a client. Nothing is sent yet.
    ///
    /// - Throws: `failed` where libcurl is not to be had.
    public init(_ configuration: KuboConfiguration, log: Logger) throws(KuboError) {
        self.configuration = configuration
        self.log = log
    }

    /// Makes one call and gives the whole reply.
    func perform(_ call: Call) throws(KuboError) -> [UInt8] {
        throw call.error(.failed, "not made yet")
    }

    /// Makes one call whose body is asked for piece by piece.
    func upload<Failure: Error>(
        _ call: Call, _ next: () throws(Failure) -> [[UInt8]]?
    ) throws(KuboUploadError<Failure>) -> [UInt8] {
        throw .kubo(call.error(.failed, "not made yet"))
    }

    /// Makes one call and lends the reply piece by piece.
    func download<Failure: Error>(
        _ call: Call, _ sink: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(KuboUploadError<Failure>) {
        throw .kubo(call.error(.failed, "not made yet"))
    }
}

/// Why a call failed that works together with a closure of the caller's.
public enum KuboUploadError<Failure: Error>: Error {
    /// The node, or the way to it.
    case kubo(KuboError)
    /// The closure threw.
    case source(Failure)
}
