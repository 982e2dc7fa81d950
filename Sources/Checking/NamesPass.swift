internal import Base
internal import InodeManifest
internal import Multiformats

/// The one pass over all inodes.
final class NamesPass {
    private let check: ManifestCheck
    private let inodes: CheckStatement
    private var children: CheckCursor
    private var links: CheckCursor
    private var attributes: CheckCursor
    private var nodes: CheckCursor

    init(_ check: ManifestCheck) throws(CheckFailure) {
        self.check = check
        let database = check.database
        inodes = try database.prepare(
            """
            SELECT id, kind, mode, uid, gid, nlink, size, parent, other_parents, object,
            cid, target, has_xattrs, not_loaded FROM inode ORDER BY id
            """)
        children = try CheckCursor(
            database.prepare(
                """
                SELECT entry.parent, entry.name, entry.inode, entry.kind, entry.cookie, inode.kind
                FROM entry LEFT JOIN inode ON inode.id = entry.inode
                ORDER BY entry.parent, entry.name
                """))
        links = try CheckCursor(
            database.prepare("SELECT inode, parent FROM entry ORDER BY inode, parent"))
        attributes = try CheckCursor(
            database.prepare(
                "SELECT inode, name, length(value) FROM xattr ORDER BY inode, name"))
        nodes = try CheckCursor(
            database.prepare(
                "SELECT DISTINCT owner FROM dag_reference WHERE kind = 2 ORDER BY owner"))
    }

    func run() throws(CheckFailure) {
        var hasRoot = false
        while try inodes.step() {
            let inode = Row(inodes)
            if inode.id == 1 { hasRoot = true }
            try skip(below: inode.id)
            try check(inode)
        }
        try skip(below: nil)
        if !hasRoot {
            try check.add(mend: .makeRoot) { () throws(CheckFailure) in
                "inode 1: there is no root directory"
            }
        }
    }

    /// One row of `inode`.
    private struct Row {
        let id, mode, uid, gid, linkCount, size, parent, attributeFlag: Int64
        let kind: FileKind?
        let isRootOfOtherKind: Bool
        let otherParents: [UInt8]
        let hasObject, hasCID, isNotLoaded: Bool
        /// What stands for a CID is one.
        let hasSoundCID: Bool
        let target: [UInt8]?

        init(_ row: CheckStatement) {
            id = row.integer(0)
            let kind = UInt8(exactly: row.integer(1)).flatMap { FileKind(rawValue: $0) }
            isRootOfOtherKind = id == 1 && kind != .directory
            // It cannot be anything else, so what is in it is judged as if the row said so.
            self.kind = id == 1 ? .directory : kind
            mode = row.integer(2)
            uid = row.integer(3)
            gid = row.integer(4)
            linkCount = row.integer(5)
            size = row.integer(6)
            parent = row.integer(7)
            otherParents = row.bytes(8)
            hasObject = !row.isNull(9)
            let cid = row.optionalBytes(10)
            hasCID = cid != nil
            hasSoundCID = cid.map { (try? CID(bytes: $0)) != nil } ?? true
            isNotLoaded = row.integer(13) != 0
            target = row.optionalBytes(11)
            attributeFlag = row.integer(12)
        }
    }

    // MARK: Rows that belong to no inode

    private func skip(below bound: Int64?) throws(CheckFailure) {
        while children.isBelow(bound) {
            _ = try child(of: nil)
            try children.advance()
        }
        // Entries of inodes that are not there were reported with the directory that they are in.
        while links.isBelow(bound) { try links.advance() }
        var last: Int64?
        while attributes.isBelow(bound), let inode = attributes.key {
            if inode != last {
                try check.add(mend: .removeAttributes(inode: inode)) { () throws(CheckFailure) in
                    "inode \(inode): extended attributes of an inode that does not exist"
                }
            }
            last = inode
            try attributes.advance()
        }
        while nodes.isBelow(bound), let inode = nodes.key {
            try check.add(mend: .removeDirectoryNodes(inode: inode)) { () throws(CheckFailure) in
                "inode \(inode): directory nodes of an inode that does not exist"
            }
            try nodes.advance()
        }
    }

    // MARK: Entries

