internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// Names and attributes of the view. Each is called for inodes of the view alone, at the top of the volume's operation of
// that name, and has its meaning.

extension SnapshotView {
    // MARK: Lookup

    func lookup(
        _ name: FileName, in parent: Inode, _ volume: Volume
    ) throws(Errno) -> Attributes {
        let place = try place(of: parent)
        switch name.bytes {
        case [0x2e], [0x2f]: return try referenced(place, volume)
        case [0x2e, 0x2e]: return try lookupParent(of: place, volume)
        default: return try attributes(of: find(name, in: place, volume), volume)
        }
    }

    /// What a name stands for; an inode of a snapshot has a reference more.
    private func find(
        _ name: FileName, in place: Place, isReferenced: Bool = true, _ volume: Volume
    ) throws(Errno) -> Place {
        switch place {
        case .top:
            guard name == Self.snapshotsName else { throw .noSuchFileOrDirectory }
            return .snapshots
        case .snapshots:
            guard let snapshot = snapshot(name, of: volume) else { throw .noSuchFileOrDirectory }
            return .node(enter(snapshot, isReferenced: isReferenced))
        case .node(let parent):
            guard let child = try directory(of: parent, volume).find(name) else {
                throw .noSuchFileOrDirectory
            }
            return .node(enter(child, in: parent, isReferenced: isReferenced))
        }
    }

    private func enter(_ snapshot: Snapshot, isReferenced: Bool = true) -> SnapshotNode {
        let name = FileName(snapshot.name)
        return nodes.withLock { nodes in
            nodes.enter(name, in: Self.snapshots, of: snapshot, isReferenced: isReferenced) {
                SnapshotNode(
                    $0, name, in: Self.snapshots, of: snapshot, cid: snapshot.root,
                    treeSize: snapshot.treeSize, .directory(isSharded: false, metadata: .none))
            }
        }
    }

    private func enter(
        _ child: Volume.ExpandedEntry, in parent: SnapshotNode, isReferenced: Bool = true
    ) -> SnapshotNode {
        let (name, snapshot) = (child.name, parent.snapshot)
        return nodes.withLock { nodes in
            nodes.enter(name, in: parent.inode, of: snapshot, isReferenced: isReferenced) {
                SnapshotNode(
                    $0, name, in: parent.inode, of: snapshot, cid: child.cid,
                    treeSize: child.treeSize, child.entry)
            }
        }
    }

    /// The attributes of what is known already, with a reference more.
    private func referenced(_ place: Place, _ volume: Volume) throws(Errno) -> Attributes {
        guard case .node(let node) = place else { return try attributes(of: place, volume) }
        let again = nodes.withLock { nodes in
            nodes.enter(node.name, in: node.parent, of: node.snapshot) { node.at($0) }
        }
        return try attributes(of: .node(again), volume)
    }

    private func lookupParent(of place: Place, _ volume: Volume) throws(Errno) -> Attributes {
        switch place {
        case .top: return try volume.lookup(FileName("."), in: .root)
        case .snapshots: return try attributes(of: .top, volume)
        case .node(let node):
            return try referenced(try self.place(of: node.parent), volume)
        }
    }

    /// Walks names, without references: the inode is known for a while.
    func resolve(
        _ names: ArraySlice<FileName>, from inode: Inode, _ volume: Volume
    ) throws(Errno) -> Inode {
        var place = try place(of: inode)
        for name in names { place = try find(name, in: place, isReferenced: false, volume) }
        switch place {
        case .top: return Self.top
        case .snapshots: return Self.snapshots
        case .node(let node): return node.inode
        }
    }

    // MARK: Attributes

    func attributes(of inode: Inode, _ volume: Volume) throws(Errno) -> Attributes {
        try attributes(of: try place(of: inode), volume)
    }

