internal import Base

// The room of backing files: open files that the kernel reads and writes in a flat file, without a request.
//
//   closed ──first open──▶ by requests ──last close──▶ closed
//      │                        (the kernel refuses to mix both ways on one inode)
//      └──first open──▶ read ──open to write──▶ written ──last close──▶ synced for the last time ─┬─▶ closed
//                        │                     │    ▲                                             │
//                        │                     └sync┘ at fsync, each second, before a CID         ▼
//                        └──────────────last close──────────────────────────▶ closed    mapped after close
//                                                                                     (tried again each second)
//
// Owns: each open file's `Backing`, which is `written` where `isWritable`, and synced where `synced` is set; the pool
// of registered empty files; which object's flat file backs which inode; the predictor of small files.
// Locks: the write lock of the file to attach, to sync and to detach; the manifest's for what is noted.
// Invariants: one inode has one backing file, and one flat file backs one inode at a time. Between two syncs the
// inode's row is as it was at the last one, with its content. Nothing is sealed whose backing file may be written.
// A backing file is taken away only once nobody has it mapped: a write lease tells.

/// What the room of backing files knows beside each file's own.
final class PassthroughState {
    /// The inode whose backing file an object's flat file is, by object.
    var backed: [UInt64: Inode] = [:]
    /// Inodes whose backing file was still mapped after the last close.
    var mappedAfterClose: Set<UInt64> = []
    /// Which new files will stay small.
    var smallFiles = SmallFilePredictor()
}
