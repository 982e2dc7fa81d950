internal import Base
internal import GRDB
package import Multiformats

package import struct SystemPackage.Errno

// Grafts: trees of others that repositories of the volume come from, and the objects that came as blobs of theirs.
//
// A graft is a directory below `repositories` that began with theirs. `base` is the CID of that directory when it was taken
// last, to merge with; `blobs` the directory in which its blobs are, `blobs_before` the one of the tree before. What a graft says
// of a blob, that the bytes below its CID have the SHA-256 in its name, is not known before somebody has read all of
// them: until then the object stands in `graft_object` as not verified, and nobody gets its bytes.

/// How the tree of a graft is laid out: the `layout` column.
package enum GraftLayout: Int64, Sendable {
    /// `docker/registry/v2/…`.
    case registry = 1
    /// `NAME/docker/registry/v2/…`.
    case domain = 2
    /// `v2/…`, a registry that is only files.
    case files = 3
}

/// A graft as the manifest has it: a row of `graft`.
package struct StoredGraft: Sendable, Equatable {
    /// The name of its directory in `parent`, which no other graft has.
    package var name: String
    /// What was asked for.
    package var reference: String
    package var layout: GraftLayout
    /// The inode of the `repositories` that it lies in.
    package var parent: UInt64
    /// Where the reference led.
    package var root: CID
    /// Names from there down.
    package var path: [[UInt8]]
    /// The directory that was taken last.
    package var base: CID
    /// The directory of its blobs; nil where there is none.
    package var blobs: CID?
    /// That of the tree before.
    package var blobsBefore: CID?
    /// When the tree was looked for last with success, in nanoseconds since the epoch.
    package var time: Int64
    /// When it is to be looked for again, in nanoseconds since the epoch; 0 for never.
    package var until: Int64
    package var isPinned: Bool

    package init(
        name: String, reference: String, layout: GraftLayout, parent: UInt64, root: CID,
        path: [[UInt8]], base: CID, blobs: CID?, time: Int64, until: Int64
    ) {
        self.name = name
        self.reference = reference
        self.layout = layout
        self.parent = parent
        self.root = root
        self.path = path
        self.base = base
        self.blobs = blobs
        self.time = time
        self.until = until
        isPinned = false
    }
}

/// An object that came as a blob of a graft: a row of `graft_object`.
package struct GraftObject: Sendable, Equatable {
    package let object: UInt64
    /// The SHA-256 that its bytes have to have.
    package let digest: [UInt8]
    /// The name of the graft; empty where nobody knows it any more.
    package let graft: String
    package let isVerified: Bool

    package init(object: UInt64, digest: [UInt8], graft: String, isVerified: Bool) {
        self.object = object
        self.digest = digest
        self.graft = graft
        self.isVerified = isVerified
    }
}

/// Changes of `graft` and `graft_object`. The redo log has no form for them: SQLite is told at once.
struct GraftChanges: Sendable {
    enum Change: Sendable {
        case put(StoredGraft)
        case delete(String)
        case putObject(GraftObject)
        case verified(UInt64)
    }

    var changes: [Change] = []

    var isEmpty: Bool { changes.isEmpty }
}

