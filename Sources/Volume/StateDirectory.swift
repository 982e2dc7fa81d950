internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

// The layout of a state directory:
//
//   lock                 held by flock(2) while a process uses the volume; holds its pid as text
//   manifest.sqlite      the inode manifest, with -wal and -shm beside it
//   manifest.redo        its redo log
//   objects/             flat files (see ObjectStore)

/// An open state directory, locked for this process until `unlock` or the value's end.
struct StateDirectory: ~Copyable, Sendable {
    let path: String
    let descriptor: OwnedDescriptor
    /// Nil once it was given up.
    private let lock: Guarded<OwnedDescriptor?>

    private init(
        path: String, descriptor: consuming OwnedDescriptor, lock: consuming OwnedDescriptor
    ) {
        self.path = path
        self.descriptor = descriptor
        self.lock = Guarded(lock)
    }

    /// Opens the directory, which is made where it is missing, and locks it.
    static func open(path: String) throws(VolumeError) -> StateDirectory {
        let (descriptor, lock) = try failing(path, "cannot be opened or written") {
            () throws(Errno) -> (Int32, Int32) in
            try makePath(path)
            let directory = try Sys.open(path, flags: O_RDONLY | O_DIRECTORY)
            let lock = try Sys.open("lock", in: directory.raw, flags: O_RDWR | O_CREAT)
            return (directory.take(), lock.take())
        }
        let opened = StateDirectory(
            path: path, descriptor: OwnedDescriptor(descriptor), lock: OwnedDescriptor(lock))
        var isLocked = try failing(path, "cannot be locked") { () throws(Errno) in
            try Sys.lockExclusively(lock)
        }
        // A daemon that was killed holds the lock until the last of its threads has ended.
        for _ in 0..<Self.waitsForDyingHolder where !isLocked {
            guard let pid = holder(lock), isDying(pid) else { break }
            Threads.sleep(milliseconds: 100)
            isLocked = (try? Sys.lockExclusively(lock)) ?? false
        }
        guard isLocked else { throw .inUse(path: path, pid: holder(lock)) }
        try failing(path, "cannot be written") { () throws(Errno) in
            try Sys.truncate(lock, to: 0)
            try [UInt8]("\(getpid())\n".utf8).withBytes { (bytes) throws(Errno) in
                try Sys.write(lock, at: 0, bytes)
            }
        }
        return opened
    }

    /// Lets another process, or another volume of this one, use the directory.
    func unlock() {
        lock.withLock { lock in
            // A child that is just being started holds a copy until its exec: closing ours would
            // not be enough.
            if let raw = lock?.raw { try? Sys.unlock(raw) }
            lock = nil
        }
    }

    private static func failing<Result>(
        _ path: String, _ operation: String, _ body: () throws(Errno) -> Result
    ) throws(VolumeError) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            throw .stateDirectory(path: path, operation: operation, error)
        }
    }

    /// Makes the directory and the ones above it, like `mkdir -p`.
    private static func makePath(_ path: String) throws(Errno) {
        var prefix = ""
        for part in path.split(separator: "/", omittingEmptySubsequences: true) {
            prefix += (prefix.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            var status = stat()
            if stat(prefix, &status) == 0 { continue }
            try Sys.makeDirectory(prefix)
        }
    }

    /// How often the lock of a process that is ending is tried again, 0.1 s apart.
    private static let waitsForDyingHolder = 50

    /// Whether a process is gone but for threads that have not ended yet: a zombie (proc(5), the
    /// state in /proc/PID/stat), or no longer there at all.
    private static func isDying(_ pid: Int32) -> Bool {
        guard let stat = try? Sys.open("/proc/\(pid)/stat", flags: O_RDONLY) else { return true }
        var bytes = [UInt8](repeating: 0, count: 512)
        let count = bytes.withUnsafeMutableBytes { buffer in
            (try? Sys.read(stat.raw, at: 0, into: buffer)) ?? 0
        }
        // The name before it is in brackets, and may hold any byte.
        guard let end = bytes[..<count].lastIndex(of: 0x29), end + 2 < count else { return true }
        return bytes[end + 2] == UInt8(ascii: "Z") || bytes[end + 2] == UInt8(ascii: "X")
    }

    private static func holder(_ descriptor: Int32) -> Int32? {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = bytes.withUnsafeMutableBytes { buffer in
            (try? Sys.read(descriptor, at: 0, into: buffer)) ?? 0
        }
        return Int32(String(decoding: bytes[..<count].prefix { $0 != 10 }, as: UTF8.self))
    }
}
