internal import Base
internal import InodeManifest
internal import Multiformats
internal import ObjectStore

extension Volume {
    /// Whether somebody wrote to a backing file within the time that a tree has to rest: of that
    /// nobody is told.
    func isBeingWritten(_ options: RemoteOptions) -> Bool {
        let files = manifest.withLock { state in
            opens(state).files.values.compactMap { file in
                file(state).backing.flatMap { $0.isWritable ? $0.file : nil }
            }
        }
        let now = Timestamp.now().nanoseconds
        return files.contains { file in
            guard let status = try? Sys.status(of: file.raw) else { return false }
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

    /// Whether to publish now.
    enum Due {
        case no, yes
        /// Unless somebody is writing to a backing file.
        case atRest
    }

    mutating func due(
        root: CID?, published: PublishedState?, changes: UInt64, options: RemoteOptions
    ) -> Due {
        let now = MonotonicClock.milliseconds
        if changes != self.changes {
            self.changes = changes
            restingSince = now
        }
        guard let published else { return .no }
        guard root == nil || root != published.root || root != published.mirror else {
            waitingSince = nil
            return .no
        }
        let since = waitingSince ?? now
        waitingSince = since
        if now - since >= Int64(options.publishIntervalMilliseconds) { return .yes }
        return now - restingSince >= Int64(options.quietMilliseconds) ? .atRest : .no
    }

    mutating func noteAttempt(changes: UInt64) {
        self.changes = changes
        waitingSince = nil
        attempts += 1
    }

    mutating func notePublished() { attempts = 0 }
}
