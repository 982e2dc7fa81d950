internal import Base
internal import InodeManifest
internal import Logging
internal import Multiformats
internal import ObjectStore
internal import Remotes

internal import struct SystemPackage.Errno

// A root is published in this order: all blocks below it, children before their parents → the pin
// → the note in the manifest → the MFS mirror. So the node never holds a pinned root, nor a mirror,
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
        manifest.withLock { $0.sealed.keep() }
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
            try pinSnapshots(connection)
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
                root: isSamePeer ? old?.root : nil,
                rootCount: isSamePeer ? old?.rootCount ?? 0 : 0, mirror: nil, time: .now())
            return !isSamePeer
        }
        if isOther {
            connection.sentBlocks.removeAll()
            connection.outbox.withLock { $0.searchAgain() }
        }
        do throws(Errno) {
            try countCache(connection.fetcher)
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
        let due = manifest.withLock { state in
            publishing(state).publication.due(
                root: (try? state.inode(.root))?.cid, published: state.published,
                changes: publishing(state).changes, options: connection.options)
        }
        let isDue = due == .yes || due == .atRest && !isBeingWritten(connection.options)
        let interval = connection.options.publishIntervalMilliseconds
        guard
            isDue || isWanted
                || connection.goals.isMirrorDue(intervalMilliseconds: interval)
        else { return }
        // To look at the mirror is no reason to hash what somebody is writing.
        if !isDue, !isWanted, isBeingWritten(connection.options) {
            return try mergeMirror(connection)
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
        try mergeMirror(connection)
        let rootCount = manifest.withLock { $0.roots.begin() }
        defer { manifest.withLock { $0.roots.end() } }
        let root: CID
        do throws(Errno) {
            root = try cid(of: .root)
            // While SQLite is told of what was sealed, it is on its way already.
            try fillOutbox(connection)
            connection.outbox.wakeAll()
            try manifest.checkpoint()
        } catch {
            guard error != .resourceTemporarilyUnavailable else { throw .changed }
            throw .failed("the tree's CID: \(FailureCause.words(for: error))")
        }
        manifest.withLock { state in
            publishing(state).publication.noteAttempt(changes: publishing(state).changes)
        }
        let known = manifest.withLock { $0.published }
        var sent = root
        if known?.root != root {
            sent = try TreeUpload(self, connection).send(root)
            try pin(sent, rootToUnpin(known?.root, connection), connection)
            manifest.withLock { state in
                state.published?.root = sent
                state.published?.rootCount = rootCount
                state.published?.time = .now()
            }
            log.info("published", metadata: ["root": "\(sent)"])
        }
        manifest.withLock { state in publishing(state).publication.notePublished() }
        try mirrorTree(sent, connection)
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
}
