internal import Multiformats

// Rows of `object`, and what belongs to them. Bytes and hashes are checked by the layers above.

/// A row of `object` to be compared with its bytes.
package struct CheckedObject: Sendable {
    package let id: Int64
    package let isSealed: Bool
    /// Its bytes are at the node, and need not be here.
    package let isRemote: Bool
    /// Bytes; may be out of range in a damaged row.
    package let size: Int64
    package let cid: [UInt8]?
    package let treeSize: Int64
    package let isInline: Bool
}

extension ManifestCheck {
    /// Checks all that the manifest's rows say of each other.
    ///
    /// - Parameter chunkSize: the bytes of a leaf.
    package func checkRows(chunkSize: Int64) throws(CheckFailure) {
        try checkNames()
        try checkObjects(chunkSize: chunkSize)
        try checkPlacements()
        try checkReferences()
    }

    private func checkObjects(chunkSize: Int64) throws(CheckFailure) {
        let objects = try database.prepare(
            """
            SELECT id, state, refs, size, cid IS NOT NULL, inline IS NULL, length(inline),
            iif(state = 3, cid, NULL) FROM object ORDER BY id
            """)
        var holders = try CheckCursor(
            database.prepare(
                """
                SELECT object, id, size, kind FROM inode WHERE object IS NOT NULL
                ORDER BY object, id
                """))
        var leaves = try CheckCursor(
            database.prepare("SELECT DISTINCT object FROM leaf ORDER BY object"))
        var nodes = try CheckCursor(
            database.prepare(
                "SELECT DISTINCT owner FROM dag_reference WHERE kind = 1 ORDER BY owner"))
        while try objects.step() {
            let object = ObjectRow(objects)
            try skip(&holders, &leaves, &nodes, below: object.id)
            try checkObject(object)
            try checkHolders(of: object, &holders)
            let mayHaveBlocks = object.state != .staging && object.size > chunkSize
            var hasBlocks = false
            for isLeaf in [true, false] {
                guard (isLeaf ? leaves.key : nodes.key) == object.id else { continue }
                hasBlocks = true
                if isLeaf { try leaves.advance() } else { try nodes.advance() }
            }
            if hasBlocks, !mayHaveBlocks {
                try add(mend: .removeBlocks(object: object.id)) { () throws(CheckFailure) in
                    "\(try describe(object: object.id)): leaves or nodes are stored, "
                        + (object.state != .staging
                            ? "but it has one leaf" : "but it is not sealed")
                }
            }
        }
        try skip(&holders, &leaves, &nodes, below: nil)
        try checkDeleted()
    }

    private struct ObjectRow {
        let id, references, size, inlineLength: Int64
        let state: ObjectState?
        let hasCID, isFlat: Bool
        /// The CID of one that is at the node, which nothing else is compared with.
        let remoteCID: [UInt8]?

        init(_ row: CheckStatement) {
            id = row.integer(0)
            state = ObjectState(rawValue: row.integer(1))
            references = row.integer(2)
            size = row.integer(3)
            hasCID = row.integer(4) != 0
            isFlat = row.integer(5) != 0
            inlineLength = row.integer(6)
            remoteCID = row.optionalBytes(7)
        }
    }

    /// Reports rows that belong to objects that are not there.
    private func skip(
        _ holders: inout CheckCursor, _ leaves: inout CheckCursor, _ nodes: inout CheckCursor,
        below bound: Int64?
    ) throws(CheckFailure) {
        while holders.isBelow(bound), let object = holders.key {
            let inode = holders.row.integer(1)
            try add { () throws(CheckFailure) in
                "\(try describe(inode: inode)): its content is lost: "
                    + "object \(object) does not exist"
            }
            try holders.advance()
        }
        while true {
            let key: Int64
            if leaves.isBelow(bound), let leaf = leaves.key {
                key = leaf
                try leaves.advance()
                if nodes.key == key { try nodes.advance() }
            } else if nodes.isBelow(bound), let node = nodes.key {
                key = node
                try nodes.advance()
            } else {
                return
            }
            try add(mend: .removeBlocks(object: key)) { () throws(CheckFailure) in
                "object \(key): leaves or nodes are stored of an object that does not exist"
            }
        }
    }

