package import Base
internal import GRDBSQLite
package import Multiformats

/// A row that nothing of ours wrote: what is wrong with it, and where it stands.
package struct DamagedRow: Error, CustomStringConvertible {
    let table: StaticString
    /// The columns that tell one row from another, with their values.
    let key: String
    let column: String
    let reason: String

    package var description: String { "table \(table), row \(key), column \(column): \(reason)" }
}

/// The row that a statement stands on, with a check of each value: the disk may hold anything.
///
/// What is checked is what everything above relies on. Rules between rows are `registryfs check`'s.
package struct StoredRow {
    /// What tells the row from others.
    package enum Key {
        case number(StaticString, Int64)
        case name(FileName, parent: UInt64)
    }

    private let statement: BoundStatement
    private let table: StaticString
    private let key: Key

    /// Takes the row that a statement stands on; valid until that moves.
    ///
    /// - Parameters:
    ///   - table: where the row stands, for messages.
    ///   - key: what tells it from others, for messages.
    package init(_ statement: BoundStatement, table: StaticString, key: Key) {
        self.statement = statement
        self.table = table
        self.key = key
    }

    /// What no counter reaches; see `Schema`.
    package static let numberMax = UInt64(Schema.numberMax)

    /// The error that a column of the row is.
    package func damage(_ column: StaticString, _ reason: String) -> DamagedRow {
        let words =
            switch key {
            case .number(let name, let value): "\(name) \(value)"
            case .name(let name, let parent): "parent \(parent), name \"\(shown(name.bytes))\""
            }
        return DamagedRow(table: table, key: words, column: "\(column)", reason: reason)
    }

    /// Any number.
    package func integer(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> Int64 {
        guard statement.type(index) == SQLITE_INTEGER else {
            throw damage(column, "there is no number in it")
        }
        return statement.int64(index)
    }

    /// The 64 bits of a number that may use all of them.
    func bits(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> UInt64 {
        UInt64(bitPattern: try integer(index, column))
    }

    /// A count or a size.
    package func number(
        _ index: Int32, _ column: StaticString, in range: ClosedRange<UInt64> = 0...(1 << 63 - 1)
    ) throws(DamagedRow) -> UInt64 {
        let value = try integer(index, column)
        guard let number = UInt64(exactly: value), range.contains(number) else {
            throw damage(column, "\(value) is out of range")
        }
        return number
    }

    /// A number that fits 32 bits.
    func number32(
        _ index: Int32, _ column: StaticString, max: UInt32 = .max
    ) throws(DamagedRow) -> UInt32 {
        UInt32(try number(index, column, in: 0...UInt64(max)))
    }

    func isNull(_ index: Int32) -> Bool { statement.isNull(index) }

    /// A blob, of no byte too.
    package func bytes(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> [UInt8] {
        guard statement.type(index) == SQLITE_BLOB else {
            throw damage(column, "there are no bytes in it")
        }
        return statement.bytes(index)
    }

    /// A text, as SQLite stores it: UTF-8, repaired where it is none.
    package func text(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> String {
        guard statement.type(index) == SQLITE3_TEXT else {
            throw damage(column, "there is no text in it")
        }
        return statement.text(index)
    }

    /// A CID; nil for NULL.
    package func cid(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> CID? {
        guard !isNull(index) else { return nil }
        let bytes = try bytes(index, column)
        do throws(CIDError) {
            return try CID(bytes: bytes)
        } catch {
            throw damage(column, "it is no CID: \(error)")
        }
    }

    func kind(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> FileKind {
        let value = try integer(index, column)
        guard let kind = UInt8(exactly: value).flatMap({ FileKind(rawValue: $0) }) else {
            throw damage(column, "\(value) is no kind of an inode")
        }
        return kind
    }

    /// The directories of further links.
    func parents(_ index: Int32, _ column: StaticString) throws(DamagedRow) -> [Inode] {
        guard !isNull(index) else { return [] }
        let bytes = try bytes(index, column)
        guard bytes.count % 8 == 0 else {
            throw damage(column, "\(bytes.count) bytes are no run of inode numbers")
        }
        return decodeParents(bytes).map { Inode(UInt64(bitPattern: $0)) }
    }
}

extension FileName {
    /// What keeps the bytes from being the name of an entry (path_resolution(7), NAME_MAX); nil where
    /// nothing does.
    package var fault: String? {
        if bytes.isEmpty { return "its name is empty" }
        if bytes.count > 255 { return "its name has \(bytes.count) bytes" }
        if bytes == [0x2e] || bytes == [0x2e, 0x2e] { return "its name is reserved" }
        if bytes.contains(0x2f) { return "its name has a slash in it" }
        if bytes.contains(0) { return "its name has a NUL in it" }
        return nil
    }
}
