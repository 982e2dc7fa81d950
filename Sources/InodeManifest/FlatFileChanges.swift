/// The flat files that are to go, from the commit that makes them nameless to the one that forgets them. The
/// owner of the store unlinks them between the two.
package struct FlatFileChanges {
    /// What a commit has made nameless.
    private var deletable: [UInt64] = []
    /// Evicted since the last commit.
    var evicted: [UInt64] = []
    /// Evicted, and not unlinked yet.
    private var evicting: Set<UInt64> = []
    /// Unlinked; their `deleted_object` rows go with the next commit.
    var unlinked: [UInt64] = []

    init() {}

    /// Whether flat files of evicted objects wait for a commit.
    package var hasEvicted: Bool { !evicted.isEmpty }

    /// Whether the flat file of an evicted object is still to be removed.
    package func isEvicting(_ id: UInt64) -> Bool { evicting.contains(id) }

    /// Takes the flat files that may be unlinked now.
    package mutating func takeDeletable() -> [UInt64] {
        defer { deletable = [] }
        return deletable
    }

    /// Notes that flat files are unlinked.
    package mutating func noteUnlinked(_ ids: [UInt64]) {
        evicting.subtract(ids)
        unlinked += ids
    }

    mutating func noteEvicted(_ id: UInt64) {
        evicting.insert(id)
        evicted.append(id)
    }

    /// Notes that a batch is durable.
    mutating func noteCommitted(_ batch: CommitBatch) {
        deletable += batch.deletedFiles + batch.evictedFiles
    }
}
