internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

// A root is published in this order: all blocks below it, children before their parents → the pin
// → the note in the manifest → the MFS view. So the node never holds a pinned root, nor a view,
// whose blocks it lacks; and what a crash interrupts is done again from what the manifest says.

extension Volume {
    /// Why a root was not published.
    enum PublishFailure: Error {
        case remote(RemoteError)
        /// The tree changed meanwhile; the next attempt takes the newer one.
        case changed
        case failed(String)
    }

    // MARK: Threads

    func startPublishing(_ connection: RemoteConnection) throws(Errno) -> [JoinableThread] {
        manifest.withLock { $0.keepSealed() }
        var started = [
            try Threads.start(name: "rfs-publish") { [weak self] in
                while let volume = self, volume.publishRound(connection) {}
            }
        ]
        for _ in 0..<Self.uploadThreads {
            started.append(
                try Threads.start(name: "rfs-upload") { [weak self] in
                    while let volume = self, volume.uploadRound(connection) {}
                })
        }
        return started
    }

    private static let uploadThreads = 2
    private static let uploadedAtOnce = 1_024

    /// Sends the next objects of the outbox; false once the link is stopped.
    private func uploadRound(_ connection: RemoteConnection) -> Bool {
        guard connection.health.waitUntilUsable() else { return false }
        let ids = connection.outbox.withLock { outbox in
            if !outbox.hasWaiting { connection.outbox.wait(&outbox, milliseconds: 100) }
            return outbox.take(Self.uploadedAtOnce)
        }
        guard !ids.isEmpty else {
            guard !sendStreamed(connection) else { return !connection.isStopping }
            do throws(RemoteError) {
                while try sendAhead(connection), !connection.isStopping {}
            } catch {
                connection.note(error)
            }
            return !connection.isStopping
        }
        do throws(RemoteError) {
            try upload(ids, to: connection)
            connection.outbox.withLock { $0.end(ids) }
        } catch {
            connection.outbox.withLock { outbox in
                outbox.end(ids)
                outbox.add(ids)
            }
            connection.note(error)
        }
        connection.outbox.wakeAll()
        return true
    }

    /// One look at what there is to be done; false once the link is stopped.
    private func publishRound(_ connection: RemoteConnection) -> Bool {
        let isPaused = connection.health.current.pausedUntil != 0
        if !connection.isStopping { connection.goals.waitForNextLook(isPaused: isPaused) }
        guard !connection.isStopping else { return false }
        do throws(PublishFailure) {
            try connect(connection)
            do throws(Errno) {
                try fillOutbox(connection)
            } catch {
                throw .failed("the outbox cannot be read: \(FailureCause.words(for: error))")
            }
            connection.outbox.wakeAll()
            try publishIfDue(connection)
        } catch {
            switch error {
            case .remote(let error): connection.note(error)
            case .changed: break
            case .failed(let problem): connection.health.note(problem: problem)
            }
        }
        return true
    }

    /// Asks the node who it is, where that is not known, or not since it was away.
    private func connect(_ connection: RemoteConnection) throws(PublishFailure) {
        let health = connection.health.current
        guard health.pausedUntil <= MonotonicClock.milliseconds else { throw .changed }
        guard health.identity == nil || !health.isReachable else { return }
        let identity: RemoteIdentity
        do throws(RemoteError) {
            identity = try connection.store.identity(cancellation: connection.cancellation)
        } catch {
            throw .remote(error)
        }
        let isOther = manifest.withLock { state in
            let (old, peer) = (state.published, identity.id)
            guard old?.peer != peer || old?.path != "\(connection.path)" else { return false }
            // Nothing is known of what another node has.
            let isSamePeer = old?.peer == peer
            state.published = PublishedState(
                peer: peer, epoch: (old?.epoch ?? 0) + (isSamePeer ? 0 : 1),
                path: "\(connection.path)",
                root: isSamePeer ? old?.root : nil, view: nil, time: .now())
            return !isSamePeer
        }
        if isOther {
            connection.sentBlocks.removeAll()
            connection.outbox.withLock { $0.searchAgain() }
        }
        do throws(Errno) {
            try countCache(connection)
        } catch {
            throw .failed("the cache cannot be counted: \(FailureCause.words(for: error))")
        }
        connection.health.note(identity)
        connection.goals.wakeAll()
        log.info("node", metadata: ["peer": "\(identity.id)", "version": "\(identity.version)"])
    }

    // MARK: The root

