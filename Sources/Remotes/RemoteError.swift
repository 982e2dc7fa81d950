/// Why a remote did not do what it was asked.
///
/// The text is one line of bounded length without control characters, and has no credentials in it:
/// whoever makes an error of words that come from elsewhere cleans them first.
public struct RemoteError: Error, Sendable, CustomStringConvertible {
    /// What a caller can decide upon.
    public enum Kind: String, Sendable, CaseIterable {
        /// The remote does not have what was asked for: a block, a path or a pin.
        case notFound
        /// Nobody answers at the address, or the connection ended before the reply did.
        case unreachable
        /// A deadline passed, here or there.
        case timeout
        /// The remote does not take this request: it does not know it, or may not do it for us.
        case refused
        /// The bytes are not those of the CID, or the reply is not what the protocol says.
        case wrongBytes
        /// Something else is at the place: a name that exists, a file where a directory is needed.
        case conflict
        /// The remote has too much to do; the same request may pass later.
        case busy
        /// The remote has no room.
        case full
        /// The request's `Cancellation` was used.
        case cancelled
        /// Anything else that the remote reports.
        case failed
    }

    public var kind: Kind
    /// The remote, what it was asked, and what happened.
    public var description: String
    /// When the remote wants to be asked again, where it said so; by `MonotonicClock.milliseconds`. It has
    /// been bounded by whoever made the error.
    public var notBefore: Int64?

    public init(_ kind: Kind, _ description: String, notBefore: Int64? = nil) {
        self.kind = kind
        self.description = description
        self.notBefore = notBefore
    }
}

/// Why a request failed that works together with a closure of the caller's.
public enum RemoteStreamError<Failure: Error>: Error {
    /// The remote, or the way to it.
    case remote(RemoteError)
    /// The closure threw.
    case source(Failure)
}
