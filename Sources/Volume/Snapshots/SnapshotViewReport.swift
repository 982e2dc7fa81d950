internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

extension SnapshotView {
    /// What is known of an inode of the view. Of a file that is here in no form of the volume's own, leaves are not told.
    /// Blocks for blocks that are elsewhere; costs a commit.
    func report(
        of inode: Inode, leafCountMax: Int, _ volume: Volume
    ) throws(Errno) -> InodeReport {
        try volume.manifest.checkpoint()
        let attributes = try attributes(of: inode, volume)
        var node: SnapshotNode?
        if case .node(let found) = try place(of: inode) { node = found }
        var target: [UInt8]?
        if case .symlink(let text, _) = node?.entry { target = text }
        let content = try content(of: node, leafCountMax: leafCountMax, volume)
        return InodeReport(
            attributes: attributes, cid: node?.cid, treeSize: node?.treeSize,
            childCount: try childCount(of: attributes, volume), placement: content.placement,
            isSealed: node != nil, isPublished: nil, sharers: 1, leaves: content.leaves,
            leafCount: content.leafCount, target: target)
    }

    private func childCount(
        of attributes: Attributes, _ volume: Volume
    ) throws(Errno) -> UInt64? {
        guard attributes.kind == .directory else { return nil }
        var count: UInt64 = 0
        // After `.` and `..`.
        try readDirectory(attributes.inode, from: 2, isPlus: false, volume) { _, _ in
            count += 1
            return true
        }
        return count
    }

    private struct Content {
        var placement = InodeReport.Placement.none
        var leaves: [InodeReport.Leaf] = []
        var leafCount: UInt64 = 0
    }

    private func content(
        of node: SnapshotNode?, leafCountMax: Int, _ volume: Volume
    ) throws(Errno) -> Content {
        guard let node, node.kind == .regular else { return Content() }
        return try volume.reading { (state) throws(Errno) in
            var content = Content()
            let object = try object(of: node, volume, state)
            switch object?.state {
            case nil: break
            case .remote:
                let file = object.flatMap { volume.remotes(state).files[$0.id] }
                content.placement = .remote(cachedBytes: file?.presentBytes ?? 0)
            case .sealed, .staging:
                content.placement = object.map { $0.isInline ? .inline : .object($0.id) } ?? .none
            }
            let isWhole = object?.state == .sealed || node.cid.codec == .raw || node.size == 0
            guard isWhole else { return content }
            content.leafCount =
                object == nil ? 1 : volume.leafCount(ofSize: node.size)
            content.leaves = try volume.leaves(
                size: node.size, object: object, cid: node.cid,
                count: min(content.leafCount, UInt64(leafCountMax)), state)
            return content
        }
    }
}
