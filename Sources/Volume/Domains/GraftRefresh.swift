internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// A graft goes with its domain: when its lifetime has ended, a thread looks where the domain leads now, and merges what
// changed there since into what is here. Where both changed, ours stays. The tree before serves meanwhile; of the new one
// the blobs are known before the first of its tags.

extension Volume {
    /// Has grafts go with their domains, from now on.
    func startRefreshing(_ options: DomainOptions) throws(Errno) -> JoinableThread {
        try Threads.start(name: "rfs-domains") { [weak self, domains] in
            while domains.waitForRound() { self?.beginDueRefreshes(options) }
        }
    }

    /// Begins to refresh all grafts whose lifetime has ended.
    private func beginDueRefreshes(_ options: DomainOptions) {
        let now = Timestamp.now().nanoseconds
        let isHurried = domains.state.withLock { state in
            defer { state.isHurried = false }
            return state.isHurried
        }
        let latest = now &- Int64(options.lifetimeSeconds.lowerBound * 1e9)
        let due = manifest.withLock { state in
            state.grafts.all.values.filter { graft in
                // Of a clock that was set back, the times before are of the future.
                graft.until > 0
                    && (graft.until <= now || graft.time > now
                        || isHurried && graft.time <= latest)
            }.map(\.name)
        }
        for name in due {
            let isDue = domains.state.withLock { state in
                let next = state.health[name]?.nextLook ?? 0
                guard !state.isStopping, next <= MonotonicClock.milliseconds else { return false }
                return state.refreshing.insert(name).inserted
            }
            guard isDue else { continue }
            domains.pool.add(remotes.fetcher.nextTicket(), for: nil) { [weak self, domains] _, _ in
                defer { domains.endRefresh(name) }
                do throws(GraftFailure) {
                    try self?.refresh(name, options)
                } catch {
                    self?.log.warning("graft \(shown(Array(name.utf8))): \(error.words)")
                }
            }
        }
    }

    /// Brings a graft to where its domain leads now. Blocks for the network.
    func refresh(_ name: String, _ options: DomainOptions) throws(GraftFailure) {
        do throws(GraftFailure) {
            try refreshNow(name, options)
            domains.noteLook(name, failure: nil, seconds: nil)
        } catch {
            // A domain that leads nowhere any more is looked at as seldom as one that never did.
            let seconds = error.kind == .absent ? options.absentSeconds : nil
            domains.noteLook(name, failure: error.words, seconds: seconds)
            throw error
        }
    }

    private func refreshNow(_ name: String, _ options: DomainOptions) throws(GraftFailure) {
        guard let graft = manifest.withLock({ $0.grafts.all[name] }), graft.until > 0 else {
            return
        }
        let deadline = MonotonicClock.milliseconds + Int64(options.lookupMilliseconds)
        let cancellation = domains.cancellation
        let root: DomainRoot
        do throws(DomainError) {
            root = try options.directory.resolve(
                graft.reference, deadline: deadline, cancellation: cancellation)
        } catch {
            throw GraftFailure(error)
        }
        let call = GraftCall(
            deadline: MonotonicClock.milliseconds + Int64(options.lookupMilliseconds),
            cancellation: cancellation, user: nil)
        try move(graft, to: root, lifetime: lifetime(of: root, options), call)
    }

    /// Brings a graft to another root.
    ///
    /// - Parameter lifetime: in seconds; nil for ever.
    func move(
        _ old: StoredGraft, to root: DomainRoot, lifetime: Double?, _ call: GraftCall
    ) throws(GraftFailure) {
        var graft = old
        let now = Timestamp.now().nanoseconds
        (graft.time, graft.until) = (now, lifetime.map { now &+ Int64($0 * 1e9) } ?? 0)
        guard root.cid != old.root || root.path != old.path else { return put(graft) }
        let source = GraftBlocks(volume: self, call: call)
        let tree = try GraftTree.find(root, for: old.reference, source)
        guard let theirs = try graftedDirectory(old.name, of: old.reference, in: tree, source)
        else {
            throw GraftFailure(.absent, "\(root.cid) has no repositories of that name")
        }
        graft.layout = tree.layout
        // A tag that is new there may be asked for its blobs at once.
        if tree.blobs != old.blobs {
            (graft.blobs, graft.blobsBefore) = (tree.blobs, old.blobs)
            put(graft)
        }
        if theirs.entry.cid != old.base {
            try merge(theirs, into: old, source)
            graft.base = theirs.entry.cid
        }
        (graft.root, graft.path) = (root.cid, root.path)
        put(graft)
        do throws(Errno) {
            try manifest.commit()
        } catch {
            throw GraftFailure(error, "a commit")
        }
        log.notice("graft \(graftWords(graft.name)): it is at \(root.cid) now")
    }

