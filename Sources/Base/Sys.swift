internal import CShims
public import Glibc

public import struct SystemPackage.Errno

/// System calls, one function each, that retry EINTR and throw the errno.
public enum Sys {
    /// O_PATH of open(2), which is hidden from Swift.
    public static let pathOnly: Int32 = 0o10000000

    /// open(2) relative to a directory descriptor; O_CLOEXEC is always added.
    public static func open(
        _ path: String, in directory: Int32 = AT_FDCWD, flags: Int32, mode: UInt32 = 0o600
    ) throws(Errno) -> OwnedDescriptor {
        try Faults.check(.open)
        return OwnedDescriptor(
            try retrying("open", directory, path) {
                rfs_openat(directory, path, flags | O_CLOEXEC, mode)
            })
    }

    /// Reads from an offset until the buffer is full or the file ends; returns the count.
    public static func read(
        _ descriptor: Int32, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try Faults.check(.read)
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let count = Glibc.pread(
                descriptor, base + done, buffer.count - done, off_t(clamping: offset) + off_t(done))
            if count > 0 {
                done += count
            } else if count == 0 {
                break
            } else if errno != EINTR {
                throw failure("pread", descriptor)
            }
        }
        return done
    }

    /// Writes all bytes at an offset. ENOSPC, EDQUOT, EIO and EFBIG come as the system gives them.
    public static func write(
        _ descriptor: Int32, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(Errno) {
        try Faults.check(.write)
        try writeAll(descriptor, bytes, at: offset) {
            Glibc.pwrite(descriptor, $0, $1, off_t($2))
        }
    }

    /// Writes all bytes at an offset, and returns when they are durable: `write` and then
    /// `synchronizeData`, by one call (RWF_DSYNC of pwritev2(2)).
    public static func writeDurably(
        _ descriptor: Int32, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(Errno) {
        try Faults.check(.write)
        try writeAll(descriptor, bytes, at: offset) { rfs_write_durably(descriptor, $0, $1, $2) }
        // A flush that fails leaves bytes that may be on the disk all the same.
        try Faults.check(.synchronize)
    }

    /// Where the order of locks is checked, sees to it that no file call is made under the manifest's.
    @inline(__always)
    private static func mayWaitHere() {
        #if DEBUG || LOCK_RANKS
        HeldLocks.own.refuseFileCall()
        #endif
    }

    private static func writeAll(
        _ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: UInt64,
        _ call: (UnsafeRawPointer, Int, Int64) -> Int
    ) throws(Errno) {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = call(base + done, bytes.count - done, Int64(clamping: offset) + Int64(done))
            if count >= 0 {
                done += count
            } else if errno != EINTR {
                throw failure("pwrite", descriptor)
            }
        }
    }

    /// The flag of open(2) for reads and writes that go past the page cache: whole blocks from
    /// aligned memory.
    public static var openDirect: Int32 { rfs_open_direct() }

    /// The flag of open(2) for reads that move no access time; EPERM where the file is another user's.
    public static var openNoAccessTime: Int32 { rfs_open_no_access_time() }

    /// fdatasync(2): the data, and of the metadata what is needed to read it back.
    public static func synchronizeData(_ descriptor: Int32) throws(Errno) {
        try Faults.check(.synchronize)
        try retrying("fdatasync", descriptor) { Glibc.fdatasync(descriptor) }
    }

    /// Has the kernel begin to write the dirty pages of a file (sync_file_range(2)); nothing is
    /// durable by that. Best effort.
    public static func beginWriteback(_ descriptor: Int32) {
        mayWaitHere()
        _ = rfs_begin_writeback(descriptor)
    }

    /// fsync(2).
    public static func synchronize(_ descriptor: Int32) throws(Errno) {
        try Faults.check(.synchronize)
        try retrying("fsync", descriptor) { Glibc.fsync(descriptor) }
    }

    /// ftruncate(2).
    public static func truncate(_ descriptor: Int32, to size: UInt64) throws(Errno) {
        try Faults.check(.truncate)
        try retrying("ftruncate", descriptor) {
            Glibc.ftruncate(descriptor, off_t(clamping: size))
        }
    }

    /// fallocate(2) with its mode bits.
    public static func allocate(
        _ descriptor: Int32, mode: Int32, offset: UInt64, length: UInt64
    ) throws(Errno) {
        try Faults.check(.allocate)
        try retrying("fallocate", descriptor) {
            rfs_fallocate(descriptor, mode, Int64(clamping: offset), Int64(clamping: length))
        }
    }

    /// Copies a range between two files by copy_file_range(2), and by read and write where the
    /// filesystem below refuses that; returns what was copied, less than asked only at the end
    /// of the source.
    public static func copy(
        from source: Int32, at sourceOffset: UInt64, to destination: Int32,
        at destinationOffset: UInt64, length: UInt64
    ) throws(Errno) -> UInt64 {
        try Faults.check(.copy)
        var done: UInt64 = 0
        while done < length {
            var from = Int64(clamping: sourceOffset + done)
            var to = Int64(clamping: destinationOffset + done)
            let count = rfs_copy_file_range(
                source, &from, destination, &to, Int(clamping: min(length - done, 1 << 30)), 0)
            if count > 0 {
                done += UInt64(count)
            } else if count == 0 {
                return done
            } else if errno == EXDEV || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL {
                return try done
                    + copyThroughMemory(
                        from: source, at: sourceOffset + done, to: destination,
                        at: destinationOffset + done, length: length - done)
            } else if errno != EINTR {
                throw failure("copy_file_range", source)
            }
        }
        return done
    }

    private static func copyThroughMemory(
        from source: Int32, at sourceOffset: UInt64, to destination: Int32,
        at destinationOffset: UInt64, length: UInt64
    ) throws(Errno) -> UInt64 {
        let buffer = OwnedBuffer(byteCount: 1 << 18)
        var done: UInt64 = 0
        while done < length {
            let wanted = Int(clamping: min(length - done, UInt64(buffer.bytes.count)))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<wanted])
            let count = try read(source, at: sourceOffset + done, into: part)
            if count == 0 { break }
            try write(
                destination, at: destinationOffset + done,
                UnsafeRawBufferPointer(rebasing: part[..<count]))
            done += UInt64(count)
        }
        return done
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE. ENXIO past the end.
    public static func seek(
        _ descriptor: Int32, from offset: UInt64, whence: Int32
    ) throws(Errno) -> UInt64 {
        mayWaitHere()
        let found = Glibc.lseek(descriptor, off_t(clamping: offset), whence)
        guard found >= 0 else { throw failure("lseek", descriptor) }
        return UInt64(found)
    }

    /// fstat(2).
    public static func status(of descriptor: Int32) throws(Errno) -> FileStatus {
        var status = stat()
        mayWaitHere()
        try retrying("fstat", descriptor) { Glibc.fstat(descriptor, &status) }
        return FileStatus(status)
    }

    /// fstatat(2), links not followed.
    public static func status(of path: String, in directory: Int32) throws(Errno) -> FileStatus {
        try Faults.check(.status)
        var status = stat()
        try retrying("fstatat", directory, path) {
            Glibc.fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW)
        }
        return FileStatus(status)
    }

    /// The number of the filesystem that a file is on (f_type of statfs(2)).
    public static func filesystemType(of descriptor: Int32) throws(Errno) -> UInt64 {
        var type: UInt64 = 0
        try retrying("fstatfs", descriptor) { rfs_filesystem_type(descriptor, &type) }
        return type
    }

    /// fstatvfs(3).
    public static func filesystemStatus(of descriptor: Int32) throws(Errno) -> FilesystemStatus {
        var status = statvfs()
        try retrying("fstatvfs", descriptor) { Glibc.fstatvfs(descriptor, &status) }
        return FilesystemStatus(
            blockSize: UInt64(status.f_frsize), blocks: UInt64(status.f_blocks),
            blocksFree: UInt64(status.f_bfree), blocksAvailable: UInt64(status.f_bavail),
            filesFree: UInt64(status.f_favail))
    }

    /// mkdirat(2); false where the name is there already.
    @discardableResult
    public static func makeDirectory(
        _ path: String, in directory: Int32 = AT_FDCWD, mode: UInt32 = 0o700
    ) throws(Errno) -> Bool {
        try Faults.check(.makeDirectory)
        do throws(Errno) {
            try retrying("mkdir", directory, path) { Glibc.mkdirat(directory, path, mode) }
            return true
        } catch {
            guard error == .fileExists else { throw error }
            return false
        }
    }

    /// unlinkat(2) of a file; false where there is none.
    @discardableResult
    public static func unlink(_ path: String, in directory: Int32) throws(Errno) -> Bool {
        try Faults.check(.unlink)
        do throws(Errno) {
            try retrying("unlink", directory, path) { Glibc.unlinkat(directory, path, 0) }
            return true
        } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
            return false
        }
    }

    /// Moves a name to another directory, in one step; what the new name stood for goes (rename(2)).
    public static func rename(
        _ name: String, in directory: Int32, to newName: String, in newDirectory: Int32
    ) throws(Errno) {
        try Faults.check(.rename)
        try retrying("rename", directory, name) {
            Glibc.renameat(directory, name, newDirectory, newName)
        }
    }

    /// Exchanges two names, in one step (renameat2(2) with RENAME_EXCHANGE).
    public static func exchange(
        _ one: String, _ other: String, in directory: Int32
    ) throws(Errno) {
        try Faults.check(.exchange)
        try retrying("rename", directory, one) { rfs_exchange(directory, one, other) }
    }

    /// Whether this open file description is the only one of its file, shared mappings counted;
    /// false also where leases are not to be had.
    ///
    /// A write lease is granted only then (fcntl(2), F_SETLEASE), so one is taken and given back.
    /// Whoever opens the file in between waits for that. From the first call on, the process ignores
    /// SIGIO, by which the kernel tells the holder of a lease of such an open.
    public static func isSoleUser(of descriptor: Int32) -> Bool {
        askForLease(of: descriptor) == 1
    }

    /// Whether somebody else has the file open or mapped for certain: not `isSoleUser`, but false
    /// where leases are not to be had.
    public static func hasOtherUser(of descriptor: Int32) -> Bool {
        askForLease(of: descriptor) == 0
    }

    private static func askForLease(of descriptor: Int32) -> Int32 {
        mayWaitHere()
        ignoreLeaseSignal
        return rfs_is_sole_user(descriptor)
    }

    private static let ignoreLeaseSignal: Void = { _ = signal(SIGIO, SIG_IGN) }()

    /// Sets the access time alone (futimens(3) with UTIME_OMIT for the other).
    public static func setAccessTime(
        of descriptor: Int32, to time: Timestamp
    ) throws(Errno) {
        mayWaitHere()
        let times = [
            timespec(
                tv_sec: Int(time.seconds), tv_nsec: Int(time.subsecondNanoseconds)),
            // sys/stat.h: UTIME_OMIT, a macro that the importer does not see.
            timespec(tv_sec: 0, tv_nsec: (1 << 30) - 2),
        ]
        try retrying("futimens", descriptor) { futimens(descriptor, times) }
    }

    /// flock(2) with LOCK_EX | LOCK_NB; false where another process holds it.
    public static func lockExclusively(_ descriptor: Int32) throws(Errno) -> Bool {
        do throws(Errno) {
            try retrying("flock", descriptor) { rfs_lock_exclusively(descriptor) }
            return true
        } catch {
            guard error == .wouldBlock || error == .resourceTemporarilyUnavailable else {
                throw error
            }
            return false
        }
    }

    /// flock(2) with LOCK_UN, for every copy of the descriptor.
    public static func unlock(_ descriptor: Int32) throws(Errno) {
        try retrying("flock", descriptor) { rfs_unlock(descriptor) }
    }

    /// The names in a directory, `.` and `..` left out, in no order.
    public static func names(in directory: Int32, path: String) throws(Errno) -> [String] {
        try Faults.check(.list)
        let descriptor = try open(path, in: directory, flags: O_RDONLY | O_DIRECTORY)
        let raw = descriptor.take()
        guard let stream = fdopendir(raw) else {
            let code = errno
            Glibc.close(raw)
            throw Errno(rawValue: code)
        }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else { throw failure("readdir", directory, path) }
                return names
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
                field.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
    }

    @discardableResult
    private static func retrying(
        _ name: StaticString, _ descriptor: Int32, _ path: String? = nil, _ call: () -> Int32
    ) throws(Errno) -> Int32 {
        while true {
            let result = call()
            if result >= 0 { return result }
            if errno != EINTR { throw failure(name, descriptor, path) }
        }
    }

    /// The errno of a call that failed. What is no ordinary answer leaves its cause: the call and the
    /// file that it was about.
    private static func failure(
        _ call: StaticString, _ descriptor: Int32, _ path: String? = nil
    ) -> Errno {
        let error = Errno(rawValue: errno)
        guard !error.isOrdinary, error != .wouldBlock else { return error }
        let place = path.map { $0.hasPrefix("/") ? $0 : name(of: descriptor) + "/" + $0 }
        return error.because("\(call) of \(place ?? name(of: descriptor)): \(error)")
    }

    /// Where a descriptor's file is, as /proc/self/fd of proc(5) tells; its number where that does not.
    private static func name(of descriptor: Int32) -> String {
        if descriptor == AT_FDCWD { return "." }
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/fd/\(descriptor)", &bytes, bytes.count)
        guard count > 0 else { return "descriptor \(descriptor)" }
        return String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
