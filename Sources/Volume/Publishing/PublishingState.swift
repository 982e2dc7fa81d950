// The room of publishing: what is sealed goes to the remote, roots are pinned there, the MFS mirror shows the tree, and
// what others change in the mirror is merged.
//
// Owns: the outbox, in memory what the manifest's rows say; the blocks that were sent lately; streams of leaves; who
// waits for the tree to be published; when that is due.
// Locks: the outbox's, below the manifest's; of everything else each its own, for a few statements.
// Invariants: what counts as published was acknowledged by the remote in this epoch. A root is pinned only after all
// blocks below it, and the mirror shows only roots that are pinned. A merge loses nothing of either side, and doing
// it again changes nothing.

/// What publishing knows of the tree.
final class PublishingState {
    /// Counts changes of names, attributes and content that came by requests.
    var changes: UInt64 = 0
    /// When the tree is to be published.
    var publication = Publication()
}
