public import Base

extension Volume {
    /// Gives the tree as it is now a name. Blocks for what is not hashed yet.
    ///
    /// - Parameters:
    ///   - name: nil for one made of the time.
    ///   - withManifest: makes the portable manifest too.
    /// - Throws: `snapshot` for a name that is taken or none; `operation`.
    public func createSnapshot(
        named name: String? = nil, message: String = "", isAutomatic: Bool = false,
        withManifest: Bool = false
    ) throws(VolumeError) -> Snapshot { throw .tree("stub") }

    /// All snapshots, the oldest first.
    public func snapshots() -> [Snapshot] { [] }

    /// The snapshot of a name.
    ///
    /// - Throws: `snapshot` where there is none.
    public func snapshot(named name: String) throws(VolumeError) -> Snapshot { throw .tree("stub") }

    /// Deletes a snapshot, and what no other and nothing else has of it.
    ///
    /// - Throws: `snapshot` where there is none; `operation`.
    public func deleteSnapshot(named name: String) throws(VolumeError) { throw .tree("stub") }

    /// Brings the tree, or what is at a path of it, to what it was in a snapshot: what did not change is not touched, and
    /// programs that have a file open keep what they had. Where the snapshot has nothing at the path, what is there goes.
    ///
    /// - Throws: `snapshot`, `tree`, `operation`.
    public func restore(
        _ name: String, path: [FileName] = []
    ) throws(VolumeError) -> RestoredTree { throw .tree("stub") }
}
