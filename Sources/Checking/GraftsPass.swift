internal import InodeManifest

/// Rows of grafts and of the objects that came from them, without which there is no mount.
struct GraftsPass {
    private let check: ManifestCheck

    init(_ check: ManifestCheck) {
        self.check = check
    }

    private var database: CheckDatabase { check.database }

    func checkRows() throws(CheckFailure) {
        let names = try database.prepare("SELECT CAST(name AS BLOB) FROM graft ORDER BY name")
        while try names.step() {
            let name = names.bytes(0)
            let damage = try damage { () throws in
                var row = try database.statement(
                    StoredGraft.selection + " WHERE CAST(name AS BLOB) = ?")
                row.bind(name)
                defer { row.reset() }
                if try row.step() { _ = try StoredGraft(row) }
            }
            guard let damage else { continue }
            try check.add(mend: .forgetGraft(name)) { () throws(CheckFailure) in
                "manifest: \(damage)"
            }
        }
        let objects = try database.prepare("SELECT object FROM graft_object ORDER BY object")
        while try objects.step() {
            let object = objects.integer(0)
            let damage = try damage { () throws in
                var row = try database.statement(GraftObject.selection + " WHERE object = ?")
                row.bind(object)
                defer { row.reset() }
                if try row.step() { _ = try GraftObject(row) }
            }
            guard let damage else { continue }
            try check.add(mend: .distrustGraftObject(object)) { () throws(CheckFailure) in
                "manifest: \(damage)"
            }
        }
    }

    private func damage(
        _ body: () throws -> Void
    ) throws(CheckFailure) -> DamagedRow? {
        do {
            try body()
            return nil
        } catch let error as DamagedRow {
            return error
        } catch {
            throw CheckFailure(error)
        }
    }
}
