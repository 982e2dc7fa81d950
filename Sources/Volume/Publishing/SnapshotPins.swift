internal import Base
internal import InodeManifest
internal import Logging
internal import MerkleDAG
internal import Multiformats
internal import Remotes

internal import struct SystemPackage.Errno

// Where there is a remote, each snapshot's root is pinned there, under a name of its own. What is pinned is asked of the remote once for each
// connection, and then known; so a pin of a snapshot that was deleted while the remote was away ends too. Most of a snapshot's blocks are there
// already, because they were the tree's: a pin that is refused says that some are not, and then those are sent.

/// What is known of the pins of snapshots.
final class SnapshotPins: Sendable {
    struct State {
        /// The epoch in which the remote was asked; nil before.
        var asked: UInt64?
        /// Roots that are pinned under names of snapshots.
        var pinned: [String: CID] = [:]
        /// The newest snapshot when all were pinned.
        var complete: UInt64 = 0
        /// Roots of the tree whose pins had to stay for the snapshots' sake.
        var leftOver: Set<CID> = []
    }

    let state = Monitor(State())
}

extension Volume {
    /// Has the remote keep the roots of all snapshots, and no others of their kind.
    func pinSnapshots(_ connection: RemoteConnection) throws(PublishFailure) {
        let (snapshots, published) = manifest.withLock { ($0.snapshots.all, $0.published) }
        guard let published else { return }
        let prefix = connection.pinName + Self.snapshotMark
        let known = connection.snapshotPins.state.withLock { $0.asked == published.epoch }
        // Of a volume that never had one, nothing is asked.
        guard known || manifest.withLock({ $0.snapshots.last > 0 }) else { return }
        if !known {
            let found: [RemotePin]
            do throws(RemoteError) {
                found = try connection.store.pins(
                    namePrefix: prefix, cancellation: connection.cancellation)
            } catch {
                throw .remote(error)
            }
            connection.snapshotPins.state.withLock { state in
                state.asked = published.epoch
                state.pinned = [:]
                for pin in found { state.pinned[pin.name] = pin.root }
            }
        }
        var stale = connection.snapshotPins.state.withLock { $0.pinned }
        let pinned = Set(stale.values)
        // A root is pinned once, under one name.
        var roots: Set<CID> = published.root.map { [$0] } ?? []
        for snapshot in snapshots {
            let name = prefix + snapshot.name
            if stale[name] == snapshot.pinnedRoot { stale[name] = nil }
            guard roots.insert(snapshot.pinnedRoot).inserted,
                !pinned.contains(snapshot.pinnedRoot)
            else { continue }
            try pin(snapshot, as: name, connection)
            connection.snapshotPins.state.withLock { $0.pinned[name] = snapshot.pinnedRoot }
        }
        let leftOver = connection.snapshotPins.state.withLock { state in
            state.complete = snapshots.last?.id ?? 0
            return state.leftOver
        }
        for root in leftOver {
            if published.root != root, !snapshots.contains(where: { $0.pinnedRoot == root }) {
                try unpin(root, connection)
            }
            connection.snapshotPins.state.withLock { _ = $0.leftOver.remove(root) }
        }
        for (name, root) in stale {
            let isNeeded = snapshots.contains { $0.pinnedRoot == root } || published.root == root
            if !isNeeded { try unpin(root, connection) }
            connection.snapshotPins.state.withLock { state in
                if state.pinned[name] == root, !isNeeded { state.pinned[name] = nil }
            }
        }
    }

    /// Whether what a snapshot has may be left to the remote.
    func areSnapshotsPinned(_ state: ManifestState) -> Bool {
        guard let connection else { return false }
        return connection.snapshotPins.state.withLock { $0.complete >= state.snapshots.newest }
    }

    /// Pins the snapshots before the pin of the tree's last root ends, which may be all that keeps their blocks.
    ///
    /// - Returns: the root whose pin is to end; nil where it has to stay.
    func rootToUnpin(_ old: CID?, _ connection: RemoteConnection) -> CID? {
        guard let old else { return nil }
        do throws(PublishFailure) {
            try pinSnapshots(connection)
            if !isSnapshotRoot(old) { return old }
        } catch {
            // Later, once they are pinned.
        }
        connection.snapshotPins.state.withLock { _ = $0.leftOver.insert(old) }
        return nil
    }

    /// What stands between the name of the tree's pin and that of a snapshot.
    static let snapshotMark = "@snapshot:"

    /// Whether a snapshot has the root, so that its pin must not end.
    func isSnapshotRoot(_ root: CID) -> Bool {
        manifest.withLock { $0.snapshots.all.contains { $0.root == root || $0.manifest == root } }
    }

    private func unpin(_ root: CID, _ connection: RemoteConnection) throws(PublishFailure) {
        do throws(RemoteError) {
            try connection.store.unpin(root, cancellation: connection.cancellation)
        } catch {
            guard error.kind == .notFound else { throw .remote(error) }
        }
    }

    private func pin(
        _ snapshot: StoredSnapshot, as name: String, _ connection: RemoteConnection
    ) throws(PublishFailure) {
        var request = PinRequest(snapshot.pinnedRoot, replacing: nil, name: name)
        request.stallMilliseconds = connection.options.pinMilliseconds
        request.cancellation = connection.cancellation
        do throws(RemoteError) {
            return try connection.store.pin(request)
        } catch {
            guard error.kind == .notFound || error.kind == .timeout else { throw .remote(error) }
        }
        try sendMissing(below: snapshot.pinnedRoot, connection)
        do throws(RemoteError) {
            try connection.store.pin(request)
        } catch {
            throw .remote(error)
        }
        log.info(
            "snapshot \(snapshot.name) is pinned", metadata: ["root": "\(snapshot.pinnedRoot)"])
    }

    /// Sends the blocks of a DAG that the remote has not.
    private func sendMissing(
        below root: CID, _ connection: RemoteConnection
    ) throws(PublishFailure) {
        var (waiting, seen): ([CID], Set<[UInt8]>) = ([root], [])
        var batch: [(cid: CID, bytes: [UInt8])] = []
        var byteCount = 0
        func send() throws(PublishFailure) {
            guard !batch.isEmpty else { return }
            var rest = batch[...]
            do throws(RemoteStreamError<Never>) {
                try connection.store.importBlocks(cancellation: connection.cancellation) {
                    () throws(Never) in rest.popFirst()
                }
            } catch {
                switch error {
                case .remote(let error): throw .remote(error)
                }
            }
            connection.noteSent(batch.map(\.cid), bytes: byteCount)
            (batch, byteCount) = ([], 0)
        }
        while let cid = waiting.popLast() {
            guard seen.insert(cid.multihash.bytes).inserted else { continue }
            let isThere: Bool
            do throws(RemoteError) {
                isThere = try connection.store.has(cid, cancellation: connection.cancellation)
            } catch {
                throw .remote(error)
            }
            if isThere, cid.codec == .raw { continue }
            let bytes: [UInt8]
            do throws(VolumeError) {
                bytes = try committedBlock(cid, isOfTree: true)
            } catch {
                throw .failed("a snapshot cannot be published: \(error)")
            }
            waiting += cid.links(of: bytes)
            guard !isThere else { continue }
            batch.append((cid, bytes))
            byteCount += bytes.count
            if byteCount >= Self.sentAtOnce { try send() }
        }
        try send()
    }

    /// Bytes.
    private static let sentAtOnce = 16 << 20
}

extension StoredSnapshot {
    /// What keeps all of it: the manifest links to the tree.
    var pinnedRoot: CID { manifest ?? root }
}
