internal import Glibc

/// A file descriptor that is closed once, when its owner ends.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number, for system calls; it stays this value's to close.
    public let raw: Int32

    /// Takes over an open descriptor.
    public init(_ raw: Int32) {
        self.raw = raw
    }

    deinit {
        Glibc.close(raw)
    }

    /// Gives the descriptor up to the caller, who closes it.
    public consuming func take() -> Int32 {
        let number = raw
        discard self
        return number
    }
}
