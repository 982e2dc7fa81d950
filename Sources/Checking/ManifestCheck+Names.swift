internal import Base

extension ManifestCheck {
    /// Checks names, inodes, links and attributes against each other.
    ///
    /// One pass over `inode` in ascending order, with cursors over the rows that belong to each.
    func checkNames() throws(CheckFailure) {
        counts = CheckCounts()
        try database.execute(
            """
            CREATE TEMP TABLE IF NOT EXISTS seed(id INTEGER PRIMARY KEY);
            DELETE FROM seed;
            """)
        let pass = try NamesPass(self)
        try pass.run()
        try checkCounters()
        try checkCookies()
        try checkReachability()
    }

    private func checkCounters() throws(CheckFailure) {
        // Only a volume that was closed properly has them right; opening counts anew.
        guard let volume, volume.isClean else { return }
        let stored =
            try database.integer("SELECT inode_count FROM volume") ?? volume.inodeCount
        if stored != Int64(counts.inodes) {
            let found = counts.inodes
            try add(mend: .recount) { () throws(CheckFailure) in
                "volume: the inode count is \(stored), but there are \(found)"
            }
        }
        for (column, table) in [("next_inode", "inode.id"), ("next_cookie", "entry.cookie")] {
            let parts = table.split(separator: ".")
            let next = try database.integer("SELECT \(column) FROM volume") ?? 0
            let highest = try database.integer("SELECT max(\(parts[1])) FROM \(parts[0])") ?? 0
            guard highest >= next else { continue }
            try add(mend: .recount) { () throws(CheckFailure) in
                "volume: \(column) is \(next), but \(highest) is in use"
            }
        }
    }

    private func checkCookies() throws(CheckFailure) {
        // Cookies alone sort fast; which names have them is asked only where one is there twice.
        let cookies = try database.prepare("SELECT cookie FROM entry ORDER BY cookie")
        var last: Int64?
        var hasDuplicate = false
        while !hasDuplicate, try cookies.step() {
            hasDuplicate = cookies.integer(0) == last
            last = cookies.integer(0)
        }
        guard hasDuplicate else { return }
        let entries = try database.prepare(
            "SELECT cookie, parent, name FROM entry ORDER BY cookie, parent, name")
        last = nil
        while try entries.step() {
            defer { last = entries.integer(0) }
            guard entries.integer(0) == last else { continue }
            let (parent, name) = (entries.integer(1), entries.bytes(2))
            let cookie = entries.integer(0)
            try add(mend: .renumberCookie(parent: parent, name: name)) {
                () throws(CheckFailure) in
                "\(try describe(entry: name, parent)): cookie \(cookie) is used twice"
            }
        }
    }

    /// Finds directories that no chain of entries joins to the root: since those without any
    /// entry are known already, what is left lies in circles.
    private func checkReachability() throws(CheckFailure) {
        try database.execute(
            """
            CREATE TEMP TABLE IF NOT EXISTS reached(id INTEGER PRIMARY KEY);
            DELETE FROM reached;
            INSERT OR IGNORE INTO seed(id) VALUES (1);
            """)
        try spread()
        let unreached = try database.prepare(
            """
            SELECT id FROM inode WHERE kind = 2 AND nlink > 0 AND id > ?1
            AND NOT EXISTS (SELECT 1 FROM reached WHERE reached.id = inode.id)
            ORDER BY id LIMIT 1
            """)
        var last: Int64 = 0
        while true {
            unreached.restart(CheckValue(last))
            guard try unreached.step() else { return }
            let found = unreached.integer(0)
            unreached.reset()
            let inode = try memberOfCircle(above: found)
            try add(mend: .moveToLostAndFound(inode: inode)) { () throws(CheckFailure) in
                "inode \(inode): a directory that cannot be reached from the root, "
                    + "for it lies in a circle of directories"
            }
            try database.run("DELETE FROM seed")
            try database.run("INSERT INTO seed(id) VALUES (?)", CheckValue(inode))
            try spread()
            last = found - 1
            // A directory that the circle does not lead to would be found for ever.
            if try database.integer("SELECT 1 FROM reached WHERE id = ?", CheckValue(found)) == nil
            {
                last = found
            }
        }
    }

    /// Adds all directories below the seeds to those reached.
    private func spread() throws(CheckFailure) {
        try database.run(
            """
            INSERT OR IGNORE INTO reached(id)
            WITH RECURSIVE below(id) AS (
                SELECT id FROM seed
                UNION
                SELECT inode.id FROM below JOIN entry ON entry.parent = below.id
                JOIN inode ON inode.id = entry.inode AND inode.kind = 2
            )
            SELECT id FROM below
            """)
    }

    private func memberOfCircle(above inode: Int64) throws(CheckFailure) -> Int64 {
        var seen: Set<Int64> = []
        var inode = inode
        let parent = try database.prepare("SELECT parent FROM inode WHERE id = ? AND kind = 2")
        while seen.insert(inode).inserted {
            parent.restart(CheckValue(inode))
            guard try parent.step(), parent.integer(0) != 1 else { break }
            inode = parent.integer(0)
        }
        return inode
    }

    /// An entry in words.
    func describe(entry name: [UInt8], _ parent: Int64) throws(CheckFailure) -> String {
        "entry \"\(shown(name))\" in \(try describe(inode: parent))"
    }
}
