package import MerkleDAG

/// Texts up to a bound, and how many there were.
package struct BoundedTexts: Sendable {
    package static let textsMax = 10_000

    package private(set) var texts: [String] = []
    package private(set) var count: UInt64 = 0

    package init() {}

    /// Adds a text, which is made only where it is kept.
    mutating func append<Failure: Error>(
        _ text: () throws(Failure) -> String
    ) throws(Failure) {
        if texts.count < Self.textsMax { texts.append(try text()) }
        count += 1
    }

    mutating func append(contentsOf other: BoundedTexts) {
        texts += other.texts.prefix(Self.textsMax - texts.count)
        count += other.count
    }
}

/// What one step of a check found, and what is to be done about it.
struct CheckFindings {
    /// The most changes of one round; what is beyond it is found again by the next one.
    static let actionsMax = 100_000

    /// Whether findings that can be mended are to be mended.
    var isMending = false
    private(set) var problems = BoundedTexts()
    /// Findings that `actions` mends.
    private(set) var mended = BoundedTexts()
    private(set) var actions: [CheckAction] = []

    mutating func add(
        mend: [CheckAction], _ text: () throws(CheckFailure) -> String
    ) throws(CheckFailure) {
        if isMending, !mend.isEmpty, actions.count < Self.actionsMax {
            actions += mend
            try mended.append(text)
        } else {
            try problems.append(text)
        }
    }
}

/// What a check saw of a volume, and what waits for the next mount.
package struct CheckCounts: Sendable {
    package var inodes: UInt64 = 0
    package var files: UInt64 = 0
    package var directories: UInt64 = 0
    package var symlinks: UInt64 = 0
    package var entries: UInt64 = 0
    package var objects: UInt64 = 0
    package var sealedObjects: UInt64 = 0
    package var inlineObjects: UInt64 = 0
    /// Inodes without a name, which the next mount deletes.
    package var unlinkedInodes: UInt64 = 0
    /// Flat files whose removal was committed but not done.
    package var deletedObjects: UInt64 = 0
}

/// A change that mends a finding.
package enum CheckAction: Sendable {
    case rebuildIndexes
    /// Leaves out what the redo log holds up to a number.
    case passLog(to: UInt64)
    /// Gives the redo log a new key, so that nothing in it counts.
    case renewLog
    /// Has nothing count as being at a remote.
    case forgetRemote(Int64)
    case removePlacement(kind: Int64, id: Int64, remote: Int64)
    /// Takes a reference to a DAG node away.
    case removeReference(kind: Int64, owner: Int64, multihash: [UInt8])
    /// Takes a DAG node away that nothing refers to.
    case removeUnreferencedNode(multihash: [UInt8])
    case makeRoot
    /// Makes what stands in the root's place a directory.
    case setRootKind
    /// Takes an entry away; an inode that has no other goes to lost+found.
    case removeEntry(parent: Int64, name: [UInt8])
    /// Keeps one entry of a directory that has several.
    case keepOneEntry(inode: Int64)
    case setEntryKind(parent: Int64, name: [UInt8], kind: Int64)
    case renumberCookie(parent: Int64, name: [UInt8])
    /// Brings the link count and the parents in line with the entries; an inode without an entry
    /// goes to lost+found.
    case relink(inode: Int64)
    /// Takes all entries of a directory away and puts it into lost+found.
    case moveToLostAndFound(inode: Int64)
    /// Brings the counters of the volume's row in line with the rows.
    case recount
    case setMode(inode: Int64, mode: Int64)
    case setSize(inode: Int64, size: Int64)
    case setAttributeFlag(inode: Int64, isSet: Bool)
    case removeAttributes(inode: Int64)
    case removeAttribute(inode: Int64, name: [UInt8])
    case clearObject(inode: Int64)
    case clearTarget(inode: Int64)
    case setInodeCID(inode: Int64, cid: [UInt8]?, treeSize: Int64)
    /// Takes the CID of a directory, and of all above it, away.
    case clearTree(directory: Int64)
    case removeDirectoryNodes(inode: Int64)
    case setReferences(object: Int64, count: Int64)
    /// Makes a file in lost+found that holds an object.
    case nameObject(object: Int64)
    case setObjectSize(object: Int64, size: Int64)
    case setObjectTreeSize(object: Int64, treeSize: Int64)
    case clearObjectCID(object: Int64)
    case removeBlocks(object: Int64)
    case setBlocks(object: Int64, SealResult)
    case forgetDeletion(object: Int64)
}
