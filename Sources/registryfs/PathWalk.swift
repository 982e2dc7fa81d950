import Base
import Glibc

import struct SystemPackage.Errno

/// Where a path leads.
enum PathPlace {
    /// To a mount of registryfs: the names below the mount's filesystem root, `..` among them, and `.`
    /// at the end where the path has to be a directory. The first `fixedCount` names are a bind
    /// mount's own and cannot be left by `..`.
    case registry(MountEntry, names: [FileName], fixedCount: Int)
    /// Anywhere else: the path without symlinks.
    case elsewhere([UInt8])
}

/// Finds the mount that a path lies on, without one system call into that mount.
///
/// A mount whose daemon is stuck hangs whoever touches it, so symlinks are read only outside of
/// the mounts of registryfs; those inside of one are its daemon's to follow.
enum PathWalk {
    /// As many symlinks as Linux follows in one path, path_resolution(7).
    static let linkCountMax = 40

    /// Walks a path; the last name's symlink is followed only where a slash, or `/.`, stands after it.
    ///
    /// - Throws: also where it leads to a mount of registryfs that another user has made.
    static func place(of path: [UInt8], in table: MountTable) throws(Failure) -> PathPlace {
        guard !path.isEmpty else { throw Failure("a path cannot be empty") }
        let isDirectory = SystemFiles.namesDirectory(path)
        var pending = try names(of: path)
        var resolved: [[UInt8]] = []
        var linkCount = 0
        func registryPlace() throws(Failure) -> PathPlace? {
            try Self.registryPlace(
                of: resolved, then: pending, isDirectory: isDirectory, in: table)
        }
        if let place = try registryPlace() { return place }
        while let name = pending.popLast() {
            if name == parent {
                _ = resolved.popLast()
                if let place = try registryPlace() { return place }
                continue
            }
            resolved.append(name)
            if let place = try registryPlace() { return place }
            guard !pending.isEmpty || isDirectory,
                let target = SystemFiles.linkTarget(SystemFiles.join(resolved))
            else { continue }
            linkCount += 1
            guard linkCount <= linkCountMax else {
                throw Failure("\(RawText.shown(path)): too many levels of symbolic links")
            }
            resolved.removeLast()
            if target.first == UInt8(ascii: "/") { resolved = [] }
            pending += SystemFiles.components(target).reversed()
        }
        return .elsewhere(SystemFiles.join(resolved))
    }

    private static let parent = Array("..".utf8)

    /// The names of a path from the root directory on, the first one last. The working directory has no
    /// symlinks, so what leads up from it needs no walk.
    private static func names(of path: [UInt8]) throws(Failure) -> [[UInt8]] {
        var names = SystemFiles.components(path)[...]
        guard path.first != UInt8(ascii: "/") else { return names.reversed() }
        var start = SystemFiles.components(try SystemFiles.workingDirectory())
        while names.first == parent {
            names.removeFirst()
            _ = start.popLast()
        }
        return (start + names).reversed()
    }

    private static func registryPlace(
        of resolved: [[UInt8]], then pending: [[UInt8]], isDirectory: Bool, in table: MountTable
    ) throws(Failure) -> PathPlace? {
        guard let mount = table.mount(holding: SystemFiles.join(resolved)), mount.isRegistry
        else { return nil }
        guard mount.isTrusted else {
            throw Failure("the mount at \(RawText.shown(mount.point)) \(mount.otherUser)")
        }
        let fixed = SystemFiles.components(mount.root)
        let inside = resolved.dropFirst(SystemFiles.components(mount.point).count)
        // Out of the mount again, which needs no question to its daemon.
        if inside.isEmpty, pending.last == parent, !resolved.isEmpty { return nil }
        var names = inside + pending.reversed()
        if isDirectory, !names.isEmpty { names.append([UInt8(ascii: ".")]) }
        return .registry(
            mount, names: (fixed + names).map { FileName($0) }, fixedCount: fixed.count)
    }

    /// The mount that a person names by its mount point or by any path on it, for commands that are about a
    /// whole mount; symlinks are followed to the end.
    ///
    /// - Returns: the mount, and the names below its root; nil where the path is on none of ours.
    static func mount(
        named shown: String, in table: MountTable
    ) throws(Failure) -> (mount: MountEntry, isRoot: Bool, isBound: Bool)? {
        let path = RawText.bytes(of: shown)
        guard !path.isEmpty else { throw Failure("a path cannot be empty", exitCode: 64) }
        guard
            case .registry(let mount, let names, let fixedCount) = try place(
                of: path + Array("/.".utf8), in: table)
        else { return nil }
        guard !names.dropFirst(fixedCount).contains(where: { $0.bytes == parent }) else {
            throw Failure(
                "\(RawText.shown(shown)): '..' below \(RawText.shown(mount.point)) may lead out of "
                    + "that mount: give the path without it")
        }
        return (mount, names.count == fixedCount, fixedCount > 0)
    }
}
