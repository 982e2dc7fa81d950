internal import GRDB
internal import GRDBSQLite
internal import Glibc
internal import InodeManifest

// The check talks to SQLite itself rather than through GRDB: it wants a connection that cannot
// write, several open cursors over whole tables, and blobs lent without a copy.

/// Why SQLite stopped a check.
struct CheckFailure: Error, Sendable {
    let code: Int32
    let reason: String

    /// Whether the file itself is at fault, so that the failure is a finding: a damaged page, or
    /// a schema that is not the manifest's.
    var isDamage: Bool {
        code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR
    }
}

/// A connection to the manifest's database for one thread.
final class CheckDatabase {
    private let handle: OpaquePointer
    let path: String
    private var prepared: [String: PreparedStatement] = [:]
    /// Closed after this one.
    private let companion: CheckDatabase?

    /// Opens the database, for reading only unless it is to be repaired. Never makes one.
    ///
    /// Reading a database in WAL mode takes an index of the WAL in shared memory (-shm), which
    /// SQLite makes where it is missing; neither the database nor the WAL is written. Without a
    /// WAL the file is opened as immutable, and nothing at all appears beside it. Both hold
    /// because the caller has the state directory's lock.
    ///
    /// - Parameter companion: a connection that lives longer than this one.
    init(
        path: String, isWritable: Bool, companion: CheckDatabase? = nil
    ) throws(CheckFailure) {
        self.path = path
        self.companion = companion
        var status = stat()
        let hasWAL = lstat(path + "-wal", &status) == 0 && status.st_size > 0
        let mode = isWritable ? "mode=rw" : hasWAL ? "mode=ro" : "mode=ro&immutable=1"
        let flags =
            SQLITE_OPEN_URI | SQLITE_OPEN_NOFOLLOW
            | (isWritable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY)
        var opened: OpaquePointer?
        let code = sqlite3_open_v2(Self.uri(path) + "?" + mode, &opened, flags, nil)
        guard code == SQLITE_OK, let opened else {
            defer { sqlite3_close_v2(opened) }
            throw CheckFailure(
                code: code & 0xff,
                reason: opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory")
        }
        handle = opened
        // Sorting spills into temporary files, so that memory does not grow with the volume.
        try execute("PRAGMA cache_size = -16384")
        try execute("PRAGMA temp_store = FILE")
        sqlite3_busy_timeout(handle, 5000)
        if isWritable { try execute("PRAGMA synchronous = FULL") }
    }

    deinit {
        prepared = [:]
        sqlite3_close_v2(handle)
    }

    /// The path as the path part of a URI (https://www.sqlite.org/uri.html).
    private static func uri(_ path: String) -> String {
        var uri = "file:"
        for byte in path.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "/"), UInt8(ascii: "."),
                UInt8(ascii: "-"), UInt8(ascii: "_"):
                uri.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                uri += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
        return uri
    }

    func execute(_ sql: String) throws(CheckFailure) {
        guard sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK else { throw failure() }
    }

    func prepare(_ sql: String) throws(CheckFailure) -> CheckStatement {
        var statement: OpaquePointer?
        guard sqlite3_prepare_v2(handle, sql, -1, &statement, nil) == SQLITE_OK, let statement
        else { throw failure() }
        return CheckStatement(statement, database: self)
    }

    /// Runs a statement without rows.
    func run(_ sql: String, _ values: CheckValue...) throws(CheckFailure) {
        let statement = try prepare(sql)
        statement.bind(values)
        while try statement.step() {}
    }

    /// The first column of the first row; nil where there is no row, or NULL.
    func integer(_ sql: String, _ values: CheckValue...) throws(CheckFailure) -> Int64? {
        let statement = try prepare(sql)
        statement.bind(values)
        guard try statement.step(), !statement.isNull(0) else { return nil }
        return statement.integer(0)
    }

    fileprivate func failure() -> CheckFailure {
        CheckFailure(
            code: sqlite3_errcode(handle) & 0xff, reason: String(cString: sqlite3_errmsg(handle)))
    }
}

extension CheckDatabase: StatementSource {
    func statement(_ sql: String) throws -> BoundStatement {
        let statement = try prepared[sql] ?? PreparedStatement(sql, in: handle)
        prepared[sql] = statement
        return BoundStatement(statement.handle, owner: statement)
    }
}

