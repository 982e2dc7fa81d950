public import Base

public import struct SystemPackage.Errno

/// Why a state directory is not used.
public enum StateDirectoryError: Error, Sendable, CustomStringConvertible {
    /// Another process uses it.
    case inUse(path: String, pid: Int32?)
    /// A system call on it failed.
    case failed(path: String, operation: String, Errno)
    /// It, or a name in it, may be another user's to change.
    case untrusted(path: String, Distrust)

    public var description: String {
        switch self {
        case .inUse(let path, let pid):
            "state directory \(path) is in use"
                + (pid.map { " by process \($0)" } ?? "") + ": unmount it there first"
        case .failed(let path, let operation, let errno):
            "state directory \(path): \(operation): \(errno)"
        case .untrusted(let path, let distrust):
            "\(path) \(distrust)"
        }
    }
}
