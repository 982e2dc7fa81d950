public import Base
internal import InodeManifest
internal import MerkleDAG
public import Multiformats

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
        let entry = try entry(name, of: cid, path: path, cancellation: cancellation)
        do throws(Errno) {
            try refuseTopName(name, in: parent)
            try changing { (state) throws(Errno) in try checkRoom(state) }
            try materialize(entry, into: parent, replacing: nil)
            // What is the volume's own would go with the place where it is.
            if case .directory = entry.entry { try loadFromHere(try child(name, of: parent)) }
        } catch {
            throw .operation(failed: "importing \(cid)", error)
        }
        return entry.cid
    }

    /// What a name is to lead to that is given to the DAG of a CID. Blocks for its root block.
    ///
    /// - Throws: as `graft`, for what has to do with the DAG and the name itself.
    func entry(
        _ name: FileName, of cid: CID, path: [[UInt8]] = [], cancellation: Cancellation? = nil
    ) throws(VolumeError) -> ExpandedEntry {
        do throws(Errno) {
            try checkName(name)
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
            return ExpandedEntry(name: name, cid: target, treeSize: size, entry: kind)
        } catch {
            throw .tree("\(cid): it cannot be imported: \(error.reason)")
        }
    }
}
