public import Base
internal import InodeManifest
internal import MerkleDAG
public import Multiformats
public import Remotes

internal import struct SystemPackage.Errno

extension Volume {
    /// Gives a name to the DAG of a CID, at the cost of one entry whatever its size: a directory is loaded when
    /// somebody looks into it, and content comes when it is read. Blocks for the DAG's root block.
    ///
    /// - Parameters:
    ///   - path: names from the CID down to what is meant.
    ///   - parent: the directory that gets the name.
    /// - Returns: the CID of what has the name now.
    /// - Throws: `tree` where the DAG cannot be had or is nothing that a file system has; `operation` with EEXIST,
    ///   ENOENT, ENOTDIR, ENAMETOOLONG, ENOSPC, EROFS.
    @discardableResult
    public func graft(
        _ cid: CID, path: [[UInt8]] = [], as name: FileName, in parent: Inode,
        cancellation: Cancellation? = nil
    ) throws(VolumeError) -> CID {
        let entry: ExpandedEntry
        do throws(Errno) {
            try checkName(name)
            try refuseTopName(name, in: parent)
            // What was sealed just now counts as here.
            try manifest.checkpoint()
        } catch {
            throw .operation(failed: "importing \(cid)", error)
        }
        let source = DAGSource(volume: self, cancellation: cancellation)
        do throws(DAGReadError) {
            let target = try source.resolve(path, from: cid)
            let kind = try source.unixfsEntry(target)
            let size = Self.treeSize(of: target, try source.verifiedBlock(target))
            entry = ExpandedEntry(name: name, cid: target, treeSize: size, entry: kind)
        } catch {
            throw .tree("\(cid): it cannot be imported: \(error.reason)")
        }
        do throws(Errno) {
            try changing { (state) throws(Errno) in try checkRoom(state) }
            try materialize(entry, into: parent, replacing: nil)
        } catch {
            throw .operation(failed: "importing \(cid)", error)
        }
        return entry.cid
    }

    /// Gives a name to the DAGs that somebody has who will not be asked again, and fetches them whole: one DAG by its
    /// name, several in a directory of that name, each by its CID. All or nothing, but for a crash on the way.
    ///
    /// - Parameter progress: as of `fetchTree`.
    /// - Throws: as `graft`; `operation` with EIO where a block is missing.
    public func importTrees(
        _ roots: [CID], from source: any RemoteBlocks, as name: FileName, in parent: Inode,
        progress: (FetchedTree) -> Bool
    ) throws(VolumeError) -> FetchedTree {
        guard let first = roots.first else { throw .tree("\(source.address): it has no root") }
        return try remotes.fetcher.with(source) { () throws(VolumeError) in
            var isMade = false
            do throws(VolumeError) {
                if roots.count == 1 {
                    try graft(first, as: name, in: parent)
                    isMade = true
                } else {
                    try making("a directory for \(roots.count) trees") { () throws(Errno) in
                        let made = try makeDirectory(
                            name, in: parent, mode: 0o755, caller: .system)
                        isMade = true
                        defer { forget(made.inode, count: 1) }
                        nameChanged(name, in: parent)
                    }
                    let directory = try child(name, of: parent)
                    for root in roots {
                        try graft(root, as: FileName("\(root)"), in: directory)
                    }
                }
                let top = try child(name, of: parent)
                return try making("\(source.address)") { () throws(Errno) in
                    try fetchTree(top, progress: progress)
                }
            } catch {
                if isMade { try? removeName(name, in: parent) }
                throw error
            }
        }
    }

    private func child(_ name: FileName, of parent: Inode) throws(VolumeError) -> Inode {
        try making("the new name") { () throws(Errno) in
            try reading { (state) throws(Errno) in
                guard let entry = try state.entry(name, in: try directory(parent, state)) else {
                    throw .noSuchFileOrDirectory
                }
                return entry.inode
            }
        }
    }

    private func making<Result>(
        _ what: String, _ body: () throws(Errno) -> Result
    ) throws(VolumeError) -> Result {
        do throws(Errno) {
            return try body()
        } catch {
            throw .operation(failed: what, error)
        }
    }

    /// Takes a name away again, with all that is below it.
    private func removeName(_ name: FileName, in parent: Inode) throws(Errno) {
        let inode = try reading { (state) throws(Errno) in
            try state.entry(name, in: try directory(parent, state))?.inode
        }
        guard let inode else { return }
        if try attributes(of: inode).kind == .directory {
            try removeTree(name, in: parent)
        } else {
            try unlink(name, in: parent)
            nameChanged(name, in: parent)
        }
    }
}
