package import Base
package import MerkleDAG
package import Multiformats

// The records below are classes without a lock of their own: they live in a `ManifestState`, and
// are touched only under the lock of the `InodeManifest` that holds it.

/// What the manifest knows of one inode.
package final class InodeRecord {
    package let inode: Inode
    package let kind: FileKind
    /// Permission bits with set-id and sticky, 07777.
    package var mode: UInt32
    package var uid: UInt32
    package var gid: UInt32
    package var linkCount: UInt32
    package let rdev: UInt64
    /// Bytes of a regular file; the length of a symlink's target; 0 for all else.
    package var size: UInt64 = 0
    /// What the content takes on the disk, in units of 512 bytes.
    package var blocks: UInt64 = 0
    package var accessed: Timestamp
    package var modified: Timestamp
    package var changed: Timestamp
    package let created: Timestamp
    /// The directory of the first link; inode 0 where there is none. The root is its own parent.
    package var parent: Inode
    /// The directories of further links, one element a link.
    package var otherParents: [Inode] = []
    /// The object that holds a regular file's bytes; nil while the file is empty.
    package var object: UInt64?
    /// The CID of a directory's or symlink's DAG while it is current. A file's is its object's.
    package var cid: CID?
    /// The Tsize of a link to `cid`.
    package var treeSize: UInt64 = 0
    /// The epoch in which the node has told that it has all blocks of a directory's `cid`; 0 for never.
    package internal(set) var placedEpoch: UInt64 = 0
    /// The newest snapshot when a directory's `cid` was computed; 0 as well for one of the rows.
    package internal(set) var treeBorn: UInt64 = 0
    /// The entries of a directory are known; else they are in the DAG of `cid`.
    package var isLoaded = true
    /// The target of a symlink.
    package let target: [UInt8]
    /// Whether rows stand in `xattr`, or will.
    package var hasAttributes = false
    /// The extended attributes once they are loaded; nil as well where there never were any.
    var attributes: AttributeTable?
    /// The entries of a directory; empty for all else.
    package var children = DirectoryTable()

    /// Counts the changes of a file's bytes while the record is in memory; what was read from the
    /// file holds only if the count stood still meanwhile.
    package var contentVersion: UInt64 = 0

    /// How many users keep the record in memory: open handles and running operations.
    package var pins = 0
    /// The record is gone from the volume; it stays until SQLite has been told.
    package var isDeleted = false
    /// A row of the inode stands in SQLite, or in a batch on its way there; nothing of the log.
    var isStored = false
    /// Set by use, cleared by the evicting hand.
    var isRecent = true
    /// The generation of the newest change; clean where SQLite has that.
    var dirtyGeneration: UInt64 = 0
    /// What the next commit has to tell beside the row.
    var uncommitted: Parts = []
    /// What SQLite has to be told beside the row.
    var notCheckpointed: Parts = []
    /// The record is among those that were committed since the last checkpoint.
    var isNotCheckpointed = false
    /// The dag-pb nodes of a directory's new CID, until SQLite has them.
    package var newNodes: [StoredNode]?
    /// The last name is gone, and what the snapshots of then have of it is kept. Forgotten with the record: it is kept
    /// for those of later as well then.
    package var isLossNoted = false

    /// What an inode has beside its row.
    struct Parts: OptionSet {
        let rawValue: UInt8
        /// The dag-pb nodes of a directory's new CID.
        static let nodes = Parts(rawValue: 1)
        /// What the remote has of it is not what the placement says.
        static let placement = Parts(rawValue: 2)
    }

    package init(
        inode: Inode, kind: FileKind, mode: UInt32, uid: UInt32, gid: UInt32, linkCount: UInt32,
        rdev: UInt64, parent: Inode, target: [UInt8] = [], accessed: Timestamp,
        modified: Timestamp, changed: Timestamp, created: Timestamp
    ) {
        self.inode = inode
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.linkCount = linkCount
        self.rdev = rdev
        self.parent = parent
        self.target = target
        self.accessed = accessed
        self.modified = modified
        self.changed = changed
        self.created = created
    }
}

extension InodeRecord {
    /// Takes one from the count of links, which in a damaged manifest may be too low.
    package func dropLink() {
        if linkCount > 0 { linkCount -= 1 }
    }

