internal import GRDBSQLite
internal import Synchronization

/// The length of the WAL in pages, told by SQLite after each commit.
final class WALPages: Sendable {
    let count = Atomic<Int>(0)
}

func noteWALPages(
    context: UnsafeMutableRawPointer?, database: OpaquePointer?, name: UnsafePointer<CChar>?,
    pages: Int32
) -> Int32 {
    guard let context else { return SQLITE_OK }
    Unmanaged<WALPages>.fromOpaque(context).takeUnretainedValue()
        .count.store(Int(pages), ordering: .relaxed)
    return SQLITE_OK
}
