public import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// What people ask of grafts.

extension Volume {
    /// The grafts of the volume, by name. Blocks for the disk, where the tree of one was changed here.
    public func grafts() -> [GraftStatus] {
        manifest.withLock { Array($0.grafts.all.values) }.sorted { $0.name < $1.name }
            .map { status(of: $0) }
    }

    private func status(of graft: StoredGraft) -> GraftStatus {
        let health = domains.health(of: graft.name)
        let now = Double(Timestamp.now().nanoseconds) / 1e9
        var next = graft.until > 0 && options.domains != nil ? Double(graft.until) / 1e9 : nil
        if next != nil, let look = health.nextLook {
            next = now + Double(look - MonotonicClock.milliseconds) / 1000
        }
        let layout =
            switch graft.layout {
            case .registry: "registry"
            case .domain: "domain"
            case .files: "static"
            }
        return GraftStatus(
            name: graft.name, reference: graft.reference, root: graft.root, path: graft.path,
            layout: layout, resolvedAt: Double(graft.time) / 1e9, nextLookAt: next,
            lastError: health.lastError, isAhead: isAhead(graft), isPinned: graft.isPinned)
    }

    /// Whether something is here that the graft has not, or not any more.
    private func isAhead(_ graft: StoredGraft) -> Bool {
        do throws(Errno) {
            let found = try reading { (state) throws(Errno) -> (Inode, CID?)? in
                guard let inode = try graftInode(graft, state) else { return nil }
                return (inode, try record(inode, state).cid)
            }
            guard let (inode, known) = found else { return false }
            if let known { return known != graft.base }
            return try cid(of: inode) != graft.base
        } catch {
            // Somebody is writing to it.
            return true
        }
    }

    /// Brings the repositories of a domain here, as their first lookup does, and where the volume has some of that name, what
    /// the domain has beside them. Blocks for the network.
    public func addGraft(
        domain: String, cancellation: Cancellation? = nil
    ) throws(VolumeError) -> GraftStatus {
        let options = try pullOptions()
        guard options.directory.covers(domain) else {
            throw .tree(
                "\(shown(Array(domain.utf8))) is no domain that may be pulled through: name it by --pull-through"
            )
        }
        if manifest.withLock({ $0.grafts.all[domain] }) != nil {
            return try refreshGraft(domain, cancellation: cancellation)
        }
        let repositories = try repositoriesDirectory()
        let call = call(options, cancellation)
        do throws(GraftFailure) {
            try takeDomain(domain, in: repositories, options, call)
            if manifest.withLock({ $0.grafts.all[domain] }) == nil {
                let root: DomainRoot
                do throws(DomainError) {
                    root = try options.directory.resolve(
                        domain, deadline: call.deadline, cancellation: call.cancellation)
                } catch {
                    throw GraftFailure(error)
                }
                try join(
                    domain, of: domain, root, in: repositories,
                    lifetime: lifetime(of: root, options), call)
            }
        } catch {
            throw .tree("\(shown(Array(domain.utf8))): \(error.words)")
        }
        return try told(domain)
    }

    /// Brings the repositories of a registry's tree here that has a CID and no domain: each directory at the top of it that is missing
    /// here, and what it has beside one that is here by the same reference. It is not looked for again. Blocks for the network.
    ///
    /// - Parameter reference: by which it is remembered, in its canonical form.
    /// - Returns: how the first of them is.
    public func addGraft(
        reference: String, root: DomainRoot, cancellation: Cancellation? = nil
    ) throws(VolumeError) -> GraftStatus {
        let options = try pullOptions()
        let repositories = try repositoriesDirectory()
        let call = call(options, cancellation)
        var taken: [String] = []
        do throws(GraftFailure) {
            let source = GraftBlocks(volume: self, call: call)
            let tree = try GraftTree.find(root, for: nil, source)
            for name in try names(in: tree, source) {
                if let known = manifest.withLock({ $0.grafts.all[name] }) {
                    guard known.reference == reference else { continue }
                    try move(known, to: root, lifetime: nil, call)
                    taken.append(name)
                    continue
                }
                guard let found = try graftedDirectory(name, of: reference, in: tree, source)
                else { continue }
                let graft = storedGraft(
                    name, of: reference, tree, found.entry.cid, root, in: repositories,
                    lifetime: nil)
                try take(found, as: graft, in: repositories)
                if manifest.withLock({ $0.grafts.all[name] }) != nil { taken.append(name) }
            }
        } catch {
            throw .tree("\(reference): \(error.words)")
        }
        guard let first = taken.first else {
            throw .tree(
                "\(reference): all that it has is here under names of the volume's own: rename those first"
            )
        }
        return try told(first)
    }