    /// Publishes the tree where it is not, and either rests or has waited for long.
    private func publishIfDue(_ connection: RemoteConnection) throws(PublishFailure) {
        let (goal, isWanted) = connection.goals.newest
        let isDue = manifest.withLock { state in
            running.publication.isDue(
                root: (try? state.inode(.root))?.cid, published: state.published,
                changes: running.changes, options: connection.options,
                isBeingWritten: { running.isBeingWritten(connection.options) })
        }
        let interval = connection.options.publishIntervalMilliseconds
        guard
            isDue || isWanted
                || connection.goals.isMirrorDue(intervalMilliseconds: interval)
        else { return }
        // To look at the view is no reason to hash what somebody is writing.
        if !isDue, !isWanted, manifest.withLock({ _ in running.isBeingWritten(connection.options) })
        {
            return try mergeView(connection)
        }
        do throws(PublishFailure) {
            try publishRoot(connection)
        } catch {
            switch error {
            case .remote(let error): connection.goals.fail("\(error)")
            case .failed(let problem): connection.goals.fail(problem)
            case .changed: connection.goals.fail(nil)
            }
            throw error
        }
        connection.sentBlocks.endDoubt()
        connection.health.clearProblem()
        connection.goals.reach(goal)
    }

    private func publishRoot(_ connection: RemoteConnection) throws(PublishFailure) {
        try mergeView(connection)
        let root: CID
        do throws(Errno) {
            root = try cid(of: .root)
            // While SQLite is told of what was sealed, it is on its way already.
            try fillOutbox(connection)
            connection.outbox.wakeAll()
            try manifest.bringUpToDate()
        } catch {
            guard error != .resourceTemporarilyUnavailable else { throw .changed }
            throw .failed("the tree's CID: \(FailureCause.words(for: error))")
        }
        manifest.withLock { _ in running.publication.noteAttempt(changes: running.changes) }
        let known = manifest.withLock { $0.published }
        var sent = root
        if known?.root != root {
            sent = try sendTree(root, connection)
            try pin(sent, known?.root, connection)
            manifest.withLock { state in
                state.published?.root = sent
                state.published?.time = .now()
            }
            log.info("published", metadata: ["root": "\(sent)"])
        }
        manifest.withLock { _ in running.publication.notePublished() }
        try showTree(sent, connection)
        do throws(Errno) {
            try manifest.commit()
        } catch {
            throw .failed("what was published cannot be noted: \(FailureCause.words(for: error))")
        }
    }

    /// Pins a root in place of the one before.
    private func pin(_ root: CID, _ old: CID?, _ connection: RemoteConnection)
        throws(PublishFailure)
    {
        var request = PinRequest(root, replacing: old, name: connection.pinName)
        request.asksPeers = connection.goals.mustAskPeers
        // A node that has peers looks for missing blocks there although it is told not to (seen on
        // 0.42), and may never end.
        request.stallMilliseconds = request.asksPeers ? nil : connection.options.pinMilliseconds
        request.cancellation = connection.cancellation
        do throws(RemoteError) {
            try connection.store.pin(request)
            connection.goals.mustAskPeers = false
        } catch {
            let mayBeLost = error.kind == .notFound || error.kind == .timeout
            guard mayBeLost, !request.asksPeers else { throw .remote(error) }
            // The node has lost blocks that it had: a garbage collection before the pin, or worse.
            log.warning("the node lacks blocks of \(root): they are sent again: \(error)")
            forgetPublished(connection)
            throw .changed
        }
    }

    /// Begins an epoch in which nothing is known to be at the node.
    func forgetPublished(_ connection: RemoteConnection) {
        manifest.withLock { state in
            state.published?.epoch += 1
        }
        connection.sentBlocks.removeAll()
        connection.outbox.withLock { $0.searchAgain() }
        connection.sentBlocks.noteDoubt()
        connection.goals.mustAskPeers = true
    }

    // MARK: The blocks below a root

    private struct Level {
        let inode: Inode
        /// What the parent says it is; nil where that is not known.
        let cid: CID?
        let name: [UInt8]
        /// Nil before the directory is listed; the last one comes next.
        var pending: [(name: FileName, inode: Inode)]?
        var builder: DirectoryBuilder
    }

    /// What an entry adds to its directory.
    private enum Child {
        /// A file's content, not published if there is an object.
        case file(CID, treeSize: UInt64, unpublished: UInt64?)
        case block(CID, treeSize: UInt64, [UInt8])
        case directory(CID?, treeSize: UInt64, isPublished: Bool)
        /// A file that somebody is writing.
        case unsealed
        case none
    }

