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
/// Sendable although unchecked: what keeps it from being checked are libfuse's session pointer and
/// the retained user data in `State.mount`. They are made by `mount` and freed by `finish`, once,
/// by the thread that moves `phase` there under `state`'s lock; in between the workers use the
/// pointer only for what libfuse lets several threads do at once (receive, process, reply, notify,
/// exit). `finish` runs after the last of them has been joined.
public final class FuseSession: @unchecked Sendable {
    private let configuration: FuseConfiguration
    private let log: Logger
    private let context: FuseContext
    private let throttle: ReaderThrottle
    private let names: ChangedNames
    private let state: Monitor<State>

    private struct State {
        var phase = Phase.idle
        var isReady = false
        var isStopping = false
        var workersRunning = 0
        /// Workers that are not joined yet, by their numbers.
        var threads: [Int: JoinableThread] = [:]
        /// The numbers of those that have ended.
        var ended: [Int] = []
        var nextThread = 0
        /// Workers whose reads `stop` interrupts.
        var workers: [pthread_t] = []
        var mount: Mounted?
        var backings: BackingDevice?
        var passthrough = Passthrough.off(reason: "the mount is not ready")
        var rings = Rings.off(reason: "the mount is not ready")
        /// How many queues the kernel has for requests by io_uring; 0 where that is not asked for.
        var queueCount = 0
        /// A queue has lost a place with a request in it, whose user would wait for ever.
        var isBroken = false
    }

    private enum Phase {
        case idle, mounted, serving, ended
    }

    /// What a mount consists of.
    private struct Mounted {
        let session: OpaquePointer
        let userdata: Unmanaged<FuseContext>
        let point: MountPoint
        /// As mountinfo lists it; nil where it could not be read.
        let entry: MountEntry?
    }

    /// Makes a session; nothing is mounted yet.
    public init(volume: Volume, configuration: FuseConfiguration, log: Logger) throws(FuseError) {
        guard (1...256).contains(configuration.threads) else {
            throw .invalidOption(
                "threads=\(configuration.threads)", reason: "1 to 256 are possible")
        }
        self.configuration = configuration
        self.log = log
        throttle = ReaderThrottle(waitingMax: configuration.waitingThreadsMax)
        let state = Monitor(State())
        self.state = state
        let context = FuseContext(volume: volume, configuration: configuration, log: log) {
            state.withLock { $0.isReady = true }
            state.wakeAll()
        }
        self.context = context
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
        let userdata = Unmanaged.passRetained(context)
        prepareRings()
        do throws(FuseError) {
            let session = try open(at: point, userdata)
            context.attach(to: session)
            let entry = MountEntry.top(at: point.path)
            state.withLock { state in
                state.mount = Mounted(
                    session: session, userdata: userdata, point: point, entry: entry)
                state.phase = .mounted
            }
        } catch {
            userdata.release()
            throw error
        }
        log.debug("mounted", metadata: ["path": "\(point.path)"])
    }

    /// Makes libfuse's session on a new connection to the kernel.
    private func open(
        at point: MountPoint, _ userdata: Unmanaged<FuseContext>
    ) throws(FuseError) -> OpaquePointer {
        guard KernelMount.mountsDirectly else { return try openByHelper(at: point, userdata) }
        let session = try makeSession(["registryfs"], userdata)
        var callbacks = DeviceIO.callbacks
        let descriptor: Int32
        do throws(FuseError) {
            descriptor = try KernelMount.mount(at: point, configuration).take()
        } catch {
            fuse_session_destroy(session)
            throw error
        }
        guard fuse_session_custom_io(session, &callbacks, descriptor) == 0 else {
            _ = KernelMount.unmount(point.path, detach: true)
            close(descriptor)
            fuse_session_destroy(session)
            throw .sessionRefused
        }
        return session
    }

