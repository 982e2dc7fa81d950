public import struct SystemPackage.Errno

extension Errno {
    /// Whether a FUSE mount whose daemon is gone answers with this: ENOTCONN; ECONNABORTED where the
    /// connection was aborted or is about to be; ECANCELED for a request that a thread of the daemon
    /// had taken from io_uring when it died.
    public var isOfDeadMount: Bool {
        self == .socketNotConnected || self == .connectionAbort || self == .canceled
    }
}