    /// Checks the entry that the cursor stands on, whose directory is given if it is one; answers
    /// whether it leads to a directory.
    private func child(of directory: Row?) throws(CheckFailure) -> Bool {
        let row = children.row
        let (parent, name) = (row.integer(0), row.bytes(1))
        let (inode, kind, cookie) = (row.integer(2), row.integer(3), row.integer(4))
        let actualKind = row.isNull(5) ? nil : row.integer(5)
        check.counts.entries += 1
        func fault(
            mend: CheckAction, _ text: String
        ) throws(CheckFailure) {
            try check.add(mend: mend) { () throws(CheckFailure) in
                "\(try check.describe(entry: name, parent)): \(text)"
            }
        }
        guard let directory, directory.kind == .directory else {
            if actualKind == 2 { try seed(inode) }
            try fault(
                mend: .removeEntry(parent: parent, name: name),
                directory == nil ? "there is no such directory" : "that is no directory")
            return false
        }
        guard let actualKind else {
            try fault(
                mend: .removeEntry(parent: parent, name: name),
                "it names inode \(inode), which does not exist")
            return false
        }
        if inode == 1 {
            try fault(mend: .removeEntry(parent: parent, name: name), "it names the root")
            return true
        }
        if let reason = FileName(name).fault {
            try fault(mend: .removeEntry(parent: parent, name: name), reason)
        }
        if kind != actualKind {
            try fault(
                mend: .setEntryKind(parent: parent, name: name, kind: actualKind),
                "it says kind \(kind), inode \(inode) has kind \(actualKind)")
        }
        if !(Schema.cookieMin...Schema.numberMax).contains(cookie) {
            try fault(
                mend: .renumberCookie(parent: parent, name: name),
                "cookie \(cookie) is out of range")
        }
        return actualKind == 2
    }

    /// A directory that is known not to be reachable, so that it is not reported again.
    private func seed(_ inode: Int64) throws(CheckFailure) {
        try check.database.run("INSERT OR IGNORE INTO seed(id) VALUES (?)", CheckValue(inode))
    }

    // MARK: Inodes

    private func check(_ inode: Row) throws(CheckFailure) {
        check.counts.inodes += 1
        var (childCount, subdirectories): (Int64, Int64) = (0, 0)
        while children.key == inode.id {
            childCount += 1
            if try child(of: inode) { subdirectories += 1 }
            try children.advance()
        }
        var parents: [Int64] = []
        while links.key == inode.id {
            parents.append(links.row.integer(1))
            try links.advance()
        }
        try checkAttributes(of: inode)
        try checkNodes(of: inode)
        guard (1...Schema.numberMax).contains(inode.id), let kind = inode.kind else {
            try fault(inode, "its number or its kind is out of range")
            return
        }
        if inode.isRootOfOtherKind {
            try fault(inode, mend: .setRootKind, "the root is no directory")
        }
        try checkFields(of: inode)
        switch kind {
        case .directory:
            check.counts.directories += 1
            try checkDirectory(
                inode, parents: parents, childCount: childCount, subdirectories: subdirectories)
        default:
            if kind == .regular { check.counts.files += 1 }
            if kind == .symlink { check.counts.symlinks += 1 }
            try checkLinks(of: inode, parents: parents)
        }
    }

    private func fault(
        _ inode: Row, mend: CheckAction? = nil, _ text: String
    ) throws(CheckFailure) {
        try check.findings.add(mend: mend.map { [$0] } ?? []) { () throws(CheckFailure) in
            "\(try check.describe(inode: inode.id)): \(text)"
        }
    }

    private func checkAttributes(of inode: Row) throws(CheckFailure) {
        var count = 0
        while attributes.key == inode.id {
            let (name, length) = (attributes.row.bytes(1), attributes.row.integer(2))
            // XATTR_NAME_MAX and XATTR_SIZE_MAX of linux/limits.h.
            if name.isEmpty || name.count > 255 || name.contains(0) || length > 65_536 {
                try fault(
                    inode, mend: .removeAttribute(inode: inode.id, name: name),
                    "extended attribute \"\(shown(name))\" of \(length) bytes is out of range")
            }
            count += 1
            try attributes.advance()
        }
        guard inode.attributeFlag != (count > 0 ? 1 : 0) else { return }
        try fault(
            inode, mend: .setAttributeFlag(inode: inode.id, isSet: count > 0),
            count == 0
                ? "it says that it has extended attributes, but there are none"
                : "it says that it has no extended attributes, but there are \(count)")
    }

    private func checkNodes(of inode: Row) throws(CheckFailure) {
        guard nodes.key == inode.id else { return }
        try nodes.advance()
        guard inode.kind != .directory || !inode.hasCID else { return }
        try fault(
            inode, mend: .removeDirectoryNodes(inode: inode.id),
            "directory nodes are stored, but there is no directory's CID")
    }

