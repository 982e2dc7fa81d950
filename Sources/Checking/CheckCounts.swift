/// What a check saw of a volume, and what waits for the next mount.
struct CheckCounts: Sendable {
    var inodes: UInt64 = 0
    var files: UInt64 = 0
    var directories: UInt64 = 0
    var symlinks: UInt64 = 0
    var entries: UInt64 = 0
    var objects: UInt64 = 0
    var sealedObjects: UInt64 = 0
    var inlineObjects: UInt64 = 0
    /// Inodes without a name, which the next mount deletes.
    var unlinkedInodes: UInt64 = 0
    /// Imports that did not end, of which the next mount removes what there is.
    var unfinishedImports: UInt64 = 0
    /// Flat files whose removal was committed but not done.
    var deletedObjects: UInt64 = 0
}