    private func openByHelper(
        at point: MountPoint, _ userdata: Unmanaged<FuseContext>
    ) throws(FuseError) -> OpaquePointer {
        try KernelMount.checkHelper()
        let session = try makeSession(KernelMount.helperArguments(configuration), userdata)
        guard fuse_session_mount(session, point.path) == 0 else {
            fuse_session_destroy(session)
            throw .mountHelperFailed(path: point.path)
        }
        var callbacks = DeviceIO.callbacks
        guard fuse_session_custom_io(session, &callbacks, fuse_session_fd(session)) == 0 else {
            fuse_session_unmount(session)
            fuse_session_destroy(session)
            throw .sessionRefused
        }
        return session
    }

    private func makeSession(
        _ words: [String], _ userdata: Unmanaged<FuseContext>
    ) throws(FuseError) -> OpaquePointer {
        var arguments = fuse_args()
        defer { fuse_opt_free_args(&arguments) }
        for word in words {
            guard fuse_opt_add_arg(&arguments, word) == 0 else { throw .sessionRefused }
        }
        var table = Operations.table
        guard let session = rfs_session_new(&arguments, &table, userdata.toOpaque()) else {
            throw .sessionRefused
        }
        return session
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
        var failure: FuseError?
        let fallback = prepareFallback(mounted)
        startWorkers(mounted, &failure)
        if failure != nil { abandon(mounted) }
        let isReady = waitForReady()
        if isReady {
            startRings(mounted, fallback)
            raiseReadAhead(mounted)
            startPassthrough(mounted)
            whenReady()
        }
        while let ended = waitForEnded(mounted) {
            for thread in ended { thread.join() }
        }
        finish(mounted)
        if let failure { throw failure }
    }

    /// The requests that were served since the mount, by operation. What the kernel reads and writes
    /// itself in a backing file, and answers from its caches, is no request.
    public var operations: [OperationReport] { context.counters.report() }

    /// Whether requests come through io_uring, or why they do not.
    public var rings: Rings { state.withLock { $0.rings } }

    /// Where the mount stands, as the kernel lists it: not where it was made when it, or a directory
    /// above it, was moved since. Nil where it does not stand. Touches no mount.
    public var mountPath: String? { state.withLock { $0.mount }.map(Self.path) }

    private static func path(of mounted: Mounted) -> String {
        let own = (try? MountEntry.all())?.last { $0.isSameMount(as: mounted.entry) }
        return own?.mountPoint ?? mounted.point.path
    }

    /// Whether the kernel reads and writes open files itself, or why it does not.
    public var passthrough: Passthrough { state.withLock { $0.passthrough } }

