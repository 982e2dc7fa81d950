// The offline check, as far as SQL goes: the rules of Schema.swift, row by row. Tables are read in
// the order of their keys and merged, so that memory does not grow with the volume. What has to do
// with bytes and hashes is the business of `VolumeCheck`, which reads rows and reports through the same
// object.

internal import Base
internal import InodeManifest

/// A check of one manifest, for one thread. Without repair it cannot write.
final class ManifestCheck {
    private(set) var database: CheckDatabase
    let isRepairing: Bool
    var findings = CheckFindings()
    /// What is wrong and stays so.
    private(set) var problems = BoundedTexts()
    /// What was wrong until `commit`.
    private(set) var repaired = BoundedTexts()
    var counts = CheckCounts()
    /// Whether findings can be mended: a damaged file is not written to.
    private(set) var canMend: Bool
    private var hasMended = false
    private lazy var repairs = CheckRepairs(database)
    // Statements that run once an object or a directory.
    var flatQuery: CheckStatement?
    var sizeQuery: CheckStatement?
    var childQuery: CheckStatement?
    var nodeQuery: CheckStatement?
    /// Paths that may still be looked up for messages; each may read whole directories.
    var pathsLeft = 1000

    /// Whether the database has its tables; without them the making of the volume was
    /// interrupted, and the next mount goes on with it.
    private(set) var isMade = false
    /// The volume's row; nil for a volume that was never finished.
    private(set) var volume: CheckedVolume?
    /// What is wrong with the redo log, and the newest number in it.
    private var logDamage: (reason: String, newest: UInt64?)?
    /// What is wrong with the row without which the log cannot be read.
    private var logRowDamage: String?

    /// Opens the manifest in a state directory whose lock the caller holds.
    ///
    /// - Throws: `newerFormat`, or `database` where there is no manifest of ours.
    init(directory: String, repair: Bool) throws(ManifestError) {
        let path = directory + "/manifest.sqlite"
        isRepairing = repair
        canMend = repair
        do throws(CheckFailure) {
            database = try CheckDatabase(path: path, isWritable: repair)
            // The first read of the file: another one than SQLite's ends here.
            let tables = try database.integer(
                "SELECT count(*) FROM sqlite_master WHERE name <> 'grdb_migrations'")
            let application = try database.integer("PRAGMA application_id") ?? 0
            let version = try database.integer("PRAGMA user_version") ?? 0
            if tables == 0, application == 0 { return }
            guard application == Int64(Schema.applicationID) else {
                throw CheckFailure(code: 0, reason: "is not the manifest of a registryfs volume")
            }
            guard version <= Int64(Schema.version) else {
                throw CheckFailure(code: Self.newerFormat, reason: "\(version)")
            }
            guard version == Int64(Schema.version) else {
                throw CheckFailure(
                    code: 0, reason: "has the older format \(version): mount it once to bring it on"
                )
            }
            isMade = true
            if repair { try database.execute("BEGIN IMMEDIATE") }
            try followLog(in: directory)
            volume = try readVolume()
        } catch {
            if error.code == Self.newerFormat {
                throw .newerFormat(
                    path: path, found: Int(error.reason) ?? 0, known: Int(Schema.version))
            }
            throw .database(path: path, reason: error.reason)
        }
    }

    private static let newerFormat: Int32 = -1

    /// Has the check see what the redo log holds beyond SQLite, in a transaction that only a repair
    /// commits.
    private func followLog(in directory: String) throws(CheckFailure) {
        do {
            guard let (key, applied) = try RedoTail.position(in: database) else {
                logRowDamage = "table redo_log: its row is missing"
                return
            }
            let tail = try RedoTail(directory: directory, key: key, applied: applied)
            if let damage = tail.damage {
                let newest = tail.newestNumber > tail.number ? tail.newestNumber : nil
                logDamage = (damage, newest)
            }
            guard tail.commitCount > 0 else { return }
            if !isRepairing {
                // The one that cannot write is closed last: it leaves the WAL as it is.
                database = try CheckDatabase(
                    path: database.path, isWritable: true, companion: database)
                // Pages that do not fit into the cache would be written to the WAL.
                try database.execute("PRAGMA cache_spill = OFF")
                try database.execute("BEGIN IMMEDIATE")
            }
            try tail.write(to: database)
        } catch let error as CheckFailure {
            throw error
        } catch let error as DamagedRow {
            logRowDamage = error.description
        } catch {
            throw CheckFailure(error)
        }
    }

