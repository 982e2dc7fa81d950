package import GRDB

// The manifest's format, version 7: one SQLite database, `manifest.sqlite`, in WAL mode.
//
//   volume            one row: what holds for the whole state directory, and the next free numbers
//   inode             one row an inode; `id` is the inode number that the kernel sees; of a directory with
//                     `not_loaded` the entries are not here yet, but in the DAG of `cid`
//   entry             one row a directory entry; `cookie` is its place in a listing, ascending in
//                     the order of creation and never used twice
//   xattr             extended attributes, ACLs among them
//   object            one row a version of a file's bytes: inline in the row, in the flat file
//                     objects/<id>, or at the node; `refs` counts the inodes that name it
//   leaf              the leaves of sealed objects of more than one leaf: leaf `number` is the
//                     bytes [number * chunk, (number + 1) * chunk) of the object
//   dag_node          dag-pb blocks by their multihash, each once: the interior nodes of sealed objects, and the
//                     nodes of directories whose CIDs are in their inode rows
//   dag_reference     who needs a block of `dag_node`; one that nobody needs is deleted with its last
//                     reference
//   remote            one row a remote that may hold content of the volume: a Kubo node so far; `view` is the
//                     CID of the MFS mirror as it was left. The code calls it `mirror`; the column keeps the name
//                     that it has in state directories of format 2 to 4
//   placement         who holds what: an object or a directory, a remote, and how far that has come
//   origin            one row where the tree came from elsewhere, since version 5: what it was named by, and the root
//   snapshot          one row a moment of the tree that has a name, since version 6
//   restoration       one row while the tree, or a part of it, is brought to an earlier root
//   graft             one row a tree of others that repositories come from, since version 7
//   graft_object      objects that came as blobs of such a tree, and the SHA-256 that their bytes have to have
//   deleted_object    flat files that nothing names any more, to be unlinked after the commit
//   redo_log          one row, since version 3: the number of the commit up to which the database has
//                     everything, and the key of the redo log's checks (see RedoLog.swift)
//
// Placement: a row says that a remote holds all blocks of the DAG that the object's or the directory's CID
// stands for now, acknowledged in the row's `epoch`. It counts while that is the epoch of the remote. A
// new epoch begins when the remote has lost blocks, or is another machine: that is a change of one row, and
// all others of the remote count no longer. With the CID its placements go. What is sealed and not placed
// in the current epoch is the outbox; so a change and what it leaves to send are one commit.
//
// References: `kind` 1 is an object, by its number, and 2 a directory, by its inode; these name the blocks
// of the tree as it is. 3 is what the tree has lost and a remote's root may still have, by the count of
// roots that had been begun when it was lost. What a root of that count needs was there when the
// root was begun, or is kept under its count or a higher one; so a root that is published lets go what is
// under lower ones. A published root stays whole so, at the cost of what changed since.
//
// Snapshots (Snapshots.swift): `born` of an object and of a DAG node is the number of the newest snapshot when it came, `kept` of an object,
// and the owner of a reference of kind 4, that of the newest when the tree lost it; snapshots between the two may have it. An object
// that is kept has one reference more than inodes name it. `last_snapshot` of `volume` is the number that was given last.
//
// Validity: every `entry.inode` names an inode row; `nlink` of an inode that is not a directory is
// the number of its entries, of a directory 2 plus its subdirectories; an inode with nlink 0 was
// open when its last name went, and is deleted when the manifest is opened; every `inode.object`
// names an object row and `object.refs` is the number of inodes that do, 0 only after a crash; every placement is of a remote
// that there is, and of a sealed object or of a directory with a CID; every block of `dag_node` has a
// reference.
//
// Recovery: SQLite replays its WAL to the last whole transaction, and the redo log follows. Each
// transaction and each record of the log holds whole operations, in order. What stands outside the database is mended by `Volume.open`: the size
// of a staging object is the size of its flat file, and flat files that no row names are removed.

