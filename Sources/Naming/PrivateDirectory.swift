internal import Base
internal import Glibc

internal import struct SystemPackage.Errno

/// A directory of small files that only their owner may read, and of which each is whole or as it was
/// before, whatever happens in between.
///
/// The directory and its files belong to the user who opens them, or to root, nobody else may write there
/// (`Distrust`), and no name is a symlink.
struct PrivateDirectory: ~Copyable, Sendable {
    /// How long another process is waited for that has the directory locked, in milliseconds.
    private static let lockMilliseconds = 10_000
    private static let lockName = "lock"

    let path: String
    private let descriptor: OwnedDescriptor

    /// Opens a directory, and makes it first where it is missing, for its owner alone; the one above it must
    /// be there.
    init(path: String) throws(NamingError) {
        self.path = path
        descriptor = try Self.opened(path)
    }

    private static func opened(_ path: String) throws(NamingError) -> OwnedDescriptor {
        do throws(Errno) {
            return try openedTrusted(path)
        } catch {
            guard error != .tooManySymbolicLinkLevels, error != .notDirectory else {
                throw NamingError(
                    .untrusted, "\(path) is not a directory: put it out of the way")
            }
            throw NamingError(
                error == .notPermitted ? .untrusted : .failed,
                "\(path): \(FailureCause.words(for: error))")
        }
    }

    private static func openedTrusted(_ path: String) throws(Errno) -> OwnedDescriptor {
        if try Sys.makeDirectory(path, mode: 0o700) {
            // Or what is synced in it could go with it.
            let above = try Sys.open(path + "/..", flags: O_RDONLY | O_DIRECTORY)
            try Sys.synchronize(above.raw)
        }
        let directory = try Sys.open(path, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        let status = try Sys.status(of: directory.raw)
        if let distrust = status.distrust(expecting: .directory) {
            throw Errno.notPermitted.because("it \(distrust)")
        }
        return directory
    }

    /// Runs a body that no other process, and no other thread, runs for this directory meanwhile.
    borrowing func locked<Result>(
        _ body: () throws(NamingError) -> Result
    ) throws(NamingError) -> Result {
        let lock = try open(Self.lockName, flags: O_RDWR | O_CREAT)
        let end = MonotonicClock.milliseconds + Int64(Self.lockMilliseconds)
        while true {
            let isLocked = try Self.failing(path) { [raw = lock.raw] () throws(Errno) in
                try Sys.lockExclusively(raw)
            }
            if isLocked { break }
            guard MonotonicClock.milliseconds < end else {
                throw NamingError(.timeout, "\(path) is in use by another process")
            }
            Threads.sleep(milliseconds: 20)
        }
        defer { try? Sys.unlock(lock.raw) }
        return try body()
    }

    /// The content of a file; nil where there is none.
    ///
    /// - Parameter isSecret: whether it is refused where others than its owner may read it.
    /// - Throws: `malformed` for one that is longer than `byteCountMax`.
    borrowing func read(
        _ name: String, byteCountMax: Int, isSecret: Bool
    ) throws(NamingError) -> [UInt8]? {
        let raw = descriptor.raw
        let isThere = try Self.failing("\(path)/\(name)") { () throws(Errno) in
            do throws(Errno) {
                _ = try Sys.status(of: name, in: raw)
                return true
            } catch {
                guard error == .noSuchFileOrDirectory else { throw error }
                return false
            }
        }
        guard isThere else { return nil }
        let file = try open(name, flags: O_RDONLY | O_NONBLOCK)
        var bytes = [UInt8](repeating: 0, count: byteCountMax + 1)
        let (mode, count) = try Self.failing("\(path)/\(name)") {
            [number = file.raw] () throws(Errno) in
            let mode = try Sys.status(of: number).mode
            let count = try bytes.withMutableBytes { (buffer) throws(Errno) in
                try Sys.read(number, at: 0, into: buffer)
            }
            return (mode, count)
        }
        guard !isSecret || mode & 0o077 == 0 else {
            throw NamingError(
                .untrusted, "\(path)/\(name) can be read by others: take that away (chmod 600)")
        }
        guard count <= byteCountMax else {
            throw NamingError(.malformed, "\(path)/\(name) is longer than \(byteCountMax) bytes")
        }
        return Array(bytes[..<count])
    }

    /// Puts a file in the place of the one before, durably and in one step. Call it within `locked`.
    ///
    /// - Parameter replaces: whether there may be one before.
    /// - Throws: `refused` where there is one, and may not be.
    borrowing func write(
        _ name: String, _ bytes: [UInt8], replaces: Bool = true
    ) throws(NamingError) {
        let raw = descriptor.raw
        if !replaces {
            guard try read(name, byteCountMax: 1 << 20, isSecret: false) == nil else {
                throw NamingError(.refused, "\(path)/\(name) is there already")
            }
        }
        let temporary = name + ".new"
        // What another process left of it when it was killed.
        try Self.failing("\(path)/\(temporary)") { () throws(Errno) in
            try Sys.unlink(temporary, in: raw)
        }
        let file = try open(temporary, flags: O_WRONLY | O_CREAT | O_EXCL)
        try Self.failing("\(path)/\(name)") { [number = file.raw] () throws(Errno) in
            try bytes.withBytes { (bytes) throws(Errno) in try Sys.write(number, at: 0, bytes) }
            try Sys.synchronize(number)
            try Sys.rename(temporary, in: raw, to: name, in: raw)
            try Sys.synchronize(raw)
        }
    }

    /// The names in the directory, in no order.
    borrowing func names() throws(NamingError) -> [String] {
        try Self.failing(path) { [raw = descriptor.raw] () throws(Errno) in
            try Sys.names(in: raw, path: ".")
        }
    }

    private borrowing func open(
        _ name: String, flags: Int32
    ) throws(NamingError) -> OwnedDescriptor {
        let raw = descriptor.raw
        let shown = "\(path)/\(name)"
        let distrust = try Self.failing(shown) { () throws(Errno) in
            try Sys.distrust(of: name, in: raw, expecting: .regular)
        }
        if let distrust { throw NamingError(.untrusted, "\(shown) \(distrust)") }
        return try Self.failing(shown) { () throws(Errno) in
            try Sys.openTrusted(name, in: raw, flags: flags, mode: 0o600)
        }
    }

    @discardableResult
    private static func failing<Result: ~Copyable>(
        _ subject: String, _ body: () throws(Errno) -> Result
    ) throws(NamingError) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            throw NamingError(.failed, "\(subject): \(FailureCause.words(for: error))")
        }
    }
}
