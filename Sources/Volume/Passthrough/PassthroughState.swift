internal import Base

/// What the room of backing files knows beside each file's own.
final class PassthroughState {
    /// The inode whose backing file an object's flat file is, by object.
    var backed: [UInt64: Inode] = [:]
    /// Inodes whose backing file was still mapped after the last close.
    var mappedAfterClose: Set<UInt64> = []
    /// Which new files will stay small.
    var smallFiles = SmallFilePredictor()
}
