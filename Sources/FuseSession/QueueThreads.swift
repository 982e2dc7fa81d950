internal import Base
internal import CFuse
internal import Glibc
internal import Logging
internal import Volume

internal import struct SystemPackage.Errno

/// The threads of the kernel's queues of io_uring: whether the mount has them, and their start.
///
/// What can be known before the mount is looked at by `prepare`. What is asked for in the answer to
/// INIT can be taken back by a `RingFallback`, which is made before that. `start` follows the answer.
final class QueueThreads: Sendable {
    private struct State {
        var rings = Rings.off(reason: "the mount is not ready")
        /// How many queues the kernel has for requests by io_uring; 0 where that is not asked for.
        var queueCount = 0
    }

    private let configuration: FuseConfiguration
    private let context: FuseContext
    private let workers: WorkerThreads
    private let log: Logger
    private let state = Monitor(State())

    init(
        _ configuration: FuseConfiguration, _ context: FuseContext, _ workers: WorkerThreads,
        _ log: Logger
    ) {
        self.configuration = configuration
        self.context = context
        self.workers = workers
        self.log = log
    }

    /// Whether requests come through io_uring, or why they do not.
    var rings: Rings { state.withLock { $0.rings } }

    /// Whether the kernel will be asked for them.
    var areAskedFor: Bool { state.withLock { $0.queueCount } > 0 }

    /// Finds out whether requests may come by io_uring, before the mount.
    func prepare() {
        guard configuration.usesRings else {
            return state.withLock { $0.rings = .off(reason: "no_io_uring was asked for") }
        }
        do throws(RingsUnavailable) {
            try RingSupport.checkSwitch()
            try RingSupport.checkRings()
            let queueCount = try RingSupport.queueCount()
            try RingSupport.checkDescriptors(
                rings: queueCount * threads(queueCount: queueCount))
            context.askForRings(true)
            state.withLock { $0.queueCount = queueCount }
        } catch {
            let reason = error.reason
            state.withLock { $0.rings = .off(reason: reason) }
        }
    }

    /// Makes sure, before INIT is answered, that what it asks for can be taken back.
    func prepareFallback(_ mounted: MountedSession) -> RingFallback? {
        guard areAskedFor else { return nil }
        do throws(Errno) {
            return try RingFallback(device: mounted.device)
        } catch {
            context.askForRings(false)
            state.withLock { state in
                state.queueCount = 0
                state.rings = .off(reason: "the system refuses io_uring: \(error)")
            }
            return nil
        }
    }

    /// Starts the threads that serve the kernel's queues, once INIT is answered. Until each queue has
    /// one, all requests wait.
    func start(_ mounted: MountedSession, _ fallback: RingFallback?) {
        let queueCount = state.withLock { $0.queueCount }
        var reason: String?
        if let fallback {
            if context.agreed(on: InitFlag.overIOUring) {
                reason = serveQueues(mounted, queueCount, fallback)
            } else {
                reason = "the kernel does not offer it"
            }
            if reason != nil { startRemainingForDevice(mounted) }
            state.withLock { [reason] in $0.rings = reason.map { .off(reason: $0) } ?? .on }
        }
        if configuration.usesRings, case .off(let reason) = rings {
            log.notice("without io_uring: \(reason)")
        }
    }

    /// Starts the queues' threads and waits for all to take part; the reason where the mount does
    /// without.
    private func serveQueues(
        _ mounted: MountedSession, _ queueCount: Int, _ fallback: RingFallback
    ) -> String? {
        let threads = threads(queueCount: queueCount)
        var counts = Array(repeating: 0, count: queueCount)
        var failure: Errno?
        for queue in 0..<UInt16(queueCount) {
            context.waits.add(
                queue: queue, usual: configuration.threads(queueCount: queueCount))
        }
        // Each queue has one before any has the next: one is enough to be served.
        for _ in 0..<threads where failure == nil {
            failure = startRound(mounted, &counts)
        }
        for queue in 0..<UInt16(queueCount) where context.waits.complete(queue: queue) {
            drain(queue, of: mounted, count: threads)
        }
        guard let failure else { return nil }
        guard counts.contains(0) else {
            log.warning(
                "few threads serve the queues of io_uring",
                metadata: [
                    "threads": "\(counts.reduce(0, +)) of \(threads * queueCount)",
                    "errno": "\(failure)",
                ])
            return nil
        }
        fallback.giveUp()
        return "a thread could not take part: \(failure)"
    }

    /// How many threads serve each queue.
    private func threads(queueCount: Int) -> Int {
        configuration.threads(queueCount: queueCount)
            + (context.volume.hasRemote ? configuration.spareThreads(queueCount: queueCount) : 0)
    }

    /// Has what was queued before all places were there come to those that are free.
    ///
    /// The kernel gives a new place what comes from then on, and what is queued already only to a place
    /// whose request is answered (fuse_uring_next_fuse_req of fs/fuse/dev_uring.c, Linux 6.18). Where
    /// those that were answered are none, because all wait for a Kubo node, it takes one more request for each:
    /// statfs(2) of the mount, which waits for no lock of the kernel's and for no Kubo node.
    private func drain(_ queue: UInt16, of mounted: MountedSession, count: Int) {
        let path = mounted.point.path
        let thread = try? Threads.start(name: "rfs-drain") {
            guard Threads.pin(toProcessor: Int(queue)) else { return }
            for _ in 0..<count {
                // Which asks nothing of the mount, and is held no longer than needed.
                guard let file = try? Sys.open(path, flags: Sys.pathOnly | O_DIRECTORY),
                    (try? Sys.filesystemStatus(of: file.raw)) != nil
                else { return }
            }
        }
        thread?.join()
    }

    /// Starts a thread for each queue, and counts those that take part; what went wrong, if anything.
    private func startRound(_ mounted: MountedSession, _ counts: inout [Int]) -> Errno? {
        var mask = sigset_t()
        rfs_block_signals(&mask)
        defer { pthread_sigmask(SIG_SETMASK, &mask, nil) }
        var failure: Errno?
        var started: [(queue: Int, startup: StartupResult)] = []
        for queue in counts.indices {
            do throws(Errno) {
                started.append((queue, try workers.start(mounted, queue: UInt16(queue))))
            } catch {
                failure = error
                break
            }
        }
        for (queue, startup) in started {
            if let error = startup.wait() {
                failure = error
            } else {
                counts[queue] += 1
                context.waits.join(queue: UInt16(queue))
            }
        }
        return failure
    }

    /// Starts the threads of the device that were not, because the queues were to have them.
    private func startRemainingForDevice(_ mounted: MountedSession) {
        let count = configuration.threads - configuration.deviceThreadsBesideRings
        do throws(Errno) {
            try workers.startForDevice(mounted, count: max(0, count))
        } catch {
            // Those that there are serve all the same, fewer at a time.
            log.warning("few threads serve the mount", metadata: ["errno": "\(error)"])
        }
    }
}
