package import Base
internal import Glibc

internal import struct SystemPackage.Errno

// The layout of a state directory:
//
//   lock                 held by flock(2) while a process uses the volume; holds its pid as text
//   manifest.sqlite      the inode manifest, with -wal and -shm beside it
//   manifest.redo        its redo log
//   objects/             flat files (see ObjectStore)
//   cache/               some bytes of what is elsewhere (see ObjectStore)
//
// Validity: the directory and all of it belong to the user who opens them, or to root, and no other
// user may write there (`Distrust`); no name in it is a symlink. The path to it may have symlinks,
// which are followed once, at opening.

/// An open state directory, locked for this process until `unlock` or the value's end.
package struct StateDirectory: ~Copyable, Sendable {
    /// The path without symlinks.
    package let path: String
    package let descriptor: OwnedDescriptor
    /// Nil once it was given up.
    private let lock: Monitor<OwnedDescriptor?>

    private init(
        path: String, descriptor: consuming OwnedDescriptor, lock: consuming OwnedDescriptor
    ) {
        self.path = path
        self.descriptor = descriptor
        self.lock = Monitor(lock)
    }

    // Whatever ended the opening, or the volume.
    deinit { unlock() }

    /// Opens the directory, which is made where it is missing, and locks it.
    package static func open(path given: String) throws(StateDirectoryError) -> StateDirectory {
        let path = try failing(given, "cannot be opened or written") { () throws(Errno) in
            try makePath(given)
            return try resolve(given)
        }
        let descriptor = try openTrusted(path)
        try checkNames(in: descriptor.raw, path: path)
        let file = try failing(path, "cannot be opened or written") { () throws(Errno) in
            try Sys.openTrusted("lock", in: descriptor.raw, flags: O_RDWR | O_CREAT)
        }
        let lock = file.raw
        let opened = StateDirectory(path: path, descriptor: descriptor, lock: file)
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
    package func unlock() {
        lock.withLock { lock in
            // A child that is just being started holds a copy until its exec: closing ours would
            // not be enough.
            if let raw = lock?.raw { try? Sys.unlock(raw) }
            lock = nil
        }
    }

    /// Opens a state directory, which is made where it is missing, and does not lock it.
    package static func openUnlocked(path given: String) throws(StateDirectoryError)
        -> OwnedDescriptor
    {
        let path = try failing(given, "cannot be opened or written") { () throws(Errno) in
            try makePath(given)
            return try resolve(given)
        }
        return try openTrusted(path)
    }

    private static func openTrusted(_ path: String) throws(StateDirectoryError) -> OwnedDescriptor {
        let directory = try failing(path, "cannot be opened") { () throws(Errno) in
            try Sys.open(path, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        }
        let status = try failing(path, "cannot be opened") { () throws(Errno) in
            try Sys.status(of: directory.raw)
        }
        if let distrust = status.distrust(expecting: .directory) {
            throw .untrusted(path: path, distrust)
        }
        return directory
    }

    /// Refuses a directory in which a name of the volume may be another user's. What is opened is
    /// looked at once more then; here the name can be told.
    private static func checkNames(in directory: Int32, path: String) throws(StateDirectoryError) {
        let manifest = ["", "-wal", "-shm", "-journal", ".reserve"].map { "manifest.sqlite" + $0 }
        let files = (["lock", "manifest.redo"] + manifest).map { ($0, FileKind.regular) }
        for (name, kind) in files + [("objects", .directory), ("cache", .directory)] {
            let distrust = try failing(path, "cannot be opened") { () throws(Errno) in
                try Sys.distrust(of: name, in: directory, expecting: kind)
            }
            if let distrust { throw .untrusted(path: path + "/" + name, distrust) }
        }
    }

    private static func resolve(_ path: String) throws(Errno) -> String {
        guard let resolved = realpath(path, nil) else { throw Errno(rawValue: errno) }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private static func failing<Result: ~Copyable>(
        _ path: String, _ operation: String, _ body: () throws(Errno) -> Result
    ) throws(StateDirectoryError) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            throw .failed(path: path, operation: operation, error)
        }
    }

    /// Makes the directory, for its owner alone, and the ones above it, like `mkdir -p`.
    private static func makePath(_ path: String) throws(Errno) {
        var prefix = ""
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        for (number, part) in parts.enumerated() {
            prefix += (prefix.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            var status = stat()
            if stat(prefix, &status) == 0 { continue }
            try Sys.makeDirectory(prefix, mode: number == parts.count - 1 ? 0o700 : 0o755)
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
