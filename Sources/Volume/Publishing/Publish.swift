internal import Base
internal import InodeManifest
internal import Kubo
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import ObjectStore

internal import struct SystemPackage.Errno

// A root is published in this order: all blocks below it, children before their parents → the pin
// → the note in the manifest → the MFS view. So the node never holds a pinned root, nor a view,
// whose blocks it lacks; and what a crash interrupts is done again from what the manifest says.

extension Volume {
    /// Why a root was not published.
    enum PublishFailure: Error {
        case node(KuboError)
        /// The tree changed meanwhile; the next attempt takes the newer one.
        case changed
        case failed(String)
    }

    // MARK: Threads

    func startPublishing(_ node: NodeLink) throws(Errno) -> [JoinableThread] {
        manifest.withLock { $0.keepSealed() }
        var started = [
            try Threads.start(name: "rfs-publish") { [weak self] in
                while let volume = self, volume.publishRound(node) {}
            }
        ]
        for _ in 0..<Self.uploadThreads {
            started.append(
                try Threads.start(name: "rfs-upload") { [weak self] in
                    while let volume = self, volume.uploadRound(node) {}
                })
        }
        return started
    }

    private static let uploadThreads = 2
    private static let uploadedAtOnce = 1_024
    private static let pollMilliseconds = 100

    /// Sends the next objects of the outbox; false once the link is stopped.
    private func uploadRound(_ node: NodeLink) -> Bool {
        guard node.waitUntilUsable() else { return false }
        let ids = node.outbox.withLock { outbox in
            if !outbox.hasWaiting { node.outbox.wait(&outbox, milliseconds: 100) }
            return outbox.take(Self.uploadedAtOnce)
        }
        guard !ids.isEmpty else {
            guard !sendStreamed(node) else { return !node.isStopping }
            do throws(KuboError) {
                while try sendAhead(node), !node.isStopping {}
            } catch {
                node.note(error)
            }
            return !node.isStopping
        }
        do throws(KuboError) {
            try upload(ids, to: node)
            node.outbox.withLock { $0.end(ids) }
        } catch {
            node.outbox.withLock { outbox in
                outbox.end(ids)
                outbox.add(ids)
            }
            node.note(error)
        }
        node.outbox.wakeAll()
        return true
    }

    /// One look at what there is to be done; false once the link is stopped.
    private func publishRound(_ node: NodeLink) -> Bool {
        node.state.withLock { state in
            guard !state.isStopping else { return }
            let isWaitedFor = state.wantedSyncs > state.doneSyncs && state.pausedUntil == 0
            node.state.wait(&state, milliseconds: isWaitedFor ? 10 : Self.pollMilliseconds)
        }
        guard !node.isStopping else { return false }
        do throws(PublishFailure) {
            try connect(node)
            do throws(Errno) {
                try fillOutbox(node)
            } catch {
                throw .failed("the outbox cannot be read: \(FailureCause.words(for: error))")
            }
            node.outbox.wakeAll()
            try publishIfDue(node)
        } catch {
            switch error {
            case .node(let error): node.note(error)
            case .changed: break
            case .failed(let problem): node.note(problem: problem)
            }
        }
        return true
    }

    /// Asks the node who it is, where that is not known, or not since it was away.
    private func connect(_ node: NodeLink) throws(PublishFailure) {
        let (isPaused, isKnown) = node.state.withLock { state in
            (
                state.pausedUntil > MonotonicClock.milliseconds,
                state.peer != nil && state.isReachable
            )
        }
        guard !isPaused else { throw .changed }
        guard !isKnown else { return }
        let (peer, version): (String, String)
        do throws(KuboError) {
            version = try node.client.version(cancellation: node.cancellation).version
            peer = try node.client.identity(cancellation: node.cancellation)
        } catch {
            throw .node(error)
        }
        let isOther = manifest.withLock { state in
            let old = state.published
            guard old?.peer != peer || old?.path != "\(node.path)" else { return false }
            // Nothing is known of what another node has.
            let isSamePeer = old?.peer == peer
            state.published = PublishedState(
                peer: peer, epoch: (old?.epoch ?? 0) + (isSamePeer ? 0 : 1), path: "\(node.path)",
                root: isSamePeer ? old?.root : nil, view: nil, time: .now())
            return !isSamePeer
        }
        if isOther {
            node.forgetSent()
            node.outbox.withLock { $0.searchAgain() }
        }
        do throws(Errno) {
            try countCache(node)
        } catch {
            throw .failed("the cache cannot be counted: \(FailureCause.words(for: error))")
        }
        node.state.withLock { state in
            state.peer = peer
            state.version = version
        }
        node.noteSuccess()
        node.state.wakeAll()
        log.info("node", metadata: ["peer": "\(peer)", "version": "\(version)"])
    }

