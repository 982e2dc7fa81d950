internal import Base
internal import Glibc
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats

internal import struct SystemPackage.Errno

// The room of snapshots: moments of the tree that have a name.
//
// Owns: the making, restoring and deleting of snapshots, and the view of them (SnapshotView.swift). What they are, and what is kept for them,
// is the manifest's (`Snapshots` of InodeManifest).
// Locks: the tree's while a snapshot is made; the manifest's for a moment. Nobody is stopped meanwhile.
// Invariants: a snapshot is a tree that was, whole: the root is known and the snapshot is made in one step under the manifest's lock. What it has
// is never changed in place. One that is told as made is durable; after a crash it is there or not, and its root is whole.

extension Volume {
    /// Gives the tree as it is now a name. What did not change since its CID was known the last time is not looked at; files that
    /// are being written are copied. Blocks for what is not hashed yet.
    ///
    /// - Parameters:
    ///   - name: nil for one made of the time.
    ///   - isAutomatic: `--snapshot-every` makes it.
    ///   - withManifest: makes the portable manifest too.
    /// - Throws: `snapshot` for a name that is taken or none; `operation`.
    public func createSnapshot(
        named name: String? = nil, message: String = "", isAutomatic: Bool = false,
        withManifest: Bool = false
    ) throws(VolumeError) -> Snapshot {
        // What other work of this thread left behind is no cause of what fails here.
        FailureCause.take()
        let now = Timestamp.now().nanoseconds
        let name = try newSnapshotName(name, at: now)
        guard message.utf8.count <= Snapshot.messageLengthMax else {
            throw .snapshot(
                "the message is longer than \(Snapshot.messageLengthMax) bytes: shorten it")
        }
        let moment = SnapshotMoment(reading: try manifestReading(withManifest, name)) {
            (moment, state, root, treeSize) throws(Errno) in
            try self.refuseSnapshot(name, state)
            return state.takeSnapshot(
                name: name, root: root, treeSize: treeSize, time: now, message: message,
                isAutomatic: isAutomatic, nodes: moment.nodes,
                frozen: self.frozenObjects(moment, state))
        }
        defer { endMoment(moment) }
        do throws(Errno) {
            try changing { (state) throws(Errno) in try checkRoom(state) }
            if withManifest { try loadAllDirectories() }
            try background.run { () throws(Errno) in try takeTree(moment) }
        } catch {
            throw .operation(failed: "snapshot \(name)", error)
        }
        guard let taken = moment.taken else {
            throw .operation("snapshot \(name)", .resourceTemporarilyUnavailable)
        }
        do throws(Errno) {
            try manifest.commit()
        } catch {
            manifest.withLock { state in
                state.beginRemoval(of: taken.id)
                _ = state.endRemoval(of: taken.id, isDurable: true)
            }
            sweepSnapshots(keptIn: taken.id...taken.id)
            throw .operation(failed: "snapshot \(name)", error)
        }
        if let reading = moment.reading {
            do throws(VolumeError) {
                _ = try writeManifest(of: taken, reading)
            } catch {
                try? deleteSnapshot(named: name)
                throw error
            }
        }
        snapshotsChanged(name)
        return try snapshot(named: name)
    }

    /// Under the manifest's lock, at the moment when the snapshot is made.
    private func refuseSnapshot(_ name: String, _ state: ManifestState) throws(Errno) {
        // Another one may have been faster.
        guard state.snapshots.named(name) == nil else {
            throw .fileExists.because("snapshot \(name) is there already: take another name")
        }
        // What came back and is not looked into yet is the other snapshot's still, and would go with that.
        guard !state.snapshots.isRestoring else {
            throw .resourceTemporarilyUnavailable.because(
                "a snapshot is being restored: wait until that is done")
        }
    }

    private func manifestReading(
        _ isWanted: Bool, _ name: String
    ) throws(VolumeError) -> ManifestReading? {
        guard isWanted else { return nil }
        do throws(Errno) {
            return try manifest.openReading()
        } catch {
            throw .operation(failed: "snapshot \(name)", error)
        }
    }

    /// All snapshots, the oldest first.
    public func snapshots() -> [Snapshot] {
        manifest.withLock { $0.snapshots.all.map { Snapshot($0) } }
    }

    /// The snapshot of a name.
    ///
    /// - Throws: `snapshot` where there is none.
    public func snapshot(named name: String) throws(VolumeError) -> Snapshot {
        guard let found = manifest.withLock({ $0.snapshots.named(name) }) else {
            throw .snapshot("there is no snapshot \(name): see registryfs snapshot list")
        }
        return Snapshot(found)
    }

