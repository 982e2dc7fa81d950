public import InodeManifest
public import ObjectStore

/// Why a state directory cannot be checked.
public enum CheckError: Error, Sendable, CustomStringConvertible {
    /// The state directory cannot be used, or there is no volume in it.
    case stateDirectory(StateDirectoryError)
    /// The manifest is newer or older, or refused.
    case manifest(ManifestError)

    public var description: String {
        switch self {
        case .stateDirectory(let error): error.description
        case .manifest(let error): error.description
        }
    }
}