    /// Notes how a graft is, where it was not removed meanwhile.
    private func put(_ graft: StoredGraft) {
        manifest.withLock { state in
            guard let known = state.grafts.all[graft.name] else { return }
            var graft = graft
            graft.isPinned = known.isPinned
            state.put(graft)
        }
    }

    /// Takes what changed there since the last time over, where it did not change here.
    func merge(
        _ theirs: GraftedDirectory, into graft: StoredGraft, hasBase: Bool = true,
        _ source: GraftBlocks
    ) throws(GraftFailure) {
        for attempt in 0..<Self.mergesMax {
            if attempt > 0 { Threads.sleep(milliseconds: 200) }
            do throws(MergeStop) {
                if try mergeOnce(theirs, into: graft, hasBase: hasBase, source) { return }
            } catch {
                switch error {
                case .changed: continue
                case .read(let error):
                    throw GraftFailure(.failed, "\(theirs.entry.cid): \(error.reason)")
                case .tree(let error): throw GraftFailure(error, "merging its tree")
                }
            }
        }
        throw GraftFailure(.failed, "the tree changes all the time: the next look goes on")
    }

    private static let mergesMax = 5

    /// One attempt of a merge; false where it has to be tried again.
    private func mergeOnce(
        _ theirs: GraftedDirectory, into graft: StoredGraft, hasBase: Bool, _ source: GraftBlocks
    ) throws(MergeStop) -> Bool {
        let found: (inode: Inode, parent: Inode, isUntouched: Bool)?
        do throws(Errno) {
            found = try reading { (state) throws(Errno) in
                guard let inode = try graftInode(graft, state) else { return nil }
                let record = try record(inode, state)
                return (
                    inode, record.parent, !record.isLoaded && hasBase && record.cid == graft.base
                )
            }
        } catch {
            throw error == Self.stale ? .changed : .tree(error)
        }
        // It was removed here: its blobs go with the domain still.
        guard let found else { return true }
        let name = FileName(graft.name)
        if found.isUntouched, theirs.blocks.isEmpty {
            do throws(Errno) {
                try retarget(found.inode, from: graft.base, to: theirs.entry)
            } catch {
                throw error == Self.stale ? .changed : .tree(error)
            }
            nameChanged(name, in: found.parent)
            return true
        }
        guard let fetcher else { throw .tree(.ioError.because("nobody is known who has blocks")) }
        let guests = MadeBlocks(theirs.blocks, base: staticBase(of: graft, source))
        try fetcher.with(guests, unless: guests.isEmpty) { () throws(MergeStop) in
            try TreeMerge(self, fetcher, of: "graft \(graftWords(graft.name))", .keepsOurs).run(
                base: hasBase ? graft.base : nil, theirs: theirs.entry.cid, at: found.inode,
                path: "/\(graft.name)")
            guard !theirs.blocks.isEmpty else { return }
            do throws(Errno) {
                try loadMade(theirs, in: found.parent)
            } catch {
                throw .tree(error)
            }
        }
        return true
    }
}

extension DomainsRoom {
    /// Waits for the next look at which grafts are due; false once the volume ends.
    fileprivate func waitForRound() -> Bool {
        state.withLock { state in
            if !state.isStopping {
                self.state.wait(&state, milliseconds: Self.roundMilliseconds)
            }
            return !state.isStopping
        }
    }

    private static let roundMilliseconds = 500

    /// Waits for the turn to refresh a graft; false once the volume ends.
    func beginRefresh(_ name: String) -> Bool {
        state.withLock { state in
            while !state.isStopping, state.refreshing.contains(name) {
                self.state.wait(&state, milliseconds: Self.roundMilliseconds)
            }
            return !state.isStopping && state.refreshing.insert(name).inserted
        }
    }

    func endRefresh(_ name: String) {
        state.withLock { _ = $0.refreshing.remove(name) }
        state.wakeAll()
    }

    /// Notes how a look at where a graft leads ended.
    ///
    /// - Parameter seconds: until the next one after a failure; nil for a time that grows.
    fileprivate func noteLook(_ name: String, failure: String?, seconds: Double?) {
        state.withLock { state in
            var health = state.health[name] ?? Health()
            health.lastError = failure
            health.looksFailed = failure == nil ? 0 : health.looksFailed + 1
            health.nextLook =
                failure == nil
                ? nil
                : MonotonicClock.milliseconds
                    + (seconds.map { Int64($0 * 1000) } ?? Self.rest(after: health.looksFailed))
            state.health[name] = health
        }
    }
}

extension Fetcher {
    /// Has a source asked while a body runs, where there is one.
    func with<Result, Failure: Error>(
        _ source: MadeBlocks, unless isEmpty: Bool, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard !isEmpty else { return try body() }
        return try with(source, body)
    }
}