/// The grafts of a volume, in memory.
package struct Grafts: Sendable {
    /// By name.
    package private(set) var all: [String: StoredGraft]
    /// Objects whose bytes nobody may have yet, by number.
    package private(set) var unverified: [UInt64: GraftObject]
    /// The grafts that objects of lately came from, by their numbers: SQLite need not know them yet.
    package private(set) var recentOrigins: [UInt64: String] = [:]
    private static let recentOriginsMax = 4_096

    init(all: [StoredGraft] = [], unverified: [GraftObject] = []) {
        self.all = Dictionary(all.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        self.unverified = Dictionary(
            unverified.map { ($0.object, $0) }, uniquingKeysWith: { $1 })
    }

    fileprivate mutating func put(_ graft: StoredGraft) { all[graft.name] = graft }
    fileprivate mutating func remove(_ name: String) { all[name] = nil }
    fileprivate mutating func put(_ object: GraftObject) {
        unverified[object.object] = object.isVerified ? nil : object
        // SQLite has long been told of those before.
        if recentOrigins.count >= Self.recentOriginsMax { recentOrigins = [:] }
        recentOrigins[object.object] = object.graft
    }
    mutating func forget(_ object: UInt64) -> GraftObject? {
        unverified.removeValue(forKey: object)
    }
}

extension ManifestState {
    /// Notes a graft, in place of the one of its name.
    package func put(_ graft: StoredGraft) {
        guard grafts.all[graft.name] != graft else { return }
        grafts.put(graft)
        pending.grafts.changes.append(.put(graft))
    }

    /// Forgets a graft.
    package func removeGraft(_ name: String) {
        guard grafts.all[name] != nil else { return }
        grafts.remove(name)
        pending.grafts.changes.append(.delete(name))
    }

    /// Notes where an object comes from, and what its bytes have to be.
    package func put(_ object: GraftObject) {
        grafts.put(object)
        pending.grafts.changes.append(.putObject(object))
    }

    /// Notes that the bytes of an object are what they have to be.
    package func noteVerified(_ object: UInt64) {
        guard grafts.forget(object) != nil else { return }
        pending.grafts.changes.append(.verified(object))
    }
}

extension Grafts {
    /// What stands in the database. Rows of objects that are gone are taken away.
    static func read(in writer: DatabaseQueue) throws -> Grafts {
        try writer.inDatabase { db in
            try db.execute(
                sql: "DELETE FROM graft_object WHERE object NOT IN (SELECT id FROM object)")
            var all: [StoredGraft] = []
            var rows = try BoundStatement(StoredGraft.selection + " ORDER BY name", in: db)
            defer { rows.reset() }
            while try rows.step() { all.append(try StoredGraft(rows)) }
            var objects: [GraftObject] = []
            var waiting = try BoundStatement(
                GraftObject.selection + " WHERE is_verified = 0", in: db)
            defer { waiting.reset() }
            while try waiting.step() { objects.append(try GraftObject(waiting)) }
            return Grafts(all: all, unverified: objects)
        }
    }
}

extension StoredGraft {
    package static let selection = """
        SELECT name, reference, layout, parent, root, path, base, blobs, blobs_before, time, until,
        is_pinned FROM graft
        """

    /// The row on which a statement of all columns stands.
    package init(_ statement: BoundStatement) throws(DamagedRow) {
        let row = StoredRow(
            statement, table: "graft", key: .name(FileName(statement.bytes(0)), parent: 0))
        let name = try row.text(0, "name")
        if let fault = FileName(name).fault { throw row.damage("name", fault) }
        let number = try row.integer(2, "layout")
        guard let layout = GraftLayout(rawValue: number) else {
            throw row.damage("layout", "\(number) is no layout of a graft")
        }
        guard let root = try row.cid(4, "root") else { throw row.damage("root", "there is none") }
        guard let base = try row.cid(6, "base") else { throw row.damage("base", "there is none") }
        self.init(
            name: name, reference: try row.text(1, "reference"), layout: layout,
            parent: try row.number(3, "parent", in: 1...StoredRow.numberMax), root: root,
            path: Self.names(try row.bytes(5, "path")), base: base, blobs: try row.cid(7, "blobs"),
            time: try row.integer(9, "time"), until: try row.integer(10, "until"))
        blobsBefore = try row.cid(8, "blobs_before")
        isPinned = try row.integer(11, "is_pinned") != 0
    }

    /// Names with `/` between them.
    private static func names(_ bytes: [UInt8]) -> [[UInt8]] {
        bytes.isEmpty
            ? [] : bytes.split(separator: 0x2f, omittingEmptySubsequences: false).map { Array($0) }
    }
}

extension GraftObject {
    package static let selection =
        "SELECT object, digest, graft, is_verified FROM graft_object"

    /// The row on which a statement of all columns stands.
    package init(_ statement: BoundStatement) throws(DamagedRow) {
        let row = StoredRow(
            statement, table: "graft_object", key: .number("object", statement.int64(0)))
        let digest = try row.bytes(1, "digest")
        guard digest.count == Self.digestLength else {
            throw row.damage("digest", "it has \(digest.count) bytes, not \(Self.digestLength)")
        }
        self.init(
            object: try row.number(0, "object", in: 1...StoredRow.numberMax), digest: digest,
            graft: try row.text(2, "graft"), isVerified: try row.integer(3, "is_verified") != 0)
    }

    /// Bytes of a SHA-256.
    private static let digestLength = 32
}

extension CommittedRows {
    /// Where an object came from, as SQLite has it; nil where it came from no graft.
    package func graftObject(_ object: UInt64) throws(Errno) -> GraftObject? {
        try read { db in
            var row = try BoundStatement(GraftObject.selection + " WHERE object = ?", in: db)
            row.bind(object)
            defer { row.reset() }
            return try row.step() ? try GraftObject(row) : nil
        }
    }
}

extension GraftChanges {
    /// Tells SQLite, inside a transaction.
    func write(to db: some StatementSource) throws {
        for change in changes {
            switch change {
            case .put(let graft): try put(graft, in: db)
            case .delete(let name):
                var row = try db.statement("DELETE FROM graft WHERE name = ?")
                row.bind(name)
                try row.run()
            case .putObject(let object):
                var row = try db.statement(
                    """
                    INSERT OR REPLACE INTO graft_object(object, digest, graft, is_verified)
                    VALUES (?,?,?,?)
                    """)
                row.bind(object.object)
                row.bind(object.digest)
                row.bind(object.graft)
                row.bind(object.isVerified)
                try row.run()
            case .verified(let object):
                var row = try db.statement(
                    "UPDATE graft_object SET is_verified = 1 WHERE object = ?")
                row.bind(object)
                try row.run()
            }
        }
    }

    private func put(_ graft: StoredGraft, in db: some StatementSource) throws {
        var row = try db.statement(
            """
            INSERT OR REPLACE INTO graft(name, reference, layout, parent, root, path, base, blobs,
            blobs_before, time, until, is_pinned) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)
            """)
        row.bind(graft.name)
        row.bind(graft.reference)
        row.bind(graft.layout.rawValue)
        row.bind(graft.parent)
        row.bind(graft.root.bytes)
        row.bind(Array(graft.path.joined(separator: [0x2f])))
        row.bind(graft.base.bytes)
        row.bind(graft.blobs?.bytes)
        row.bind(graft.blobsBefore?.bytes)
        row.bind(graft.time)
        row.bind(graft.until)
        row.bind(graft.isPinned)
        try row.run()
    }
}
