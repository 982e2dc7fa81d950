internal import Glibc

/// What stat(2) says of a file.
public struct FileStatus: Sendable {
    /// Bytes.
    public let size: UInt64
    /// Units of 512 bytes.
    public let blocks: UInt64
    /// st_mode: kind and permission bits.
    public let mode: UInt32
    /// st_uid.
    public let owner: UInt32
    public let accessed: Timestamp
    public let modified: Timestamp

    init(_ status: stat) {
        accessed = Timestamp(
            seconds: Int64(status.st_atim.tv_sec), nanoseconds: Int64(status.st_atim.tv_nsec))
        modified = Timestamp(
            seconds: Int64(status.st_mtim.tv_sec), nanoseconds: Int64(status.st_mtim.tv_nsec))
        size = UInt64(clamping: status.st_size)
        blocks = UInt64(clamping: status.st_blocks)
        mode = status.st_mode
        owner = status.st_uid
    }
}

/// What statvfs(3) says of a filesystem.
public struct FilesystemStatus: Sendable {
    /// Bytes of the unit of the block counts.
    public let blockSize: UInt64
    public let blocks: UInt64
    public let blocksFree: UInt64
    /// Free for others than root.
    public let blocksAvailable: UInt64
    public let filesFree: UInt64
}
