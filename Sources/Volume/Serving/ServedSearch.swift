internal import Base
internal import InodeManifest
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// Where a block lies, and whether it is for others. What is in memory is newer than SQLite's rows: rows tell of candidates, and
// the records of memory whether they still are.

/// What is known of a block that others ask for.
struct ServedSearch {
    /// A leaf in an object that had a CID.
    struct LeafPlace {
        let object: UInt64
        let number: UInt64
        let cid: CID
    }

    /// Others may have it.
    var isInScope = false
    var node: [UInt8]?
    /// In objects that are here.
    var leaves: [LeafPlace] = []
    /// Objects that are the file of the CID; those that are here first.
    var files: [UInt64] = []
    /// The target of a symlink that the CID is of.
    var target: [UInt8]?
    /// It is the leaf of an empty file.
    var isEmptyFile = false

    /// Whether it is here.
    var isHere: Bool { node != nil || !leaves.isEmpty || target != nil || isEmptyFile }
}

extension Volume {
    /// Places of a block, and owners of one, that are looked at.
    private static let placesMax = 256

    /// Looks for a block in memory and in SQLite's rows; nobody's is looked for again after a checkpoint, of which there is
    /// one a second at most. Blocks for SQLite.
    ///
    /// - Parameter isFile: the file of the CID is looked for as well.
    func findServed(
        _ cid: CID, _ scope: ContentScope, isFile: Bool
    ) throws(ServingFailure) -> ServedSearch {
        try beginServing()
        let found = try serve("block \(cid)") { () throws(Errno) in
            try searchServed(cid, scope, isFile)
        }
        let isKnown = scope == .tree ? found.isInScope : found.isHere
        guard !isKnown, serving.checkpoints.withLock({ $0.take() }) else { return found }
        return try serve("block \(cid)") { () throws(Errno) in
            try manifest.checkpoint()
            return try searchServed(cid, scope, isFile)
        }
    }

    /// Has recent blocks kept in memory from now on; all others are in SQLite then.
    private func beginServing() throws(ServingFailure) {
        guard !serving.checkpoints.withLock({ $0.hasBegun }) else { return }
        try serve("serving") { () throws(Errno) in
            // Each who comes before it is done: nobody looks for blocks sooner.
            manifest.withLock { $0.blocks.keep() }
            try manifest.checkpoint()
        }
        serving.checkpoints.withLock { $0.hasBegun = true }
    }

    private func searchServed(
        _ cid: CID, _ scope: ContentScope, _ isFile: Bool
    ) throws(Errno) -> ServedSearch {
        let empty = profile.leaf(UnsafeRawBufferPointer(start: nil, count: 0)).cid
        if cid.asV1 == empty.asV1 { return ServedSearch(isInScope: true, isEmptyFile: true) }
        let isLinked = serving.linked.withLock { $0.contains(cid.multihash.bytes) }
        let isUploads = serving.uploads.withLock { $0[cid.multihash.bytes] == .below }
        return try reading { (state) throws(Errno) in
            var found = ServedSearch()
            var owners = ServedOwners()
            try findNode(cid, &found, &owners, state)
            owners.areBelowUploads = isUploads
            if found.node != nil, !isFile {
                // Mostly that is all.
                found.isInScope = scope == .any
                if !found.isInScope { found.isInScope = try areServed(owners, state) }
                if found.isInScope { return found }
            }
            try findObjects(cid, &found, &owners, state)
            try findLeaves(cid, &found, &owners, state)
            try findInodes(cid, &found, &owners, state)
            found.isInScope = scope == .any
            if !found.isInScope { found.isInScope = try areServed(owners, state) }
            // Of what is here, its owners tell.
            if isLinked, !found.isHere, owners.isEmpty { found.isInScope = true }
            return found
        }
    }

    // MARK: Places

