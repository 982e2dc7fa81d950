internal import Base
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    /// The record of an inode that the kernel names; ESTALE where it is gone. EROFS for one of the view of snapshots, which
    /// has none: what reads those has branched off before.
    func record(_ inode: Inode, _ state: ManifestState) throws(Errno) -> InodeRecord {
        guard !inode.isOfView else { throw .readOnlyFileSystem }
        guard let record = try state.inode(inode) else {
            throw Self.stale.because("\(inode) is gone")
        }
        return record
    }

    /// ESTALE of errno(3), for which swift-system's Errno has no name on every platform.
    static let stale = Errno(rawValue: 116)

    /// The record of a directory; ENOTDIR where it is something else.
    func directory(_ inode: Inode, _ state: ManifestState) throws(Errno) -> InodeRecord {
        let record = try record(inode, state)
        guard record.kind == .directory else { throw .notDirectory }
        return record
    }

    /// Checks the name of a new entry.
    func checkName(_ name: FileName) throws(Errno) {
        guard name.bytes.count <= Self.nameLengthMax else { throw .fileNameTooLong }
        guard Self.isUsable(name.bytes) else { throw .invalidArgument }
    }

    /// Refuses to make an entry of the name that the view of snapshots has; one that is there may be replaced.
    func refuseTopName(_ name: FileName, in parent: Inode) throws(Errno) {
        if SnapshotView.isTopName(name, in: parent) { throw .fileExists }
    }

    /// The error for whoever would change an entry that is not there.
    func absence(of name: FileName, in parent: Inode) -> Errno {
        SnapshotView.isTopName(name, in: parent) ? .readOnlyFileSystem : .noSuchFileOrDirectory
    }

    /// Whether an entry can have a name.
    static func isUsable(_ name: [UInt8]) -> Bool {
        (1...nameLengthMax).contains(name.count) && !name.contains(0x2f) && !name.contains(0)
            && name != [0x2e] && name != [0x2e, 0x2e]
    }

    /// Notes that the entries of a directory changed.
    func touchDirectory(_ directory: InodeRecord, _ state: ManifestState) throws(Errno) {
        let now = Timestamp.now()
        directory.modified = now
        directory.changed = now
        state.mark(directory)
        try outdateTree(of: directory, state)
    }
}
