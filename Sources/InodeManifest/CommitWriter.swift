internal import Base

extension CommitBatch {
    /// Tells SQLite, inside a transaction.
    func write(to db: some StatementSource) throws {
        var nodes = try DAGNodeTable(in: db)
        try keepLostNodes(in: &nodes)
        try deleteRows(in: db)
        try deleteNodes(in: &nodes)
        try deletePlacements(in: db)
        try writeInodes(to: db, &nodes)
        try writeObjects(to: db, &nodes)
        for kept in keptNodes { try nodes.keep(kept) }
        try writePlacements(to: db)
        try writeOrigin(to: db)
        try grafts.write(to: db)
        var put = try db.statement(
            "INSERT OR REPLACE INTO entry(parent, name, inode, kind, cookie) VALUES (?,?,?,?,?)")
        var remove = try db.statement(
            "DELETE FROM entry WHERE parent = ? AND name = ?")
        for change in entryChanges {
            if change.inode == 0 {
                remove.bind(change.parent)
                remove.bind(change.name.bytes)
                try remove.run()
            } else {
                put.bind(change.parent)
                put.bind(change.name.bytes)
                put.bind(change.inode)
                put.bind(UInt64(change.kind.rawValue))
                put.bind(change.cookie)
                try put.run()
            }
        }
        // The other counters of the row are written when the volume is closed, and counted anew
        // after a crash: a row more in each commit is a page more for fsync to wait for.
        if let nextObject {
            var volume = try db.statement("UPDATE volume SET next_object = ?")
            volume.bind(nextObject)
            try volume.run()
        }
        // What the roots before had, and the tree has not.
        if let published { try nodes.letGo(before: published.rootCount, in: db) }
        try snapshots.write(to: db, &nodes)
    }

    private func deleteRows(in db: some StatementSource) throws {
        try run("DELETE FROM inode WHERE id = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM xattr WHERE inode = ?", for: storedDeletedInodes, in: db)
        try run("DELETE FROM object WHERE id = ?", for: storedDeletedObjects, in: db)
        try run("DELETE FROM leaf WHERE object = ?", for: storedDeletedObjects, in: db)
        try run(
            "INSERT OR IGNORE INTO deleted_object(id) VALUES (?)", for: deletedFiles + evictedFiles,
            in: db)
        try run("DELETE FROM deleted_object WHERE id = ?", for: unlinkedObjects, in: db)
    }

    private func run(_ sql: String, for ids: [UInt64], in db: some StatementSource) throws {
        guard !ids.isEmpty else { return }
        var statement = try db.statement(sql)
        for id in ids {
            statement.bind(id)
            try statement.run()
        }
    }

    private func writeInodes(to db: some StatementSource, _ nodes: inout DAGNodeTable) throws {
        var put = try db.statement(
            """
            INSERT OR REPLACE INTO inode(id, kind, mode, uid, gid, nlink, rdev, size, blocks,
            atime, mtime, ctime, btime, parent, other_parents, object, cid, tree_size, target,
            has_xattrs, not_loaded)
            VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
            """)
        var dropAttributes = try db.statement("DELETE FROM xattr WHERE inode = ?")
        var dropAttribute = try db.statement("DELETE FROM xattr WHERE inode = ? AND name = ?")
        var putAttribute = try db.statement(
            "INSERT OR REPLACE INTO xattr(inode, name, value) VALUES (?,?,?)")
        for row in inodes {
            put.bind(row.id)
            put.bind(UInt64(row.kind.rawValue))
            put.bind(row.mode)
            put.bind(row.uid)
            put.bind(row.gid)
            put.bind(row.linkCount)
            put.bind(row.rdev)
            put.bind(row.size)
            put.bind(row.blocks)
            put.bind(row.accessed)
            put.bind(row.modified)
            put.bind(row.changed)
            put.bind(row.created)
            put.bind(row.parent)
            put.bind(row.otherParents)
            put.bind(row.object)
            put.bind(row.cid)
            put.bind(row.treeSize)
            put.bind(row.target)
            put.bind(row.hasAttributes)
            put.bind(!row.isLoaded)
            try put.run()
            if row.replacesAttributes {
                dropAttributes.bind(row.id)
                try dropAttributes.run()
            }
            for change in row.attributes {
                if let value = change.value {
                    putAttribute.bind(row.id)
                    putAttribute.bind(change.name.bytes)
                    putAttribute.bind(value)
                    try putAttribute.run()
                } else {
                    dropAttribute.bind(row.id)
                    dropAttribute.bind(change.name.bytes)
                    try dropAttribute.run()
                }
            }
            // Nodes hold only as long as the directory's CID does.
            guard row.kind == .directory, row.newNodes != nil || (row.cid == nil && row.isStored)
            else { continue }
            try nodes.set(
                DAGOwner(kind: .directory, id: row.id), to: row.newNodes ?? [],
                born: row.treeBorn, isNew: !row.isStored)
        }
    }

    private func writeObjects(to db: some StatementSource, _ nodes: inout DAGNodeTable) throws {
        var put = try db.statement(
            """
            INSERT INTO object(id, state, refs, size, cid, tree_size, inline, born, kept)
            VALUES (?1,?2,?3,?4,?5,?6,?7,?9,?10) ON CONFLICT(id) DO UPDATE SET state = ?2, refs = ?3,
            size = ?4, cid = ?5, tree_size = ?6, inline = CASE ?8 WHEN 1 THEN inline ELSE ?7 END,
            born = ?9, kept = ?10
            """)
        var dropLeaves = try db.statement("DELETE FROM leaf WHERE object = ?")
        var putLeaf = try db.statement(
            "INSERT INTO leaf(object, number, multihash) VALUES (?,?,?)")
        for row in objects {
            put.bind(row.id)
            put.bind(row.state.rawValue)
            put.bind(row.references)
            put.bind(row.size)
            put.bind(row.cid)
            put.bind(row.treeSize)
            put.bind(row.inlineBytes)
            put.bind(row.isInline && row.inlineBytes == nil)
            put.bind(row.born)
            put.bind(row.kept)
            try put.run()
            if row.isStored && (row.dropsBlocks || row.newBlocks != nil) {
                dropLeaves.bind(row.id)
                try dropLeaves.run()
                try nodes.set(
                    DAGOwner(kind: .object, id: row.id), to: row.newBlocks?.nodes ?? [],
                    born: row.born)
            }
            guard let blocks = row.newBlocks else { continue }
            for (number, multihash) in blocks.leaves.enumerated() {
                putLeaf.bind(row.id)
                putLeaf.bind(UInt64(number))
                putLeaf.bind(multihash)
                try putLeaf.run()
            }
            if !row.isStored {
                try nodes.set(
                    DAGOwner(kind: .object, id: row.id), to: blocks.nodes, born: row.born,
                    isNew: true)
            }
        }
    }
}
