internal import Base
package import GRDB
internal import GRDBSQLite

internal import struct SystemPackage.Errno

/// A prepared statement with typed binding by position, for one thread.
///
/// GRDB prepares and owns the statement; binding goes straight to SQLite, because a commit binds
/// hundreds of thousands of values, and GRDB's argument arrays box each of them.
package struct BoundStatement {
    private let handle: OpaquePointer
    private let owner: AnyObject
    private var column: Int32 = 0

    init(_ sql: String, in db: Database) throws {
        let statement = try db.cachedStatement(sql: sql)
        guard let handle = statement.sqliteStatement as OpaquePointer? else {
            throw DatabaseError(resultCode: .SQLITE_MISUSE)
        }
        self.init(handle, owner: statement)
    }

    /// A statement that another object prepared, and keeps as long as it lives. What was bound is forgotten.
    package init(_ handle: OpaquePointer, owner: AnyObject) {
        self.handle = handle
        self.owner = owner
        sqlite3_reset(handle)
        sqlite3_clear_bindings(handle)
    }

    /// Binds the next parameter, or the first one after a step.
    package mutating func bind(_ value: Int64) {
        column += 1
        sqlite3_bind_int64(handle, column, value)
    }

    /// Binds the 64 bits of a number, as SQLite has them.
    package mutating func bind(_ value: UInt64) { bind(Int64(bitPattern: value)) }
    mutating func bind(_ value: UInt32) { bind(Int64(value)) }
    mutating func bind(_ value: Bool) { bind(Int64(value ? 1 : 0)) }

    mutating func bind(_ value: UInt64?) {
        if let value { bind(value) } else { bindNull() }
    }

    mutating func bindNull() {
        column += 1
        sqlite3_bind_null(handle, column)
    }

    /// Binds a blob, of which SQLite makes a copy; NULL for nil.
    package mutating func bind(_ value: [UInt8]?) {
        guard let value else { return bindNull() }
        column += 1
        value.withUnsafeBytes { bytes in
            // SQLITE_TRANSIENT: SQLite copies before the call returns.
            let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
            if let base = bytes.baseAddress {
                _ = sqlite3_bind_blob(handle, column, base, Int32(clamping: bytes.count), transient)
            } else {
                _ = sqlite3_bind_zeroblob(handle, column, 0)
            }
        }
    }

    mutating func bind(_ text: String) {
        column += 1
        let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        sqlite3_bind_text(handle, column, text, -1, transient)
    }

    /// Steps once; true where a row is there to be read.
    package mutating func step() throws -> Bool {
        column = 0
        let code = sqlite3_step(handle)
        switch code {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default:
            let message = sqlite3_db_handle(handle).flatMap { sqlite3_errmsg($0) }
            let error = DatabaseError(
                resultCode: ResultCode(rawValue: code), message: message.map { String(cString: $0) }
            )
            sqlite3_reset(handle)
            throw error
        }
    }

    /// Runs a statement that yields no row, and makes it ready for the next binding.
    package mutating func run() throws {
        _ = try step()
        reset()
    }

    /// Ends the statement's read; without it a read transaction would stay open.
    package mutating func reset() {
        sqlite3_reset(handle)
        column = 0
    }

    func int64(_ index: Int32) -> Int64 { sqlite3_column_int64(handle, index) }
    func uint64(_ index: Int32) -> UInt64 { UInt64(bitPattern: int64(index)) }
    func uint32(_ index: Int32) -> UInt32 { UInt32(truncatingIfNeeded: int64(index)) }
    func type(_ index: Int32) -> Int32 { sqlite3_column_type(handle, index) }
    func isNull(_ index: Int32) -> Bool { type(index) == SQLITE_NULL }

    func text(_ index: Int32) -> String {
        sqlite3_column_text(handle, index).map { String(cString: $0) } ?? ""
    }

    func bytes(_ index: Int32) -> [UInt8] {
        guard let base = sqlite3_column_blob(handle, index) else { return [] }
        return [UInt8](
            UnsafeRawBufferPointer(start: base, count: Int(sqlite3_column_bytes(handle, index))))
    }
}

/// A connection that prepares statements, each text once: GRDB's, or one of SQLite's own, as the check has.
package protocol StatementSource {
    /// The statement of a text, reset and without values. Whoever asked for it before has it no longer.
    func statement(_ sql: String) throws -> BoundStatement
}

extension Database: StatementSource {
    /// The statement of a text, from GRDB's cache.
    package func statement(_ sql: String) throws -> BoundStatement {
        try BoundStatement(sql, in: self)
    }
}

extension Errno {
    /// The errno for a failure of SQLite, or for what it gave: ENOSPC where the disk is full, else EIO.
    /// Leaves the cause behind.
    init(database error: any Error) {
        if let error = error as? Errno {
            self = error
            return
        }
        let isFull = (error as? DatabaseError)?.resultCode == .SQLITE_FULL
        let advice = error is DamagedRow ? ": run registryfs check" : ""
        self = (isFull ? Errno.noSpace : .ioError).because("manifest.sqlite: \(error)\(advice)")
    }
}