    private func checkObject(_ object: ObjectRow) throws(CheckFailure) {
        counts.objects += 1
        if !object.isFlat { counts.inlineObjects += 1 }
        guard (1...Schema.numberMax).contains(object.id), object.size >= 0,
            let state = object.state
        else {
            try add { () throws(CheckFailure) in
                "object \(object.id): its number, state or size is out of range"
            }
            return
        }
        // After a crash there may be rows at it and above: the numbers between are reserved.
        if let volume, volume.isClean, object.id >= volume.nextObject,
            try database.integer("SELECT next_object FROM volume") ?? 0 <= object.id
        {
            try add(mend: .recount) { () throws(CheckFailure) in
                "volume: next_object is \(volume.nextObject), but \(object.id) is in use"
            }
        }
        switch state {
        case .staging:
            if object.hasCID {
                try add(mend: .clearObjectCID(object: object.id)) { () throws(CheckFailure) in
                    "\(try describe(object: object.id)): it has a CID, but is not sealed"
                }
            }
            // The size of a flat file that is being written is known only to the file.
            if !object.isFlat, object.inlineLength != object.size {
                try add(mend: .setObjectSize(object: object.id, size: object.inlineLength)) {
                    () throws(CheckFailure) in
                    "\(try describe(object: object.id)): its size is \(object.size), "
                        + "but it has \(object.inlineLength) bytes"
                }
            }
        case .sealed, .remote:
            counts.sealedObjects += 1
            if !object.hasCID {
                try add { () throws(CheckFailure) in
                    "\(try describe(object: object.id)): it is sealed, but has no CID"
                }
            }
            if let cid = object.remoteCID, (try? CID(bytes: cid)) == nil {
                try add { () throws(CheckFailure) in
                    "\(try describe(object: object.id)): it is at the node, but its CID is malformed"
                }
            }
            if state == .remote, !object.isFlat {
                try add { () throws(CheckFailure) in
                    "\(try describe(object: object.id)): its bytes are said to be at the node, and here"
                }
            }
        }
    }

    private func checkHolders(
        of object: ObjectRow, _ holders: inout CheckCursor
    ) throws(CheckFailure) {
        var count: Int64 = 0
        while holders.key == object.id {
            count += 1
            let (inode, size) = (holders.row.integer(1), holders.row.integer(2))
            try holders.advance()
            // What a sealed object's size is, its bytes will tell; see `checkSize`.
            guard object.state == .staging, !object.isFlat, size != object.inlineLength else {
                continue
            }
            try add(mend: .setSize(inode: inode, size: object.inlineLength)) {
                () throws(CheckFailure) in
                "\(try describe(inode: inode)): its size is \(size), "
                    + "but it has \(object.inlineLength) bytes"
            }
        }
        guard count != object.references || count == 0 else { return }
        if count == 0 {
            try add(mend: .nameObject(object: object.id)) { () throws(CheckFailure) in
                "object \(object.id): no inode holds it"
            }
        } else {
            try add(mend: .setReferences(object: object.id, count: count)) {
                () throws(CheckFailure) in
                "\(try describe(object: object.id)): "
                    + "it counts \(object.references) references, not \(count)"
            }
        }
    }

    private func checkDeleted() throws(CheckFailure) {
        let deleted = try database.prepare(
            """
            SELECT deleted_object.id, object.id IS NOT NULL AND object.state <> 3 FROM deleted_object
            LEFT JOIN object ON object.id = deleted_object.id ORDER BY deleted_object.id
            """)
        while try deleted.step() {
            let object = deleted.integer(0)
            guard deleted.integer(1) != 0 else {
                counts.deletedObjects += 1
                continue
            }
            try add(mend: .forgetDeletion(object: object)) { () throws(CheckFailure) in
                "\(try describe(object: object)): it is noted as deleted, but still there"
            }
        }
    }

    // MARK: For the layers above

    /// The bytes of all sealed objects together.
    package func sealedBytes() throws(CheckFailure) -> UInt64 {
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
    package func forEachObject(
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
    package func isFlat(object: Int64) throws(CheckFailure) -> Bool? {
        if flatQuery == nil {
            flatQuery = try database.prepare("SELECT inline IS NULL FROM object WHERE id = ?")
        }
        guard let flatQuery else { return nil }
        flatQuery.restart(CheckValue(object))
        defer { flatQuery.reset() }
        return try flatQuery.step() ? flatQuery.integer(0) != 0 : nil
    }

    /// Whether the removal of an object's flat file is committed.
    package func isDeleted(object: Int64) throws(CheckFailure) -> Bool {
        try database.integer("SELECT 1 FROM deleted_object WHERE id = ?", CheckValue(object)) != nil
    }

    /// The inodes that hold an object and say another size.
    package func inodes(
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
    package func leaves(of object: Int64) throws(CheckFailure) -> CheckedLeaves {
        let rows = try database.prepare(
            "SELECT number, multihash FROM leaf WHERE object = ? ORDER BY number")
        rows.restart(CheckValue(object))
        return CheckedLeaves(rows: rows)
    }

    /// A stored node of an object; nil where there is none with that multihash.
    package func node(
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
    package func nodeCount(of object: Int64) throws(CheckFailure) -> Int {
        Int(
            clamping: try database.integer(
                "SELECT count(*) FROM dag_reference WHERE kind = 1 AND owner = ?",
                CheckValue(object)) ?? 0)
    }
}

/// A cursor over the stored leaves of one object.
package struct CheckedLeaves {
    fileprivate let rows: CheckStatement

    /// The next leaf; nil after the last one.
    package func next() throws(CheckFailure) -> (number: Int64, multihash: [UInt8])? {
        try rows.step() ? (rows.integer(0), rows.bytes(1)) : nil
    }
}