    private func attributes(of place: Place, _ volume: Volume) throws(Errno) -> Attributes {
        let owner = try owner(volume)
        switch place {
        case .top: return owner.directory(Self.top, mode: 0o700, modified: nil)
        case .snapshots:
            return owner.directory(Self.snapshots, mode: 0o755, modified: modified(of: volume))
        case .node(let node): return owner.attributes(of: node)
        }
    }

    /// Whose the view is. Owners and modes are not known of what is in snapshots: who may look into them may see all.
    private func owner(_ volume: Volume) throws(Errno) -> SnapshotOwner {
        let (uid, gid, created) = try volume.reading { (state) throws(Errno) in
            let root = try volume.record(.root, state)
            return (root.uid, root.gid, root.created)
        }
        // Where the owner of a directory may not know its CID he may not see what is in it.
        let isOwners = volume.options.directoryCIDs != .root
        return SnapshotOwner(
            uid: isOwners ? uid : volume.kernel.ownUser, gid: gid, created: created)
    }

    // MARK: Listings

    // Cookies are those of `readDirectory`: 1 and 2 for `.` and `..`, and from 16 on a snapshot's number, or the place in
    // its directory.
    private static let dotCookies: [(cookie: UInt64, name: FileName)] = [
        (1, FileName(".")), (2, FileName("..")),
    ]
    private static let cookieMin: UInt64 = 16

    /// - Parameter isPlus: with attributes, and a reference for each that the body took.
    func readDirectory(
        _ inode: Inode, from cookie: UInt64, isPlus: Bool, _ volume: Volume,
        _ body: (DirectoryEntry, Attributes?) -> Bool
    ) throws(Errno) {
        let place = try place(of: inode)
        // Before the first entry goes out: an error must not follow it.
        let listed: SnapshotDirectory?
        if case .node(let node) = place {
            listed = try directory(of: node, volume)
        } else {
            listed = nil
        }
        let owner = isPlus ? try owner(volume) : nil
        for (dot, name) in Self.dotCookies where cookie < dot {
            let target = dot == 1 ? inode : Self.parent(of: place)
            guard
                body(
                    DirectoryEntry(name: name, inode: target, kind: .directory, cookie: dot), nil)
            else { return }
        }
        switch place {
        case .top:
            guard cookie < Self.cookieMin else { return }
            let entry = DirectoryEntry(
                name: Self.snapshotsName, inode: Self.snapshots, kind: .directory,
                cookie: Self.cookieMin)
            let modified = modified(of: volume)
            _ = body(
                entry, owner?.directory(Self.snapshots, mode: 0o755, modified: modified))
        case .snapshots:
            for snapshot in list(of: volume) where snapshot.number + Self.cookieMin > cookie {
                let isTaken = give(
                    FileName(snapshot.name), in: Self.snapshots, of: snapshot, .directory,
                    cookie: snapshot.number + Self.cookieMin, owner, body
                ) { enter(snapshot) }
                guard isTaken else { return }
            }
        case .node(let node):
            let entries = listed?.entries ?? []
            // The first that comes after the cookie.
            let start = cookie < Self.cookieMin ? 0 : cookie - Self.cookieMin + 1
            guard start < entries.count else { return }
            for (index, child) in zip(Int(start)..., entries[Int(start)...]) {
                let isTaken = give(
                    child.name, in: node.inode, of: node.snapshot, child.entry.fileKind,
                    cookie: UInt64(index) + Self.cookieMin, owner, body
                ) { enter(child, in: node) }
                guard isTaken else { return }
            }
        }
    }

    private func give(
        _ name: FileName, in parent: Inode, of snapshot: Snapshot, _ kind: FileKind,
        cookie: UInt64, _ owner: SnapshotOwner?, _ body: (DirectoryEntry, Attributes?) -> Bool,
        enter: () -> SnapshotNode
    ) -> Bool {
        guard let owner else {
            let inode = Inode(SnapshotNode.number(name, in: parent, of: snapshot))
            return body(
                DirectoryEntry(name: name, inode: inode, kind: kind, cookie: cookie), nil)
        }
        let node = enter()
        let entry = DirectoryEntry(name: name, inode: node.inode, kind: kind, cookie: cookie)
        let isTaken = body(entry, owner.attributes(of: node))
        if !isTaken { forget(node.inode, count: 1) }
        return isTaken
    }

