internal import Base
internal import CFuse
internal import Glibc
internal import Logging
internal import Synchronization
internal import Volume

/// What every request needs: libfuse's user data.
final class FuseContext: Sendable {
    let volume: Volume
    let lifetimes: Lifetimes
    let configuration: FuseConfiguration
    let log: Logger
    let waits: WaitingRequests
    let releases: DeferredReleases
    let counters = OperationCounters()
    let failures: FailureLog
    /// Nil where the threads of queues keep the usual policy.
    let queuePriority: QueuePriority?
    private let listings = ListingGuard()
    /// libfuse's session, to notify the kernel through; 0 until `attach`.
    private let session = Atomic<UInt>(0)
    /// Called once, on the thread that sent the answer to INIT.
    private let whenInitialized: @Sendable () -> Void
    /// Whether the answer to INIT may ask for io_uring; told before the mount.
    private let hasRings = Atomic<Bool>(false)
    /// All bits of the answer to INIT; 0 until it was sent.
    private let negotiated = Atomic<UInt64>(0)

    init(
        volume: Volume, configuration: FuseConfiguration, log: Logger,
        whenInitialized: @escaping @Sendable () -> Void
    ) {
        self.volume = volume
        self.configuration = configuration
        self.log = log
        failures = FailureLog(log: log)
        self.whenInitialized = whenInitialized
        waits = WaitingRequests(
            threads: configuration.threads, sparesMax: configuration.spareThreadsMax)
        releases = DeferredReleases { volume.release($0) }
        queuePriority = configuration.usesRings ? QueuePriority(volume.background) : nil
        lifetimes = Lifetimes(
            entry: configuration.entryTimeoutSeconds,
            attributes: configuration.attributeTimeoutSeconds,
            negative: configuration.negativeTimeoutSeconds)
    }

    /// Whether the answer to INIT has been sent.
    var isInitialized: Bool { negotiated.load(ordering: .relaxed) != 0 }

    /// Whether both sides agreed on a bit of INIT's flags.
    func agreed(on flag: UInt64) -> Bool { negotiated.load(ordering: .relaxed) & flag != 0 }

    /// Notes that INIT is answered, with all bits of the answer (never 0: libfuse always sets
    /// FUSE_BIG_WRITES).
    func initialized(with flags: UInt64) {
        negotiated.store(flags, ordering: .relaxed)
        whenInitialized()
    }

    /// Whether io_uring is asked for.
    var wantsRings: Bool { hasRings.load(ordering: .relaxed) }

    /// Has the answer to INIT ask for io_uring, or not.
    func askForRings(_ asks: Bool) {
        hasRings.store(asks, ordering: .relaxed)
    }

    /// Tells which session this context belongs to, before it is served.
    func attach(to session: OpaquePointer) {
        self.session.store(UInt(bitPattern: session), ordering: .releasing)
    }

    /// Notes that a listing of a directory starts from its beginning; see `ListingGuard`.
    func beginListing(_ directory: Inode) {
        listings.begin(directory)
    }

    /// Notes that a listing is about to be answered with its end.
    func endListing(_ directory: Inode) {
        if listings.end(directory) || volume.namesChangeUnseen(in: directory) {
            dropPages(of: directory)
        }
    }

    /// Notes that a directory has got or lost a name, before that is answered.
    func changedEntries(of directory: Inode) {
        if listings.change(directory) { dropPages(of: directory) }
    }

    /// Makes the kernel ask again what a name stands for, if anything, and for the attributes and
    /// the listing of its directory. Blocks for requests that hold the lock of the directory.
    ///
    /// Of a LOOKUP that was answered before the change, the kernel takes the answer before it
    /// drops the name, because it keeps that lock from the question on.
    func dropName(_ name: FileName, of directory: Inode) {
        guard let session = OpaquePointer(bitPattern: session.load(ordering: .acquiring)) else {
            return
        }
        _ = listings.change(directory)
        (name.bytes + [0]).withUnsafeBytes { bytes in
            // ENOENT says that the kernel does not have it.
            _ = fuse_lowlevel_notify_inval_entry(
                session, directory.number, bytes.bindMemory(to: CChar.self).baseAddress,
                name.bytes.count)
        }
        dropPages(of: directory)
    }

    /// Makes the kernel ask for an inode's attributes again.
    func dropAttributes(of inode: Inode) {
        guard let session = OpaquePointer(bitPattern: session.load(ordering: .acquiring)) else {
            return
        }
        // An offset below zero: the attributes alone.
        _ = fuse_lowlevel_notify_inval_inode(session, inode.number, -1, 0)
    }

    /// Makes the kernel drop the pages that it has of an inode.
    ///
    /// Allowed in the middle of a request about the directory: it takes the pages' locks alone,
    /// and whoever holds one of those waits for no answer of ours but READs, which other threads
    /// serve. An error says that the kernel does not have the inode, and so has no pages.
    private func dropPages(of inode: Inode) {
        guard let session = OpaquePointer(bitPattern: session.load(ordering: .acquiring)) else {
            return
        }
        _ = fuse_lowlevel_notify_inval_inode(session, inode.number, 0, 0)
    }
}
