internal import Multiformats

/// The objects that were sealed lately, and those that are sealed no longer, for who looks for one by its CID
/// and for who sends them to a node.
package struct SealedObjects {
    private struct Place {
        let id: UInt64
        let generation: UInt64
    }

    /// Objects by their CID that SQLite cannot find yet.
    private var recent: [CID: Place] = [:]
    /// Nil before `keep`.
    private var sealed: [UInt64]?
    /// Nil before `keep`.
    private var gone: [UInt64]?
    private var hasLost = false

    init() {}

    /// Has the numbers of the objects kept that are sealed from now on, for `takeSealed`.
    package mutating func keep() {
        if sealed == nil { sealed = [] }
        if gone == nil { gone = [] }
    }

    /// The objects that were unsealed or deleted since the last call, once `keep` was called.
    package mutating func drainInvalidated() -> [UInt64] {
        guard let taken = gone, !taken.isEmpty else { return [] }
        gone = []
        return taken
    }

    /// The objects that were sealed since the last call, in order; nil where they were too many, so
    /// that `CommittedRows.unpublishedObjects` must be asked.
    package mutating func takeSealed() -> [UInt64]? {
        defer {
            sealed = []
            hasLost = false
        }
        return hasLost ? nil : sealed ?? []
    }

    /// Notes that an object has a CID from now on.
    mutating func note(_ id: UInt64, _ cid: CID, generation: UInt64) {
        recent[cid] = Place(id: id, generation: generation)
    }

    /// Notes that an object is to be sent.
    package mutating func noteSealed(_ id: UInt64) {
        guard let count = sealed?.count else { return }
        guard count < ManifestBounds.sealedObjectsMax else { return hasLost = true }
        sealed?.append(id)
    }

    mutating func noteGone(_ id: UInt64) { gone?.append(id) }

    /// The newest object of a CID that SQLite may not find.
    func find(_ cid: CID) -> UInt64? { recent[cid]?.id }

    /// Forgets what SQLite can find.
    mutating func forget(checkpointed generation: UInt64) {
        recent = recent.filter { $0.value.generation > generation }
    }
}
