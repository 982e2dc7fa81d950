internal import CShims
internal import Glibc

public import struct SystemPackage.Errno

// System calls for directories in which others may have put anything: each path is walked below a directory that is open, and no part
// of it may be a symlink (openat2(2)), so that none leads out of the directory whoever changes it meanwhile.

/// Which file it is, and what it is.
public struct FileIdentity: Sendable, Hashable {
    /// st_dev and st_ino: together they are one file's.
    public let device: UInt64
    public let number: UInt64
    /// Bytes.
    public let size: UInt64
    /// Nil for what inode(7) does not know.
    public let kind: FileKind?

    /// Whether two are names of one file.
    public func isSame(as other: FileIdentity) -> Bool {
        device == other.device && number == other.number
    }
}

/// A name in a directory.
public struct ListedName: Sendable, Hashable {
    public let name: [UInt8]
    /// Nil where the directory does not say.
    public let kind: FileKind?
}

extension Sys {
    /// Opens a path below a directory; O_CLOEXEC is always added.
    ///
    /// - Throws: ELOOP where a part of it is a symlink, EXDEV where it leads out.
    public static func open(
        beneath directory: Int32, _ path: String, flags: Int32, mode: UInt32 = 0o600
    ) throws(Errno) -> OwnedDescriptor {
        try Faults.check(.open)
        return OwnedDescriptor(
            try repeating { rfs_open_beneath(directory, path, flags | O_CLOEXEC, mode) })
    }

    /// fstat(2), for descriptors of O_PATH as well.
    public static func identity(of descriptor: Int32) throws(Errno) -> FileIdentity {
        var status = stat()
        _ = try repeating { Glibc.fstat(descriptor, &status) }
        return FileIdentity(
            device: UInt64(status.st_dev), number: UInt64(status.st_ino),
            size: UInt64(clamping: status.st_size), kind: FileKind(mode: status.st_mode))
    }

    /// Gives an open file one more name, linkat(2); a descriptor of O_PATH will do.
    public static func link(
        _ descriptor: Int32, to name: String, in directory: Int32
    ) throws(Errno) {
        try Faults.check(.rename)
        let path = "/proc/self/fd/\(descriptor)"
        _ = try repeating { linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW) }
    }

    /// What is in an open directory, `.` and `..` left out, in no order. Reads it from its beginning.
    ///
    /// - Throws: E2BIG where there is more than `countMax`.
    public static func entries(
        in directory: Int32, countMax: Int = .max
    ) throws(Errno) -> [ListedName] {
        try Faults.check(.list)
        let raw = try open(".", in: directory, flags: O_RDONLY | O_DIRECTORY).take()
        guard let stream = fdopendir(raw) else {
            let code = errno
            Glibc.close(raw)
            throw Errno(rawValue: code)
        }
        defer { closedir(stream) }
        var entries: [ListedName] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else { throw Errno(rawValue: errno) }
                return entries
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
                field.withMemoryRebound(to: UInt8.self, capacity: 256) { bytes in
                    Array(UnsafeBufferPointer(start: bytes, count: 256).prefix { $0 != 0 })
                }
            }
            guard !name.elementsEqual(".".utf8), !name.elementsEqual("..".utf8) else { continue }
            guard entries.count < countMax else { throw .argListTooLong }
            entries.append(
                ListedName(name: name, kind: FileKind(mode: UInt32(entry.pointee.d_type) << 12))
            )
        }
    }

    /// unlinkat(2) of a directory without entries.
    public static func removeDirectory(_ name: String, in directory: Int32) throws(Errno) {
        try Faults.check(.unlink)
        _ = try repeating { Glibc.unlinkat(directory, name, AT_REMOVEDIR) }
    }

    /// Has all that a filesystem was told reach its disk, syncfs(2).
    public static func synchronizeFilesystem(of descriptor: Int32) throws(Errno) {
        try Faults.check(.synchronize)
        _ = try repeating { rfs_sync_filesystem(descriptor) }
    }

    private static func repeating(_ call: () -> Int32) throws(Errno) -> Int32 {
        while true {
            let result = call()
            if result >= 0 { return result }
            guard errno == EINTR else { throw Errno(rawValue: errno) }
        }
    }
}