    private func readVolume() throws(CheckFailure) -> CheckedVolume? {
        let statement = try database.prepare(
            """
            SELECT uuid, profile, next_inode, next_cookie, next_object, inode_count, clean
            FROM volume
            """)
        guard try statement.step() else {
            if try database.integer("SELECT count(*) FROM inode") ?? 0 > 0 {
                try add { () throws(CheckFailure) in "manifest: the volume's row is missing" }
            }
            return nil
        }
        return CheckedVolume(
            uuid: statement.text(0), profile: statement.text(1),
            nextInode: statement.integer(2), nextCookie: statement.integer(3),
            nextObject: statement.integer(4), inodeCount: statement.integer(5),
            isClean: statement.integer(6) != 0)
    }

    // MARK: Findings

    /// Reports a finding, and what would mend it; nothing mends what has no action.
    func add(
        mend: CheckAction..., text: () throws(CheckFailure) -> String
    ) throws(CheckFailure) {
        try findings.add(mend: mend, text)
    }

    /// Reports a finding whose text is made already, as those of `VolumeCheck`.
    func report(
        _ text: String, mend: [CheckAction] = []
    ) throws(CheckFailure) {
        try findings.add(mend: mend) { () throws(CheckFailure) in text }
    }

    /// Reports that the manifest's file itself is at fault.
    func reportDamage(_ failure: CheckFailure) {
        // A text that is there already cannot fail to be made.
        try? findings.add(mend: []) { () throws(CheckFailure) in
            "manifest: \(failure.reason); the rest could not be checked"
        }
        problems.append(contentsOf: findings.problems)
        findings = CheckFindings()
    }

    /// Runs a step of the check, and mends what it found where that is wanted. A step that mends
    /// is run again until nothing is left to mend, because mending can bring more to light.
    func runStep(
        _ step: () throws(CheckFailure) -> Void
    ) throws(CheckFailure) {
        for round in 0... {
            // What a repair cannot bring to an end is a problem that remains.
            findings.isMending = canMend && round < Self.roundsMax
            try step()
            let found = findings
            let (before, mending) = (found.problems, found.isMending)
            findings = CheckFindings()
            guard mending, !found.actions.isEmpty else {
                problems.append(contentsOf: before)
                return
            }
            try repairs.apply(found.actions)
            hasMended = true
            repaired.append(contentsOf: found.mended)
        }
    }

    /// Runs the last step for its kind of findings: its repairs bring nothing more to light.
    func runLastStep(
        _ step: () throws(CheckFailure) -> Void
    ) throws(CheckFailure) {
        findings.isMending = canMend
        try step()
        let found = findings
        findings = CheckFindings()
        problems.append(contentsOf: found.problems)
        guard !found.actions.isEmpty else { return }
        try repairs.apply(found.actions)
        hasMended = true
        repaired.append(contentsOf: found.mended)
    }

    private static let roundsMax = 64

    /// Makes the repairs durable, all or none. Blocks for the disk.
    func commit() throws(CheckFailure) {
        guard isRepairing, isMade else { return }
        try repairs.end()
        try database.execute(hasMended ? "COMMIT" : "ROLLBACK")
    }

    // MARK: The file

