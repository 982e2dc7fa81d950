internal import Base
internal import GRDB
public import Multiformats

/// Where the tree of a volume came from when it was made: the row of `origin`.
public struct Origin: Sendable, Equatable {
    /// What the root was named by, in its canonical form: `/ipfs/CID/path`, `/ipns/NAME`.
    public var reference: String
    /// The directory that the tree began with, or that it follows.
    public var root: CID
    /// When that root was taken, in nanoseconds since the epoch.
    public var time: Int64

    public init(reference: String, root: CID, time: Int64) {
        self.reference = reference
        self.root = root
        self.time = time
    }
}

extension Origin {
    /// Reads a row of reference, root and time.
    package init(_ row: StoredRow) throws {
        guard let root = try row.cid(1, "root") else { throw row.damage("root", "there is none") }
        self.init(
            reference: try row.text(0, "reference"), root: root, time: try row.integer(2, "time"))
    }

    /// The row, where there is one.
    static func read(in writer: DatabaseQueue) throws -> Origin? {
        try writer.inDatabase { db in
            var row = try BoundStatement(
                "SELECT reference, root, time FROM origin WHERE id = 1", in: db)
            defer { row.reset() }
            guard try row.step() else { return nil }
            return try Origin(StoredRow(row, table: "origin", key: .number("id", 1)))
        }
    }
}

extension CommitBatch {
    /// Tells SQLite of the origin, inside a transaction.
    func writeOrigin(to db: some StatementSource) throws {
        guard let origin else { return }
        var row = try db.statement(
            "INSERT OR REPLACE INTO origin(id, reference, root, time) VALUES (1,?,?,?)")
        row.bind(origin.reference)
        row.bind(origin.root.bytes)
        row.bind(origin.time)
        try row.run()
    }
}
