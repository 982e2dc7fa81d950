internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

/// The tree of a registry of others, found out a directory a level.
struct GraftTree {
    let layout: GraftLayout
    /// The directory `repositories`; of a registry that is only files, `v2`.
    let repositories: CID
    /// The directory that has `sha256` in it; nil where there is none.
    let blobs: CID?

    /// Names from the root down that are followed.
    static let pathMax = 64

    /// Finds a registry's tree: `docker/registry/v2`, `NAME/docker/registry/v2`, or `v2`.
    ///
    /// - Parameter name: what is looked for in it: a domain; nil for none.
    static func find(
        _ root: DomainRoot, for name: String?, _ source: GraftBlocks
    ) throws(GraftFailure) -> GraftTree {
        guard root.path.count <= pathMax else {
            throw GraftFailure(.failed, "its path has more than \(pathMax) names")
        }
        do throws(DAGReadError) {
            let top = try source.resolve(root.path, from: root.cid)
            let reader = try DirectoryReader(root: top, source: source)
            if let found = try below(reader, .registry, source) { return found }
            if let name, let own = try reader.entry(Array(name.utf8)),
                let found = try below(
                    DirectoryReader(root: own.cid, source: source), .domain, source)
            {
                return found
            }
            if let v2 = try reader.entry(Array("v2".utf8)) {
                return GraftTree(layout: .files, repositories: v2.cid, blobs: v2.cid)
            }
        } catch {
            throw source.failure(error, "the tree \(root.cid)")
        }
        throw GraftFailure(
            .absent,
            "\(root.cid) is no registry's tree: it has neither docker/registry/v2 nor v2")
    }

    private static func below(
        _ top: DirectoryReader<GraftBlocks>, _ layout: GraftLayout, _ source: GraftBlocks
    ) throws(DAGReadError) -> GraftTree? {
        var reader = top
        for name in StockNames.top {
            guard let entry = try reader.entry(name.bytes) else { return nil }
            reader = try DirectoryReader(root: entry.cid, source: source)
        }
        guard let repositories = try reader.entry(Array("repositories".utf8)) else { return nil }
        return GraftTree(
            layout: layout, repositories: repositories.cid,
            blobs: try reader.entry(Array("blobs".utf8))?.cid)
    }

    /// What a repository directory of the tree is; nil where there is none of that name.
    func directory(
        _ name: String, _ source: GraftBlocks
    ) throws(GraftFailure) -> Volume.ExpandedEntry? {
        do throws(DAGReadError) {
            let reader = try DirectoryReader(root: repositories, source: source)
            guard let entry = try reader.entry(Array(name.utf8)) else { return nil }
            let kind = try source.unixfsEntry(entry.cid)
            guard case .directory = kind else {
                throw DAGReadError.notDirectory(entry.cid)
            }
            return Volume.ExpandedEntry(
                name: FileName(name), cid: entry.cid, treeSize: entry.treeSize, entry: kind)
        } catch {
            throw source.failure(error, "repositories/\(shown(Array(name.utf8)))")
        }
    }
}

/// Blocks of a tree of others: those that are here, then those of the volume's sources, until a deadline.
struct GraftBlocks: BlockSource, Sendable {
    let volume: Volume
    let call: GraftCall

    func block(_ cid: CID) throws(BlockUnavailable) -> [UInt8] {
        guard let fetcher = volume.fetcher else {
            return try DAGSource(volume: volume).block(cid)
        }
        return try VolumeBlocks(
            volume: volume, fetcher: fetcher, cancellation: call.cancellation, user: call.user,
            deadline: call.deadline
        ).block(cid)
    }

    /// What it means that a tree could not be read: where its own blocks are at fault, it is no tree.
    func failure(_ error: DAGReadError, _ what: String) -> GraftFailure {
        if case .noSuchEntry = error { return GraftFailure(.absent, "\(what): \(error.reason)") }
        return GraftFailure(.failed, "\(what): \(error.reason)")
    }
}

extension Volume {
    /// Brings the repositories of a domain here, at the cost of one entry. Blocks for the network.
    func takeDomain(
        _ domain: String, in repositories: Inode, _ options: DomainOptions, _ call: GraftCall
    ) throws(GraftFailure) {
        let root: DomainRoot
        do throws(DomainError) {
            root = try options.directory.resolve(
                domain, deadline: call.deadline, cancellation: call.cancellation)
        } catch {
            throw GraftFailure(error)
        }
        let source = GraftBlocks(volume: self, call: call)
        let tree = try GraftTree.find(root, for: domain, source)
        let found = try graftedDirectory(domain, of: domain, in: tree, source)
        guard let found else {
            throw GraftFailure(
                .absent, "\(root.cid) has no repositories of that name",
                lifetimeSeconds: root.lifetimeSeconds)
        }
        for step in root.steps.prefix(Self.stepsLoggedMax) {
            log.info("domain \(shown(Array(domain.utf8))): \(step)")
        }
        let graft = storedGraft(
            domain, of: domain, tree, found.entry.cid, root, in: repositories,
            lifetime: lifetime(of: root, options))
        try take(found, as: graft, in: repositories)
    }

    /// Lines of one resolution in the log.
    private static let stepsLoggedMax = 32

    /// How long a root is believed, in seconds.
    func lifetime(of root: DomainRoot, _ options: DomainOptions) -> Double {
        let range = options.lifetimeSeconds
        return min(
            max(root.lifetimeSeconds ?? range.lowerBound, range.lowerBound), range.upperBound)
    }

