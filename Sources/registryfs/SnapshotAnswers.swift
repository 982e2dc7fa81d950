import Base
import FuseSession
import Multiformats
import Volume

extension Volume {
    /// Does what a request asks of the snapshots.
    func answer(
        _ request: SnapshotRequest, data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> SnapshotResult {
        guard !options.isReadOnly || !request.changes || request.action == .diff else {
            throw Failure("the mount is read-only: mount it without --read-only")
        }
        var result = SnapshotResult()
        switch request.action {
        case .create:
            let made = try naming { () throws(VolumeError) in
                try createSnapshot(
                    named: request.names.first, message: request.message,
                    withManifest: request.withManifest)
            }
            result.snapshot = SnapshotReport(made)
        case .list:
            for snapshot in snapshots() { try Self.tell(snapshot, data) }
        case .show:
            result.snapshot = SnapshotReport(try named(request.names.first ?? ""))
        case .diff:
            try tellDifferences(request, data)
        case .restore:
            let path = request.path.map { FileName(Array($0)) }
            let restored = try naming { () throws(VolumeError) in
                try restore(request.names.first ?? "", path: path)
            }
            result.restored = RestoreReport(restored)
        case .delete:
            // All are looked for first, so that a name that is misspelt deletes nothing.
            var all: [Snapshot] = []
            for name in request.names { all.append(try named(name)) }
            try delete(all, isDryRun: false, data)
        case .prune:
            result.kept = try prune(request, data)
        }
        return result
    }

    private func prune(
        _ request: SnapshotRequest, _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> Int {
        guard let rule = request.rule, rule.isUsable else {
            throw Failure("a rule is missing that says what stays: give --keep-last or another")
        }
        let all = snapshots().filter { $0.isAutomatic || !request.automaticOnly }
        let pruned = rule.pruned(of: all)
        try delete(pruned, isDryRun: request.isDryRun, data)
        return all.count - pruned.count
    }

    /// Deletes snapshots, and tells of each one.
    private func delete(
        _ snapshots: [Snapshot], isDryRun: Bool,
        _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        for snapshot in snapshots {
            if !isDryRun {
                try naming { () throws(VolumeError) in try deleteSnapshot(named: snapshot.name) }
            }
            try Self.tell(snapshot, data)
        }
    }

    private func tellDifferences(
        _ request: SnapshotRequest, _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        guard request.names.count == 2 else { throw Failure("two trees are compared") }
        let (old, new) = (try tree(request.names[0]), try tree(request.names[1]))
        var buffer: [UInt8] = []
        var sentAt = MonotonicClock.milliseconds
        var failure: Failure?
        try naming { () throws(VolumeError) in
            try forEachDifference(from: old, to: new) { difference in
                buffer += DifferenceRecord.bytes(difference)
                // Who watches need not wait for the end.
                guard
                    buffer.count >= Self.pieceCount
                        || MonotonicClock.milliseconds - sentAt >= Self.pieceMilliseconds
                else { return true }
                do throws(Failure) {
                    try buffer.withBytes(data)
                } catch {
                    failure = error
                    return false
                }
                buffer.removeAll(keepingCapacity: true)
                sentAt = MonotonicClock.milliseconds
                return true
            }
        }
        if let failure { throw failure }
        if !buffer.isEmpty { try buffer.withBytes(data) }
    }

    private static let pieceCount = 64 << 10
    private static let pieceMilliseconds = 500

    /// The tree that a person named.
    private func tree(_ text: String) throws(Failure) -> ComparedTree {
        if text == "." { return .live }
        // A snapshot can have the name of a CID.
        if snapshots().contains(where: { $0.name == text }) { return .snapshot(text) }
        if let cid = try? CID(parsing: text) { return .root(cid) }
        throw Failure(
            "'\(RawText.shown(text))' is neither a snapshot nor a CID: registryfs snapshot list shows them",
            kind: .absent)
    }

    private func named(_ name: String) throws(Failure) -> Snapshot {
        try naming { () throws(VolumeError) in try snapshot(named: name) }
    }

    private static func tell(
        _ snapshot: Snapshot, _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        try ControlProtocol.encode(SnapshotReport(snapshot)).withBytes(data)
    }

    private func naming<Result>(_ body: () throws(VolumeError) -> Result) throws(Failure) -> Result
    {
        do throws(VolumeError) {
            return try body()
        } catch {
            throw Failure(volume: error)
        }
    }
}

extension Daemon {
    /// Answers a request about the snapshots of the mount.
    func answerSnapshots(_ request: ControlRequest, _ answer: ControlAnswer) throws(Failure) {
        // Where the tree follows a name, the kernel alone refuses changes.
        guard request.snapshot?.action != .restore || !settings.fuse.isReadOnly else {
            throw Failure("the mount is read-only: restore into another")
        }
        answer.done(
            try volume.answer(request) { (bytes) throws(Failure) in try answer.data(bytes) })
    }
}