/// The `state` column of an object.
package enum ObjectState: Int64, Sendable {
    /// Being written; the flat file may change at any time.
    case staging = 1
    /// Immutable, CID known.
    case sealed = 2
    /// Immutable, CID known, and its bytes at the node. There may be a flat file with some of them,
    /// which no later process relies on.
    case remote = 3
}

/// The format of the database.
package enum Schema {
    /// PRAGMA user_version of the newest format that this program reads and writes.
    package static let version: Int32 = 7
    /// PRAGMA application_id: "rfs1".
    package static let applicationID: Int32 = 0x7266_7331
    /// The highest number of an inode, a cookie, an object, an epoch or a commit. None comes near to it by
    /// counting; above it there is room for sums.
    package static let numberMax: Int64 = 1 << 62
    /// The lowest cookie of an entry: those below are the places of `.` and `..`.
    package static let cookieMin: Int64 = 16

    /// Brings an older database, or an empty one, to the newest format.
    package static func migrator() -> DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { db in
            try db.execute(
                sql: """
                    PRAGMA application_id = \(applicationID);
                    PRAGMA user_version = 1;
                    CREATE TABLE volume(
                        id INTEGER PRIMARY KEY CHECK (id = 1),
                        uuid TEXT NOT NULL,
                        profile TEXT NOT NULL,
                        next_inode INTEGER NOT NULL,
                        next_cookie INTEGER NOT NULL,
                        next_object INTEGER NOT NULL,
                        inode_count INTEGER NOT NULL,
                        clean INTEGER NOT NULL
                    ) STRICT;
                    CREATE TABLE inode(
                        id INTEGER PRIMARY KEY,
                        kind INTEGER NOT NULL,
                        mode INTEGER NOT NULL,
                        uid INTEGER NOT NULL,
                        gid INTEGER NOT NULL,
                        nlink INTEGER NOT NULL,
                        rdev INTEGER NOT NULL,
                        size INTEGER NOT NULL,
                        blocks INTEGER NOT NULL,
                        atime INTEGER NOT NULL,
                        mtime INTEGER NOT NULL,
                        ctime INTEGER NOT NULL,
                        btime INTEGER NOT NULL,
                        parent INTEGER NOT NULL,
                        other_parents BLOB,
                        object INTEGER,
                        cid BLOB,
                        tree_size INTEGER NOT NULL,
                        target BLOB,
                        has_xattrs INTEGER NOT NULL
                    ) STRICT;
                    CREATE INDEX inode_unlinked ON inode(id) WHERE nlink = 0;
                    CREATE INDEX inode_object ON inode(object) WHERE object IS NOT NULL;
                    CREATE INDEX inode_cid ON inode(cid) WHERE cid IS NOT NULL;
                    CREATE TABLE entry(
                        parent INTEGER NOT NULL,
                        name BLOB NOT NULL,
                        inode INTEGER NOT NULL,
                        kind INTEGER NOT NULL,
                        cookie INTEGER NOT NULL,
                        PRIMARY KEY (parent, name)
                    ) STRICT, WITHOUT ROWID;
                    CREATE TABLE xattr(
                        inode INTEGER NOT NULL,
                        name BLOB NOT NULL,
                        value BLOB NOT NULL,
                        PRIMARY KEY (inode, name)
                    ) STRICT, WITHOUT ROWID;
                    CREATE TABLE object(
                        id INTEGER PRIMARY KEY,
                        state INTEGER NOT NULL,
                        refs INTEGER NOT NULL,
                        size INTEGER NOT NULL,
                        cid BLOB,
                        tree_size INTEGER NOT NULL,
                        inline BLOB
                    ) STRICT;
                    CREATE INDEX object_cid ON object(cid) WHERE cid IS NOT NULL;
                    CREATE INDEX object_staging ON object(id) WHERE state = 1;
                    CREATE TABLE leaf(
                        object INTEGER NOT NULL,
                        number INTEGER NOT NULL,
                        multihash BLOB NOT NULL,
                        PRIMARY KEY (object, number)
                    ) STRICT, WITHOUT ROWID;
                    CREATE INDEX leaf_multihash ON leaf(multihash);
                    CREATE TABLE node(
                        object INTEGER NOT NULL,
                        multihash BLOB NOT NULL,
                        bytes BLOB NOT NULL,
                        PRIMARY KEY (object, multihash)
                    ) STRICT, WITHOUT ROWID;
                    CREATE INDEX node_multihash ON node(multihash);
                    CREATE TABLE directory_node(
                        inode INTEGER NOT NULL,
                        multihash BLOB NOT NULL,
                        bytes BLOB NOT NULL,
                        PRIMARY KEY (inode, multihash)
                    ) STRICT, WITHOUT ROWID;
                    CREATE INDEX directory_node_multihash ON directory_node(multihash);
                    CREATE TABLE deleted_object(id INTEGER PRIMARY KEY) STRICT;
                    """)
        }
        migrator.registerMigration("2") { db in
            try db.execute(
                sql: """
                    PRAGMA user_version = 2;
                    ALTER TABLE inode ADD COLUMN published INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE inode ADD COLUMN unexpanded INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE object ADD COLUMN published INTEGER NOT NULL DEFAULT 0;
                    CREATE TABLE published(
                        id INTEGER PRIMARY KEY CHECK (id = 1),
                        peer TEXT NOT NULL,
                        epoch INTEGER NOT NULL,
                        path TEXT NOT NULL,
                        root BLOB,
                        view BLOB,
                        time INTEGER NOT NULL
                    ) STRICT;
                    """)
        }
        migrator.registerMigration("3") { db in
            try db.execute(
                sql: """
                    PRAGMA user_version = 3;
                    CREATE TABLE redo_log(
                        id INTEGER PRIMARY KEY CHECK (id = 1),
                        applied INTEGER NOT NULL,
                        key BLOB NOT NULL
                    ) STRICT;
                    INSERT INTO redo_log VALUES (1, 0, randomblob(32));
                    """)
        }
        registerPlacement(in: &migrator)
        registerOrigin(in: &migrator)
        registerSnapshots(in: &migrator)
        registerGrafts(in: &migrator)
        return migrator
    }

    /// Version 4. It writes each row of `inode` and `object` anew, so it needs the room of both.
    private static func registerPlacement(in migrator: inout DatabaseMigrator) {
        migrator.registerMigration("4") { db in
            try db.execute(
                sql: """
                    PRAGMA user_version = 4;
                    CREATE TABLE remote(
                        id INTEGER PRIMARY KEY,
                        kind INTEGER NOT NULL,
                        identity TEXT NOT NULL,
                        path TEXT NOT NULL,
                        epoch INTEGER NOT NULL,
                        root BLOB,
                        root_count INTEGER NOT NULL,
                        view BLOB,
                        time INTEGER NOT NULL
                    ) STRICT;
                    CREATE TABLE placement(
                        kind INTEGER NOT NULL,
                        id INTEGER NOT NULL,
                        remote INTEGER NOT NULL,
                        state INTEGER NOT NULL,
                        request TEXT,
                        epoch INTEGER NOT NULL,
                        PRIMARY KEY (kind, id, remote)
                    ) STRICT, WITHOUT ROWID;
                    INSERT INTO remote SELECT 1, 1, peer, path, epoch, root, 0, view, time
                    FROM published;
                    INSERT INTO placement SELECT 1, id, 1, 1, NULL, published FROM object
                    WHERE state <> 1 AND published > 0
                    AND published = (SELECT epoch FROM published);
                    INSERT INTO placement SELECT 2, id, 1, 1, NULL, published FROM inode
                    WHERE kind = 2 AND cid IS NOT NULL AND published > 0
                    AND published = (SELECT epoch FROM published);
                    DROP TABLE published;
                    ALTER TABLE object DROP COLUMN published;
                    ALTER TABLE inode DROP COLUMN published;
                    ALTER TABLE inode RENAME COLUMN unexpanded TO not_loaded;

                    CREATE TABLE dag_node(
                        multihash BLOB NOT NULL PRIMARY KEY,
                        bytes BLOB NOT NULL
                    ) STRICT;
                    CREATE TABLE dag_reference(
                        kind INTEGER NOT NULL,
                        owner INTEGER NOT NULL,
                        multihash BLOB NOT NULL,
                        PRIMARY KEY (kind, owner, multihash)
                    ) STRICT, WITHOUT ROWID;
                    CREATE INDEX dag_reference_multihash ON dag_reference(multihash);
                    INSERT OR IGNORE INTO dag_node SELECT multihash, bytes FROM node;
                    INSERT OR IGNORE INTO dag_node SELECT multihash, bytes FROM directory_node;
                    INSERT INTO dag_reference SELECT 1, object, multihash FROM node;
                    INSERT INTO dag_reference SELECT 2, inode, multihash FROM directory_node;
                    DROP TABLE node;
                    DROP TABLE directory_node;
                    """)
        }
    }

    /// Version 5.
    private static func registerOrigin(in migrator: inout DatabaseMigrator) {
        migrator.registerMigration("5") { db in
            try db.execute(
                sql: """
                    PRAGMA user_version = 5;
                    CREATE TABLE origin(
                        id INTEGER PRIMARY KEY CHECK (id = 1),
                        reference TEXT NOT NULL,
                        root BLOB NOT NULL,
                        time INTEGER NOT NULL
                    ) STRICT;
                    """)
        }
    }

    /// Version 6.
    private static func registerSnapshots(in migrator: inout DatabaseMigrator) {
        migrator.registerMigration("6") { db in
            try db.execute(
                sql: """
                    PRAGMA user_version = 6;
                    CREATE TABLE snapshot(
                        id INTEGER PRIMARY KEY,
                        name TEXT NOT NULL UNIQUE,
                        root BLOB NOT NULL,
                        tree_size INTEGER NOT NULL,
                        time INTEGER NOT NULL,
                        next_inode INTEGER NOT NULL,
                        message TEXT NOT NULL,
                        is_automatic INTEGER NOT NULL,
                        manifest BLOB
                    ) STRICT;
                    CREATE TABLE restoration(
                        id INTEGER PRIMARY KEY CHECK (id = 1),
                        name TEXT NOT NULL,
                        root BLOB NOT NULL,
                        path BLOB NOT NULL
                    ) STRICT;
                    ALTER TABLE volume ADD COLUMN last_snapshot INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE object ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE object ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE dag_node ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
                    CREATE INDEX object_kept ON object(kept) WHERE kept > 0;
                    """)
        }
    }

    /// Version 7.
    private static func registerGrafts(in migrator: inout DatabaseMigrator) {
        migrator.registerMigration("7") { db in
            try db.execute(
                sql: """
                    PRAGMA user_version = 7;
                    CREATE TABLE graft(
                        name TEXT NOT NULL PRIMARY KEY,
                        reference TEXT NOT NULL,
                        layout INTEGER NOT NULL,
                        parent INTEGER NOT NULL,
                        root BLOB NOT NULL,
                        path BLOB NOT NULL,
                        base BLOB NOT NULL,
                        blobs BLOB,
                        blobs_before BLOB,
                        time INTEGER NOT NULL,
                        until INTEGER NOT NULL,
                        is_pinned INTEGER NOT NULL
                    ) STRICT, WITHOUT ROWID;
                    CREATE TABLE graft_object(
                        object INTEGER PRIMARY KEY,
                        digest BLOB NOT NULL,
                        graft TEXT NOT NULL,
                        is_verified INTEGER NOT NULL
                    ) STRICT;
                    """)
        }
    }
}
