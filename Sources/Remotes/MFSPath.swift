/// A path in a remote's mutable file system (MFS), or `/ipfs/CID` where a call takes that as its source.
///
/// Names are bytes: each of them can stand in a path, and is escaped on its way to the remote.
public struct MFSPath: Hashable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The path, as it is meant.
    public var bytes: [UInt8]

    /// Takes a path as it is; a remote refuses one that does not begin with a slash.
    public init(_ path: String) {
        bytes = Array(path.utf8)
    }

    /// Takes a path of any bytes.
    public init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    public init(stringLiteral path: String) {
        self.init(path)
    }

    /// A name below this path.
    public func appending(_ name: [UInt8]) -> MFSPath {
        MFSPath(
            bytes: (bytes.last == UInt8(ascii: "/") ? bytes : bytes + [UInt8(ascii: "/")]) + name)
    }

    /// A name below this path.
    public func appending(_ name: String) -> MFSPath {
        appending(Array(name.utf8))
    }

    /// For people: bytes that are not UTF-8 are shown as U+FFFD.
    public var description: String { String(decoding: bytes, as: UTF8.self) }
}
