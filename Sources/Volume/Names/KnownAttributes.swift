internal import Base
internal import InodeManifest
internal import ObjectStore

internal import struct SystemPackage.Errno

// Of a file that is open, its flat file knows more than the manifest: a backing file its size and times, any
// flat file that is being written the room that it takes. It is asked without the manifest's lock.

/// The attributes of an inode as the manifest has them, and the flat file that knows the rest.
struct KnownAttributes {
    /// Which flat file to ask, and for what.
    enum Rest {
        /// Size and times; the backing file as it was when the manifest was asked.
        case backing(Backing)
        /// The room: bytes may have come and gone as holes.
        case room(ObjectFile)
    }

    var attributes: Attributes
    let rest: Rest?
}

extension Volume {
    /// What the manifest knows of an inode's attributes; `attributes(_:)` finds the rest.
    func knownAttributes(of record: InodeRecord, _ state: ManifestState) -> KnownAttributes {
        var rest: KnownAttributes.Rest?
        if record.kind == .regular {
            if let backing = opens(state).files[record.inode.number]?(state).backing {
                rest = .backing(backing)
            } else if let flat = opens(state).unsynchronized[record.inode.number]?.file {
                rest = .room(flat)
            }
        }
        let attributes = Attributes(
            inode: record.inode, kind: record.kind, mode: record.mode,
            // Where nobody knows the subdirectories yet, 1: what filesystems that do not count them
            // tell, and what keeps find(1) from concluding that there are none.
            linkCount: record.isLoaded ? record.linkCount : min(record.linkCount, 1),
            uid: record.uid, gid: record.gid, rdev: record.rdev,
            size: record.kind == .directory ? Self.directorySize : record.size,
            blocks: record.kind == .directory ? Self.directorySize / 512 : record.blocks,
            accessed: record.accessed, modified: record.modified, changed: record.changed,
            created: record.created, mayChangeUnseen: false)
        return KnownAttributes(attributes: attributes, rest: rest)
    }

    /// The attributes, with what the flat file knows. Not under the manifest's lock.
    ///
    /// - Throws: ESTALE where the inode has gone meanwhile.
    func attributes(_ known: KnownAttributes) throws(Errno) -> Attributes {
        var known = known
        while true {
            switch known.rest {
            case nil:
                return known.attributes
            case .room(let flat):
                if let status = try? Sys.status(of: flat.raw) {
                    known.attributes.blocks = status.blocks
                }
                return known.attributes
            case .backing(let backing):
                let status = try? Sys.status(of: backing.file.raw)
                guard backing.attachment.isOver else {
                    if let status { known.attributes.take(status, of: backing) }
                    return known.attributes
                }
                // By now the file may be empty, or another inode's.
                let inode = known.attributes.inode
                known = try reading { (state) throws(Errno) in
                    knownAttributes(of: try record(inode, state), state)
                }
            }
        }
    }

    /// What stat tells as the size of a directory; ext4 has one block for a small one too.
    private static let directorySize: UInt64 = 4096
}

extension Attributes {
    /// Takes over what an inode's backing file knows and the inode does not yet.
    fileprivate mutating func take(_ status: FileStatus, of backing: Backing) {
        (modified, changed, accessed) = backing.times(of: (modified, changed, accessed), status)
        guard backing.isWritable else { return }
        (size, blocks) = (status.size, status.blocks)
        mayChangeUnseen = backing.isMappable
    }
}
