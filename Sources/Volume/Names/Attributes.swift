public import Base

/// What stat(2) tells about an inode.
public struct Attributes: Sendable {
    public let inode: Inode
    public let kind: FileKind
    /// Permission bits with set-id and sticky, 07777.
    public let mode: UInt32
    public let linkCount: UInt32
    public let uid: UInt32
    public let gid: UInt32
    /// The device of a device node, as makedev(3) packs it.
    public let rdev: UInt64
    /// Bytes.
    public internal(set) var size: UInt64
    /// What the content takes on the disk, in units of 512 bytes.
    public internal(set) var blocks: UInt64
    public internal(set) var accessed: Timestamp
    public internal(set) var modified: Timestamp
    public internal(set) var changed: Timestamp
    public let created: Timestamp
    /// Times and blocks can change without the kernel's notice: somebody may have the backing file
    /// mapped for writing.
    public internal(set) var mayChangeUnseen: Bool
    /// What the name stands for can change without the kernel's notice.
    public internal(set) var nameMayChangeUnseen = false

    /// st_mode: kind and permission bits.
    public var statMode: UInt32 { kind.modeBits | mode }
}

/// On whose behalf an operation runs.
public struct Caller: Sendable {
    public let uid: UInt32
    public let gid: UInt32
    public let pid: Int32
    /// The bits that a new inode's mode loses, unless the directory has a default ACL.
    public let umask: UInt32

    public init(uid: UInt32, gid: UInt32, pid: Int32, umask: UInt32) {
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.umask = umask
    }

    /// Nobody in particular: root.
    public static let system = Caller(uid: 0, gid: 0, pid: 0, umask: 0)
}

/// A new access or modification time, as utimensat(2) gives it.
public enum TimeChange: Sendable {
    /// UTIME_NOW.
    case now
    case at(Timestamp)
}

/// Which attributes an operation sets; what is nil stays.
public struct AttributeChange: Sendable {
    /// Permission bits, 07777.
    public var mode: UInt32?
    public var uid: UInt32?
    public var gid: UInt32?
    /// Bytes.
    public var size: UInt64?
    public var accessed: TimeChange?
    public var modified: TimeChange?
    public var changed: Timestamp?
    /// With a size: clear set-user-id and set-group-id, as the kernel asks with FATTR_KILL_SUIDGID.
    public var clearSetID = false

    public init() {}

    /// Nothing is set; see Privileges.swift for what that asks for.
    var isEmpty: Bool {
        mode == nil && uid == nil && gid == nil && size == nil && accessed == nil && modified == nil
            && changed == nil
    }
}

/// The flags of renameat2(2).
public struct RenameFlags: OptionSet, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// RENAME_NOREPLACE: EEXIST where the new name is there.
    public static let noReplace = RenameFlags(rawValue: 1)
    /// RENAME_EXCHANGE: both names are there and change places.
    public static let exchange = RenameFlags(rawValue: 2)
    /// RENAME_WHITEOUT: a character device 0:0 takes the old name, by which overlayfs hides a name
    /// of its lower layers. Not together with `exchange`.
    public static let whiteout = RenameFlags(rawValue: 4)

    /// All that renameat2(2) knows.
    public static let all: RenameFlags = [.noReplace, .exchange, .whiteout]
}

/// The flags of open(2).
public struct OpenFlags: Sendable {
    /// The O_ bits as open(2) got them.
    public let rawValue: Int32

    public init(rawValue: Int32) {
        self.rawValue = rawValue
    }

    // The access mode is the two lowest bits: O_RDONLY 0, O_WRONLY 1, O_RDWR 2 (open(2)).
    public var isReadable: Bool { rawValue & 3 != 1 }
    public var isWritable: Bool { rawValue & 3 == 1 || rawValue & 3 == 2 }
    /// To read and to write, as a shared mapping that can be written needs it.
    var isMappable: Bool { isReadable && isWritable }
    /// O_TRUNC.
    public var truncates: Bool { rawValue & 0o1000 != 0 }
    /// O_DSYNC or O_SYNC, which holds the bit of O_DSYNC: writes return when they are durable.
    public var isSynchronous: Bool { rawValue & 0o10000 != 0 }
    /// O_NONBLOCK.
    var isNonblocking: Bool { rawValue & 0o4000 != 0 }
    /// O_EXCL.
    public var isExclusive: Bool { rawValue & 0o200 != 0 }
}

/// What open and create give.
public struct OpenedFile: Sendable {
    public let handle: HandleID
    public let access: FileAccess
    /// Its bytes are the node's to give, so that reads may wait for it.
    public let mayWait: Bool
}

/// How the bytes of an open file are got at. All handles of an inode that are open at the same time
/// have the same case.
public enum FileAccess: Sendable {
    /// By `read` and `write`, with a cache of pages before them. `keepsPages`: what the cache has of
    /// the file still holds.
    case volume(keepsPages: Bool)
    /// By a backing file that was registered. `byRequest`: this handle's reads and writes must come
    /// to the volume nevertheless; shared mappings of it use the file.
    case backingFile(BackingID, byRequest: Bool)
}

/// One entry of a directory listing.
public struct DirectoryEntry: Sendable {
    public let name: FileName
    public let inode: Inode
    public let kind: FileKind
    /// Where the listing goes on after this entry.
    public let cookie: UInt64
}

/// What statfs(2) tells.
public struct FilesystemStatistics: Sendable {
    /// Bytes of the unit that the block counts are in.
    public let blockSize: UInt64
    public let blocks: UInt64
    public let blocksFree: UInt64
    public let blocksAvailable: UInt64
    public let files: UInt64
    public let filesFree: UInt64
    /// The longest name, in bytes.
    public let nameLengthMax: UInt64
}
