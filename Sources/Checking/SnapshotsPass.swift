internal import InodeManifest
internal import MerkleDAG
internal import Multiformats

/// Snapshots: their rows, and whether all blocks of each are here that the volume had.
struct SnapshotsPass {
    private let check: ManifestCheck

    init(_ check: ManifestCheck) {
        self.check = check
    }

    private var database: CheckDatabase { check.database }

    private static let columns =
        "id, name, root, tree_size, time, next_inode, message, is_automatic, manifest"

    /// Checks the rows without which there is no mount.
    func checkRows() throws(CheckFailure) {
        let ids = try database.prepare("SELECT id FROM snapshot ORDER BY id")
        let last = try database.integer("SELECT last_snapshot FROM volume WHERE id = 1") ?? 0
        while try ids.step() {
            let id = ids.integer(0)
            let damage = try damageOfSnapshot(id)
            if let damage {
                try check.add(mend: .forgetSnapshot(id)) { () throws(CheckFailure) in
                    "manifest: \(damage)"
                }
            } else if id > last {
                try check.add(mend: .countSnapshots) { () throws(CheckFailure) in
                    "manifest: last_snapshot is \(last), but there is snapshot \(id)"
                }
            }
        }
        if let damage = try damageOfRestoration() {
            try check.add(mend: .forgetRestoration) { () throws(CheckFailure) in
                "manifest: \(damage)"
            }
        }
    }

    private func damageOfSnapshot(_ id: Int64) throws(CheckFailure) -> DamagedRow? {
        do {
            var row = try database.statement(
                "SELECT \(Self.columns) FROM snapshot WHERE id = ?")
            row.bind(id)
            defer { row.reset() }
            if try row.step() { _ = try StoredSnapshot(row) }
            return nil
        } catch let error as DamagedRow {
            return error
        } catch {
            throw CheckFailure(error)
        }
    }

    private func damageOfRestoration() throws(CheckFailure) -> DamagedRow? {
        do {
            var row = try database.statement(
                "SELECT name, root, path FROM restoration WHERE id = 1")
            defer { row.reset() }
            guard try row.step() else { return nil }
            _ = try Restoration(
                StoredRow(row, table: "restoration", key: .number("id", 1)))
            return nil
        } catch let error as DamagedRow {
            return error
        } catch {
            throw CheckFailure(error)
        }
    }

    /// Walks the DAGs of all snapshots, each block once. That the blocks are what their hashes say is checked where they lie; what the volume
    /// may have from elsewhere need not be here.
    func checkBlocks(profile: ImportProfile) throws(CheckFailure) {
        let elsewhere = try database.integer(
            """
            SELECT EXISTS (SELECT 1 FROM origin) OR EXISTS (SELECT 1 FROM remote)
            OR EXISTS (SELECT 1 FROM object WHERE state = 3)
            OR EXISTS (SELECT 1 FROM inode WHERE not_loaded <> 0)
            """)
        guard elsewhere == 0 else { return }
        let snapshots = try database.prepare(
            "SELECT name, root, manifest FROM snapshot ORDER BY id")
        let places = try BlockPlaces(database, profile)
        var seen: Set<[UInt8]> = []
        while try snapshots.step() {
            let name = snapshots.text(0)
            var waiting = [snapshots.bytes(1), snapshots.optionalBytes(2)].compactMap { $0 }
            while let bytes = waiting.popLast() {
                guard let cid = try? CID(bytes: bytes), seen.insert(cid.multihash.bytes).inserted
                else { continue }
                if let node = try places.node(cid) {
                    waiting += cid.links(of: node).map(\.bytes)
                } else if try !places.hasLeaf(cid) {
                    try check.add { () throws(CheckFailure) in
                        "snapshot \(name): block \(cid) is missing"
                    }
                }
            }
        }
    }
}

/// Where the blocks of a volume may lie.
private struct BlockPlaces {
    private let nodes: CheckStatement
    private let leaves: CheckStatement
    private let objects: CheckStatement
    private let symlinks: CheckStatement
    private let empty: [UInt8]

    init(_ database: CheckDatabase, _ profile: ImportProfile) throws(CheckFailure) {
        nodes = try database.prepare("SELECT bytes FROM dag_node WHERE multihash = ?")
        leaves = try database.prepare("SELECT 1 FROM leaf WHERE multihash = ? LIMIT 1")
        objects = try database.prepare(
            "SELECT 1 FROM object WHERE cid IN (?, ?) AND state <> 1 LIMIT 1")
        symlinks = try database.prepare("SELECT 1 FROM inode WHERE cid IN (?, ?) LIMIT 1")
        empty = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0)).cid.multihash.bytes
    }

    func node(_ cid: CID) throws(CheckFailure) -> [UInt8]? {
        nodes.restart(.blob(cid.multihash.bytes))
        defer { nodes.reset() }
        return try nodes.step() ? nodes.bytes(0) : nil
    }

    func hasLeaf(_ cid: CID) throws(CheckFailure) -> Bool {
        if cid.multihash.bytes == empty { return true }
        let other = (cid.version == 0 ? cid.asV1 : cid.asV0 ?? cid).bytes
        for (statement, values) in [
            (leaves, [CheckValue.blob(cid.multihash.bytes)]),
            (objects, [.blob(cid.bytes), .blob(other)]),
            (symlinks, [.blob(cid.bytes), .blob(other)]),
        ] {
            statement.restart(values)
            defer { statement.reset() }
            if try statement.step() { return true }
        }
        return false
    }
}
