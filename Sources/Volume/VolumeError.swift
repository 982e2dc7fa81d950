internal import Base
public import InodeManifest
public import Multiformats
public import ObjectStore

public import struct SystemPackage.Errno

/// Why a volume cannot be opened or closed, or content cannot be had by its CID.
public enum VolumeError: Error, Sendable, CustomStringConvertible {
    /// The state directory cannot be used.
    case stateDirectory(StateDirectoryError)
    /// The manifest is newer, damaged or refused.
    case manifest(ManifestError)
    /// The volume was made with another profile.
    case otherProfile(path: String, found: String, wanted: String)
    /// No block with this CID is in the store.
    case blockNotFound(CID)
    /// What is stored for the CID has another hash.
    case blockDamaged(CID)
    /// A block of the volume's content is at the node alone, and the node does not give it.
    case blockAtRemote(CID, reason: String)
    /// The DAG below a CID could not be written out.
    case export(CID, reason: String)
    /// The remote cannot be used as was asked.
    case remote(String)
    /// The tree cannot begin with what it was to begin with, or a DAG cannot become a part of it; one line.
    case tree(String)
    /// A snapshot cannot be made, or there is none of that name; one line.
    case snapshot(String)
    /// An operation on the volume failed.
    case operation(String, Errno)

    /// An operation that failed, with the cause that was left behind for it.
    static func operation(failed operation: String, _ error: Errno) -> VolumeError {
        .operation(FailureCause.take().map { "\(operation): \($0)" } ?? operation, error)
    }

    public var description: String {
        switch self {
        case .stateDirectory(let error):
            error.description
        case .manifest(let error):
            error.description
        case .otherProfile(let path, let found, let wanted):
            "state directory \(path) has profile \(found), not \(wanted): "
                + "leave --profile out or take another directory"
        case .blockNotFound(let cid):
            "\(cid): no such block here"
        case .blockDamaged(let cid):
            "\(cid): the stored block is damaged: run registryfs check"
        case .blockAtRemote(let cid, let reason):
            "\(cid): it is not here, and not to be had: \(reason)"
        case .export(let cid, let reason):
            "\(cid): cannot be exported: \(reason)"
        case .remote(let reason), .tree(let reason), .snapshot(let reason):
            reason
        case .operation(let operation, let errno):
            "\(operation): \(errno)"
        }
    }
}
