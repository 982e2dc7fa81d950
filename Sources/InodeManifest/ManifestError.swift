/// Why a manifest cannot be opened, or a commit failed.
public enum ManifestError: Error, Sendable, CustomStringConvertible {
    /// The database was written by a newer version of the program.
    case newerFormat(path: String, found: Int, known: Int)
    /// The file is no manifest, or is damaged.
    case damaged(path: String, reason: String)
    /// SQLite refused; the reason is its own message.
    case database(path: String, reason: String)

    public var description: String {
        switch self {
        case .newerFormat(let path, let found, let known):
            "\(path) has format \(found), this program knows \(known): use a newer registryfs"
        case .damaged(let path, let reason):
            "\(path) is not a whole manifest (\(reason)): run registryfs check"
        case .database(let path, let reason):
            "\(path): \(reason)"
        }
    }
}