/// A statement for `BoundStatement`.
private final class PreparedStatement {
    let handle: OpaquePointer

    init(_ sql: String, in database: OpaquePointer) throws {
        var statement: OpaquePointer?
        let code = sqlite3_prepare_v2(database, sql, -1, &statement, nil)
        guard code == SQLITE_OK, let statement else {
            throw DatabaseError(
                resultCode: ResultCode(rawValue: code),
                message: String(cString: sqlite3_errmsg(database)))
        }
        handle = statement
    }

    deinit {
        sqlite3_finalize(handle)
    }
}

extension CheckFailure {
    /// What made SQLite refuse, or the reading of a file.
    init(_ error: any Error) {
        if let error = error as? DatabaseError {
            self.init(
                code: error.resultCode.rawValue, reason: error.message ?? "\(error.resultCode)")
        } else {
            self.init(code: SQLITE_IOERR, reason: "\(error)")
        }
    }
}

/// A value to bind to a statement.
enum CheckValue: ExpressibleByIntegerLiteral {
    case integer(Int64)
    case blob([UInt8])
    case null

    init(integerLiteral value: Int64) { self = .integer(value) }
    init(_ value: Int64) { self = .integer(value) }
}

/// A prepared statement; it is also a cursor over its rows.
final class CheckStatement {
    private let handle: OpaquePointer
    private let database: CheckDatabase

    fileprivate init(_ handle: OpaquePointer, database: CheckDatabase) {
        self.handle = handle
        self.database = database
    }

    deinit {
        sqlite3_finalize(handle)
    }

    /// Makes the statement ready to be stepped with these values.
    func restart(_ values: CheckValue...) { restart(values) }

    /// Makes the statement ready to be stepped with these values.
    func restart(_ values: [CheckValue]) {
        sqlite3_reset(handle)
        bind(values)
    }

    /// Ends the reading of rows.
    func reset() {
        sqlite3_reset(handle)
    }

    fileprivate func bind(_ values: [CheckValue]) {
        for (index, value) in values.enumerated() {
            let column = Int32(index + 1)
            switch value {
            case .integer(let number): sqlite3_bind_int64(handle, column, number)
            case .null: sqlite3_bind_null(handle, column)
            case .blob(let bytes):
                // SQLITE_TRANSIENT: SQLite copies before the call returns.
                let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
                bytes.withUnsafeBytes { raw in
                    if let base = raw.baseAddress {
                        _ = sqlite3_bind_blob64(
                            handle, column, base, UInt64(raw.count), transient)
                    } else {
                        _ = sqlite3_bind_zeroblob(handle, column, 0)
                    }
                }
            }
        }
    }

    /// Goes to the next row; false after the last one.
    func step() throws(CheckFailure) -> Bool {
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default: throw database.failure()
        }
    }

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }
    func isNull(_ column: Int32) -> Bool { sqlite3_column_type(handle, column) == SQLITE_NULL }
    func text(_ column: Int32) -> String {
        sqlite3_column_text(handle, column).map { String(cString: $0) } ?? ""
    }
    func bytes(_ column: Int32) -> [UInt8] { [UInt8](lent(column)) }
    func optionalBytes(_ column: Int32) -> [UInt8]? { isNull(column) ? nil : bytes(column) }

    /// The bytes of a blob, valid until the statement moves.
    func lent(_ column: Int32) -> UnsafeRawBufferPointer {
        guard let base = sqlite3_column_blob(handle, column) else {
            return UnsafeRawBufferPointer(start: nil, count: 0)
        }
        return UnsafeRawBufferPointer(
            start: base, count: Int(sqlite3_column_bytes(handle, column)))
    }
}

/// A cursor whose first column is a key, in ascending order, to be merged with other cursors.
struct CheckCursor {
    private let statement: CheckStatement
    /// The key of the row that the cursor stands on; nil after the last one.
    private(set) var key: Int64?

    init(_ statement: CheckStatement) throws(CheckFailure) {
        self.statement = statement
        try advance()
    }

    var row: CheckStatement { statement }

    mutating func advance() throws(CheckFailure) {
        key = try statement.step() ? statement.integer(0) : nil
    }

    /// Whether the cursor stands on a key below a bound; nil is no bound.
    func isBelow(_ bound: Int64?) -> Bool {
        guard let key else { return false }
        return bound.map { key < $0 } ?? true
    }
}
