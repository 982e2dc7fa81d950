package import Base
internal import CFuse
package import Volume

/// How long the kernel may trust what an answer says, in seconds.
package struct Lifetimes: Sendable {
    let entry: UInt64
    let attributes: UInt64
    let negative: UInt64

    package init(entry: UInt64, attributes: UInt64, negative: UInt64) {
        self.entry = entry
        self.attributes = attributes
        self.negative = negative
    }
}

extension Attributes {
    /// The attributes as `struct fuse_attr`.
    var encoded: fuse_attr {
        var out = fuse_attr()
        out.ino = inode.number
        out.size = size
        out.blocks = blocks
        out.atime = UInt64(bitPattern: accessed.seconds)
        out.mtime = UInt64(bitPattern: modified.seconds)
        out.ctime = UInt64(bitPattern: changed.seconds)
        out.atimensec = UInt32(truncatingIfNeeded: accessed.subsecondNanoseconds)
        out.mtimensec = UInt32(truncatingIfNeeded: modified.subsecondNanoseconds)
        out.ctimensec = UInt32(truncatingIfNeeded: changed.subsecondNanoseconds)
        out.mode = statMode
        out.nlink = linkCount
        out.uid = uid
        out.gid = gid
        // The kernel's 32-bit form has the 12-bit major and 20-bit minor where makedev(3) has them.
        out.rdev = UInt32(truncatingIfNeeded: rdev)
        out.blksize = Self.preferredIOByteCount
        return out
    }

    /// st_blksize: what cp(1) and stdio take as their buffer.
    private static let preferredIOByteCount: UInt32 = 4096

    /// How long the kernel may keep the attributes, in seconds.
    private func validity(_ lifetimes: Lifetimes) -> UInt64 {
        mayChangeUnseen ? 0 : lifetimes.attributes
    }

    /// The answer to GETATTR and SETATTR.
    func encodedAlone(_ lifetimes: Lifetimes) -> fuse_attr_out {
        var out = fuse_attr_out()
        out.attr_valid = validity(lifetimes)
        out.attr = encoded
        return out
    }

    /// What tells an inode from another that had its number: after a crash, numbers of which no commit
    /// knew are given again, and a file handle from before must not open another's file. The time of
    /// birth does that. The kernel keeps 32 bits, and takes an inode whose generation differs from those for another one;
    /// that of the root is always 0.
    private var generation: UInt64 {
        guard inode != .root else { return 0 }
        let birth = UInt64(bitPattern: created.nanoseconds)
        return (birth ^ birth >> 32) & 0xffff_ffff
    }

    /// The answer to LOOKUP and to all that makes a name.
    func encodedEntry(_ lifetimes: Lifetimes) -> fuse_entry_out {
        var out = fuse_entry_out()
        out.nodeid = inode.number
        out.generation = generation
        out.entry_valid = nameMayChangeUnseen ? 0 : lifetimes.entry
        out.attr_valid = validity(lifetimes)
        out.attr = encoded
        return out
    }

    /// The entry in the answer to CREATE and TMPFILE. The kernel looks at the attributes once more
    /// before open(2) returns; for that they hold, whatever can change them later.
    func encodedCreated(_ lifetimes: Lifetimes) -> fuse_entry_out {
        var out = encodedEntry(lifetimes)
        if mayChangeUnseen { out.attr_valid_nsec = Self.createdValidityNanoseconds }
        return out
    }

    /// An empty file cannot be mapped, and what makes it longer takes the attributes back.
    private static let createdValidityNanoseconds: UInt32 = 100_000_000

    /// The answer to STATX, which has the birth time beside what `fuse_attr` has.
    func encodedStatx(_ lifetimes: Lifetimes) -> rfs_statx_out {
        var out = rfs_statx_out()
        out.attr_valid = validity(lifetimes)
        out.mask = Self.statxBasicAndBirth
        out.blksize = Self.preferredIOByteCount
        out.nlink = linkCount
        out.uid = uid
        out.gid = gid
        out.mode = UInt16(truncatingIfNeeded: statMode)
        out.ino = inode.number
        out.size = size
        out.blocks = blocks
        out.atime = accessed.encodedStatx
        out.btime = created.encodedStatx
        out.ctime = changed.encodedStatx
        out.mtime = modified.encodedStatx
        let device = UInt32(truncatingIfNeeded: rdev)
        out.rdev_major = (device >> 8) & 0xfff
        out.rdev_minor = (device & 0xff) | ((device >> 12) & 0xfff00)
        return out
    }

