import Base
import Volume

/// One call of the volume, as a value, so that it can be told to the volume and to the model.
///
/// Inodes and handles are numbers: the volume gives out inode numbers one after the other, and so
/// does the model.
enum Operation: Sendable {
    case lookup(FileName, in: UInt64)
    case forget(UInt64, count: UInt64)
    case attributes(UInt64)
    case makeNode(FileName, in: UInt64, FileKind, mode: UInt32, rdev: UInt64, umask: UInt32)
    case makeDirectory(FileName, in: UInt64, mode: UInt32, umask: UInt32)
    case makeSymlink(FileName, in: UInt64, target: [UInt8])
    case create(FileName, in: UInt64, mode: UInt32, flags: Int32)
    case makeTemporary(in: UInt64, mode: UInt32)
    case link(UInt64, as: FileName, in: UInt64)
    case unlink(FileName, in: UInt64)
    case removeDirectory(FileName, in: UInt64)
    case rename(FileName, in: UInt64, to: FileName, inNew: UInt64, flags: UInt32)
    case open(UInt64, flags: Int32)
    case release(Int)
    case flush(Int)
    case read(Int, at: UInt64, count: Int)
    case write(Int, at: UInt64, seed: UInt64, count: Int, clearSetID: Bool)
    case truncate(UInt64, to: UInt64, clearSetID: Bool)
    case setMode(UInt64, UInt32)
    case setOwner(UInt64, uid: UInt32?, gid: UInt32?)
    case setTimes(UInt64, accessed: Int64, modified: Int64)
    case allocate(Int, mode: Int32, offset: UInt64, length: UInt64)
    case copyRange(Int, at: UInt64, to: Int, atNew: UInt64, length: UInt64)
    case seek(Int, from: UInt64, whence: Int32)
    case synchronize(Int, dataOnly: Bool)
    case synchronizeDirectory(UInt64)
    case synchronizeAll
    case list(UInt64, portion: Int)
    case listWithAttributes(UInt64)
    case readSymlink(UInt64)
    case setAttribute(UInt64, FileName, [UInt8], flags: Int32)
    case getAttribute(UInt64, FileName)
    case removeAttribute(UInt64, FileName)
    case listAttributes(UInt64)
    case cid(UInt64)
    case snapshot(String)
    case deleteSnapshot(String)
}

/// What stat tells, times left out.
struct Status: Equatable, Sendable {
    var inode: UInt64
    var kind: FileKind
    var mode: UInt32
    var linkCount: UInt32
    var uid: UInt32
    var gid: UInt32
    var rdev: UInt64
    var size: UInt64
}

struct Listed: Equatable, Sendable {
    var name: FileName
    var inode: UInt64
    var kind: FileKind
}

/// What a successful operation gives back.
enum Answer: Equatable, Sendable {
    case nothing
    case status(Status)
    /// The handle is the number in the order of opening.
    case opened(Status, handle: Int)
    case times(accessed: Int64, modified: Int64)
    case bytes([UInt8])
    case count(UInt64)
    case entries([Listed])
    case statuses([Status])
    case text(String)
}
