internal import GRDB
internal import InodeManifest

/// A place to try what the reader of the redo log makes of bytes that may be anything: for the fuzz
/// target, which is a of its own.
public final class RedoLogTrial {
    private let database: DatabaseQueue

    /// The key of all logs here.
    public static let key = [UInt8](repeating: 7, count: 32)

    /// Makes an empty manifest in memory.
    public init() throws {
        database = try DatabaseQueue()
        try Schema.migrator().migrate(database)
    }

    /// Reads a whole log, tells an empty manifest what is in it, and takes that back.
    ///
    /// - Returns: how many commits it has, and whether SQLite took them.
    public func read(
        log: UnsafeRawBufferPointer, applied: UInt64
    ) -> (commits: Int, isTaken: Bool) {
        let tail = RedoTail(log, key: Self.key, applied: applied)
        _ = tail.damage
        var isTaken = false
        try? database.inTransaction { db in
            // What no row may hold, SQLite refuses; nothing else may come of it.
            isTaken = (try? tail.write(to: db)) != nil
            return .rollback
        }
        return (tail.commitCount, isTaken)
    }

    /// A record with a right head, and zeros up to the next block.
    ///
    /// - Parameter isFormer: the payload is of the form that builds before format 4 wrote.
    public static func record(
        payload: UnsafeRawBufferPointer, number: UInt64, before: UInt64, isFormer: Bool = false
    ) -> [UInt8] {
        RedoHead.record(
            payload: payload, number: number, before: before, key: key, isFormer: isFormer)
    }
}
