internal import Base
internal import InodeManifest
internal import ObjectStore

public import struct SystemPackage.Errno

extension Volume {
    /// The room and the inodes of the volume (statfs(2)): those of the disk below, since nothing
    /// else bounds it.
    public func statistics() throws(Errno) -> FilesystemStatistics {
        let disk = try store.filesystemStatus()
        let used = manifest.withLock { $0.inodeCount }
        return FilesystemStatistics(
            blockSize: disk.blockSize, blocks: disk.blocks, blocksFree: disk.blocksFree,
            blocksAvailable: disk.blocksAvailable, files: used &+ disk.filesFree,
            filesFree: disk.filesFree, nameLengthMax: UInt64(Self.nameLengthMax))
    }
}
