internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Remotes

internal import struct SystemPackage.Errno

// What others do at the MFS path comes into the tree: the base of the merge is the mirror as it was left.

extension Volume {
    /// Brings what others changed at the MFS path into the tree.
    func mergeMirror(_ connection: RemoteConnection) throws(PublishFailure) {
        let mirror = manifest.withLock { $0.published?.mirror }
        guard let status = try mirrorStatus(connection) else {
            // Whoever took all of it away has no part of the tree in mind: it is shown again.
            if mirror != nil { manifest.withLock { $0.published?.mirror = nil } }
            return
        }
        guard status.cid != mirror else { return }
        log.notice("MFS \(connection.path) was changed by others: merging \(status.cid)")
        let merge = TreeMerge(self, connection.fetcher, of: "MFS", .keepsBoth(suffix: ".mfs-"))
        do throws(MergeStop) {
            try merge.run(base: mirror, theirs: status.cid)
        } catch {
            switch error {
            case .changed: throw .changed
            case .read(let error):
                throw .failed("MFS \(connection.path) cannot be merged: \(error.reason)")
            case .tree(let error):
                throw .failed("MFS \(connection.path) cannot be merged: \(error)")
            }
        }
        // With what was merged, in one commit or in an earlier one.
        manifest.withLock { $0.published?.mirror = status.cid }
    }
}
