public import Multiformats

/// Why something cannot be served. Whoever answers makes a status of it.
public enum ServeFault: Error, Hashable, Sendable {
    /// There is no such thing: not at this path, or nobody has the block, or it is not for others. One case, so
    /// that an answer tells nobody which.
    case notFound
    /// The daemon of the volume is away: it is worth another try soon.
    case unavailable
    /// It took longer than the request may.
    case timedOut
    /// Whoever has the block gave other bytes, or they are damaged where they lie.
    case damaged(CID)
    /// It is there, but what was asked of it cannot be: a directory read as a file, blocks that are no UnixFS.
    case unsuitable(reason: String)
    /// A bound was passed.
    case tooLarge(reason: String)
    /// What else went wrong; for the log, never for the client.
    case failed(reason: String)
}
