internal import Glibc

/// Page-aligned memory that is freed once, when its owner ends.
public struct OwnedBuffer: ~Copyable {
    /// The memory, valid as long as the buffer is.
    public let bytes: UnsafeMutableRawBufferPointer

    public init(byteCount: Int) {
        bytes = .allocate(byteCount: byteCount, alignment: 4096)
    }

    deinit {
        bytes.deallocate()
    }

    /// Gives the memory of all whole pages from an offset on back to the system (MADV_DONTNEED of
    /// madvise(2)); what they hold is lost.
    public func release(from offset: Int) {
        let start = (offset + 4095) & ~4095
        let end = bytes.count & ~4095
        guard start < end, let base = bytes.baseAddress else { return }
        madvise(base + start, end - start, MADV_DONTNEED)
    }
}
