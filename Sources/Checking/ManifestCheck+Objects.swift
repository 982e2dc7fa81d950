internal import InodeManifest

// Rows of `object`, and what belongs to them. Bytes and hashes are checked by `VolumeCheck`.

/// A row of `object` to be compared with its bytes.
struct CheckedObject: Sendable {
    let id: Int64
    let isSealed: Bool
    /// Its bytes are at the node, and need not be here.
    let isRemote: Bool
    /// Bytes; may be out of range in a damaged row.
    let size: Int64
    let cid: [UInt8]?
    let treeSize: Int64
    let isInline: Bool
}

extension ManifestCheck {
    /// Checks all that the manifest's rows say of each other.
    ///
    /// - Parameter chunkSize: the bytes of a leaf.
    func checkRows(chunkSize: Int64) throws(CheckFailure) {
        try checkNames()
        try ObjectsPass(self).run(chunkSize: chunkSize)
        let placements = PlacementsPass(self)
        try placements.checkPlacements()
        try placements.checkReferences()
    }

    /// The bytes of all sealed objects together.
    func sealedBytes() throws(CheckFailure) -> UInt64 {
        // Summed as floating point, which cannot overflow in a damaged row.
        let total = try database.integer(
            """
            SELECT CAST(min(total(size), 9e18) AS INTEGER) FROM object
            WHERE state = 2 AND size > 0
            """)
        return UInt64(clamping: total ?? 0)
    }

    /// Goes through all objects in the order of their numbers.
    ///
    /// - Parameter body: gets the row, and the bytes of an inline object, valid in the body.
    func forEachObject(
        _ body: (CheckedObject, UnsafeRawBufferPointer) throws(CheckFailure) -> Void
    ) throws(CheckFailure) {
        let objects = try database.prepare(
            """
            SELECT id, state, size, cid, tree_size, inline IS NOT NULL, inline
            FROM object ORDER BY id
            """)
        while try objects.step() {
            try body(
                CheckedObject(
                    id: objects.integer(0),
                    isSealed: objects.integer(1) == ObjectState.sealed.rawValue,
                    isRemote: objects.integer(1) == ObjectState.remote.rawValue,
                    size: objects.integer(2), cid: objects.optionalBytes(3),
                    treeSize: objects.integer(4), isInline: objects.integer(5) != 0),
                objects.lent(6))
        }
    }

    /// Whether an object has a flat file by its row: nil where there is no row.
    func isFlat(object: Int64) throws(CheckFailure) -> Bool? {
        if flatQuery == nil {
            flatQuery = try database.prepare("SELECT inline IS NULL FROM object WHERE id = ?")
        }
        guard let flatQuery else { return nil }
        flatQuery.restart(CheckValue(object))
        defer { flatQuery.reset() }
        return try flatQuery.step() ? flatQuery.integer(0) != 0 : nil
    }

    /// Whether the removal of an object's flat file is committed.
    func isDeleted(object: Int64) throws(CheckFailure) -> Bool {
        try database.integer("SELECT 1 FROM deleted_object WHERE id = ?", CheckValue(object)) != nil
    }

    /// The inodes that hold an object and say another size.
    func inodes(
        holding object: Int64, withSizeOtherThan size: Int64
    ) throws(CheckFailure) -> [(inode: Int64, size: Int64)] {
        if sizeQuery == nil {
            sizeQuery = try database.prepare(
                "SELECT id, size FROM inode WHERE object = ? AND size <> ?")
        }
        guard let sizeQuery else { return [] }
        sizeQuery.restart(CheckValue(object), CheckValue(size))
        defer { sizeQuery.reset() }
        var found: [(inode: Int64, size: Int64)] = []
        while try sizeQuery.step() { found.append((sizeQuery.integer(0), sizeQuery.integer(1))) }
        return found
    }

    /// The stored leaves of an object, in order.
    func leaves(of object: Int64) throws(CheckFailure) -> CheckedLeaves {
        let rows = try database.prepare(
            "SELECT number, multihash FROM leaf WHERE object = ? ORDER BY number")
        rows.restart(CheckValue(object))
        return CheckedLeaves(rows: rows)
    }

    /// A stored node of an object; nil where there is none with that multihash.
    func node(
        of object: Int64, multihash: [UInt8]
    ) throws(CheckFailure) -> [UInt8]? {
        let row = try database.prepare(
            """
            SELECT bytes FROM dag_reference
            CROSS JOIN dag_node ON dag_node.multihash = dag_reference.multihash
            WHERE kind = 1 AND owner = ? AND dag_reference.multihash = ?
            """)
        row.restart(CheckValue(object), .blob(multihash))
        return try row.step() ? row.bytes(0) : nil
    }

    /// How many nodes of an object are stored.
    func nodeCount(of object: Int64) throws(CheckFailure) -> Int {
        Int(
            clamping: try database.integer(
                "SELECT count(*) FROM dag_reference WHERE kind = 1 AND owner = ?",
                CheckValue(object)) ?? 0)
    }
}

/// A cursor over the stored leaves of one object.
struct CheckedLeaves {
    fileprivate let rows: CheckStatement

    /// The next leaf; nil after the last one.
    func next() throws(CheckFailure) -> (number: Int64, multihash: [UInt8])? {
        try rows.step() ? (rows.integer(0), rows.bytes(1)) : nil
    }
}
