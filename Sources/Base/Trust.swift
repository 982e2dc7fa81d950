internal import Glibc

public import struct SystemPackage.Errno

/// Why a file that is there is not used: another user may have put it there, or may change it.
///
/// A process trusts what belongs to its own user or to root, what no other user may write to (those of
/// the file's group are whom its owner chose), and no symlink, which leads to where another decides.
public enum Distrust: Error, Sendable, Equatable, CustomStringConvertible {
    /// It is of another kind than it should be; nil for one that is not known.
    case kind(FileKind?, expected: FileKind)
    /// It belongs to this user, who is neither the process's own nor root.
    case owner(UInt32)
    /// Every user may write to it.
    case writable

    /// What is the matter, and what to do, as the end of a sentence that begins with the path.
    public var description: String {
        switch self {
        case .kind(let found, let expected):
            "is \(Self.noun(found)), not \(Self.noun(expected)): put it out of the way"
        case .owner(let owner):
            "belongs to user \(owner), not to user \(geteuid()): "
                + "run registryfs as that user, or change the owner (chown)"
        case .writable:
            "can be written by every user: take that away (chmod o-w)"
        }
    }

    private static func noun(_ kind: FileKind?) -> String {
        switch kind {
        case .regular: "a file"
        case .directory: "a directory"
        case .symlink: "a symlink"
        case .fifo: "a fifo"
        case .socket: "a socket"
        case .characterDevice, .blockDevice: "a device"
        case nil: "of an unknown kind"
        }
    }
}

extension FileStatus {
    /// Why this process does not trust the file; nil where it does.
    public func distrust(expecting expected: FileKind) -> Distrust? {
        let kind = FileKind(mode: mode)
        guard kind == expected else { return .kind(kind, expected: expected) }
        guard owner == 0 || owner == geteuid() else { return .owner(owner) }
        return mode & S_IWOTH == 0 ? nil : .writable
    }
}

extension Sys {
    /// Why the process does not trust a name in a directory; nil where it does, and where nothing is
    /// there.
    public static func distrust(
        of name: String, in directory: Int32, expecting kind: FileKind
    ) throws(Errno) -> Distrust? {
        do throws(Errno) {
            return try status(of: name, in: directory).distrust(expecting: kind)
        } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
            return nil
        }
    }

    /// Opens a file in a directory that the process trusts: the last name is no symlink, and what it
    /// stands for is a regular file that the process trusts too. Nothing waits for a fifo's other end.
    ///
    /// - Throws: EPERM where it is not trusted, ELOOP where a symlink came there meanwhile.
    public static func openTrusted(
        _ name: String, in directory: Int32, flags: Int32, mode: UInt32 = 0o600
    ) throws(Errno) -> OwnedDescriptor {
        guard try distrust(of: name, in: directory, expecting: .regular) == nil else {
            throw .notPermitted
        }
        let file = try open(name, in: directory, flags: flags | O_NOFOLLOW, mode: mode)
        guard try status(of: file.raw).distrust(expecting: .regular) == nil else {
            throw .notPermitted
        }
        return file
    }

    /// Opens a directory that the process trusts, in one that it trusts.
    ///
    /// - Throws: EPERM where it is not trusted, ENOTDIR or ELOOP where it is a symlink.
    public static func openTrustedDirectory(
        _ name: String, in directory: Int32
    ) throws(Errno) -> OwnedDescriptor {
        let opened = try open(name, in: directory, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        guard try status(of: opened.raw).distrust(expecting: .directory) == nil else {
            throw .notPermitted
        }
        return opened
    }
}
