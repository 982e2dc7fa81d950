internal import Base
internal import Synchronization

/// Objects whose flat files others read by descriptors of their own, for as long as they have them: nobody writes to
/// such an object in place (`ManifestState.isShared`).
///
/// A lending begins under the manifest's lock, as does every decision to write in place, so one of them comes first. It ends
/// on any thread, without that lock: whoever writes a moment later than he could have makes a copy for nothing.
package final class LentObjects: Sendable {
    /// Lendings under way, by object.
    private let counts = Monitor<[UInt64: Int]>([:])
    /// How many objects are lent: mostly none, and each read asks.
    private let objectCount = Atomic<Int>(0)

    init() {}

    /// Begins a lending of an object that is sealed and has no writer; under the manifest's lock.
    package func begin(_ id: UInt64) {
        counts.withLock { counts in
            counts[id, default: 0] += 1
            objectCount.store(counts.count, ordering: .sequentiallyConsistent)
        }
    }

    /// Ends a `begin`. Does not block but for a few statements.
    package func end(_ id: UInt64) {
        counts.withLock { counts in
            let left = counts[id, default: 1] - 1
            counts[id] = left == 0 ? nil : left
            objectCount.store(counts.count, ordering: .sequentiallyConsistent)
        }
    }

    /// How many objects are lent.
    package var count: Int { objectCount.load(ordering: .sequentiallyConsistent) }

    /// Whether an object is lent; under the manifest's lock, so that it does not become so meanwhile.
    package func contains(_ id: UInt64) -> Bool {
        guard objectCount.load(ordering: .sequentiallyConsistent) > 0 else { return false }
        return counts.withLock { $0[id] != nil }
    }
}
