internal import Base
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

extension Volume {
    /// The record of an inode that the kernel names; ESTALE where it is gone.
    func record(_ inode: Inode, _ state: ManifestState) throws(Errno) -> InodeRecord {
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

    func attributes(of record: InodeRecord, _ state: ManifestState) -> Attributes {
        var size = record.kind == .directory ? Self.directorySize : record.size
        var times = (record.modified, record.changed, record.accessed)
        var mayChangeUnseen = false
        if record.kind == .regular {
            let file = opens(state).files[record.inode.number]
            if let backing = file?.backing, let status = try? Sys.status(of: backing.file.raw) {
                times = self.times(of: record, backing, status)
                if backing.isWritable {
                    (size, record.blocks) = (status.size, status.blocks)
                    mayChangeUnseen = backing.isMappable
                }
            } else if let flat = opens(state).unsynchronized[record.inode.number]?.file,
                // Bytes may have come and gone as holes; the file itself knows.
                let status = try? Sys.status(of: flat.raw)
            {
                record.blocks = status.blocks
            }
        }
        return Attributes(
            inode: record.inode, kind: record.kind, mode: record.mode,
            // Where nobody knows the subdirectories yet, 1: what filesystems that do not count them
            // tell, and what keeps find(1) from concluding that there are none.
            linkCount: record.isLoaded ? record.linkCount : min(record.linkCount, 1),
            uid: record.uid, gid: record.gid, rdev: record.rdev,
            size: size,
            blocks: record.kind == .directory ? Self.directorySize / 512 : record.blocks,
            accessed: times.2, modified: times.0, changed: times.1, created: record.created,
            mayChangeUnseen: mayChangeUnseen)
    }

    /// What stat tells as the size of a directory; ext4 has one block for a small one too.
    private static let directorySize: UInt64 = 4096
}
