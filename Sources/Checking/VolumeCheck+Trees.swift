internal import MerkleDAG
internal import Multiformats

extension VolumeCheck {
    /// Checks the CIDs that symbolic links have.
    func checkSymlinks(profile: ImportProfile) throws(CheckFailure) {
        try manifest.forEachTree(areDirectories: false) { (link) throws(CheckFailure) in
            // Other targets were reported.
            guard (1..<4096).contains(link.target.count) else { return }
            let root = profile.symlink(target: link.target).root
            guard link.cid != root.cid.bytes || link.treeSize != Int64(root.treeSize) else {
                return
            }
            try manifest.report(
                "\(try manifest.describe(inode: link.inode)): its CID is not that of its target",
                mend: [
                    .setInodeCID(
                        inode: link.inode, cid: root.cid.bytes, treeSize: Int64(root.treeSize))
                ])
        }
    }

    /// Checks the CIDs that directories have: each is that of the entries, all of which have one.
    func checkDirectories(profile: ImportProfile) throws(CheckFailure) {
        try manifest.forEachTree(areDirectories: true) { (directory) throws(CheckFailure) in
            try checkDirectory(directory, profile: profile)
        }
    }

    private enum Entries {
        /// With whether all the content below is what its CID says.
        case all(DirectoryBuilder, isSound: Bool)
        /// Files below are being written: what the next mount makes of them decides.
        case beingWritten
        case without(inode: Int64)
        /// What is wrong was reported before.
        case unusable
    }

    private func checkDirectory(
        _ directory: CheckedTree, profile: ImportProfile
    ) throws(CheckFailure) {
        var builder: DirectoryBuilder
        let isSound: Bool
        switch try entries(of: directory.inode, profile: profile) {
        case .all(let all, let sound): (builder, isSound) = (all, sound)
        case .beingWritten:
            pending.outdatedTrees += 1
            return
        case .without(let inode):
            return try fault(directory, "it has a CID, but inode \(inode) in it has none")
        case .unusable:
            return try fault(directory, "it has a CID, but not all of its entries have one")
        }
        var expected: [[UInt8]: [UInt8]] = [:]
        let root: DAGRoot
        do {
            root = try builder.finish { (cid, block) throws(Never) in
                expected[cid.multihash.bytes] = block
            }
        } catch {
            return try fault(directory, "it has a CID, but its entries have none: \(error)")
        }
        let isRight =
            directory.cid == root.cid.bytes && directory.treeSize == Int64(clamping: root.treeSize)
        if !isRight {
            try fault(directory, "its CID is not that of its entries", isMendable: isSound)
        }
        var isDamaged = false
        var isForeign = false
        try manifest.forEachNode(of: directory.inode) { (multihash, bytes) in
            if let block = expected.removeValue(forKey: multihash), block.elementsEqual(bytes) {
                return
            }
            isForeign = true
            if Multihash.sha256(of: bytes).bytes != multihash { isDamaged = true }
        }
        if isDamaged {
            try fault(directory, "a stored node does not match its hash")
        } else if isRight, isForeign || !expected.isEmpty {
            try fault(directory, "its stored nodes are not those of its CID")
        }
    }

    private func fault(
        _ directory: CheckedTree, _ text: String, isMendable: Bool = true
    ) throws(CheckFailure) {
        try manifest.report(
            "\(try manifest.describe(inode: directory.inode)): \(text)",
            mend: isMendable ? [.clearTree(directory: directory.inode)] : [])
    }

    private func entries(
        of directory: Int64, profile: ImportProfile
    ) throws(CheckFailure) -> Entries {
        var builder = DirectoryBuilder(profile: profile)
        let empty = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0))
        var isBeingWritten = false
        var isUnusable = false
        var unknown: Int64?
        var isSound = true
        try manifest.forEachChild(of: directory) { (child) in
            switch child.content {
            case .outside: break
            case .missing: isUnusable = true
            case .unsealed: isBeingWritten = true
            case .unknown: unknown = unknown ?? child.inode
            case .empty:
                builder.add(name: child.name, cid: empty.cid, treeSize: empty.treeSize)
            case .dag(let bytes, let treeSize, let object):
                if let object, damagedObjects.contains(object) { isSound = false }
                guard let cid = try? CID(bytes: bytes), let size = UInt64(exactly: treeSize) else {
                    isUnusable = true
                    return
                }
                builder.add(name: child.name, cid: cid, treeSize: size)
            }
        }
        if let unknown { return .without(inode: unknown) }
        if isUnusable { return .unusable }
        return isBeingWritten ? .beingWritten : .all(builder, isSound: isSound)
    }
}
