public import Base
internal import InodeManifest

public import struct SystemPackage.Errno

extension Volume {
    /// Gives an inode a further name (link(2)). Counts one reference.
    ///
    /// - Throws: EEXIST, EPERM for a directory, EMLINK, ENOENT, ENOTDIR, ENOSPC, EROFS.
    public func link(
        _ inode: Inode, as name: FileName, in parent: Inode
    ) throws(Errno) -> Attributes {
        // What was written to a backing file comes with the name.
        try syncFromBacking(inode)
        let known = try changing { (state) throws(Errno) in
            try checkName(name)
            let directory = try directory(parent, state)
            let target = try record(inode, state)
            guard target.kind != .directory else { throw .notPermitted }
            guard directory.linkCount > 0 else { throw .noSuchFileOrDirectory }
            guard target.linkCount < Self.linkCountMax else { throw .tooManyLinks }
            guard try state.entry(name, in: directory) == nil else { throw .fileExists }
            try refuseTopName(name, in: parent)
            try checkRoom(state)
            if target.linkCount == 0 {
                target.parent = directory.inode
            } else {
                target.otherParents.append(directory.inode)
            }
            target.addLink()
            target.changed = Timestamp.now()
            state.mark(target)
            state.insert(name, in: directory, inode: inode, kind: target.kind)
            try touchDirectory(directory, state)
            return referenced(target, state)
        }
        return try attributes(known)
    }

    /// As ext4's. An inode's row names the directory of each link, and is written again at each change.
    package static let linkCountMax: UInt32 = 65_000
}