    private static func parent(of place: Place) -> Inode {
        switch place {
        case .top: .root
        case .snapshots: top
        case .node(let node): node.parent
        }
    }

    /// - Throws: ENOTDIR.
    func checkDirectory(_ inode: Inode) throws(Errno) {
        if case .node(let node) = try place(of: inode), node.kind != .directory {
            throw .notDirectory
        }
    }

    // MARK: Symlinks and CIDs

    func readSymlink(_ inode: Inode) throws(Errno) -> [UInt8] {
        guard case .node(let node) = try place(of: inode), case .symlink(let target, _) = node.entry
        else { throw .invalidArgument }
        return target
    }

    /// The CID of what is in a snapshot, and the Tsize of a link to it.
    ///
    /// - Throws: ENODATA for the directories above.
    func cid(of inode: Inode) throws(Errno) -> (cid: CID, treeSize: UInt64) {
        guard case .node(let node) = try place(of: inode) else { throw .noData }
        return (node.cid, node.treeSize)
    }

    /// The path of an inode for a message; nil where it is not known.
    func shownPath(of inode: Inode) -> String? {
        var path = ""
        var inode = inode
        for _ in 0..<Self.shownDepthMax {
            guard let place = try? place(of: inode) else { return nil }
            let top = "/" + shown(Self.topName.bytes)
            switch place {
            case .top: return top + path
            case .snapshots: return top + "/" + shown(Self.snapshotsName.bytes) + path
            case .node(let node):
                path = "/" + shown(node.name.bytes) + path
                inode = node.parent
            }
        }
        return "…" + path
    }

    private static let shownDepthMax = 32
}

/// Whose the view is, and the attributes that follow from it.
private struct SnapshotOwner {
    let uid: UInt32
    let gid: UInt32
    /// When the root directory came to be.
    let created: Timestamp

    /// What stat tells as the size of a directory, as of all others.
    private static let directorySize: UInt64 = 4096

    /// One of the directories above the snapshots. What is in it, and whose it is, changes without the kernel's doing.
    func directory(_ inode: Inode, mode: UInt32, modified: Timestamp?) -> Attributes {
        let time = modified ?? created
        return Attributes(
            inode: inode, kind: .directory, mode: mode, linkCount: 1, uid: uid, gid: gid, rdev: 0,
            size: Self.directorySize, blocks: Self.directorySize / 512, accessed: time,
            modified: time, changed: time, created: created, mayChangeUnseen: true,
            nameMayChangeUnseen: true)
    }

    func attributes(of node: SnapshotNode) -> Attributes {
        let made = Timestamp(nanoseconds: node.snapshot.createdAt)
        let metadata = node.entry.metadata
        let modified = metadata.mtime.flatMap { Timestamp($0) } ?? made
        let isDirectory = node.kind == .directory
        // Of set-id bits others would make programs with the owner's rights.
        let mode: UInt32 =
            switch node.kind {
            case .symlink: 0o777
            case .directory: metadata.mode.map { $0 & 0o777 } ?? 0o755
            default: metadata.mode.map { $0 & 0o777 } ?? 0o644
            }
        let size = isDirectory ? Self.directorySize : node.size
        return Attributes(
            inode: node.inode, kind: node.kind, mode: mode, linkCount: 1, uid: uid, gid: gid,
            rdev: 0, size: size,
            blocks: node.kind == .symlink ? 0 : size / 512 + (size % 512 == 0 ? 0 : 1),
            accessed: modified, modified: modified, changed: made, created: made,
            mayChangeUnseen: false,
            nameMayChangeUnseen: node.parent == SnapshotView.snapshots)
    }
}