    private func findNode(
        _ cid: CID, _ found: inout ServedSearch, _ owners: inout ServedOwners,
        _ state: ManifestState
    ) throws(Errno) {
        guard cid.codec != .raw else { return }
        let multihash = cid.multihash.bytes
        if let recent = state.blocks.node(with: multihash) {
            found.node = recent.bytes
            for owner in recent.owners {
                switch owner {
                case .object(let id): owners.objects.insert(id)
                case .directory(let number): owners.inodes.append(Inode(number))
                case .snapshot(let born, let kept):
                    if state.snapshots.isNeeded(born: born, kept: kept) { owners.areKept = true }
                }
            }
        }
        // It may be others' as well, who had it before.
        if let stored = try state.rows.node(with: multihash) {
            found.node = found.node ?? stored
            for owner in try state.rows.owners(ofNode: multihash, limit: Self.placesMax) {
                switch owner.kind {
                case .object: owners.objects.insert(owner.id)
                case .directory: owners.inodes.append(Inode(owner.id))
                // A published root may have it.
                case .lost: owners.areKept = true
                case .snapshot:
                    if state.snapshots.isNeeded(born: owner.born, kept: owner.id) {
                        owners.areKept = true
                    }
                }
            }
        }
        // A root whose blocks are elsewhere, or here as somebody else's.
        let roots =
            [state.published?.root] + state.snapshots.all.flatMap { [$0.root, $0.manifest] }
        if roots.contains(where: { $0?.asV1 == cid.asV1 }) { owners.areKept = true }
    }

    private func findObjects(
        _ cid: CID, _ found: inout ServedSearch, _ owners: inout ServedOwners,
        _ state: ManifestState
    ) throws(Errno) {
        var elsewhere: [UInt64] = []
        for version in [cid.asV1, cid.asV0].compactMap({ $0 }) {
            let ids = try state.objects(with: version, limit: Self.placesMax)
            for id in Set(ids) {
                guard let record = try state.object(id), record.state != .staging,
                    record.cid?.asV1 == cid.asV1
                else { continue }
                owners.objects.insert(id)
                guard record.state == .sealed else {
                    elsewhere.append(id)
                    continue
                }
                found.files.append(id)
                if record.size <= UInt64(profile.chunkSize) {
                    found.leaves.append(
                        ServedSearch.LeafPlace(object: id, number: 0, cid: cid.asV1))
                }
            }
        }
        found.files += elsewhere
    }

    private func findLeaves(
        _ cid: CID, _ found: inout ServedSearch, _ owners: inout ServedOwners,
        _ state: ManifestState
    ) throws(Errno) {
        guard found.node == nil else { return }
        let multihash = cid.multihash.bytes
        let chunk = UInt64(profile.chunkSize)
        let places =
            state.blocks.leaves(with: multihash).map { ($0.object, $0.number, true) }
            + (try state.rows.leaves(with: multihash, limit: Self.placesMax))
            .map { ($0.object, $0.number, false) }
        for (id, number, isRecent) in places {
            guard let record = try state.object(id), record.state != .staging,
                let object = record.cid
            else { continue }
            // Rows that SQLite has not been told of take the place of all that it has of the object.
            if let new = record.newBlocks {
                guard number < UInt64(new.leaves.count), new.leaves[Int(number)] == multihash
                else { continue }
            } else if isRecent {
                continue
            }
            let (start, isBeyond) = number.multipliedReportingOverflow(by: chunk)
            guard !isBeyond, start < record.size else { continue }
            owners.objects.insert(id)
            guard record.state == .sealed else { continue }
            found.leaves.append(
                ServedSearch.LeafPlace(object: id, number: number, cid: object.asV1))
        }
    }

    /// Symlinks, and directories that nobody has looked into.
    private func findInodes(
        _ cid: CID, _ found: inout ServedSearch, _ owners: inout ServedOwners,
        _ state: ManifestState
    ) throws(Errno) {
        guard cid.codec != .raw else { return }
        var numbers: [Inode] = []
        for version in [cid.asV1, cid.asV0].compactMap({ $0 }) {
            numbers += try state.rows.inodes(with: version, limit: Self.placesMax)
                .map { Inode($0) }
        }
        _ = try state.hasNotCheckpointed { record in
            if record.cid?.asV1 == cid.asV1 { numbers.append(record.inode) }
            return numbers.count >= 2 * Self.placesMax
        }
        for inode in numbers {
            guard let record = try state.inode(inode), record.cid?.asV1 == cid.asV1 else {
                continue
            }
            owners.inodes.append(inode)
            if record.kind == .symlink { found.target = record.target }
        }
    }

    // MARK: Scope

