public import Base
internal import InodeManifest

extension Volume {
    /// The path of an inode for a message, from the root on, what is no plain text in it escaped; nil
    /// where it has none, or where it is not found with little work: of an inode with several names, any
    /// of them. Blocks for a few reads of SQLite.
    public func shownPath(of inode: Inode) -> String? {
        if inode.isOfView { return view.shownPath(of: inode) }
        return manifest.withLock { state in
            var path = ""
            var inode = inode
            for _ in 0..<Self.shownDepthMax {
                if inode == .root { return path.isEmpty ? "/" : path }
                guard let record = try? state.inode(inode),
                    let parent = try? state.inode(record.parent),
                    let name = state.rows.nameForMessage(of: inode, in: parent)
                else { return nil }
                path = "/" + shown(name.bytes) + path
                inode = parent.inode
            }
            return "…" + path
        }
    }

    private static let shownDepthMax = 32
}
