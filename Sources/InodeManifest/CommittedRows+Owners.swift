internal import GRDB
package import Multiformats

package import struct SystemPackage.Errno

// Who has a block, for who serves it: as many owners as a bound allows, because content may repeat itself without end.

extension CommittedRows {
    /// Who needs a stored node, with the newest snapshot when the node came.
    package func owners(
        ofNode multihash: [UInt8], limit: Int
    ) throws(Errno) -> [(kind: DAGOwner.Kind, id: UInt64, born: UInt64)] {
        try read { db in
            var statement = try BoundStatement(
                """
                SELECT kind, owner, born FROM dag_reference JOIN dag_node USING (multihash)
                WHERE multihash = ? LIMIT ?
                """, in: db)
            statement.bind(multihash)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var owners: [(kind: DAGOwner.Kind, id: UInt64, born: UInt64)] = []
            while try statement.step() {
                // One of a kind that there is none of owns nothing, and a check tells of it.
                guard let kind = DAGOwner.Kind(rawValue: statement.int64(0)) else { continue }
                owners.append((kind, statement.uint64(1), statement.uint64(2)))
            }
            return owners
        }
    }

    /// Where leaves with a multihash lie.
    package func leaves(
        with multihash: [UInt8], limit: Int
    ) throws(Errno) -> [(object: UInt64, number: UInt64)] {
        try read { db in
            var statement = try BoundStatement(
                "SELECT object, number FROM leaf WHERE multihash = ? LIMIT ?", in: db)
            statement.bind(multihash)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var places: [(object: UInt64, number: UInt64)] = []
            while try statement.step() { places.append((statement.uint64(0), statement.uint64(1))) }
            return places
        }
    }

    /// The objects with a CID: all have the same bytes, and there can be many where equal files were sealed at the same time.
    func objects(with cid: CID, limit: Int) throws(Errno) -> [UInt64] {
        try numbers("SELECT id FROM object WHERE cid = ?1 LIMIT ?2", limit) { $0.bind(cid.bytes) }
    }

    /// The directories and symlinks whose DAG has a CID.
    package func inodes(with cid: CID, limit: Int) throws(Errno) -> [UInt64] {
        try numbers("SELECT id FROM inode WHERE cid = ?1 LIMIT ?2", limit) { $0.bind(cid.bytes) }
    }

    /// The regular files that hold an object.
    package func inodes(holding object: UInt64, limit: Int) throws(Errno) -> [UInt64] {
        try numbers("SELECT id FROM inode WHERE object = ?1 LIMIT ?2", limit) { $0.bind(object) }
    }

    private func numbers(
        _ sql: String, _ limit: Int, _ bind: (inout BoundStatement) -> Void
    ) throws(Errno) -> [UInt64] {
        try read { db in
            var statement = try BoundStatement(sql, in: db)
            bind(&statement)
            statement.bind(UInt64(limit))
            defer { statement.reset() }
            var numbers: [UInt64] = []
            while try statement.step() {
                // One below is nobody's.
                if statement.int64(0) > 0 { numbers.append(statement.uint64(0)) }
            }
            return numbers
        }
    }
}