    /// Repositories at the top of a tree that a file system can name.
    private func names(
        in tree: GraftTree, _ source: GraftBlocks
    ) throws(GraftFailure) -> [String] {
        if tree.layout == .files { return try staticNames(in: tree.repositories, source) }
        do throws(DAGReadError) {
            return try DirectoryReader(root: tree.repositories, source: source)
                .entries(countMax: DomainsRoom.graftsMax)
                .filter { Self.isUsable($0.name) }
                .compactMap { String(validating: $0.name, as: UTF8.self) }
        } catch {
            throw source.failure(error, "its repositories")
        }
    }

    /// Has a domain's tree go with a directory of the volume's own of the same name.
    private func join(
        _ name: String, of reference: String, _ root: DomainRoot, in repositories: Inode,
        lifetime: Double?, _ call: GraftCall
    ) throws(GraftFailure) {
        let source = GraftBlocks(volume: self, call: call)
        let tree = try GraftTree.find(root, for: reference, source)
        guard let theirs = try graftedDirectory(name, of: reference, in: tree, source) else {
            throw GraftFailure(.absent, "\(root.cid) has no repositories of that name")
        }
        let graft = storedGraft(
            name, of: reference, tree, theirs.entry.cid, root, in: repositories,
            lifetime: lifetime)
        let isNew = manifest.withLock { state in
            guard state.grafts.all.count < DomainsRoom.graftsMax else { return false }
            state.put(graft)
            return true
        }
        guard isNew else {
            throw GraftFailure(
                .failed, "the volume has \(DomainsRoom.graftsMax) grafts: remove some")
        }
        do throws(GraftFailure) {
            try merge(theirs, into: graft, hasBase: false, source)
        } catch {
            manifest.withLock { $0.removeGraft(name) }
            throw error
        }
    }

    /// Forgets a graft, and removes its directory where nothing in it is the volume's own. Blobs that came stay until the registry's
    /// garbage collection.
    ///
    /// - Throws: `tree` where there is no such graft, or something would be lost.
    public func removeGraft(_ name: String) throws(VolumeError) {
        // What is being brought here would come into what is being removed.
        guard domains.beginRefresh(name) else {
            throw .operation("removing the graft \(shown(Array(name.utf8)))", .interrupted)
        }
        defer { domains.endRefresh(name) }
        let graft = try graft(name)
        guard !isAhead(graft) else {
            throw .tree(
                "\(shown(Array(name.utf8))) has what its domain has not: delete or copy that first, or remove the directory "
                    + "itself")
        }
        do throws(Errno) {
            let inode = try reading { (state) throws(Errno) in try graftInode(graft, state) }
            try changing { (state) throws(Errno) in state.removeGraft(name) }
            domains.forget(name)
            if inode != nil { try removeTree(FileName(name), in: Inode(graft.parent)) }
            try manifest.commit()
        } catch {
            throw .operation(failed: "removing the graft \(shown(Array(name.utf8)))", error)
        }
    }

    /// Looks now where a graft's domain leads, and takes what changed there. Blocks for the network.
    public func refreshGraft(
        _ name: String, cancellation: Cancellation? = nil
    ) throws(VolumeError) -> GraftStatus {
        let options = try pullOptions()
        let graft = try graft(name)
        guard graft.until > 0 else {
            throw .tree(
                "\(shown(Array(name.utf8))) is of \(graft.reference), which does not change: add another reference"
            )
        }
        guard domains.beginRefresh(name) else {
            throw .operation("refreshing \(shown(Array(name.utf8)))", .interrupted)
        }
        defer { domains.endRefresh(name) }
        do throws(GraftFailure) {
            try refresh(name, options)
        } catch {
            throw .tree("\(shown(Array(name.utf8))): \(error.words)")
        }
        return try told(name)
    }

    /// Fetches all repositories of a graft with all blobs that they link to, so that nobody else is needed to pull them, and
    /// has it stay so. Blocks for the network.
    ///
    /// - Parameter progress: told of the files so far now and then; false ends it.
    /// - Throws: `operation` with EIO where something cannot be had, EINTR where it was ended; what came stays.
    public func pinGraft(
        _ name: String, progress: (FetchedTree) -> Bool
    ) throws(VolumeError) -> FetchedTree {
        let graft = try graft(name)
        do throws(Errno) {
            guard let top = try reading({ (state) throws(Errno) in try graftInode(graft, state) })
            else { throw .noSuchFileOrDirectory }
            manifest.withLock { state in
                guard var known = state.grafts.all[name] else { return }
                known.isPinned = true
                state.put(known)
            }
            var sum = try fetchTree(top) { progress($0) }
            let shards = try blobShards(of: graft)
            for digits in try linkedBlobs(below: top) {
                let data = try pulledBlob(digits, in: shards)
                let before = sum
                let found = try fetchTree(data, keepsAll: true) { progress(before + $0) }
                sum = before + found
                guard progress(sum) else { throw .interrupted }
            }
            try manifest.commit()
            return sum
        } catch {
            throw .operation(failed: "keeping \(shown(Array(name.utf8)))", error)
        }
    }

