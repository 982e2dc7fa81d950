internal import Base
internal import InodeManifest

// The room of backing files: open files that the kernel reads and writes in a flat file, without a request.
//
// What has become of an open file is a state (`BackingState`), and each thing that happens to it an event of that; all
// that is allowed stands in `BackingState.after`:
//
//      undecided ──refuse──▶ byRequests ──close──▶ undecided
//        │   ▲
// attach │   └────────── takeAway ───────┬─────────────┐
//        ▼                               │             │
//       open ───────── close ─────────▶ closed ─────▶ mapped ⟲ keepMapped, each second
//        ▲ ⟲ use                         │ keepMapped  │
//        └───────────── use ─────────────┴─────────────┘
//
// and of the bytes in the file, in open, closed and mapped alike:
//
//       read ──makeWritable──▶ written ──sync──▶ synced ⟲ sync     (at fsync, each second, before a CID, at the end)
//                                ▲                 │
//                                └── syncTooSoon, change
//
// Owns: each open file's `FilePassthrough`, which is its state and, in open, closed and mapped, its `Backing`; the pool
// of registered empty files; which object's flat file backs which inode; the predictor of small files.
// Locks: the write lock of the file to attach, to use, to make writable, to sync and to take away; the manifest's for
// what is noted, so a state is asked and moved under that. The last close and a change take the manifest's alone.
// Invariants: one inode has one backing file, and one flat file backs one inode at a time. Between two syncs the
// inode's row is as it was at the last one, with its content. Nothing is sealed whose backing file may be written.
// A file is open only while somebody has a handle. A backing file is taken away only once nobody has it mapped: a
// write lease tells.

/// What the room of backing files has.
struct PassthroughRoom: Sendable {
    private let state = LockBound(PassthroughState())
    /// Registered empty files.
    let pool = BackingPool()

    func callAsFunction(_ lock: borrowing ManifestState) -> PassthroughState { state(lock) }
}

/// What the room of backing files knows beside each file's own.
final class PassthroughState {
    /// The inode whose backing file an object's flat file is, by object.
    var backed: [UInt64: Inode] = [:]
    /// Where to look for files that are mapped after their last close, by inode number. Who opens one again stays in
    /// here until its backing file is taken away.
    var mappedAfterClose: Set<UInt64> = []
    /// Which new files will stay small.
    var smallFiles = SmallFilePredictor()
}
