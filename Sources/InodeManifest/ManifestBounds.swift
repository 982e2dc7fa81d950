/// The bounds of the manifest's memory and of its work between two commits.
package enum ManifestBounds {
    /// Inode records kept in memory; open and uncommitted ones may go beyond it.
    package static let inodesCachedMax = 32_768
    /// Object records kept in memory.
    package static let objectsCachedMax = 32_768
    /// Directory entries kept in memory.
    package static let entriesCachedMax = 49_152
    /// Numbers of objects given out until the volume's row is told.
    package static let objectsUnlistedMax: UInt64 = 4_096
    /// Changes after which a commit is started although nobody asked for one, and committed ones
    /// after which a checkpoint is made.
    package static let changesPerCommit = 4_096
    /// Changes after which mutations wait for a commit, and committed ones after which commits wait
    /// for SQLite.
    package static let changesUncommittedMax = 12_288
    /// Uncommitted bytes of inline content, extended attributes and nodes after which a commit is started.
    package static let contentBytesPerCommit = 4 << 20
    /// Bytes of clean inline content kept in memory.
    package static let inlineBytesCachedMax = 4 << 20
    /// Bytes of clean extended attributes kept in memory.
    package static let attributeBytesCachedMax = 4 << 20
    /// Sealed objects that wait to be told to whoever sends them to the node.
    package static let sealedObjectsMax = 65_536
    /// The length of each of the redo log's two segments, in bytes.
    package static let logSegmentByteCount = 4 << 20
    /// Pages of the WAL after which it is copied into the database.
    static let walPagesPerCopy = 4_096
    /// Pages of the WAL after which commits wait for that.
    static let walPagesMax = 32_768
}
