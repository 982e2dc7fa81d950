/// The number of an inode: the key of its row in the inode manifest and its FUSE node id.
///
/// Numbers are not reused while a volume is open. After a crash those come again of which no commit
/// knew, or which were the highest and deleted; so a file handle has a generation as well.
public struct Inode: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The manifest's row id, 1 or more.
    public let number: UInt64

    public init(_ number: UInt64) {
        self.number = number
    }

    /// The root directory; FUSE fixes its node id at 1 (FUSE_ROOT_ID in linux/fuse.h).
    public static let root = Inode(1)

    public static func < (left: Inode, right: Inode) -> Bool { left.number < right.number }

    public var description: String { "inode \(number)" }
}

/// The number of an open file description, valid from open or create until release.
public struct HandleID: Hashable, Sendable, CustomStringConvertible {
    public let number: UInt64

    public init(_ number: UInt64) {
        self.number = number
    }

    public var description: String { "handle \(number)" }
}

/// The name of a directory entry: any bytes but `/` and NUL, as path_resolution(7) says.
public struct FileName: Hashable, Sendable, CustomStringConvertible {
    /// The bytes of the name, without a terminator.
    public let bytes: [UInt8]

    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    public init(_ string: String) {
        bytes = Array(string.utf8)
    }

    /// Copies a NUL-terminated name.
    public init(cString: UnsafePointer<CChar>) {
        bytes = copyBytes(of: cString)
    }

    /// The name as text; bytes that are not UTF-8 become U+FFFD, so it serves messages only.
    public var description: String { String(decoding: bytes, as: UTF8.self) }
}

/// Copies the bytes of a C string, its terminator left out.
private func copyBytes(of cString: UnsafePointer<CChar>) -> [UInt8] {
    var length = 0
    while cString[length] != 0 { length += 1 }
    return [UInt8](UnsafeRawBufferPointer(start: cString, count: length))
}
