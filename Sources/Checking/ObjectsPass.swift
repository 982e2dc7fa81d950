internal import InodeManifest
internal import Multiformats

/// The one pass over all objects, with cursors over the rows that belong to each.
struct ObjectsPass {
    private let check: ManifestCheck

    init(_ check: ManifestCheck) {
        self.check = check
    }

    private var database: CheckDatabase { check.database }

    func run(chunkSize: Int64) throws(CheckFailure) {
        let objects = try database.prepare(
            """
            SELECT id, state, refs, size, cid IS NOT NULL, inline IS NULL, length(inline),
            iif(state = 3, cid, NULL), kept, born FROM object ORDER BY id
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
                try check.add(mend: .removeBlocks(object: object.id)) { () throws(CheckFailure) in
                    "\(try check.describe(object: object.id)): leaves or nodes are stored, "
                        + (object.state != .staging
                            ? "but it has one leaf" : "but it is not sealed")
                }
            }
        }
        try skip(&holders, &leaves, &nodes, below: nil)
        try checkDeleted()
    }

    private struct ObjectRow {
        let id, references, size, inlineLength, kept, born: Int64
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
            kept = row.integer(8)
            born = row.integer(9)
        }
    }

    /// Reports rows that belong to objects that are not there.
    private func skip(
        _ holders: inout CheckCursor, _ leaves: inout CheckCursor, _ nodes: inout CheckCursor,
        below bound: Int64?
    ) throws(CheckFailure) {
        while holders.isBelow(bound), let object = holders.key {
            let inode = holders.row.integer(1)
            try check.add { () throws(CheckFailure) in
                "\(try check.describe(inode: inode)): its content is lost: "
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
            try check.add(mend: .removeBlocks(object: key)) { () throws(CheckFailure) in
                "object \(key): leaves or nodes are stored of an object that does not exist"
            }
        }
    }

    private func checkObject(_ object: ObjectRow) throws(CheckFailure) {
        check.counts.objects += 1
        if !object.isFlat { check.counts.inlineObjects += 1 }
        guard (1...Schema.numberMax).contains(object.id), object.size >= 0,
            (0...Schema.numberMax).contains(object.kept),
            (0...Schema.numberMax).contains(object.born), let state = object.state
        else {
            try check.add { () throws(CheckFailure) in
                "object \(object.id): one of its numbers is out of range"
            }
            return
        }
        // After a crash there may be rows at it and above: the numbers between are reserved.
        if let volume = check.volume, volume.isClean, object.id >= volume.nextObject,
            try database.integer("SELECT next_object FROM volume") ?? 0 <= object.id
        {
            try check.add(mend: .recount) { () throws(CheckFailure) in
                "volume: next_object is \(volume.nextObject), but \(object.id) is in use"
            }
        }
        switch state {
        case .staging:
            if object.hasCID {
                try check.add(mend: .clearObjectCID(object: object.id)) { () throws(CheckFailure) in
                    "\(try check.describe(object: object.id)): it has a CID, but is not sealed"
                }
            }
            // The size of a flat file that is being written is known only to the file.
            if !object.isFlat, object.inlineLength != object.size {
                try check.add(mend: .setObjectSize(object: object.id, size: object.inlineLength)) {
                    () throws(CheckFailure) in
                    "\(try check.describe(object: object.id)): its size is \(object.size), "
                        + "but it has \(object.inlineLength) bytes"
                }
            }
        case .sealed, .remote:
            check.counts.sealedObjects += 1
            if !object.hasCID {
                try check.add { () throws(CheckFailure) in
                    "\(try check.describe(object: object.id)): it is sealed, but has no CID"
                }
            }
            if let cid = object.remoteCID, (try? CID(bytes: cid)) == nil {
                try check.add { () throws(CheckFailure) in
                    "\(try check.describe(object: object.id)): it is at the node, but its CID is malformed"
                }
            }
            if state == .remote, !object.isFlat {
                try check.add { () throws(CheckFailure) in
                    "\(try check.describe(object: object.id)): its bytes are said to be at the node, and here"
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
            try check.add(mend: .setSize(inode: inode, size: object.inlineLength)) {
                () throws(CheckFailure) in
                "\(try check.describe(inode: inode)): its size is \(size), "
                    + "but it has \(object.inlineLength) bytes"
            }
        }
        // The snapshots that it is kept for have one.
        let holders = count
        if object.kept > 0 { count += 1 }
        guard count != object.references || count == 0 else { return }
        if count == 0, object.references == 0, check.volume?.isClean == false {
            // Somebody was reading it when its last inode let go; the next mount removes it.
            check.counts.deletedObjects += 1
        } else if count == 0 {
            try check.add(mend: .nameObject(object: object.id)) { () throws(CheckFailure) in
                "object \(object.id): no inode holds it"
            }
        } else {
            try check.add(mend: .setReferences(object: object.id, count: count)) {
                () throws(CheckFailure) in
                "\(try check.describe(object: object.id)): "
                    + "it counts \(object.references) references, not \(count)"
                    + (holders == count ? "" : ", one of them for snapshots")
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
                check.counts.deletedObjects += 1
                continue
            }
            try check.add(mend: .forgetDeletion(object: object)) { () throws(CheckFailure) in
                "\(try check.describe(object: object)): it is noted as deleted, but still there"
            }
        }
    }
}
