import Base
import Glibc

import struct SystemPackage.Errno

/// Where a path leads.
enum PathPlace {
    /// To a mount of registryfs: the names below the mount's filesystem root, `..` among them.
    /// The first `fixedCount` names are a bind mount's own and cannot be left by `..`.
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

    /// Walks a path; the last name's symlink is not followed.
    ///
    /// - Throws: also where it leads to a mount of registryfs that another user has made.
    static func place(of path: [UInt8], in table: MountTable) throws(Failure) -> PathPlace {
        guard !path.isEmpty else { throw Failure("a path cannot be empty") }
        var pending: [[UInt8]] = SystemFiles.components(try SystemFiles.absolute(path)).reversed()
        var resolved: [[UInt8]] = []
        var linkCount = 0
        if let place = try registryPlace(of: resolved, then: pending, in: table) { return place }
        while let name = pending.popLast() {
            if name == Array("..".utf8) {
                _ = resolved.popLast()
                continue
            }
            resolved.append(name)
            if let place = try registryPlace(of: resolved, then: pending, in: table) {
                return place
            }
            guard let target = SystemFiles.linkTarget(SystemFiles.join(resolved)), !pending.isEmpty
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

    private static func registryPlace(
        of resolved: [[UInt8]], then pending: [[UInt8]], in table: MountTable
    ) throws(Failure) -> PathPlace? {
        guard let mount = table.mount(holding: SystemFiles.join(resolved)), mount.isRegistry
        else { return nil }
        guard mount.isTrusted else {
            throw Failure("the mount at \(RawText.shown(mount.point)) \(mount.otherUser)")
        }
        let fixed = SystemFiles.components(mount.root)
        let inside = resolved.dropFirst(SystemFiles.components(mount.point).count)
        let names = fixed + inside + pending.reversed()
        return .registry(mount, names: names.map { FileName($0) }, fixedCount: fixed.count)
    }
}