    /// Checks pages and indexes, as SQLite's integrity_check does, and the volume's row.
    func checkFile() throws(CheckFailure) {
        let statement = try database.prepare("PRAGMA integrity_check")
        var isWhole = true
        while try statement.step() {
            let message = statement.text(0)
            if message == "ok" { continue }
            // An index is made of its table's rows, so it can be made again.
            if message.contains("index") {
                try add(mend: .rebuildIndexes) { () throws(CheckFailure) in
                    "manifest: \(message)"
                }
            } else {
                isWhole = false
                try add { () throws(CheckFailure) in "manifest: \(message)" }
            }
        }
        // Writing to damaged pages may do more harm.
        if !isWhole { canMend = false }
        if let (reason, newest) = logDamage {
            let mend = newest.map { [CheckAction.passLog(to: $0)] } ?? []
            try findings.add(mend: mend) { () throws(CheckFailure) in
                "\(RedoLog.name): \(reason): what was changed since then is lost"
            }
            if canMend, newest != nil { logDamage = nil }
        }
        if let reason = logRowDamage {
            try add(mend: .renewLog) { () throws(CheckFailure) in
                "manifest: \(reason): what the redo log has and SQLite has not is lost"
            }
            if canMend { logRowDamage = nil }
        }
        try checkVolume()
        try PlacementsPass(self).checkOrigin()
        try PlacementsPass(self).checkRemotes()
        try SnapshotsPass(self).checkRows()
        try GraftsPass(self).checkRows()
    }

    private func checkVolume() throws(CheckFailure) {
        let rows = try database.integer("SELECT count(*) FROM volume") ?? 0
        if rows > 1 {
            try add { () throws(CheckFailure) in "manifest: \(rows) rows in place of the volume's" }
        }
        guard let volume else { return }
        let digits = volume.uuid.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
        }
        if !digits || volume.uuid.utf8.count != 32 {
            try add { () throws(CheckFailure) in
                "manifest: the volume's name \(shown(Array(volume.uuid.utf8))) is no UUID"
            }
        }
        let counters = try database.prepare(
            "SELECT next_inode, next_cookie, next_object, inode_count FROM volume WHERE id = 1")
        guard try counters.step() else { return }
        let names = ["next_inode", "next_cookie", "next_object", "inode_count"]
        for (column, name) in names.enumerated() {
            let value = counters.integer(Int32(column))
            guard !(0...Schema.numberMax).contains(value) else { continue }
            try add(mend: .recount) { () throws(CheckFailure) in
                "volume: \(name) is \(value), which is out of range"
            }
        }
    }

    // MARK: Messages

    /// An inode in words, with a path where one can be found cheaply.
    func describe(inode: Int64) throws(CheckFailure) -> String {
        guard pathsLeft > 0, let path = try path(of: inode) else { return "inode \(inode)" }
        return "inode \(inode) (\(path))"
    }

    /// An object in words, with a file that holds it.
    func describe(object: Int64) throws(CheckFailure) -> String {
        guard
            let inode = try database.integer(
                "SELECT id FROM inode WHERE object = ? LIMIT 1", CheckValue(object))
        else { return "object \(object)" }
        return "object \(object) of \(try describe(inode: inode))"
    }

    private static let pathDepthMax = 512

    private func path(of inode: Int64) throws(CheckFailure) -> String? {
        pathsLeft -= 1
        var path = ""
        var inode = inode
        for _ in 0..<Self.pathDepthMax {
            if inode == 1 { return path.isEmpty ? "/" : path }
            guard
                let parent = try database.integer(
                    "SELECT parent FROM inode WHERE id = ?", CheckValue(inode))
            else { return nil }
            let name = try database.prepare(
                "SELECT name FROM entry WHERE parent = ? AND inode = ? LIMIT 1")
            name.restart(CheckValue(parent), CheckValue(inode))
            guard try name.step() else { return nil }
            path = "/" + shown(name.bytes(0)) + path
            inode = parent
        }
        return nil
    }
}

/// The one row that holds for a whole volume.
struct CheckedVolume: Sendable {
    let uuid: String
    let profile: String
    let nextInode: Int64
    let nextCookie: Int64
    let nextObject: Int64
    let inodeCount: Int64
    /// Whether the volume was closed properly.
    let isClean: Bool
}