    private func newSnapshotName(
        _ wanted: String?, at time: Int64
    ) throws(VolumeError) -> String {
        if let wanted {
            guard Snapshot.isName(wanted) else {
                throw .snapshot(
                    "\"\(shown(Array(wanted.utf8)))\" is no name of a snapshot: take 1 to "
                        + "\(Snapshot.nameLengthMax) letters, digits and . _ - : + @, not beginning with . or -"
                )
            }
            guard manifest.withLock({ $0.snapshots.named(wanted) }) == nil else {
                throw .snapshot("snapshot \(wanted) is there already: take another name")
            }
            return wanted
        }
        let stem = Snapshot.name(at: time)
        let names = Set(manifest.withLock { $0.snapshots.all.map(\.name) })
        var (name, count) = (stem, 1)
        while names.contains(name) {
            count += 1
            name = "\(stem)-\(count)"
        }
        return name
    }

    /// Computes the tree's CID, and makes the snapshot at the moment when it is known.
    private func takeTree(_ moment: SnapshotMoment) throws(Errno) {
        syncAllFromBacking()
        try seals.treeLock.withLock { (_) throws(Errno) in
            for attempt in 0..<Self.treeAttemptsMax {
                if attempt > 0 { usleep(1000) }
                moment.begin()
                do throws(Errno) {
                    try freezeWrittenFiles(moment)
                    if try computeTree(.root, moment) != nil, !moment.isLate { return }
                } catch {
                    // Something that was listed is gone by now.
                    guard error == Self.stale else { throw error }
                }
            }
            throw .resourceTemporarilyUnavailable.because("the tree never stands still")
        }
    }

    /// Deletes a snapshot, and what no other and nothing else has of it.
    ///
    /// - Throws: `snapshot` where there is none; `operation`.
    public func deleteSnapshot(named name: String) throws(VolumeError) {
        FailureCause.take()
        guard !options.isReadOnly else {
            throw .operation("deleting snapshot \(name)", .readOnlyFileSystem)
        }
        var isRestored = false
        let removed = manifest.withLock { state -> (StoredSnapshot, ClosedRange<UInt64>)? in
            guard let found = state.snapshots.named(name) else { return nil }
            if state.snapshots.restoration?.root == found.root {
                isRestored = state.snapshots.isRestoring
                guard !isRestored else { return nil }
                // One that could not be ended would never be.
                state.setRestoration(nil)
            }
            let next = state.snapshots.all.first { $0.id > found.id }?.id
            state.beginRemoval(of: found.id)
            return (found, found.id...max(found.id, next.map { $0 - 1 } ?? state.snapshots.last))
        }
        guard !isRestored else {
            throw .snapshot("snapshot \(name) is being restored: wait until that is done")
        }
        guard let (snapshot, range) = removed else {
            throw .snapshot("there is no snapshot \(name): see registryfs snapshot list")
        }
        var failure: Errno?
        do throws(Errno) {
            try manifest.commit()
        } catch {
            failure = error
        }
        let isDone = manifest.withLock { state in
            state.endRemoval(of: snapshot.id, isDurable: failure == nil)
        }
        if let failure, !isDone {
            throw .operation(failed: "deleting snapshot \(name)", failure)
        }
        sweepSnapshots(keptIn: range)
        snapshotsChanged(name)
    }

    /// Lets go the objects that no snapshot needs, among those that were kept with a number of the range. What a crash leaves of it is done
    /// at the next opening.
    func sweepSnapshots(keptIn range: ClosedRange<UInt64>) {
        do throws(Errno) {
            manifest.withLock { $0.sweepNodes(range) }
            try manifest.checkpoint()
            while true {
                let ids = try reading { (state) throws(Errno) in
                    try state.rows.unneededObjects(keptIn: range, limit: Self.sweptAtOnce)
                }
                guard !ids.isEmpty else { return }
                var count = 0
                for id in ids {
                    try manifest.withLock { (state) throws(Errno) in
                        guard let object = try state.object(id), object.kept > 0 else { return }
                        state.letGoIfUnneeded(object)
                        if object.kept == 0 { count += 1 }
                    }
                }
                try manifest.checkpoint()
                // What is there still is needed by now.
                guard count > 0 else { return }
            }
        } catch {
            log.warning(
                "snapshots: what none needs stays for now: \(FailureCause.words(for: error))")
        }
    }

    private static let sweptAtOnce = 4_096

    /// As `sweepSnapshots`, whatever it was kept for.
    func sweepAllSnapshots() {
        let last = manifest.withLock { $0.snapshots.last }
        guard last > 0 else { return }
        sweepSnapshots(keptIn: 1...last)
    }
}

extension Snapshot {
    init(_ stored: StoredSnapshot) {
        self.init(
            number: stored.id, name: stored.name, root: stored.root, treeSize: stored.treeSize,
            createdAt: stored.time, message: stored.message, isAutomatic: stored.isAutomatic,
            manifest: stored.manifest)
    }
}