    /// The directory of blobs beside the one of a graft.
    private func blobShards(of graft: StoredGraft) throws(Errno) -> Inode {
        let v2 = try reading { (state) throws(Errno) in
            try record(Inode(graft.parent), state).parent
        }
        return try lookedUp(FileName("sha256"), in: lookedUp(FileName("blobs"), in: v2))
    }

    private func pulledBlob(_ digits: [UInt8], in shards: Inode) throws(Errno) -> Inode {
        let shard = try lookedUp(FileName(Array(digits.prefix(2))), in: shards)
        let blob = try lookedUp(FileName(digits), in: shard)
        return try lookedUp(RegistryBlob.data, in: blob)
    }

    /// Looks up as programs do, without keeping a reference.
    private func lookedUp(_ name: FileName, in parent: Inode) throws(Errno) -> Inode {
        let found = try lookup(name, in: parent).inode
        forget(found, count: 1)
        return found
    }

    /// The digests of the blobs that repositories link to: directories of 64 digits in a `sha256` of `_layers` or `revisions`.
    private func linkedBlobs(below top: Inode) throws(Errno) -> [[UInt8]] {
        var found: Set<[UInt8]> = []
        var waiting: [(inode: Inode, isOfLinks: Bool, isDigests: Bool)] = [(top, false, false)]
        while let next = waiting.popLast() {
            for entry in try entries(in: next.inode) where entry.kind == .directory {
                let name = entry.name.bytes
                if next.isDigests {
                    if name.count == 64, PullName.isHex(name) { found.insert(name) }
                    continue
                }
                let isOfLinks =
                    name == Array("_layers".utf8) || name == Array("revisions".utf8)
                waiting.append(
                    (entry.inode, isOfLinks, next.isOfLinks && name == Array("sha256".utf8)))
            }
        }
        return found.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// The graft that an inode came from, by its place or by what it holds; nil where it is the volume's own. Blocks for the disk.
    public func graftOrigin(of inode: Inode) -> String? {
        guard !inode.isOfView else { return nil }
        return try? reading { (state) throws(Errno) -> String? in
            guard !state.grafts.all.isEmpty, let record = try state.inode(inode) else {
                return nil
            }
            if let object = record.object {
                if let known = state.grafts.recentOrigins[object] { return known }
                if let known = try state.rows.graftObject(object) { return known.graft }
            }
            return try graft(over: record, state)?.name
        }
    }

    // MARK: Common to all

    private func pullOptions() throws(VolumeError) -> DomainOptions {
        guard let options = options.domains, !self.options.isReadOnly else {
            throw .tree("the volume pulls no domains through: mount it with --pull-through")
        }
        return options
    }

    private func call(_ options: DomainOptions, _ cancellation: Cancellation?) -> GraftCall {
        GraftCall(
            deadline: MonotonicClock.milliseconds + Int64(options.lookupMilliseconds),
            cancellation: cancellation ?? domains.cancellation, user: nil)
    }

    private func graft(_ name: String) throws(VolumeError) -> StoredGraft {
        guard let graft = manifest.withLock({ $0.grafts.all[name] }) else {
            throw .tree("there is no graft \(shown(Array(name.utf8))): see registryfs grafts")
        }
        return graft
    }

    private func told(_ name: String) throws(VolumeError) -> GraftStatus {
        status(of: try graft(name))
    }

    /// The directory of the repositories of the mount's registry, made where it is missing.
    private func repositoriesDirectory() throws(VolumeError) -> Inode {
        do throws(Errno) {
            var inode = Inode.root
            for name in StockNames.repositories {
                try makePlain(name, in: inode)
                inode = try child(name, of: inode)
            }
            return inode
        } catch {
            throw .operation(failed: "making docker/registry/v2/repositories", error)
        }
    }
}

extension FetchedTree {
    fileprivate static func + (left: FetchedTree, right: FetchedTree) -> FetchedTree {
        var sum = left
        sum.files += right.files
        sum.bytes += right.bytes
        sum.cachedFiles += right.cachedFiles
        sum.convertedFiles += right.convertedFiles
        return sum
    }
}
