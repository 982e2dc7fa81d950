internal import InodeManifest
internal import Multiformats

// Rows of `origin`, `remote`, `placement`, `dag_node` and `dag_reference`, as far as they stand for themselves. Which DAG
// nodes an object or a directory has to have, `VolumeCheck` says.

struct PlacementsPass {
    private let check: ManifestCheck

    init(_ check: ManifestCheck) {
        self.check = check
    }

    private var database: CheckDatabase { check.database }

    /// Checks the rows of remotes, without which nothing counts as placed there.
    func checkRemotes() throws(CheckFailure) {
        let ids = try database.prepare("SELECT id FROM remote ORDER BY id")
        while try ids.step() {
            let id = ids.integer(0)
            do {
                try checkRemote(id)
            } catch let error as DamagedRow {
                try check.add(mend: .forgetRemote(id)) { () throws(CheckFailure) in
                    "manifest: \(error)"
                }
            } catch {
                throw CheckFailure(error)
            }
        }
    }

    /// Checks the row that tells where the tree came from, without which there is no mount.
    func checkOrigin() throws(CheckFailure) {
        do {
            var row = try database.statement(
                "SELECT reference, root, time FROM origin WHERE id = 1")
            defer { row.reset() }
            guard try row.step() else { return }
            _ = try Origin(StoredRow(row, table: "origin", key: .number("id", 1)))
        } catch let error as DamagedRow {
            try check.add(mend: .forgetOrigin) { () throws(CheckFailure) in "manifest: \(error)" }
        } catch {
            throw CheckFailure(error)
        }
    }

    private func checkRemote(_ id: Int64) throws {
        var row = try database.statement(
            """
            SELECT kind, root, view, epoch, identity, path, root_count FROM remote WHERE id = ?
            """)
        row.bind(id)
        defer { row.reset() }
        guard try row.step() else { return }
        let stored = StoredRow(row, table: "remote", key: .number("id", id))
        guard id == Int64(PlacementChange.kuboRemote) else {
            throw stored.damage("id", "there is no remote of that number")
        }
        let kind = try stored.integer(0, "kind")
        guard RemoteKind(rawValue: kind) != nil else {
            throw stored.damage("kind", "\(kind) is no kind of a remote")
        }
        _ = try stored.cid(1, "root")
        _ = try stored.cid(2, "view")
        _ = try stored.number(3, "epoch", in: 0...StoredRow.numberMax)
        _ = try stored.text(4, "identity")
        _ = try stored.text(5, "path")
        _ = try stored.number(6, "root_count", in: 0...StoredRow.numberMax)
    }

    /// Checks who is said to hold what: it is there and has a CID, and so is the remote.
    func checkPlacements() throws(CheckFailure) {
        let rows = try database.prepare(
            """
            SELECT placement.kind, placement.id, placement.remote, placement.state,
            placement.epoch, remote.epoch,
            CASE placement.kind
            WHEN 1 THEN (SELECT state <> 1 FROM object WHERE object.id = placement.id)
            WHEN 2 THEN (SELECT kind = 2 AND cid IS NOT NULL FROM inode
                WHERE inode.id = placement.id)
            END
            FROM placement LEFT JOIN remote ON remote.id = placement.remote
            """)
        while try rows.step() {
            let (kind, id, remote) = (rows.integer(0), rows.integer(1), rows.integer(2))
            let (state, epoch) = (rows.integer(3), rows.integer(4))
            let fault: String? =
                if PlacedKind(rawValue: kind) == nil {
                    "\(kind) is no kind of what is placed"
                } else if rows.isNull(6) {
                    "it is of nothing that there is"
                } else if rows.integer(6) == 0 {
                    "it is of what has no CID"
                } else if rows.isNull(5) {
                    "there is no such remote"
                } else if PlacementState(rawValue: state) == nil {
                    "\(state) is no state of a placement"
                } else if epoch < 1 || epoch > rows.integer(5) {
                    "epoch \(epoch) is out of range"
                } else {
                    nil
                }
            guard let fault else { continue }
            try check.add(mend: .removePlacement(kind: kind, id: id, remote: remote)) {
                () throws(CheckFailure) in
                "placement of kind \(kind), number \(id), at remote \(remote): \(fault)"
            }
        }
    }

    /// Checks that each DAG node is needed, and what is kept for roots that stand at remotes.
    func checkReferences() throws(CheckFailure) {
        let references = try database.prepare(
            """
            SELECT kind, owner, dag_reference.multihash, bytes IS NOT NULL FROM dag_reference
            LEFT JOIN dag_node ON kind IN (3, 4) AND dag_node.multihash = dag_reference.multihash
            WHERE kind NOT IN (1, 2)
            """)
        while try references.step() {
            let (kind, owner) = (references.integer(0), references.integer(1))
            let multihash = references.bytes(2)
            let fault: String? =
                if DAGOwner.Kind(rawValue: kind) == nil {
                    "\(kind) is no kind of who needs a DAG node"
                } else if !(0...Schema.numberMax).contains(owner) {
                    "\(owner) is out of range"
                } else if references.integer(3) == 0 {
                    "DAG node \(hexadecimal(multihash)) of a root or snapshot is missing"
                } else {
                    nil
                }
            guard let fault else { continue }
            try check.add(mend: .removeReference(kind: kind, owner: owner, multihash: multihash)) {
                () throws(CheckFailure) in "reference of kind \(kind), owner \(owner): \(fault)"
            }
        }
        let nodes = try database.prepare(
            """
            SELECT multihash, bytes FROM dag_node WHERE NOT EXISTS (
                SELECT 1 FROM dag_reference WHERE dag_reference.multihash = dag_node.multihash
                AND kind IN (1, 2))
            """)
        while try nodes.step() { try checkKept(nodes.bytes(0), nodes.lent(1)) }
    }

    /// Checks a DAG node that is not of the tree as it is now.
    private func checkKept(
        _ multihash: [UInt8], _ bytes: UnsafeRawBufferPointer
    ) throws(CheckFailure) {
        let references = try database.prepare(
            "SELECT kind, owner FROM dag_reference WHERE multihash = ?")
        references.restart(.blob(multihash))
        var mend: [CheckAction] = []
        while try references.step() {
            mend.append(
                .removeReference(
                    kind: references.integer(0), owner: references.integer(1),
                    multihash: multihash))
        }
        if mend.isEmpty {
            try check.findings.add(mend: [.removeUnreferencedNode(multihash: multihash)]) {
                () throws(CheckFailure) in
                "DAG node \(hexadecimal(multihash)): nothing refers to it"
            }
        } else if Multihash.sha256(of: bytes).bytes != multihash {
            try check.findings.add(mend: mend) { () throws(CheckFailure) in
                "DAG node \(hexadecimal(multihash)) of a root or snapshot does not match its hash"
            }
        }
    }

    private func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
