internal import Base
internal import Glibc

import struct SystemPackage.Errno

/// Why a file is not read.
enum TrustedFileError: Error {
    case system(Errno)
    /// It belongs to another user, or a symlink that leads to it does.
    case owner(UInt32)
}

/// Opens files that say where content or credentials go: whoever could put another file in their place
/// would get these. So they belong to root or to the caller, and symlinks at the end of their path do.
enum TrustedFile {
    /// More symlinks than anybody needs for a file of one line.
    private static let linksMax = 8

    /// Opens a file for reading, without waiting where it is a fifo.
    ///
    /// - Parameters:
    ///   - owner: one more user who may own it.
    ///   - followsLinks: whether the path may end in a symlink, as those of secrets do in containers.
    /// - Throws: `system`, with ELOOP for a symlink that is not followed; `owner`.
    static func open(
        _ path: String, alsoOwnedBy owner: UInt32? = nil, followsLinks: Bool
    ) throws(TrustedFileError) -> OwnedDescriptor {
        var path = path
        for _ in 0...linksMax {
            if let file = try openUnlinked(path) {
                try check(try status(of: file.raw).st_uid, owner)
                return file
            }
            guard followsLinks else { break }
            path = try target(of: path, owner)
        }
        throw .system(.tooManySymbolicLinkLevels)
    }

    /// The user who owns what stands at a path.
    static func owner(of path: String) throws(TrustedFileError) -> UInt32 {
        let place: OwnedDescriptor
        do throws(Errno) {
            place = try Sys.open(path, flags: Sys.pathOnly)
        } catch {
            throw .system(error)
        }
        return try status(of: place.raw).st_uid
    }

    /// Nil for a symlink.
    private static func openUnlinked(
        _ path: String
    ) throws(TrustedFileError) -> OwnedDescriptor? {
        do throws(Errno) {
            return try Sys.open(path, flags: O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
        } catch {
            guard error == .tooManySymbolicLinkLevels else { throw .system(error) }
            return nil
        }
    }

    /// Where a symlink leads; the path itself where it is none by now.
    private static func target(
        of path: String, _ owner: UInt32?
    ) throws(TrustedFileError) -> String {
        guard let link = try? Sys.open(path, flags: Sys.pathOnly | O_NOFOLLOW) else {
            throw .system(.noSuchFileOrDirectory)
        }
        let status = try status(of: link.raw)
        guard status.st_mode & S_IFMT == S_IFLNK else { return path }
        try check(status.st_uid, owner)
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        // An empty path: the link that is open (readlinkat(2)).
        let count = bytes.withUnsafeMutableBytes { raw in
            raw.withMemoryRebound(to: CChar.self) {
                $0.baseAddress.map { readlinkat(link.raw, "", $0, raw.count) } ?? -1
            }
        }
        guard count > 0 else { throw .system(Errno(rawValue: errno)) }
        let target = String(decoding: bytes[..<count], as: UTF8.self)
        guard !target.hasPrefix("/"), let slash = path.lastIndex(of: "/") else { return target }
        return path[...slash] + target
    }

    private static func check(_ uid: UInt32, _ other: UInt32?) throws(TrustedFileError) {
        guard uid == 0 || uid == geteuid() || uid == other else { throw .owner(uid) }
    }

    private static func status(of descriptor: Int32) throws(TrustedFileError) -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(Errno(rawValue: errno)) }
        return status
    }
}