    /// STATX_BASIC_STATS | STATX_BTIME of statx(2).
    private static let statxBasicAndBirth: UInt32 = 0x7ff | 0x800
}

extension Timestamp {
    fileprivate var encodedStatx: rfs_statx_time {
        rfs_statx_time(
            tv_sec: seconds, tv_nsec: UInt32(truncatingIfNeeded: subsecondNanoseconds), reserved: 0)
    }
}

extension FilesystemStatistics {
    /// The answer to STATFS.
    var encoded: fuse_statfs_out {
        var out = fuse_statfs_out()
        out.st.blocks = blocks
        out.st.bfree = blocksFree
        out.st.bavail = blocksAvailable
        out.st.files = files
        out.st.ffree = filesFree
        out.st.bsize = UInt32(clamping: blockSize)
        out.st.frsize = UInt32(clamping: blockSize)
        out.st.namelen = UInt32(clamping: nameLengthMax)
        return out
    }
}

/// Writes directory entries one after another into the buffer of an answer.
///
///     READDIR                       READDIRPLUS
///     0  u64 ino                    0    fuse_entry_out (nodeid 0: no attributes)
///     8  u64 off (next offset)      128  as READDIR
///     16 u32 namelen, 20 u32 type
///     24 name, zeros up to a multiple of 8
package struct DirectoryPacker {
    private let buffer: UnsafeMutableRawBufferPointer
    /// Bytes written so far, always a multiple of 8.
    package private(set) var byteCount = 0

    package init(_ buffer: UnsafeMutableRawBufferPointer) {
        self.buffer = buffer
    }

    private static let nameOffset = 24
    private static let plusByteCount = MemoryLayout<fuse_entry_out>.size

    /// Adds an entry; false where it does not fit.
    package mutating func add(_ entry: DirectoryEntry) -> Bool {
        guard let position = reserve(Self.nameOffset + entry.name.bytes.count) else {
            return false
        }
        write(entry, at: position)
        return true
    }

    /// Adds an entry with attributes, or without where there are none; false where it does not
    /// fit.
    package mutating func add(
        _ entry: DirectoryEntry, _ attributes: Attributes?, _ lifetimes: Lifetimes
    ) -> Bool {
        let count = Self.plusByteCount + Self.nameOffset + entry.name.bytes.count
        guard let position = reserve(count) else { return false }
        let head = attributes?.encodedEntry(lifetimes) ?? fuse_entry_out()
        buffer.storeBytes(of: head, toByteOffset: position, as: fuse_entry_out.self)
        write(entry, at: position + Self.plusByteCount)
        return true
    }

    /// Calls the body with the inode of each READDIRPLUS entry written that has attributes.
    package func forEachReference(_ body: (Inode) -> Void) {
        var position = 0
        while position + Self.plusByteCount + Self.nameOffset <= byteCount {
            let number = buffer.loadUnaligned(fromByteOffset: position, as: UInt64.self)
            if number != 0 { body(Inode(number)) }
            let length = buffer.loadUnaligned(
                fromByteOffset: position + Self.plusByteCount + 16, as: UInt32.self)
            position += Self.padded(Self.plusByteCount + Self.nameOffset + Int(length))
        }
    }

    private static func padded(_ count: Int) -> Int { (count + 7) & ~7 }

    private mutating func reserve(_ count: Int) -> Int? {
        let padded = Self.padded(count)
        guard buffer.count - byteCount >= padded else { return nil }
        let position = byteCount
        byteCount += padded
        // The last word covers the padding; the name overwrites the rest of it.
        buffer.storeBytes(of: 0, toByteOffset: position + padded - 8, as: UInt64.self)
        return position
    }

    private func write(_ entry: DirectoryEntry, at position: Int) {
        let name = entry.name.bytes
        buffer.storeBytes(of: entry.inode.number, toByteOffset: position, as: UInt64.self)
        buffer.storeBytes(of: entry.cookie, toByteOffset: position + 8, as: UInt64.self)
        buffer.storeBytes(of: UInt32(name.count), toByteOffset: position + 16, as: UInt32.self)
        buffer.storeBytes(
            of: UInt32(entry.kind.direntType), toByteOffset: position + 20, as: UInt32.self)
        name.withUnsafeBytes { bytes in
            UnsafeMutableRawBufferPointer(rebasing: buffer[(position + Self.nameOffset)...])
                .copyMemory(from: bytes)
        }
    }
}
