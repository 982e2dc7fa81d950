internal import Base
internal import CFuse
internal import Volume

internal import struct SystemPackage.Errno

extension Operations {
    /// opendir and fsyncdir; the listings are in `DirectRequest`.
    static func addDirectories(to table: inout fuse_lowlevel_ops) {
        // The volume's cookies need no handle. ENOSYS makes the kernel ask once in the life of the
        // mount: it then opens and closes directories by itself, and keeps their listing in its
        // page cache until the directory changes (FUSE_NO_OPENDIR_SUPPORT). `ListingGuard` mends what
        // that leaves to be wished.
        table.opendir = { request, _, _ in
            guard let request else { return }
            Reply(request).failure(.noFunction)
        }
        table.fsyncdir = { request, inode, _, _ in
            Operations.done(request) { context throws(Errno) in
                try context.volume.synchronizeDirectory(Inode(inode))
            }
        }
    }
}