    /// Adds one to the count of links, which in a damaged manifest may be too high.
    package func addLink() {
        if linkCount < .max { linkCount += 1 }
        isLossNoted = false
    }
}

extension SealResult {
    var blocks: StoredBlocks { StoredBlocks(leaves: leaves, nodes: nodes) }
}

/// The rows of `leaf` and `node` of one object.
package struct StoredBlocks: Sendable {
    package let leaves: [[UInt8]]
    package let nodes: [StoredNode]
}

/// What the manifest knows of one object.
package final class ObjectRecord {
    package let id: UInt64
    package var state: ObjectState
    /// The inodes that name the object, and one more where it is kept for snapshots.
    package var references: UInt32
    package var size: UInt64
    package var cid: CID?
    package var treeSize: UInt64 = 0
    /// The epoch in which the node has told that it has all blocks of `cid`; 0 for never.
    package internal(set) var placedEpoch: UInt64 = 0
    /// The newest snapshot when the object was sealed, or made of a CID: see Snapshots.swift.
    package internal(set) var born: UInt64 = 0
    /// The newest snapshot that may have the object, since the last inode let it go; 0 for none. Where it is not, the snapshots
    /// have one of the references.
    package internal(set) var kept: UInt64 = 0
    /// Whether the bytes stand in the manifest rather than in a flat file.
    package var isInline: Bool
    /// The bytes of an inline object while they are loaded.
    package var inlineBytes: [UInt8]?

    /// How many users keep the record alive: open handles and running operations.
    package var pins = 0
    /// The record is gone from the volume; it stays until SQLite has been told.
    package var isDeleted = false
    var isStored = false
    var isRecent = true
    var dirtyGeneration: UInt64 = 0
    /// What the next commit has to tell beside the row.
    var uncommitted: Parts = []
    /// What SQLite has to be told beside the row.
    var notCheckpointed: Parts = []
    /// The record is among those that were committed since the last checkpoint.
    var isNotCheckpointed = false
    /// The object was sealed, and SQLite may still say so: its flat file must not be changed
    /// before a commit.
    package var isUnsealUncommitted = false
    /// Rows of `leaf` and `node`, until SQLite has them: before that it may have those of older bytes.
    package var newBlocks: StoredBlocks?

    /// What an object has beside its row.
    struct Parts: OptionSet {
        let rawValue: UInt8
        /// The inline bytes are newer than their row.
        static let inline = Parts(rawValue: 1)
        /// The rows of `leaf` and `node` no longer hold.
        static let oldBlocks = Parts(rawValue: 2)
        static let newBlocks = Parts(rawValue: 4)
        /// What the remote has of it is not what the placement says.
        static let placement = Parts(rawValue: 8)
    }

    package init(id: UInt64, state: ObjectState, references: UInt32, size: UInt64, isInline: Bool) {
        self.id = id
        self.state = state
        self.references = references
        self.size = size
        self.isInline = isInline
    }
}

/// One directory entry.
package struct DirectoryEntryRecord {
    /// Inode 0 is a tombstone: the name is gone, but SQLite may not have been told yet.
    package let inode: Inode
    package let kind: FileKind
    /// The place in a listing.
    package let cookie: UInt64
    /// The generation of the manifest in which the entry was made or removed.
    let generation: UInt64

    package var isTombstone: Bool { inode.number == 0 }
}

/// The entries of one directory, as far as they are in memory.
package struct DirectoryTable {
    /// Known names, tombstones among them.
    var entries: [FileName: DirectoryEntryRecord] = [:]
    /// Every live name is in `entries`.
    var isComplete = false
    /// The names in the order of their cookies, once a listing asked for it. Names that went
    /// since, or came again with a newer cookie, stay until `order` is rebuilt.
    var order: [(cookie: UInt64, name: FileName)]?
    /// A listing was served since the last time that entries were dropped from memory.
    var wasListed = false
    /// Entries in `order` that no longer hold.
    var staleInOrder = 0

    package init() {}

    /// Says whether all names are in memory, as for a directory that has no rows yet.
    package mutating func setComplete(_ isComplete: Bool = true) {
        self.isComplete = isComplete
        order = nil
    }
}
