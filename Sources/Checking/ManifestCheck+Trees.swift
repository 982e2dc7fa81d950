internal import InodeManifest

// Rows that hold the CIDs of directories and symbolic links. What they should be is computed by
// `VolumeCheck`.

/// A directory or symbolic link with a CID.
struct CheckedTree: Sendable {
    let inode: Int64
    let cid: [UInt8]
    let treeSize: Int64
    let target: [UInt8]
}

/// An entry of a directory, with what its DAG would link to.
struct CheckedChild: Sendable {
    enum Content: Sendable {
        /// A fifo, socket or device, which no DAG holds.
        case outside
        case empty
        /// A file comes with its object.
        case dag(cid: [UInt8], treeSize: Int64, object: Int64?)
        /// A file that is not sealed.
        case unsealed
        /// A directory or symbolic link without a CID.
        case unknown
        /// Rows are missing, which was reported.
        case missing
    }

    let name: [UInt8]
    let inode: Int64
    let content: Content
}

extension ManifestCheck {
    /// Goes through the directories with a CID, or through such symbolic links.
    func forEachTree(
        areDirectories: Bool, _ body: (CheckedTree) throws(CheckFailure) -> Void
    ) throws(CheckFailure) {
        let rows = try database.prepare(
            """
            SELECT id, cid, tree_size, target FROM inode
            WHERE kind = ? AND cid IS NOT NULL AND not_loaded = 0 ORDER BY id
            """)
        rows.restart(CheckValue(areDirectories ? 2 : 3))
        while try rows.step() {
            try body(
                CheckedTree(
                    inode: rows.integer(0), cid: rows.bytes(1), treeSize: rows.integer(2),
                    target: rows.bytes(3)))
        }
    }

    /// Goes through the entries of a directory in the order of their names.
    func forEachChild(
        of directory: Int64, _ body: (CheckedChild) throws(CheckFailure) -> Void
    ) throws(CheckFailure) {
        if childQuery == nil {
            childQuery = try database.prepare(
                """
                SELECT entry.name, entry.inode, inode.kind, inode.cid, inode.tree_size,
                inode.object, object.state, object.cid, object.tree_size
                FROM entry LEFT JOIN inode ON inode.id = entry.inode
                LEFT JOIN object ON object.id = inode.object
                WHERE entry.parent = ? ORDER BY entry.name
                """)
        }
        guard let rows = childQuery else { return }
        rows.restart(CheckValue(directory))
        defer { rows.reset() }
        while try rows.step() {
            try body(
                CheckedChild(
                    name: rows.bytes(0), inode: rows.integer(1), content: content(rows)))
        }
    }

    private func content(_ rows: CheckStatement) -> CheckedChild.Content {
        if rows.isNull(2) { return .missing }
        switch rows.integer(2) {
        case 1:
            if rows.isNull(5) { return .empty }
            if rows.isNull(6) { return .missing }
            guard rows.integer(6) != ObjectState.staging.rawValue else { return .unsealed }
            if rows.isNull(7) { return .missing }
            return .dag(
                cid: rows.bytes(7), treeSize: rows.integer(8), object: rows.integer(5))
        case 2, 3:
            return rows.isNull(3)
                ? .unknown : .dag(cid: rows.bytes(3), treeSize: rows.integer(4), object: nil)
        default:
            return .outside
        }
    }

    /// Goes through the stored nodes of a directory.
    func forEachNode(
        of directory: Int64,
        _ body: (_ multihash: [UInt8], _ bytes: UnsafeRawBufferPointer) throws(CheckFailure) -> Void
    ) throws(CheckFailure) {
        if nodeQuery == nil {
            nodeQuery = try database.prepare(
                """
                SELECT dag_node.multihash, bytes FROM dag_reference
                CROSS JOIN dag_node ON dag_node.multihash = dag_reference.multihash
                WHERE kind = 2 AND owner = ?
                """)
        }
        guard let rows = nodeQuery else { return }
        rows.restart(CheckValue(directory))
        defer { rows.reset() }
        while try rows.step() { try body(rows.bytes(0), rows.lent(1)) }
    }
}
