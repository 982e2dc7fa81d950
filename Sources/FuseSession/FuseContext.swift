internal import Base
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
    /// Called once, on the thread that sent the answer to INIT.
    private let whenInitialized: @Sendable () -> Void
    /// All bits of the answer to INIT; 0 until it was sent.
    private let negotiated = Atomic<UInt64>(0)

    init(
        volume: Volume, configuration: FuseConfiguration, log: Logger,
        whenInitialized: @escaping @Sendable () -> Void
    ) {
        self.volume = volume
        self.configuration = configuration
        self.log = log
        self.whenInitialized = whenInitialized
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
}
