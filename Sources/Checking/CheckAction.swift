internal import MerkleDAG

/// A change that mends a finding.
enum CheckAction: Sendable {
    case rebuildIndexes
    /// Leaves out what the redo log holds up to a number.
    case passLog(to: UInt64)
    /// Gives the redo log a new key, so that nothing in it counts.
    case renewLog
    /// Has nothing count as being at a remote.
    case forgetRemote(Int64)
    /// Has the tree be the volume's own from the start.
    case forgetOrigin
    /// Takes a snapshot away; what it keeps goes when it is looked for.
    case forgetSnapshot(Int64)
    /// Brings the number that was given last in line with the snapshots.
    case countSnapshots
    /// Leaves what is being restored as it is.
    case forgetRestoration
    /// Takes the row of a graft away; its directory stays as one of the volume's own.
    case forgetGraft([UInt8])
    /// Has nobody get the bytes of an object from a graft, because what they have to be is lost.
    case distrustGraftObject(Int64)
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