    /// Sends all blocks below a root that the node is not known to have, children first.
    ///
    /// Goes down by inodes, which may change meanwhile; so every directory is made again of what its
    /// entries are, and the walk ends where that is not what its parent said. Where a writer never
    /// rests, that would never come to an end: after some attempts the walk takes files and names as
    /// it finds them, each at its own moment.
    ///
    /// - Returns: the root of what was sent.
    private func sendTree(_ root: CID, _ connection: RemoteConnection) throws(PublishFailure) -> CID
    {
        let isExact = manifest.withLock { _ in running.publication.mayBeExact }
        let upload = Upload(self, connection)
        var claimed: Set<UInt64> = []
        var walked: Set<Inode> = [.root]
        defer {
            upload.end()
            connection.outbox.withLock { $0.end(claimed) }
            connection.outbox.wakeAll()
        }
        var levels = [
            Level(
                inode: .root, cid: root, name: [], pending: nil,
                builder: DirectoryBuilder(profile: profile))
        ]
        while let last = levels.indices.last {
            guard !connection.isStopping else { throw .changed }
            if levels[last].pending == nil {
                levels[last].pending = try names(in: levels[last].inode)
            }
            guard let entry = levels[last].pending?.popLast() else {
                let made = try sendDirectory(&levels[last], upload)
                guard !isExact || made.cid == levels[last].cid else { throw .changed }
                let name = levels.removeLast().name
                guard let parent = levels.indices.last else {
                    try sending { () throws(RemoteError) in try upload.flush() }
                    guard upload.isWhole else { throw .changed }
                    return made.cid
                }
                levels[parent].builder.add(name: name, cid: made.cid, treeSize: made.treeSize)
                continue
            }
            let name = entry.name.bytes
            switch try child(entry.inode) {
            case .none: break
            case .file(let cid, let treeSize, let object):
                levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                // One that several names have is added once.
                if let object, !claimed.contains(object) {
                    try claim(object, connection)
                    claimed.insert(object)
                    // Where it was sent meanwhile, or went, nothing is added.
                    try sending { () throws(RemoteError) in try upload.add(object: object) }
                }
            case .block(let cid, let treeSize, let bytes):
                levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                try sending { () throws(RemoteError) in try upload.add(cid, bytes) }
            case .unsealed:
                // Nobody has it open: its seal was not kept for a passing reason.
                if try sealForSending(entry.inode) {
                    levels[last].pending?.append(entry)
                    continue
                }
                let leaf = try sendContent(of: entry.inode, upload)
                levels[last].builder.add(name: name, cid: leaf.cid, treeSize: leaf.treeSize)
            case .directory(let cid, let treeSize, let isPublished):
                if let cid, isPublished {
                    levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                    continue
                }
                guard cid != nil || !isExact else { throw .changed }
                // A damaged manifest may have one below itself.
                guard walked.insert(entry.inode).inserted else {
                    throw .failed("\(entry.inode): two names lead to this directory")
                }
                levels.append(
                    Level(
                        inode: entry.inode, cid: cid, name: name, pending: nil,
                        builder: DirectoryBuilder(profile: profile)))
            }
        }
        throw .changed
    }

    private func sending(_ body: () throws(RemoteError) -> Void) throws(PublishFailure) {
        do throws(RemoteError) { try body() } catch { throw .remote(error) }
    }

    private func names(in inode: Inode) throws(PublishFailure) -> [(name: FileName, inode: Inode)] {
        var names: [(name: FileName, inode: Inode)] = []
        do throws(Errno) {
            try manifest.withLock { (state) throws(Errno) in
                guard let record = try state.inode(inode) else { throw Self.stale }
                try state.forEachEntry(of: record, after: 0) { name, entry in
                    names.append((name, entry.inode))
                    return true
                }
            }
        } catch {
            throw .changed
        }
        return names
    }

    private func child(_ inode: Inode) throws(PublishFailure) -> Child {
        let found: Child?
        do throws(Errno) {
            found = try manifest.withLock { (state) throws(Errno) in try child(inode, state) }
        } catch {
            throw .failed("\(inode): \(FailureCause.words(for: error))")
        }
        guard let found else { throw .changed }
        return found
    }

    /// Nil where the entry went, or its content is not known any more.
    private func child(_ inode: Inode, _ state: ManifestState) throws(Errno) -> Child? {
        guard let record = try state.inode(inode) else { return nil }
        switch record.kind {
        case .regular:
            guard let object = try state.object(of: record) else {
                let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
                let leaf = profile.leaf(nothing)
                return .block(leaf.cid, treeSize: leaf.treeSize, profile.leafBlock(nothing))
            }
            guard object.state != .staging, let cid = object.cid else { return .unsealed }
            let isMissing = object.state == .sealed && !state.isPublished(object)
            return .file(
                cid, treeSize: object.treeSize, unpublished: isMissing ? object.id : nil)
        case .symlink:
            let (root, block) = profile.symlink(target: record.target)
            return .block(root.cid, treeSize: root.treeSize, block)
        case .directory:
            // What was never looked into is at the node, where it came from.
            return .directory(
                record.cid, treeSize: record.treeSize,
                isPublished: state.isPublished(record) || !record.isExpanded)
        case .fifo, .socket, .characterDevice, .blockDevice:
            return Child.none
        }
    }