    private func checkFields(of inode: Row) throws(CheckFailure) {
        if inode.mode & ~0o7777 != 0 {
            try fault(
                inode, mend: .setMode(inode: inode.id, mode: inode.mode & 0o7777),
                "mode \(inode.mode) is out of range")
        }
        let owners = Int64(0)...Int64(UInt32.max)
        if !owners.contains(inode.uid) || !owners.contains(inode.gid) {
            try fault(inode, "owner \(inode.uid):\(inode.gid) is out of range")
        }
        if inode.isNotLoaded, inode.kind != .directory || !inode.hasCID || !inode.hasSoundCID {
            try fault(inode, "its entries are said to be at the node, but it has no CID")
        }
        if inode.kind == .symlink {
            try checkTarget(of: inode)
        } else if inode.target != nil {
            try fault(
                inode, mend: .clearTarget(inode: inode.id),
                "it has a target, but is no symbolic link")
        }
        if inode.kind == .regular {
            if inode.size < 0 || !inode.hasObject && inode.size != 0 {
                try fault(inode, "its size is \(inode.size), but it has no content")
            }
        } else {
            if inode.hasObject {
                try fault(
                    inode, mend: .clearObject(inode: inode.id),
                    "it has content, but is no regular file")
            }
            if inode.kind != .symlink, inode.size != 0 {
                try fault(
                    inode, mend: .setSize(inode: inode.id, size: 0),
                    "its size is \(inode.size), but it has no content")
            }
        }
        if inode.hasCID, inode.kind != .directory, inode.kind != .symlink {
            try fault(
                inode, mend: .setInodeCID(inode: inode.id, cid: nil, treeSize: 0),
                "it has a CID of its own, but is no directory or symbolic link")
        }
    }

    private func checkTarget(of inode: Row) throws(CheckFailure) {
        let target = inode.target ?? []
        // PATH_MAX of linux/limits.h counts the NUL.
        guard !target.isEmpty, target.count < 4096, !target.contains(0) else {
            try fault(inode, "its target of \(target.count) bytes is no path")
            return
        }
        guard inode.size != Int64(target.count) else { return }
        try fault(
            inode, mend: .setSize(inode: inode.id, size: Int64(target.count)),
            "its size is \(inode.size), but its target has \(target.count) bytes")
    }

    private func checkDirectory(
        _ inode: Row, parents: [Int64], childCount: Int64, subdirectories: Int64
    ) throws(CheckFailure) {
        let isRoot = inode.id == 1
        if !isRoot, parents.isEmpty {
            if inode.linkCount == 0, childCount == 0 {
                check.counts.unlinkedInodes += 1
                return
            }
            try seed(inode.id)
            // What an import makes has no name before it is whole, and no parent.
            if inode.linkCount == 0, inode.parent == 0 {
                check.counts.unfinishedImports += 1
                return
            }
            try fault(inode, mend: .relink(inode: inode.id), "a directory that no entry names")
            return
        }
        if parents.count > 1, !isRoot {
            try fault(
                inode, mend: .keepOneEntry(inode: inode.id),
                "a directory that \(parents.count) entries name")
        }
        let linkCount = 2 + subdirectories
        if inode.linkCount != linkCount {
            try fault(
                inode, mend: .relink(inode: inode.id),
                "its link count is \(inode.linkCount), not \(linkCount)")
        }
        let isParentRight = isRoot ? inode.parent == 1 : parents.contains(inode.parent)
        if !isParentRight || !inode.otherParents.isEmpty {
            try fault(
                inode, mend: .relink(inode: inode.id),
                "it says that it is in inode \(inode.parent), but is not")
        }
    }

    private func checkLinks(of inode: Row, parents: [Int64]) throws(CheckFailure) {
        if parents.isEmpty {
            if inode.linkCount == 0 {
                check.counts.unlinkedInodes += 1
            } else {
                try fault(inode, mend: .relink(inode: inode.id), "no entry names it")
            }
            return
        }
        if inode.linkCount != Int64(parents.count) {
            try fault(
                inode, mend: .relink(inode: inode.id),
                "its link count is \(inode.linkCount), not \(parents.count)")
        }
        let others = decodeParents(inode.otherParents)
        guard inode.otherParents.count % 8 != 0 || ([inode.parent] + others).sorted() != parents
        else { return }
        try fault(
            inode, mend: .relink(inode: inode.id),
            "the directories that it says it is in are not those that have its entries")
    }
}
