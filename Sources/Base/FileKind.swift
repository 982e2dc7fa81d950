internal import Glibc

/// What an inode is, after the S_IFMT values of inode(7).
public enum FileKind: UInt8, Sendable, CaseIterable {
    // Raw values are stored in the manifest and never change meaning.
    case regular = 1
    case directory = 2
    case symlink = 3
    case fifo = 4
    case socket = 5
    case characterDevice = 6
    case blockDevice = 7

    /// The kind in the S_IFMT bits of a mode; nil where they name none.
    public init?(mode: UInt32) {
        switch mode & S_IFMT {
        case S_IFREG: self = .regular
        case S_IFDIR: self = .directory
        case S_IFLNK: self = .symlink
        case S_IFIFO: self = .fifo
        case S_IFSOCK: self = .socket
        case S_IFCHR: self = .characterDevice
        case S_IFBLK: self = .blockDevice
        default: return nil
        }
    }

    /// The S_IFMT bits of st_mode.
    public var modeBits: UInt32 {
        switch self {
        case .regular: S_IFREG
        case .directory: S_IFDIR
        case .symlink: S_IFLNK
        case .fifo: S_IFIFO
        case .socket: S_IFSOCK
        case .characterDevice: S_IFCHR
        case .blockDevice: S_IFBLK
        }
    }

    /// The d_type of readdir(3), which is the S_IFMT value shifted right by 12.
    public var direntType: UInt8 { UInt8(modeBits >> 12) }
}
