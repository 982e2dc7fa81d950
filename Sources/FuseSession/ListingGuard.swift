package import Base
internal import Synchronization

/// Keeps the kernel from mixing listings of a directory from before and after a change.
///
/// With directories cached (see `opendir`), the kernel gathers what READDIR answers in pages, and
/// calls them complete at the first empty answer. A listing that begins while they are gathered is
/// served by us at first, and goes on in the pages once they are complete. If the pages began
/// before a change and the listing after it, the listing shows names that were gone before it
/// began: the kernel compares the directory's version only at the start of a listing.
///
/// So pages that saw a change must not become of use. Throwing them away (NOTIFY_INVAL_INODE)
/// before the empty answer is enough: the kernel, missing the first page, starts again with us.
/// For a while after an empty answer a change has to throw them away at once, because the process
/// that lists may come to call them complete only later; `grace` bounds how much later.
/// Where it is not known what the pages saw, they are thrown away: that costs one listing.
package final class ListingGuard: Sendable {
    /// What is known of the pages of a directory.
    private struct Listing {
        /// A change has come since they were last thrown away or called complete.
        var isChanged = false
        /// An empty answer went out, and no change came after it.
        var isEnded = false
    }

    private struct State {
        /// Those of about the last `grace`, and of as long before; what is older is dropped whole.
        var listings = Recent<Inode, Listing>(countMax: ListingGuard.generationCountMax)
        var turned = ContinuousClock.now
    }

    private let state = Monitor(State())
    /// Whether anything was ever listed; changes before that need no lock.
    private let isInUse = Atomic<Bool>(false)

    private static let grace = Duration.seconds(2)
    /// Directories of one generation; a further one ends the generation early.
    private static let generationCountMax = 1 << 15

    package init() {}

    /// Notes a listing from the start of a directory; before the volume is asked for it.
    package func begin(_ directory: Inode) {
        let now = ContinuousClock.now
        state.withLock { state in
            if now - state.turned > Self.grace || state.listings.isFull {
                state.listings.turn()
                state.turned = now
            }
            state.listings.note(directory, state.listings[directory] ?? Listing())
            isInUse.store(true, ordering: .releasing)
        }
    }

    /// Notes that an empty answer is about to go out; true where the pages must be thrown away
    /// before.
    package func end(_ directory: Inode) -> Bool {
        state.withLock { state in
            // One that has been dropped may have seen anything.
            let isChanged = state.listings[directory]?.isChanged ?? true
            state.listings.note(directory, Listing(isChanged: false, isEnded: true))
            isInUse.store(true, ordering: .releasing)
            return isChanged
        }
    }

    /// Notes that an entry was made, moved or removed: after the fact, and before that is answered.
    /// True where the pages must be thrown away before.
    package func change(_ directory: Inode) -> Bool {
        guard isInUse.load(ordering: .acquiring) else { return false }
        return state.withLock { state in
            guard let listing = state.listings[directory] else { return false }
            state.listings.note(directory, Listing(isChanged: true, isEnded: false))
            return listing.isEnded
        }
    }
}
