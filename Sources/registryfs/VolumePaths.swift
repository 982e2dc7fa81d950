import Base
import Volume

import struct SystemPackage.Errno

/// Where names lead inside of a volume.
enum VolumePlace {
    case inode(Inode, names: [FileName])
    /// Out of the volume: an absolute path, or one that begins with `..` and is relative to the
    /// mount point.
    case elsewhere([UInt8])
}

extension Volume {
    /// Follows names from the root, symlinks among them; the last name's is not followed. A `.` asks for
    /// a directory.
    ///
    /// - Parameters:
    ///   - fixedCount: how many of the first names `..` cannot leave.
    ///   - shown: the path for messages.
    func place(
        of names: [FileName], fixedCount: Int, shown: String
    ) throws(Failure) -> VolumePlace {
        var pending = Array(names.reversed())
        var resolved: [FileName] = []
        var linkCount = 0
        do throws(Errno) {
            while let name = pending.popLast() {
                if name.bytes == Array("..".utf8) {
                    guard resolved.count > fixedCount else {
                        return .elsewhere(Self.path([name] + pending.reversed()))
                    }
                    resolved.removeLast()
                    continue
                }
                if name.bytes == Array(".".utf8) {
                    let inode = try resolve(path: resolved)
                    guard try attributes(of: inode).kind == .directory else { throw .notDirectory }
                    continue
                }
                resolved.append(name)
                let inode = try resolve(path: resolved)
                guard !pending.isEmpty, try attributes(of: inode).kind == .symlink else { continue }
                linkCount += 1
                guard linkCount <= PathWalk.linkCountMax else { throw .tooManySymbolicLinkLevels }
                let target = try readSymlink(inode)
                if target.first == UInt8(ascii: "/") {
                    return .elsewhere(target + [UInt8(ascii: "/")] + Self.path(pending.reversed()))
                }
                resolved.removeLast()
                pending += SystemFiles.components(target).reversed().map { FileName($0) }
            }
            return .inode(try resolve(path: resolved), names: resolved)
        } catch {
            let kind: Failure.Kind = error == .noSuchFileOrDirectory ? .absent : .failed
            throw Failure("\(RawText.shown(shown)): \(error.reason)", kind: kind)
        }
    }

    private static func path(_ names: [FileName]) -> [UInt8] {
        Array(names.map(\.bytes).joined(separator: [UInt8(ascii: "/")]))
    }
}
