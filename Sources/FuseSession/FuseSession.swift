internal import Base
internal import CFuse
internal import Glibc
public import Logging
public import Volume

internal import struct SystemPackage.Errno

/// A volume mounted through FUSE: one mount, once, from `mount` to the end of `run`.
///
///     let session = try FuseSession(volume: volume, configuration: configuration, log: log)
///     try session.mount(at: "/var/lib/registry")
///     try session.run { print("ready") }     // until stop(), umount(8) or an abort
///
/// `run` serves with threads of its own, so it may be called on any thread that may block, never
/// on Swift's cooperative pool. The volume stays open: who opened it closes it after `run`.
///
/// The mount itself is `MountedSession`'s, the threads are `WorkerThreads`' and `QueueThreads`'; here
/// is in what order they begin and end.
public final class FuseSession: Sendable {
    private let configuration: FuseConfiguration
    private let log: Logger
    private let context: FuseContext
    private let workers: WorkerThreads
    private let queues: QueueThreads
    private let names: ChangedNames
    private let state = Monitor(State())

    private struct State {
        var phase = Phase.idle
        /// INIT has been answered, and the mount can be used.
        var isReady = false
        var isStopping = false
        var mount: MountedSession?
        var backings: BackingDevice?
        var passthrough = Passthrough.off(reason: "the mount is not ready")
    }

    private enum Phase {
        case idle, mounted, serving, ended
    }

    /// Makes a session; nothing is mounted yet.
    public init(volume: Volume, configuration: FuseConfiguration, log: Logger) throws(FuseError) {
        guard (1...256).contains(configuration.threads) else {
            throw .invalidOption(
                "threads=\(configuration.threads)", reason: "1 to 256 are possible")
        }
        self.configuration = configuration
        self.log = log
        let workers = WorkerThreads(waitingMax: configuration.waitingThreadsMax)
        self.workers = workers
        let context = FuseContext(volume: volume, configuration: configuration, log: log) {
            workers.noteInitialized()
        }
        self.context = context
        queues = QueueThreads(configuration, context, workers, log)
        // The volume keeps its observers, and the context the volume.
        names = ChangedNames { [weak context] name, parent in
            context?.dropName(name, of: parent)
        }
    }

    /// Takes a mount away that nobody came to serve; its users would hang otherwise.
    deinit {
        stop()
    }

    /// Mounts. The kernel's requests wait until `run` serves them, so until then nobody in this
    /// process may touch the mount point.
    ///
    /// - Throws: what is wrong with the place, the device or the rights; `wrongState` when this
    ///   session has been mounted before.
    public func mount(at path: String) throws(FuseError) {
        guard state.withLock({ $0.phase == .idle }) else { throw .wrongState }
        let point = try MountPoint.prepare(
            path, allowsNonEmpty: configuration.allowsNonEmptyMountPoint)
        queues.prepare()
        let mounted = try MountedSession.open(at: point, context)
        state.withLock { state in
            state.mount = mounted
            state.phase = .mounted
        }
        log.debug("mounted", metadata: ["path": "\(point.path)"])
    }

    /// Serves the mount until it ends: by `stop`, by umount(8), or by an abort of the connection.
    /// Blocks. When it returns, the mount, its threads and its descriptor are gone.
    ///
    /// - Parameter whenReady: called once on the calling thread, when INIT has been answered and
    ///   the mount can be used; not called where the mount ends before that. It must not call
    ///   `stop`, which waits for `run`.
    /// - Throws: `wrongState` without `mount`; `noThreads`, after unmounting.
    public func run(whenReady: () -> Void = {}) throws(FuseError) {
        let mounted = try state.withLock { state throws(FuseError) in
            guard state.phase == .mounted, !state.isStopping, let mounted = state.mount else {
                throw FuseError.wrongState
            }
            state.phase = .serving
            return mounted
        }
        context.volume.observeWaits(context.waits)
        context.volume.observeNames(names)
        context.volume.observePrivileges { [weak context] inode in
            context?.dropAttributes(of: inode)
        }
        let fallback = queues.prepareFallback(mounted)
        let failure = startWorkers(mounted)
        if failure != nil { abandon(mounted) }
        if workers.waitForInit() {
            state.withLock { $0.isReady = true }
            state.wakeAll()
            queues.start(mounted, fallback)
            mounted.raiseReadAhead(log)
            startPassthrough(mounted)
            whenReady()
        }
        workers.joinAll(mounted)
        finish(mounted)
        if let failure { throw failure }
    }

    /// Starts the workers with every signal blocked, so that signals go to the threads that expect
    /// them; only the wake signal gets through.
    private func startWorkers(_ mounted: MountedSession) -> FuseError? {
        guard rfs_install_wake_handler() == 0 else { return .noThreads(Errno(rawValue: errno)) }
        context.waits.begin { [weak self] in
            guard let self, let mounted = state.withLock({ $0.mount }) else { return false }
            return (try? workers.start(mounted, queue: nil)) != nil
        }
        let count =
            queues.areAskedFor ? configuration.deviceThreadsBesideRings : configuration.threads
        do throws(Errno) {
            try workers.startForDevice(mounted, count: count)
            return nil
        } catch {
            return .noThreads(error)
        }
    }

