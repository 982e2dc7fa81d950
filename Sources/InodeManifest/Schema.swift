internal import GRDB

// The manifest's format, version 3: one SQLite database, `manifest.sqlite`, in WAL mode.
//
//   volume            one row: what holds for the whole state directory, and the next free numbers
//   inode             one row an inode; `id` is the FUSE node id; of a directory with `unexpanded` the
//                     entries are not here yet, but in the DAG of `cid`
//   entry             one row a directory entry; `cookie` is its place in a listing, ascending in
//                     the order of creation and never used twice
//   xattr             extended attributes, ACLs among them
//   object            one row a version of a file's bytes: inline in the row, in the flat file
//                     objects/<id>, or at the node; `refs` counts the inodes that name it
//   leaf              the leaves of sealed objects of more than one leaf: leaf `number` is the
//                     bytes [number * chunk, (number + 1) * chunk) of the object
//   node              the interior dag-pb nodes of sealed objects
//   directory_node    the dag-pb nodes of a directory whose CID is in its inode row
//   deleted_object    flat files that nothing names any more, to be unlinked after the commit
//   redo_log          one row, since version 3: the number of the commit up to which the database has
//                     everything, and the key of the redo log's checks (see RedoLog.swift)
//   published         one row, once the volume has a node: what stands there
//
// `published` of `inode` and `object`: the `epoch` in which the node has acknowledged all blocks of the
// DAG of `cid`; 0 for never. A new epoch begins when the node has lost blocks, or is another one.
// What is sealed and not published in the current epoch is the outbox; so a change and what it
// leaves to send are one commit.
//
// Validity: every `entry.inode` names an inode row; `nlink` of an inode that is not a directory is
// the number of its entries, of a directory 2 plus its subdirectories; an inode with nlink 0 was
// open when its last name went, and is deleted when the manifest is opened; every `inode.object`
// names an object row and `object.refs` is the number of inodes that do.
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

enum Schema {
    /// PRAGMA user_version of the newest format that this program reads and writes.
    static let version: Int32 = 3
    /// PRAGMA application_id: "rfs1".
    static let applicationID: Int32 = 0x7266_7331
    /// The highest number of an inode, a cookie, an object, an epoch or a commit. None comes near to it by
    /// counting; above it there is room for sums.
    static let numberMax: Int64 = 1 << 62
    /// The lowest cookie of an entry: those below are the places of `.` and `..`.
    static let cookieMin: Int64 = 16

    static func migrator() -> DatabaseMigrator {
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
        return migrator
    }
}
