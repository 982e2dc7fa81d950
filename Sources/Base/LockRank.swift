/// The order in which one thread may take several locks: from the outermost to the innermost.
///
/// While a thread holds a lock, it takes none of the same rank or of one that stands above it here.
/// Two threads that keep to that cannot wait for each other's locks. Where `HeldLocks` is compiled in,
/// whoever does not keep to it ends the process.
///
/// The waits that are no locks stand outside of this table, each with its own rule beside it: the turn to
/// commit (`GroupCommit`), a file's turn to be hashed or to arrive from the Kubo node, the fetch of a block,
/// the join of a thread.
public enum LockRank: UInt8, Sendable {
    /// The computation of tree CIDs, one at a time. It seals files and reads records meanwhile.
    case tree
    /// The write lock of an open file: of one file at a time. Its bytes are read, written and flushed
    /// under it; the Kubo node is never waited for.
    case file
    /// The threads that serve a mount. Whoever interrupts them ends their waits for the Kubo node as well.
    case workers
    /// All records of the manifest. Taken in every operation, and for a moment each time: nothing is asked of a file
    /// under it but by SQLite.
    case manifest
    /// The redo log: held while the disk works, by whoever commits and by nobody else.
    case redoLog
    /// What is known of the parts of one remote file, and its file in the cache.
    case remoteFile
    /// What waits to be sent to the Kubo node. Who waits in it looks whether the link is stopped.
    case outbox
    /// The list of all streams of leaves, each of which has a lock of its own.
    case streams
    /// The turns of large expansions. Who waits for one looks whether it is cancelled.
    case expansions
    /// The files whose content arrives from the Kubo node. Who waits for one looks whether it is interrupted.
    case arrivals
    /// The connections to the Kubo node, and the pause between two attempts. Who waits for either looks whether
    /// the call is cancelled.
    case connections
    /// The control socket's open answers, each of which has a lock of its own.
    case control
    /// A lock that is held for a few statements and holds no other but the two below: what has no rank of
    /// its own.
    case leaf
    /// The log, which anybody may write to, whatever he holds.
    case log
    /// The failures that tests ask for: each system call looks for one.
    case faults
}