    /// - Parameter lifetime: in seconds; nil for ever.
    func storedGraft(
        _ name: String, of reference: String, _ tree: GraftTree, _ base: CID, _ root: DomainRoot,
        in repositories: Inode, lifetime: Double?
    ) -> StoredGraft {
        let now = Timestamp.now().nanoseconds
        return StoredGraft(
            name: name, reference: reference, layout: tree.layout, parent: repositories.number,
            root: root.cid, path: root.path, base: base, blobs: tree.blobs, time: now,
            until: lifetime.map { now &+ Int64($0 * 1e9) } ?? 0)
    }

    /// A directory of a tree that can become one of `repositories`, with the blocks that nobody else has.
    struct GraftedDirectory {
        let entry: ExpandedEntry
        /// Of a directory that was made here: its blocks.
        var blocks: [CID: [UInt8]] = [:]
    }

    func graftedDirectory(
        _ name: String, of reference: String, in tree: GraftTree, _ source: GraftBlocks
    ) throws(GraftFailure) -> GraftedDirectory? {
        guard tree.layout == .files else {
            return try tree.directory(name, source).map { GraftedDirectory(entry: $0) }
        }
        return try staticDirectory(name, in: tree.repositories, source)
    }

    /// Gives a directory of others its name; nothing is done where something is there already.
    func take(
        _ found: GraftedDirectory, as graft: StoredGraft, in repositories: Inode
    ) throws(GraftFailure) {
        let made = MadeBlocks(found.blocks)
        try remotes.fetcher.with(made, unless: made.isEmpty) { () throws(GraftFailure) in
            try takeNow(found, as: graft, in: repositories)
        }
        nameChanged(found.entry.name, in: repositories)
    }

    private func takeNow(
        _ found: GraftedDirectory, as graft: StoredGraft, in repositories: Inode
    ) throws(GraftFailure) {
        do throws(Errno) {
            let isTaken =
                if found.blocks.isEmpty {
                    try changing { (state) throws(Errno) in
                        guard
                            let directory = try place(
                                for: graft, found.entry.name, in: repositories, state)
                        else { return false }
                        try materialize(found.entry.ofGraft ?? found.entry, into: directory, state)
                        try touchDirectory(directory, state)
                        state.put(graft)
                        return true
                    }
                } else {
                    try takeMade(found.entry, as: graft, in: repositories)
                }
            guard isTaken else { return }
            domains.noteUse(of: graft.name)
            let name = shown(found.entry.name.bytes)
            log.notice("graft \(name): repositories of \(graft.root) are here")
        } catch {
            throw GraftFailure(error, "taking its tree")
        }
    }

    /// Gives a directory that was made here its name once all of it is loaded: nobody else has its blocks, so what a crash left
    /// out would never come.
    private func takeMade(
        _ entry: ExpandedEntry, as graft: StoredGraft, in repositories: Inode
    ) throws(Errno) -> Bool {
        let isFree = try reading { (state) throws(Errno) in
            try place(for: graft, entry.name, in: repositories, state) != nil
        }
        guard isFree else { return false }
        let holder = try makeNameless([entry], as: entry.name, for: repositories)
        do throws(Errno) {
            let top = try child(entry.name, of: holder)
            _ = try fetchTree(top) { [domains] _ in !domains.cancellation.isCancelled }
            let isTaken = try changing { (state) throws(Errno) in
                guard
                    let directory = try place(for: graft, entry.name, in: repositories, state)
                else { return false }
                _ = try giveName(entry.name, to: top, of: holder, in: directory, state)
                state.put(graft)
                return true
            }
            if !isTaken { try removeNameless(holder) }
            return isTaken
        } catch {
            do throws(Errno) {
                try removeNameless(holder)
            } catch {
                log.warning("a graft that failed takes room until the next mount: \(error)")
            }
            throw error
        }
    }

    /// The directory that a graft gets its name in; nil where that is taken.
    private func place(
        for graft: StoredGraft, _ name: FileName, in repositories: Inode, _ state: ManifestState
    ) throws(Errno) -> InodeRecord? {
        let directory = try directory(repositories, state)
        guard directory.linkCount > 0 else { throw .noSuchFileOrDirectory }
        guard try state.entry(name, in: directory) == nil else { return nil }
        try checkRoom(state)
        let known = state.grafts.all[graft.name]
        if let known, known.parent != graft.parent, try isNamed(known, state) {
            throw .fileExists.because(
                "the volume has \(shown(name.bytes)) in another registry")
        }
        guard known != nil || state.grafts.all.count < DomainsRoom.graftsMax else {
            throw .noSpace.because("the volume has \(DomainsRoom.graftsMax) grafts: remove some")
        }
        guard directory.linkCount < UInt32.max else { throw .tooManyLinks }
        return directory
    }

    /// Whether the directory of a graft has its name still.
    func isNamed(_ graft: StoredGraft, _ state: ManifestState) throws(Errno) -> Bool {
        try graftInode(graft, state) != nil
    }

    /// The directory of a graft; nil where it was removed here.
    func graftInode(_ graft: StoredGraft, _ state: ManifestState) throws(Errno) -> Inode? {
        guard let parent = try state.inode(Inode(graft.parent)), parent.kind == .directory,
            parent.linkCount > 0, parent.isLoaded,
            let entry = try state.entry(FileName(graft.name), in: parent), entry.kind == .directory
        else { return nil }
        return entry.inode
    }
}
