internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG

internal import struct SystemPackage.Errno

// What a graft may bring below its directory: what the stock registry makes there, directories and small files. A registry
// follows symlinks, so one of somebody else's would lead its readers into repositories that they may not read, and its writers
// out of the volume. It reads a link as a whole into its memory, so a large one would take all of that.

extension Volume.ExpandedEntry {
    /// Bytes of a file below a repository's directory: that of a registry has a digest or a date.
    static let graftFileBytesMax: UInt64 = 64 << 10

    /// The entry as a graft may bring it, without modes and times of others; nil for one that it may not.
    var ofGraft: Volume.ExpandedEntry? {
        let kind: UnixFSEntry
        switch entry {
        case .directory(let isSharded, _): kind = .directory(isSharded: isSharded, metadata: .none)
        case .file(let size, _) where size <= Self.graftFileBytesMax:
            kind = .file(size: size, metadata: .none)
        case .file, .symlink: return nil
        }
        return Volume.ExpandedEntry(name: name, cid: cid, treeSize: treeSize, entry: kind)
    }

    /// Whether it is the same for a graft as for others.
    fileprivate var isPlain: Bool {
        switch entry {
        case .directory(_, let metadata): metadata == .none
        case .file(let size, let metadata):
            size <= Self.graftFileBytesMax && metadata == .none
        case .symlink: false
        }
    }
}

extension Volume {
    /// The entries of a directory that may be made: below a graft without what that may not bring.
    func admitted(
        _ children: [ExpandedEntry], in directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> [ExpandedEntry] {
        guard !state.grafts.all.isEmpty, children.contains(where: { !$0.isPlain }),
            let graft = try graft(over: directory, state)
        else { return children }
        let admitted = children.compactMap(\.ofGraft)
        if admitted.count < children.count {
            let count = children.count - admitted.count
            log.warning(
                "graft \(graftWords(graft.name)): of \(directory.inode), \(count) symlinks and large files are left out"
            )
        }
        return admitted
    }

    /// The graft whose directory an inode is, or is below; nil where there is none.
    func graft(
        over inode: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> StoredGraft? {
        var place = inode
        for _ in 0..<Self.graftDepthMax {
            guard place.inode != .root, let above = try state.inode(place.parent) else {
                return nil
            }
            for graft in state.grafts.all.values where graft.parent == above.inode.number {
                if try graftInode(graft, state) == place.inode { return graft }
            }
            place = above
        }
        // Too deep to tell.
        throw .ioError.because("\(inode.inode): it is more than \(Self.graftDepthMax) levels deep")
    }

    private static let graftDepthMax = 4_096
}
