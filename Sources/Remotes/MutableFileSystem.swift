public import Base
public import Multiformats

/// A remote's names for DAGs, which others change as well: MFS of a Kubo node.
///
/// Requests block like those of `RemoteBlocks`. A change that is not flushed may be lost with the remote's
/// process; a Kubo node takes 256 of them.
public protocol MutableFileSystem: Sendable {
    /// Says what stands at a path, or at `/ipfs/CID…`; nil for nothing.
    func status(
        of path: MFSPath, cancellation: Cancellation?
    ) throws(RemoteError) -> MFSStatus?

    /// Puts the DAG of a root, which the remote has, to a path.
    ///
    /// - Throws: `conflict` for a name that exists, `notFound` without the root or the parent.
    func put(
        _ root: CID, at path: MFSPath, _ options: MFSPutOptions, cancellation: Cancellation?
    ) throws(RemoteError)

    /// Removes what stands at a path, a directory with all that is in it. Nothing there is no error.
    func remove(_ path: MFSPath, cancellation: Cancellation?) throws(RemoteError)

    /// Moves what stands at one path to another where nothing is, and flushes.
    func move(
        _ source: MFSPath, to destination: MFSPath, cancellation: Cancellation?
    ) throws(RemoteError)

    /// Writes the changes at and above a path to the remote's disk.
    func flush(_ path: MFSPath, cancellation: Cancellation?) throws(RemoteError)
}

/// How a DAG is put to a path.
public struct MFSPutOptions: OptionSet, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Directories above are made where they are missing.
    public static let makesParents = MFSPutOptions(rawValue: 1)
    /// A file that is there is replaced; a directory never is.
    public static let replacesFile = MFSPutOptions(rawValue: 2)
    /// The change is on the remote's disk when the request is done.
    public static let flushes = MFSPutOptions(rawValue: 4)
}