    /// Has the volume register files with the kernel where that is possible.
    private func startPassthrough(_ mounted: Mounted) {
        let result: Passthrough
        if !configuration.usesPassthrough {
            result = .off(reason: "no_passthrough was asked for")
        } else if !context.agreed(on: InitFlag.passthrough) {
            result = .off(reason: "the kernel does not offer it; Linux 6.9 and later may")
        } else {
            let device = BackingDevice(fuse_session_fd(mounted.session), context)
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

    /// Blocks until the mount can be used; false where it ended before that.
    public func waitUntilReady() -> Bool {
        state.withLock { state in
            while !state.isReady && state.phase != .ended { self.state.wait(&state) }
            return state.isReady
        }
    }

    /// Ends the mount and blocks until all of it is gone; harmless when it has ended.
    ///
    /// What is written but still in the kernel goes to the volume first. Where files are open, the
    /// mount leaves the tree at once and they are served for `drainMilliseconds` more; then their
    /// users get ENOTCONN. Callable from any thread but those that serve.
    public func stop() {
        precondition(Current.worker == nil, "a thread that serves cannot wait for itself to end")
        let begun: (phase: Phase, mount: Mounted?)? = state.withLock { state in
            guard state.phase == .mounted || state.phase == .serving, !state.isStopping else {
                return nil
            }
            state.isStopping = true
            return (state.phase, state.mount)
        }
        if let mounted = begun?.mount {
            if begun?.phase == .mounted {
                // Nobody serves, so nothing has been written, and nothing may wait for an answer.
                _ = KernelMount.unmount(Self.path(of: mounted), detach: true)
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
}

// MARK: - Threads

extension FuseSession {
    /// Starts the workers with every signal blocked, so that signals go to the threads that expect
    /// them; only the wake signal gets through.
    private func startWorkers(_ mounted: Mounted, _ failure: inout FuseError?) {
        guard rfs_install_wake_handler() == 0 else {
            failure = .noThreads(Errno(rawValue: errno))
            return
        }
        let session = UncheckedPointer(mounted.session)
        context.waits.begin { [weak self] in
            (try? self?.startWorker(session, queue: nil)) != nil
        }
        let count =
            state.withLock { $0.queueCount } > 0
            ? configuration.deviceThreadsBesideRings : configuration.threads
        do throws(Errno) {
            try startDeviceWorkers(session, count: count)
        } catch {
            failure = .noThreads(error)
        }
    }

    /// Starts workers that no signal but the wake signal gets through to.
    private func startDeviceWorkers(_ session: UncheckedPointer, count: Int) throws(Errno) {
        var mask = sigset_t()
        rfs_block_signals(&mask)
        defer { pthread_sigmask(SIG_SETMASK, &mask, nil) }
        for _ in 0..<count { _ = try startWorker(session, queue: nil) }
    }

    /// Starts a worker, with the calling thread's signals: for a queue, or for the device.
    private func startWorker(
        _ session: UncheckedPointer, queue: UInt16?
    ) throws(Errno) -> StartupResult {
        let startup = StartupResult()
        let number = state.withLock { state in
            state.workersRunning += 1
            state.nextThread += 1
            return state.nextThread
        }
        do throws(Errno) {
            let thread = try Threads.start(name: "fuse-\(number)") { [self] in
                work(session.pointer, number, queue, startup)
            }
            state.withLock { $0.threads[number] = thread }
        } catch {
            state.withLock { $0.workersRunning -= 1 }
            state.wakeAll()
            throw error
        }
        // It may have ended before it was noted.
        state.wakeAll()
        return startup
    }

    private func work(
        _ session: OpaquePointer, _ number: Int, _ queue: UInt16?,
        _ startup: StartupResult
    ) {
        let identity = pthread_self()
        state.withLock { $0.workers.append(identity) }
        let source: Worker.Source =
            queue.map { .queue($0) { startup.tell($0) } } ?? .device(throttle)
        let worker = Worker(session: session, context: context, source: source)
        let isOver = worker.serve()
        // Whoever still waits for a node has nobody to answer.
        if isOver { context.waits.end() }
        if worker.isBroken { state.withLock { $0.isBroken = true } }
        // From here on no signal may be sent to this thread: it may be joined.
        state.withLock { state in
            state.workers.removeAll { pthread_equal($0, identity) != 0 }
            state.workersRunning -= 1
            state.ended.append(number)
        }
        state.wakeAll()
    }

    /// Waits for workers to end; nil where all have been joined.
    private func waitForEnded(_ mounted: Mounted) -> [JoinableThread]? {
        state.withLock { state in
            while true {
                let numbers = state.ended.filter { state.threads[$0] != nil }
                if !numbers.isEmpty {
                    state.ended.removeAll { numbers.contains($0) }
                    return numbers.compactMap { state.threads.removeValue(forKey: $0) }
                }
                if state.workersRunning == 0, state.ended.isEmpty { return nil }
                if state.isBroken {
                    context.waits.end()
                    interruptWorkers(&state, mounted)
                } else {
                    self.state.wait(&state)
                }
            }
        }
    }

    private func waitForReady() -> Bool {
        state.withLock { state in
            while !state.isReady && state.workersRunning > 0 { self.state.wait(&state) }
            return state.isReady
        }
    }
}

// MARK: - Rings

extension FuseSession {
    /// Finds out whether requests may come by io_uring.
    private func prepareRings() {
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
    private func prepareFallback(_ mounted: Mounted) -> RingFallback? {
        guard state.withLock({ $0.queueCount }) > 0 else { return nil }
        do throws(Errno) {
            return try RingFallback(device: fuse_session_fd(mounted.session))
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
    private func startRings(_ mounted: Mounted, _ fallback: RingFallback?) {
        let session = UncheckedPointer(mounted.session)
        let queueCount = state.withLock { $0.queueCount }
        var reason: String?
        if let fallback {
            if context.agreed(on: InitFlag.overIOUring) {
                reason = serveQueues(session, queueCount, fallback)
            } else {
                reason = "the kernel does not offer it"
            }
            if reason != nil { startRemainingDeviceWorkers(session) }
            state.withLock { [reason] in $0.rings = reason.map { .off(reason: $0) } ?? .on }
        }
        if configuration.usesRings, case .off(let reason) = rings {
            log.notice("without io_uring: \(reason)")
        }
    }

    /// Starts the queues' threads and waits for all to take part; the reason where the mount does
    /// without.
    private func serveQueues(
        _ session: UncheckedPointer, _ queueCount: Int, _ fallback: RingFallback
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
            failure = startRound(session, &counts)
        }
        for queue in 0..<UInt16(queueCount) where context.waits.complete(queue: queue) {
            drain(queue, count: threads)
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
    /// those that were answered are none, because all wait for a node, it takes one more request for each:
    /// statfs(2) of the mount, which waits for no lock of the kernel's and for no node.
    private func drain(_ queue: UInt16, count: Int) {
        guard let path = state.withLock({ $0.mount?.point.path }) else { return }
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
    private func startRound(_ session: UncheckedPointer, _ counts: inout [Int]) -> Errno? {
        var mask = sigset_t()
        rfs_block_signals(&mask)
        defer { pthread_sigmask(SIG_SETMASK, &mask, nil) }
        var failure: Errno?
        var started: [(queue: Int, startup: StartupResult)] = []
        for queue in counts.indices {
            do throws(Errno) {
                started.append((queue, try startWorker(session, queue: UInt16(queue))))
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

    /// Starts the threads that were not, because the queues were to have them.
    private func startRemainingDeviceWorkers(_ session: UncheckedPointer) {
        let count = configuration.threads - configuration.deviceThreadsBesideRings
        do throws(Errno) {
            try startDeviceWorkers(session, count: max(0, count))
        } catch {
            // Those that there are serve all the same, fewer at a time.
            log.warning("few threads serve the mount", metadata: ["errno": "\(error)"])
        }
    }
}

/// What comes of a thread's try to take part in its queue, told once.
private final class StartupResult: Sendable {
    private let outcome = Monitor<Errno??>(nil)

    func tell(_ error: Errno?) {
        outcome.withLock { $0 = .some(error) }
        outcome.wakeAll()
    }

    /// Blocks until it is told; nil where the thread takes part.
    func wait() -> Errno? {
        outcome.withLock { outcome in
            while true {
                if let told = outcome { return told }
                self.outcome.wait(&outcome)
            }
        }
    }
}

/// A pointer of libfuse's that a thread's body takes along; see `FuseSession` for why that is safe.
private struct UncheckedPointer: @unchecked Sendable {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
    }
}

// MARK: - Ending

extension FuseSession {
    /// Takes the mount out of the tree and makes every worker end, while they serve.
    private func endMount(_ mounted: Mounted) {
        let path = Self.path(of: mounted)
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
        writeBack(path)
        if let error = KernelMount.unmount(path, detach: true) {
            log.warning(
                "the mount could not be detached",
                metadata: ["path": "\(path)", "errno": "\(error)"])
        }
        waitForWorkers(milliseconds: configuration.drainMilliseconds, mounted)
    }

    /// Ends a mount that could not be served by all its threads, and so has had no use.
    private func abandon(_ mounted: Mounted) {
        _ = KernelMount.unmount(Self.path(of: mounted), detach: true)
        waitForWorkers(milliseconds: 0, mounted)
    }

    /// Lets the kernel write dirty pages of shared mappings, which only syncfs(2) and unmounting do.
    /// The workers serve the requests that this causes.
    ///
    /// Where a page is of a file whose content is at a node, that may wait for the node; what is not
    /// written in a certain time fails then.
    private func writeBack(_ path: String) {
        let isOver = Monitor(false)
        let watch = try? Threads.start(name: "write-back") { [waits = context.waits] in
            let end = MonotonicClock.milliseconds + Self.writeBackMilliseconds
            let isLate = isOver.withLock { state in
                while !state {
                    let left = end - MonotonicClock.milliseconds
                    guard left > 0 else { return true }
                    isOver.wait(&state, milliseconds: Int(left))
                }
                return false
            }
            if isLate { waits.end() }
        }
        defer {
            isOver.withLock { $0 = true }
            isOver.wakeAll()
            watch?.join()
        }
        do throws(Errno) {
            let directory = try Sys.open(path, flags: O_RDONLY | O_DIRECTORY)
            _ = rfs_syncfs(directory.raw)
        } catch {
            log.debug("the mount could not be synchronized", metadata: ["errno": "\(error)"])
        }
    }

    /// Waits for the workers to see the end, and after a while interrupts them.
    private func waitForWorkers(milliseconds: Int, _ mounted: Mounted) {
        var waited = 0
        let isOver = state.withLock { state in
            while state.workersRunning > 0, waited < milliseconds {
                self.state.wait(&state, milliseconds: Self.waitStepMilliseconds)
                waited += Self.waitStepMilliseconds
            }
            return state.workersRunning == 0
        }
        guard !isOver else { return }
        context.waits.end()
        // As long as requests are served that it may wait for.
        names.end()
        state.withLock { state in
            while state.workersRunning > 0 { interruptWorkers(&state, mounted) }
        }
    }

    /// Has the workers end, and waits a little: a read that blocks returns EINTR, and `serve` then
    /// sees the exit flag. The signal may come just before the read, so this is done until all have
    /// gone.
    private func interruptWorkers(_ state: inout State, _ mounted: Mounted) {
        fuse_session_exit(mounted.session)
        throttle.close()
        for worker in state.workers { pthread_kill(worker, rfs_wake_signal()) }
        self.state.wait(&state, milliseconds: Self.waitStepMilliseconds)
    }

    private static var waitStepMilliseconds: Int { 10 }

    /// How long dirty pages of shared mappings may take to be written when the mount is to end.
    private static var writeBackMilliseconds: Int64 { 10_000 }

    /// Frees what the mount consists of, once, after the last worker.
    private func finish(_ mounted: Mounted) {
        detachIfStillThere(mounted)
        names.end()
        context.releases.end()
        context.failures.end()
        state.withLock { $0.backings }?.end()
        // Closes the device where the helper mounted, and unmounts through it; else does nothing.
        fuse_session_unmount(mounted.session)
        // Closes the device. What still uses a detached mount gets ENOTCONN from now on.
        fuse_session_destroy(mounted.session)
        mounted.userdata.release()
        state.withLock { state in
            state.phase = .ended
            state.mount = nil
        }
        state.wakeAll()
        log.debug("the session has ended", metadata: ["path": "\(mounted.point.path)"])
    }

    /// After an abort of the connection the mount still stands, and would answer ENOTCONN to all.
    /// It is known by its id and device, so that a mount of somebody else's is left alone.
    private func detachIfStillThere(_ mounted: Mounted) {
        let path = Self.path(of: mounted)
        guard MountEntry.top(at: path)?.isSameMount(as: mounted.entry) == true else { return }
        if let error = KernelMount.unmount(path, detach: true) {
            log.warning(
                "the dead mount could not be removed",
                metadata: ["path": "\(path)", "errno": "\(error)"])
        }
    }

    /// Raises the read-ahead of the mount, which INIT can only lower; best effort, as it needs a
    /// writable sysfs. The directory is named by the device in mountinfo: asking the mount itself
    /// for it could wait for ourselves.
    private func raiseReadAhead(_ mounted: Mounted) {
        guard let device = mounted.entry?.device else { return }
        do {
            let file = try Sys.open("/sys/class/bdi/\(device)/read_ahead_kb", flags: O_WRONLY)
            let text = Array("\(configuration.readAheadKibibytes)\n".utf8)
            try text.withUnsafeBytes { try Sys.write(file.raw, at: 0, $0) }
        } catch {
            log.debug("the read-ahead stays as it is", metadata: ["errno": "\(error)"])
        }
    }
}