    /// Whether any of those who have a block is one whose content others may have.
    private func areServed(
        _ owners: ServedOwners, _ state: ManifestState
    ) throws(Errno) -> Bool {
        for inode in owners.inodes {
            guard let record = try state.inode(inode) else { continue }
            if try isServed(record, state) { return true }
            if try isUploadsOfServed(record, state) { return true }
            if !owners.areBelowUploads, isSnapshotsAlone(record, state) { return true }
        }
        if owners.areKept, !owners.areBelowUploads { return true }
        guard !owners.objects.isEmpty else { return false }
        // Objects of files that have a name.
        var named: Set<UInt64> = []
        for id in owners.objects {
            guard let record = try state.object(id), record.state != .staging else { continue }
            if record.kept > 0, !owners.areBelowUploads,
                state.snapshots.isNeeded(born: record.born, kept: record.kept)
            {
                return true
            }
            for number in try state.rows.inodes(holding: id, limit: Self.placesMax) {
                guard let holder = try state.inode(Inode(number)), holder.object == id else {
                    continue
                }
                if holder.linkCount > 0 { named.insert(id) }
                if try isServed(holder, state) { return true }
            }
        }
        let isFound = try state.hasNotCheckpointed { (record) throws(Errno) in
            guard !record.isDeleted, let object = record.object, owners.objects.contains(object)
            else { return false }
            if record.linkCount > 0 { named.insert(object) }
            return try isServed(record, state)
        }
        guard !isFound else { return true }
        guard !owners.areBelowUploads else { return false }
        // Of a file that has lost its name and is open still, a snapshot may have what it holds.
        for id in owners.objects.subtracting(named) {
            if let record = try state.object(id), state.isInSnapshot(record) { return true }
        }
        return false
    }

    /// Whether a directory or symlink has lost its name, is in use still, and a snapshot may have it.
    private func isSnapshotsAlone(_ record: InodeRecord, _ state: ManifestState) -> Bool {
        guard record.linkCount == 0, record.cid != nil else { return false }
        return record.kind == .directory
            ? record.treeBorn < state.snapshots.newest
            : state.snapshots.thatHave(record.inode) != nil
    }

    /// Whether an inode has a name in the tree that lies at and below no uploads; under the manifest's lock.
    private func isServed(
        _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Bool {
        if record.inode == .root { return true }
        if record.kind == .directory { return try isServedDirectory(record, state) }
        guard record.linkCount > 0 else { return false }
        let parents = [record.parent] + record.otherParents
        for parent in Set(parents) where parent.number != 0 {
            guard let directory = try state.inode(parent), directory.kind == .directory,
                directory.isLoaded, try isServedDirectory(directory, state)
            else { continue }
            // Of several names in one directory, one may be another.
            let others = parents.count { $0 == parent } - 1
            if others > 0 { return true }
            if try !isUploads(record.inode, in: directory, state) { return true }
        }
        return false
    }

    /// Whether it is the directory of uploads itself, of one that others may have. Its own block is given, but nothing below: whoever
    /// looks into the directory above, as a mount of this tree does, has to see what each name there is.
    private func isUploadsOfServed(
        _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Bool {
        guard record.kind == .directory, record.linkCount > 0, record.parent.number != 0,
            let parent = try state.inode(record.parent), parent.kind == .directory,
            parent.isLoaded, try isUploads(record.inode, in: parent, state)
        else { return false }
        return try isServedDirectory(parent, state)
    }

    private func isUploads(
        _ inode: Inode, in directory: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Bool {
        try state.entry(Self.uploadsName, in: directory)?.inode == inode
    }

    private func isServedDirectory(
        _ record: InodeRecord, _ state: ManifestState
    ) throws(Errno) -> Bool {
        var passed: [Inode] = []
        var directory = record
        var isServed = false
        // In a damaged manifest the way up may be a ring.
        while passed.count < Self.depthMax {
            if directory.inode == .root {
                isServed = true
                break
            }
            if let known = serving(state).place(of: directory.inode, state) {
                isServed = known
                break
            }
            passed.append(directory.inode)
            guard directory.linkCount > 0, directory.parent.number != 0,
                let parent = try state.inode(directory.parent), parent.isLoaded,
                try !isUploads(directory.inode, in: parent, state)
            else { break }
            directory = parent
        }
        serving(state).note(passed, areServed: isServed)
        return isServed
    }

    private static let depthMax = 16_384
}

/// Who has a block.
private struct ServedOwners {
    /// A snapshot or a published root is one of them.
    var areKept = false
    /// Somebody has come to it through uploads: then only the tree as it is now counts.
    var areBelowUploads = false
    var objects: Set<UInt64> = []
    /// Directories and symlinks.
    var inodes: [Inode] = []

    var isEmpty: Bool { objects.isEmpty && inodes.isEmpty }
}