    /// Has the volume register files with the kernel where that is possible.
    private func startPassthrough(_ mounted: MountedSession) {
        let result: Passthrough
        if !configuration.usesPassthrough {
            result = .off(reason: "no_passthrough was asked for")
        } else if !context.agreed(on: InitFlag.passthrough) {
            result = .off(reason: "the kernel does not offer it; Linux 6.9 and later may")
        } else {
            let device = BackingDevice(mounted.device, context)
            do throws(Errno) {
                try context.volume.useBackingFiles(device)
                state.withLock { $0.backings = device }
                result = .on
            } catch {
                result = .refused(error)
            }
        }
        state.withLock { $0.passthrough = result }
        if case .off(let reason) = result, configuration.usesPassthrough {
            log.notice("without passthrough: \(reason)")
        }
    }

    // MARK: What others ask

    /// The requests that were served since the mount, by operation. What the kernel reads and writes
    /// itself in a backing file, and answers from its caches, is no request.
    public var operations: [OperationReport] { context.counters.report() }

    /// Whether requests come through io_uring, or why they do not.
    public var rings: Rings { queues.rings }

    /// Where the mount stands, as the kernel lists it: not where it was made when it, or a directory
    /// above it, was moved since. Nil where it does not stand. Touches no mount.
    public var mountPath: String? { state.withLock { $0.mount }?.path }

    /// Whether the kernel reads and writes open files itself, or why it does not.
    public var passthrough: Passthrough { state.withLock { $0.passthrough } }

    /// Blocks until the mount can be used; false where it ended before that.
    public func waitUntilReady() -> Bool {
        state.withLock { state in
            while !state.isReady && state.phase != .ended { self.state.wait(&state) }
            return state.isReady
        }
    }

    // MARK: End

    /// Ends the mount and blocks until all of it is gone; harmless when it has ended.
    ///
    /// What is written but still in the kernel goes to the volume first. Where files are open, the
    /// mount leaves the tree at once and they are served for `drainMilliseconds` more; then their
    /// users get ENOTCONN. Callable from any thread but those that serve.
    public func stop() {
        precondition(Current.worker == nil, "a thread that serves cannot wait for itself to end")
        let begun: (phase: Phase, mount: MountedSession?)? = state.withLock { state in
            guard state.phase == .mounted || state.phase == .serving, !state.isStopping else {
                return nil
            }
            state.isStopping = true
            return (state.phase, state.mount)
        }
        if let mounted = begun?.mount {
            if begun?.phase == .mounted {
                // Nobody serves, so nothing has been written, and nothing may wait for an answer.
                _ = KernelMount.unmount(mounted.path, detach: true)
                return finish(mounted)
            }
            endMount(mounted)
        }
        state.withLock { state in
            while state.phase == .serving || (state.isStopping && state.phase != .ended) {
                self.state.wait(&state)
            }
        }
    }

    /// Takes the mount out of the tree and makes every worker end, while they serve.
    private func endMount(_ mounted: MountedSession) {
        let path = mounted.path
        // Not busy: the kernel writes back, unmounts, and the workers' reads give ENODEV.
        switch KernelMount.unmount(path, detach: false) {
        case nil:
            return waitForWorkers(milliseconds: configuration.drainMilliseconds, mounted)
        case .resourceBusy?:
            break
        case .some(let error):
            // EINVAL: it is no mount any more, because somebody else unmounted it.
            log.debug("unmounting was not needed", metadata: ["errno": "\(error)"])
            return waitForWorkers(milliseconds: configuration.drainMilliseconds, mounted)
        }
        mounted.writeBack(path, log)
        if let error = KernelMount.unmount(path, detach: true) {
            log.warning(
                "the mount could not be detached",
                metadata: ["path": "\(path)", "errno": "\(error)"])
        }
        waitForWorkers(milliseconds: configuration.drainMilliseconds, mounted)
    }

    /// Ends a mount that could not be served by all its threads, and so has had no use.
    private func abandon(_ mounted: MountedSession) {
        _ = KernelMount.unmount(mounted.path, detach: true)
        waitForWorkers(milliseconds: 0, mounted)
    }

    /// Waits for the workers to see the end, and after a while interrupts them.
    private func waitForWorkers(milliseconds: Int, _ mounted: MountedSession) {
        guard !workers.waitForEnd(milliseconds: milliseconds) else { return }
        context.waits.end()
        // As long as requests are served that it may wait for.
        names.end()
        workers.interruptAll(mounted)
    }

    /// Frees what the mount consists of, once, after the last worker.
    private func finish(_ mounted: MountedSession) {
        mounted.detachIfStillThere(log)
        names.end()
        context.releases.end()
        context.failures.end()
        state.withLock { $0.backings }?.end()
        mounted.destroy()
        state.withLock { state in
            state.phase = .ended
            state.mount = nil
        }
        state.wakeAll()
        log.debug("the session has ended", metadata: ["path": "\(mounted.point.path)"])
    }
}
