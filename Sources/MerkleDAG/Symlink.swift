internal import Multiformats

extension ImportProfile {
    /// The block of a symbolic link, with its root.
    ///
    /// - Parameter target: what the link points to, any bytes. Of one that is longer than
    ///   `UnixFSEntry.symlinkTargetLengthMax` the block may be larger than any Kubo node takes.
    public func symlink(
        target: [UInt8], metadata: UnixFSMetadata = .none
    ) -> (root: DAGRoot, block: [UInt8]) {
        let message = UnixFSData(kind: .symlink, data: target, metadata: metadata)
        let block = DAGNode(data: message.encoded()).encoded()
        let cid = nodeCID(.sha256(of: block))
        return (DAGRoot(cid: cid, fileSize: 0, treeSize: UInt64(block.count)), block)
    }
}
