/// What a check of a state directory found.
public struct CheckReport: Sendable {
    /// The most texts that `problems` and `repaired` hold each; the counts go on.
    public static let textsMax = BoundedTexts.textsMax

    /// What is wrong and stays so, a line each that says what and where.
    public var problems: [String] = []
    public var problemCount: UInt64 = 0
    /// What was wrong and is mended, a line each.
    public var repaired: [String] = []
    public var repairedCount: UInt64 = 0

    public var inodes: UInt64 = 0
    public var files: UInt64 = 0
    public var directories: UInt64 = 0
    public var symlinks: UInt64 = 0
    public var entries: UInt64 = 0
    public var objects: UInt64 = 0
    public var sealedObjects: UInt64 = 0
    public var inlineObjects: UInt64 = 0
    /// Bytes of sealed objects that were read and hashed.
    public var bytesHashed: UInt64 = 0
    /// What the end of the last process left behind, and the next mount puts in order.
    public var pending = Pending()

    /// What is no problem, because the next mount puts it in order.
    public struct Pending: Sendable, Equatable {
        /// Inodes that were open without a name.
        public var unlinkedInodes: UInt64 = 0
        /// Imports that did not end.
        public var unfinishedImports: UInt64 = 0
        /// Flat files that were made, but not named by a row yet.
        public var unnamedFiles: UInt64 = 0
        /// Flat files that were to be removed, and objects that were being read when their last inode let go.
        public var deletedObjects: UInt64 = 0
        /// Files that were being written, and whose size only their flat file knows.
        public var unsyncedSizes: UInt64 = 0
        /// Files that were being written, and whose flat file is gone.
        public var lostFiles: UInt64 = 0
        /// Directories with a CID above files that were being written.
        public var outdatedTrees: UInt64 = 0

        /// Nothing pending.
        public init() {}
    }

    /// Whether nothing is wrong.
    public var isClean: Bool { problemCount == 0 }
}
