internal import GRDB

package import struct SystemPackage.Errno

extension CommittedRows {
    /// Objects that were kept with a number of the range, and that no committed snapshot needs; a few at a time.
    package func unneededObjects(
        keptIn range: ClosedRange<UInt64>, limit: Int
    ) throws(Errno) -> [UInt64] {
        try read { db in
            var statement = try BoundStatement(
                """
                SELECT id FROM object WHERE kept > 0 AND kept BETWEEN ? AND ? AND NOT EXISTS
                (SELECT 1 FROM snapshot WHERE snapshot.id > object.born AND snapshot.id <= object.kept)
                LIMIT ?
                """, in: db)
            statement.bind(range.lowerBound)
            statement.bind(range.upperBound)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var ids: [UInt64] = []
            while try statement.step() { ids.append(statement.uint64(0)) }
            return ids
        }
    }
}