    // MARK: The root

    /// Publishes the tree where it is not, and either rests or has waited for long.
    private func publishIfDue(_ node: NodeLink) throws(PublishFailure) {
        let wanted = node.state.withLock { $0.wantedSyncs }
        let isWanted = node.state.withLock { $0.doneSyncs < wanted }
        let isDue = manifest.withLock { state in
            running.publication.isDue(
                root: (try? state.inode(.root))?.cid, published: state.published,
                changes: running.changes, options: node.options,
                isBeingWritten: { running.isBeingWritten(node.options) })
        }
        guard isDue || isWanted || node.isViewDue() else { return }
        // To look at the view is no reason to hash what somebody is writing.
        if !isDue, !isWanted, manifest.withLock({ _ in running.isBeingWritten(node.options) }) {
            return try mergeView(node)
        }
        do throws(PublishFailure) {
            try publishRoot(node)
        } catch {
            node.state.withLock { state in
                switch error {
                case .node(let error): state.publishFailure = "\(error)"
                case .failed(let problem): state.publishFailure = problem
                case .changed: break
                }
            }
            node.state.wakeAll()
            throw error
        }
        node.state.withLock { state in
            state.publishFailure = nil
            state.doneSyncs = max(state.doneSyncs, wanted)
            state.mayHaveMore = false
            state.problem = nil
            state.problemTime = nil
        }
        node.state.wakeAll()
    }

    private func publishRoot(_ node: NodeLink) throws(PublishFailure) {
        try mergeView(node)
        let root: CID
        do throws(Errno) {
            root = try cid(of: .root)
            // While SQLite is told of what was sealed, it is on its way already.
            try fillOutbox(node)
            node.outbox.wakeAll()
            try manifest.bringUpToDate()
        } catch {
            guard error != .resourceTemporarilyUnavailable else { throw .changed }
            throw .failed("the tree's CID: \(FailureCause.words(for: error))")
        }
        manifest.withLock { _ in running.publication.noteAttempt(changes: running.changes) }
        let known = manifest.withLock { $0.published }
        var sent = root
        if known?.root != root {
            sent = try sendTree(root, node)
            try pin(sent, known?.root, node)
            manifest.withLock { state in
                state.published?.root = sent
                state.published?.time = .now()
            }
            log.info("published", metadata: ["root": "\(sent)"])
        }
        manifest.withLock { _ in running.publication.notePublished() }
        try showTree(sent, node)
        do throws(Errno) {
            try manifest.commit()
        } catch {
            throw .failed("what was published cannot be noted: \(FailureCause.words(for: error))")
        }
    }

    /// Pins a root in place of the one before.
    private func pin(_ root: CID, _ old: CID?, _ node: NodeLink) throws(PublishFailure) {
        let isOffline = !node.state.withLock { $0.mustAskPeers }
        // A node that has peers looks for missing blocks there although it is told not to (seen on
        // 0.42), and may never end.
        let limit = isOffline ? node.options.pinMilliseconds : nil
        do throws(KuboError) {
            let (client, cancellation) = (node.client, node.cancellation)
            if let old, old != root,
                try client.pin(of: old, kind: .recursive, cancellation: cancellation) != nil
            {
                try replacePin(old, by: root, node, isOffline: isOffline, limit)
            }
            let pin = try client.pin(of: root, kind: .recursive, cancellation: cancellation)
            if pin?.name != node.pinName {
                try client.pinAdd(
                    root, name: node.pinName, isOffline: isOffline, stallMilliseconds: limit,
                    cancellation: cancellation)
            }
            node.state.withLock { $0.mustAskPeers = false }
        } catch {
            let mayBeLost = error.kind == .notFound || error.kind == .timeout
            guard mayBeLost, isOffline else { throw .node(error) }
            // The node has lost blocks that it had: a garbage collection before the pin, or worse.
            log.warning("the node lacks blocks of \(root): they are sent again: \(error)")
            forgetPublished(node)
            throw .changed
        }
    }

