// The FUSE protocol, as far as this module reads it without libfuse.
//
// Source: include/uapi/linux/fuse.h (the C structs come from the system's copy), and
// Documentation/filesystems/fuse of the kernel. All numbers are in the machine's byte order.
//
//   request                                      answer
//   +------+---------------------------------+   +------+--------------------------+
//   |   0  | u32 len   (all of the request)  |   |   0  | u32 len (all of it)      |
//   |   4  | u32 opcode                      |   |   4  | i32 error, 0 or -errno   |
//   |   8  | u64 unique                      |   |   8  | u64 unique               |
//   |  16  | u64 nodeid                      |   |  16  | payload, if error is 0   |
//   |  24  | u32 uid | 28 u32 gid            |   +------+--------------------------+
//   |  32  | u32 pid | 36 u16 u16            |
//   |  40  | body by opcode                  |
//   +------+---------------------------------+
//
//   INIT 40:      u32 major, minor, max_readahead, 52 flags, 56 flags2
//   INIT answer:  u32 major, minor, max_readahead, 12 flags, 16 u16 max_background,
//                 u16 congestion_threshold, u32 max_write, u32 time_gran, 28 u16 max_pages,
//                 u16 map_alignment, 32 flags2, 36 max_stack_depth (since 7.40)
//   READ, READDIR, READDIRPLUS 40: u64 fh, 48 u64 offset, 56 u32 size, …
//   WRITE 40:     u64 fh, 48 u64 offset, 56 u32 size, 60 u32 write_flags, …; the bytes from 80
//   SETXATTR 40:  u32 size, u32 flags, (with SETXATTR_EXT: 48 u32 setxattr_flags, u32 0), then
//                 name NUL value
//   CREATE, TMPFILE 40: u32 flags, 44 u32 mode, 48 u32 umask, 52 u32 open_flags, name NUL
//   OPEN 40:      u32 flags, 44 u32 open_flags
internal import CFuse

/// The requests that are not left to libfuse; see `DirectRequest`.
enum Opcode {
    static let read: UInt32 = 15
    static let open: UInt32 = 14
    static let write: UInt32 = 16
    static let setExtendedAttribute: UInt32 = 21
    static let initialize: UInt32 = 26
    static let readDirectory: UInt32 = 28
    static let interrupt: UInt32 = 36
    static let readDirectoryPlus: UInt32 = 44
    /// Since 7.34.
    static let synchronizeAll: UInt32 = 50
    /// Since 7.37.
    static let makeTemporary: UInt32 = 51
    /// Since 7.39.
    static let statx: UInt32 = 52
}

/// Bits of INIT's flags (the low 32) and flags2 (the high 32).
enum InitFlag {
    /// Lookups and listings in one directory run side by side.
    static let parallelDirectoryOperations: UInt64 = 1 << 18
    /// The filesystem itself clears set-id bits and capabilities; the kernel then says when, and
    /// asks for no `security.capability` before each write.
    static let handleKillPrivileges: UInt64 = 1 << 28
    /// SETXATTR has the longer body.
    static let extendedSetExtendedAttribute: UInt64 = 1 << 29
    /// flags2 is meant.
    static let extended: UInt64 = 1 << 30
    /// Files that are open without the page cache can be mapped shared all the same. Since 7.39.
    static let directIOAllowsMappings: UInt64 = 1 << 36
    /// OPEN may name a backing file; excludes the writeback cache.
    static let passthrough: UInt64 = 1 << 37
    /// Requests go through queues of io_uring, once each queue has a place for one. Since 7.42.
    static let overIOUring: UInt64 = 1 << 41
}

/// Bits inside the bodies of requests and answers.
enum BodyFlag {
    /// WRITE's write_flags: pages of a mapping, written back on nobody's behalf.
    static let writeFromPages: UInt32 = 1 << 0
    /// WRITE's write_flags: clear set-id bits.
    static let writeKillSetID: UInt32 = 1 << 2
    /// OPEN's and CREATE's open_flags: clear set-id bits, because O_TRUNC changes the content.
    static let openKillSetID: UInt32 = 1 << 0
    /// SETXATTR's setxattr_flags: clear set-group-id.
    static let aclKillSetGID: UInt32 = 1 << 0
    /// SETATTR's valid: clear set-id bits.
    static let attributeKillSetID: Int32 = 1 << 11
    /// In the answer to OPEN: reads and writes come here, without the page cache, also where there
    /// is a backing file.
    static let openDirectIO: UInt32 = 1 << 0
    /// In the answer to OPEN: cached pages still hold.
    static let openKeepCache: UInt32 = 1 << 1
    /// In the answer to OPEN: no FLUSH at close(2).
    static let openNoFlush: UInt32 = 1 << 5
    /// In the answer to OPEN: O_DIRECT writes need not queue behind each other.
    static let openParallelDirectWrites: UInt32 = 1 << 6
    /// In the answer to OPEN: the kernel reads and writes the backing file itself.
    static let openPassthrough: UInt32 = 1 << 7
}

/// One request as it came from the device.
package struct Request {
    private let bytes: UnsafeRawBufferPointer
    let header: fuse_in_header

    /// Nil where the bytes are shorter than the header, or than the length in it.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= MemoryLayout<fuse_in_header>.size else { return nil }
        header = bytes.loadUnaligned(as: fuse_in_header.self)
        guard Int(header.len) == bytes.count else { return nil }
        self.bytes = bytes
    }

    static let bodyOffset = 40

    /// The body's fixed part; nil where the request is too short for it.
    func body<Body: BitwiseCopyable>(as type: Body.Type) -> Body? {
        guard bytes.count >= Self.bodyOffset + MemoryLayout<Body>.size else { return nil }
        return bytes.loadUnaligned(fromByteOffset: Self.bodyOffset, as: type)
    }

    /// A 32-bit field; nil where the request ends before it.
    package func word(at offset: Int) -> UInt32? {
        guard bytes.count >= offset + 4 else { return nil }
        return bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }

    /// A part of the request; nil where it ends before that.
    package func bytes(at offset: Int, count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, offset >= 0, bytes.count - offset >= count else { return nil }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    /// The bytes from an offset up to the next NUL, which is left out; nil where there is none.
    package func name(at offset: Int) -> UnsafeRawBufferPointer? {
        guard offset <= bytes.count else { return nil }
        let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
        guard let end = rest.firstIndex(of: 0) else { return nil }
        return UnsafeRawBufferPointer(rebasing: rest[..<end])
    }
}