    /// Claims an object, once nobody is at it. The claim ends when it is sent, not when it is added.
    private func claim(_ object: UInt64, _ connection: RemoteConnection) throws(PublishFailure) {
        let isOurs = connection.outbox.withLock { outbox in
            while outbox.isUnderWay(object), !connection.isStopping {
                connection.outbox.wait(&outbox, milliseconds: 500)
            }
            return outbox.claim(object)
        }
        guard isOurs else { throw .changed }
    }

    /// Adds the nodes of a directory whose entries are all in its builder.
    private func sendDirectory(
        _ level: inout Level, _ upload: Upload
    ) throws(PublishFailure) -> DAGRoot {
        var nodes: [(CID, [UInt8])] = []
        let root: DAGRoot
        do {
            root = try level.builder.finish { (cid, block) throws(Never) in
                nodes.append((cid, block))
            }
        } catch {
            throw .failed("\(level.inode): its directory node cannot be made: \(error)")
        }
        for (cid, block) in nodes {
            try sending { () throws(RemoteError) in try upload.add(cid, block) }
        }
        upload.completes(level.inode, root.cid)
        return root
    }

    /// Seals a file that has no writer; false where it is not sealed after that.
    private func sealForSending(_ inode: Inode) throws(PublishFailure) -> Bool {
        for _ in 0..<3 {
            let isOpen = manifest.withLock { _ in
                running.openFiles[inode.number]?.hasWriters ?? false
            }
            guard !isOpen else { return false }
            do throws(Errno) { _ = try seal(inode, attempts: 1) } catch { throw .changed }
            let isSealed = manifest.withLock { state in
                guard let record = try? state.inode(inode) else { return false }
                return (try? state.object(of: record))?.state != .staging
            }
            if isSealed { return true }
            Threads.sleep(milliseconds: 10)
        }
        return false
    }

    /// Adds the blocks of a file as it is now, somebody writing it or not.
    private func sendContent(
        of inode: Inode, _ upload: Upload
    ) throws(PublishFailure) -> (cid: CID, treeSize: UInt64) {
        var found: (cid: CID, treeSize: UInt64)?
        let isDone = try withBlocks(of: inode) { (blocks, treeSize) throws(PublishFailure) in
            found = (blocks.root, treeSize)
            // At once: the content may not be the same for long.
            try sending { () throws(RemoteError) in
                try upload.add(blocks)
                try upload.flush()
            }
        }
        guard isDone, upload.isWhole, let found else { throw .changed }
        return found
    }
}

extension RunningState {
    /// Whether somebody wrote to a backing file within the time that a tree has to rest: of that
    /// nobody is told.
    fileprivate func isBeingWritten(_ options: RemoteOptions) -> Bool {
        let now = Timestamp.now().nanoseconds
        return openFiles.values.contains { file in
            guard let backing = file.backing, backing.isWritable,
                let status = try? Sys.status(of: backing.file.raw)
            else { return false }
            // The file may have any time, as far as the type goes.
            let quiet = Int64(options.quietMilliseconds) * 1_000_000
            return status.modified.nanoseconds > now - quiet
        }
    }
}

/// When the tree is to be published.
struct Publication {
    /// The count of changes when it was last looked at, and since when it has stood still.
    private var changes: UInt64?
    private var restingSince: Int64 = 0
    /// Since when there is something to publish.
    private var waitingSince: Int64?
    /// Attempts since the last root.
    private var attempts = 0

    /// Whether the tree may still come to a rest.
    var mayBeExact: Bool { attempts < Self.exactAttemptsMax }
    private static let exactAttemptsMax = 5

    mutating func isDue(
        root: CID?, published: PublishedState?, changes: UInt64, options: RemoteOptions,
        isBeingWritten: () -> Bool
    ) -> Bool {
        let now = MonotonicClock.milliseconds
        if changes != self.changes {
            self.changes = changes
            restingSince = now
        }
        guard let published else { return false }
        guard root == nil || root != published.root || root != published.view else {
            waitingSince = nil
            return false
        }
        let since = waitingSince ?? now
        waitingSince = since
        if now - since >= Int64(options.publishIntervalMilliseconds) { return true }
        return now - restingSince >= Int64(options.quietMilliseconds) && !isBeingWritten()
    }

    mutating func noteAttempt(changes: UInt64) {
        self.changes = changes
        waitingSince = nil
        attempts += 1
    }

    mutating func notePublished() { attempts = 0 }
}
