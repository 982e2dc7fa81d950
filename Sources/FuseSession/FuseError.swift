public import struct SystemPackage.Errno

/// Why a mount could not be made, in words for the person who asked for it.
public enum FuseError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The mount point is not there.
    case mountPointMissing(path: String)
    /// The mount point is no directory.
    case mountPointNotDirectory(path: String)
    /// The mount point has entries that a mount would hide, and `nonempty` was not given.
    case mountPointNotEmpty(path: String)
    /// A registryfs that is alive is mounted there already.
    case mountPointBusy(path: String)
    /// The mount point cannot be examined.
    case mountPointUnusable(path: String, cause: Errno)
    /// A dead mount stands there and cannot be taken away.
    case staleMount(path: String, cause: Errno)
    /// The kernel has no FUSE, or the device node is missing.
    case noDevice(path: String)
    /// The device node is there, but opening it is refused.
    case deviceRefused(path: String, cause: Errno)
    /// Not root, and the helper that mounts for other users is not installed.
    case noMountHelper
    /// mount(2) was refused.
    case mountRefused(path: String, cause: Errno)
    /// The helper that mounts for users other than root failed; it has said why on stderr.
    case mountHelperFailed(path: String)
    /// A mount option that is not known.
    case unknownOption(String)
    /// A mount option whose value does not fit.
    case invalidOption(String, reason: String)
    /// libfuse would not make a session.
    case sessionRefused
    /// The system gives no more threads.
    case noThreads(Errno)
    /// `mount` was called twice, or `run` without a mount.
    case wrongState

    public var description: String {
        switch self {
        case .mountPointMissing(let path):
            "mount point \(path) does not exist"
        case .mountPointNotDirectory(let path):
            "mount point \(path) is not a directory"
        case .mountPointNotEmpty(let path):
            "mount point \(path) is not empty; option nonempty mounts over its contents"
        case .mountPointBusy(let path):
            "a registryfs is mounted at \(path) already"
        case .mountPointUnusable(let path, let cause):
            "mount point \(path) cannot be used: \(cause)"
        case .staleMount(let path, let cause):
            "a dead mount at \(path) cannot be removed: \(cause)"
        case .noDevice(let path):
            "\(path) is missing: load the kernel module with 'modprobe fuse', "
                + "or give the device to the container"
        case .deviceRefused(let path, let cause):
            "\(path) cannot be opened: \(cause)"
        case .noMountHelper:
            "mounting without root needs fusermount3; install the package fuse3"
        case .mountRefused(let path, .notPermitted):
            "mounting at \(path) is not permitted: it needs root with CAP_SYS_ADMIN"
        case .mountRefused(let path, let cause):
            "mounting at \(path) failed: \(cause)"
        case .mountHelperFailed(let path):
            "fusermount3 did not mount at \(path)"
        case .unknownOption(let option):
            "unknown mount option '\(option)'"
        case .invalidOption(let option, let reason):
            "mount option '\(option)': \(reason)"
        case .sessionRefused:
            "libfuse could not make a session"
        case .noThreads(let cause):
            "a thread could not be started: \(cause)"
        case .wrongState:
            "the session is in the wrong state for this call"
        }
    }
}
