public import Multiformats

/// What a path leads to.
public enum ServedEntry: Hashable, Sendable {
    /// A sealed file.
    case file(CID, size: UInt64)
    case directory
    case symlink(target: [UInt8])
}

/// A name in a directory.
public struct ServedName: Hashable, Sendable {
    public var name: [UInt8]
    /// False where it cannot be one.
    public var mayBeDirectory: Bool

    public init(name: [UInt8], mayBeDirectory: Bool) {
        self.name = name
        self.mayBeDirectory = mayBeDirectory
    }
}

/// A tree of names: that of a volume as it is now, or one below a CID.
///
/// A path is names from the root on, without `.`, `..`, empty names, and slashes in them: what has such is not found.
/// Symlinks on the way are not followed.
public protocol ServedTree: Sendable {
    /// What a path leads to; nil where nothing is there. A file of a volume that is not sealed yet is sealed first.
    func entry(at path: [[UInt8]]) throws(ServeFault) -> ServedEntry?

    /// The names of a directory in bytewise order; nil where there is no directory at the path.
    ///
    /// - Throws: `tooLarge` beyond `ServedNames.countMax`.
    func names(at path: [[UInt8]]) throws(ServeFault) -> [ServedName]?
}

/// Bounds of listings.
public enum ServedNames {
    /// The most names of one directory that are listed.
    public static let countMax = 1 << 18
}
