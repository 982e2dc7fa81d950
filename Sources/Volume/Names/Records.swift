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
}