    private func replacePin(
        _ old: CID, by root: CID, _ node: NodeLink, isOffline: Bool, _ limit: Int?
    ) throws(KuboError) {
        do throws(KuboError) {
            try node.client.pinUpdate(
                from: old, to: root, isOffline: isOffline, deadlineMilliseconds: limit,
                cancellation: node.cancellation)
        } catch {
            switch error.kind {
            // Both are pinned: by somebody else, or since an attempt of which no answer came.
            case .conflict: break
            // Blocks are missing, or so much is new that the node needs longer. It does not say of this
            // call how far it has come; of the other one it does.
            case .timeout:
                try node.client.pinAdd(
                    root, name: node.pinName, isOffline: isOffline, stallMilliseconds: limit,
                    cancellation: node.cancellation)
            default: throw error
            }
            try node.client.pinRemove(old, cancellation: node.cancellation)
        }
    }

    /// Begins an epoch in which nothing is known to be at the node.
    func forgetPublished(_ node: NodeLink) {
        manifest.withLock { state in
            state.published?.epoch += 1
        }
        node.forgetSent()
        node.outbox.withLock { $0.searchAgain() }
        node.state.withLock { state in
            state.mayHaveMore = true
            state.mustAskPeers = true
        }
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
    private func sendTree(_ root: CID, _ node: NodeLink) throws(PublishFailure) -> CID {
        let isExact = manifest.withLock { _ in running.publication.mayBeExact }
        let upload = Upload(self, node)
        var claimed: Set<UInt64> = []
        var walked: Set<Inode> = [.root]
        defer {
            upload.end()
            node.outbox.withLock { $0.end(claimed) }
            node.outbox.wakeAll()
        }
        var levels = [
            Level(
                inode: .root, cid: root, name: [], pending: nil,
                builder: DirectoryBuilder(profile: profile))
        ]
        while let last = levels.indices.last {
            guard !node.isStopping else { throw .changed }
            if levels[last].pending == nil {
                levels[last].pending = try names(in: levels[last].inode)
            }
            guard let entry = levels[last].pending?.popLast() else {
                let made = try sendDirectory(&levels[last], upload)
                guard !isExact || made.cid == levels[last].cid else { throw .changed }
                let name = levels.removeLast().name
                guard let parent = levels.indices.last else {
                    try sending { () throws(KuboError) in try upload.flush() }
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
                    try claim(object, node)
                    claimed.insert(object)
                    // Where it was sent meanwhile, or went, nothing is added.
                    try sending { () throws(KuboError) in try upload.add(object: object) }
                }
            case .block(let cid, let treeSize, let bytes):
                levels[last].builder.add(name: name, cid: cid, treeSize: treeSize)
                try sending { () throws(KuboError) in try upload.add(cid, bytes) }
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

    private func sending(_ body: () throws(KuboError) -> Void) throws(PublishFailure) {
        do throws(KuboError) { try body() } catch { throw .node(error) }
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
    private func claim(_ object: UInt64, _ node: NodeLink) throws(PublishFailure) {
        let isOurs = node.outbox.withLock { outbox in
            while outbox.isUnderWay(object), !node.isStopping {
                node.outbox.wait(&outbox, milliseconds: 500)
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
            try sending { () throws(KuboError) in try upload.add(cid, block) }
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
            try sending { () throws(KuboError) in
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
    fileprivate func isBeingWritten(_ options: NodeOptions) -> Bool {
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
        root: CID?, published: PublishedState?, changes: UInt64, options: NodeOptions,
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
