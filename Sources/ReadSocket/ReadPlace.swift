public import Base
internal import Glibc

public import struct SystemPackage.Errno

/// The directory of the socket, in the state directory of a volume.
///
/// It stays for as long as the state directory does, because clients hold it open: they reach the socket that the next
/// daemon makes in it, without another look at the state directory, which they may not enter any more.
public enum ReadPlace {
    /// Opens it as a client does; `serve` does so before it lets go of its privileges.
    ///
    /// - Returns: an O_PATH descriptor, for `ReadClient`.
    /// - Throws: ENOENT where no daemon has made it yet.
    public static func open(stateDirectory: String) throws(Errno) -> OwnedDescriptor {
        let state = try Sys.open(stateDirectory, flags: Sys.pathOnly | O_DIRECTORY)
        return try Sys.open(
            ReadProtocol.directoryName, in: state.raw,
            flags: Sys.pathOnly | O_DIRECTORY | O_NOFOLLOW)
    }

    /// Makes it, or opens the one that is there, with the mode that it has to have: for the socket, and for files that clients may
    /// read.
    ///
    /// - Throws: EPERM where another user may change it.
    public static func make(stateDirectory: String) throws(Errno) -> OwnedDescriptor {
        let state = try Sys.open(stateDirectory, flags: Sys.pathOnly | O_DIRECTORY)
        try Sys.makeDirectory(ReadProtocol.directoryName, in: state.raw, mode: 0o711)
        let directory = try Sys.openTrustedDirectory(ReadProtocol.directoryName, in: state.raw)
        // The umask may have taken bits away.
        guard fchmod(directory.raw, 0o711) == 0 else { throw Errno(rawValue: errno) }
        return directory
    }
}
