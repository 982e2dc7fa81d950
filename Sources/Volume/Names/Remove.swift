public import Base
internal import InodeManifest

public import struct SystemPackage.Errno

extension Volume {
    /// Removes the name of anything but a directory (unlink(2)). The bytes stay as long as
    /// another name, a handle or a reference of the kernel does.
    ///
    /// - Throws: ENOENT, ENOTDIR, EISDIR, EROFS.
    public func unlink(_ name: FileName, in parent: Inode) throws(Errno) {
        try changing { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard let entry = try state.entry(name, in: directory) else {
                throw absence(of: name, in: parent)
            }
            let target = try record(entry.inode, state)
            guard target.kind != .directory else { throw .isDirectory }
            state.remove(name, in: directory)
            try touchDirectory(directory, state)
            dropLink(of: target, in: directory, state)
        }
    }

    /// Removes an empty directory (rmdir(2)).
    ///
    /// - Throws: ENOENT, ENOTDIR, ENOTEMPTY, EINVAL for `.`, EROFS.
    public func removeDirectory(_ name: FileName, in parent: Inode) throws(Errno) {
        // rmdir(2): EINVAL for a last component of `.`, ENOTEMPTY for `..`.
        if name.bytes == [0x2e] { throw .invalidArgument }
        if name.bytes == [0x2e, 0x2e] { throw .directoryNotEmpty }
        try changing { (state) throws(Errno) in
            let directory = try directory(parent, state)
            guard let entry = try state.entry(name, in: directory) else {
                throw absence(of: name, in: parent)
            }
            let target = try record(entry.inode, state)
            guard target.kind == .directory else { throw .notDirectory }
            guard try state.isEmpty(target) else { throw .directoryNotEmpty }
            state.remove(name, in: directory)
            directory.dropLink()
            try touchDirectory(directory, state)
            dropDirectory(target, state)
        }
    }

    /// Takes the last name from an empty directory.
    func dropDirectory(_ target: InodeRecord, _ state: ManifestState) {
        target.linkCount = 0
        target.changed = Timestamp.now()
        state.mark(target)
        reapIfUnused(target, state)
    }

    /// Takes one name, which stood in a directory, from an inode that is no directory.
    func dropLink(of target: InodeRecord, in directory: InodeRecord, _ state: ManifestState) {
        target.dropLink()
        target.changed = Timestamp.now()
        if let index = target.otherParents.firstIndex(of: directory.inode) {
            target.otherParents.remove(at: index)
        } else {
            target.parent = target.otherParents.popLast() ?? Inode(0)
        }
        state.mark(target)
        reapIfUnused(target, state)
        if target.linkCount == 0, !target.isDeleted { noteLoss(of: target, state) }
    }
}
