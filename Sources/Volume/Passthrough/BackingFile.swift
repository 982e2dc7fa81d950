public import Base
internal import ObjectStore

public import struct SystemPackage.Errno

/// The number under which a backing file is registered.
public struct BackingID: Hashable, Sendable {
    public let number: Int32

    public init(_ number: Int32) {
        self.number = number
    }
}

/// Where backing files are registered: with somebody (the kernel) who reads and writes the bytes of
/// an open file in a flat file of the volume, and does not ask the volume for each read and write.
public protocol BackingRegistry: Sendable {
    /// Registers an open regular file.
    ///
    /// - Throws: why it is refused; the file is then served by `read` and `write`.
    func register(_ descriptor: Int32) throws(Errno) -> BackingID

    /// From now on the size and the times of an inode change without anybody being told, so that
    /// what is remembered of them must be asked for again.
    func attributesMayChange(of inode: Inode)

    /// Ends a registration. Files that were opened with it stay usable.
    func unregister(_ id: BackingID)
}

/// Empty flat files that are registered and ready, so that making a file costs neither.
///
/// Most new files of a registry are tiny: their content moves into the manifest, and the flat file
/// comes back here. Their numbers are reserved, so a crash leaves nothing but strays.
final class BackingPool: Sendable {
    struct Ready: Sendable {
        let file: ObjectFile
        let id: BackingID
    }

    private enum Registering {
        /// Nobody has said with whom.
        case notYet
        case on(any BackingRegistry)
        /// Nothing is registered any more; registrations are ended there, where there are any.
        case over((any BackingRegistry)?)

        /// Where registrations are ended.
        var registry: (any BackingRegistry)? {
            switch self {
            case .notYet: nil
            case .on(let registry): registry
            case .over(let registry): registry
            }
        }
    }

    private struct State {
        var registering = Registering.notYet
        var ready: [Ready] = []
        /// More are wanted, and nobody has begun to make them.
        var isLow = false
    }

    /// The bound of what lies ready: each holds a descriptor.
    private static let readyMax = 64
    /// Where fewer lie ready and one is kept, more are made in the background: so many at a time, with
    /// one flush for the names of all.
    private static let readyMin = 8
    static let refillCount = 16
    /// How far a number may fall behind the newest. After a crash all numbers from the lowest
    /// reserved one on are looked for.
    static let numberAgeMax: UInt64 = 65_536

    private let state = Monitor(State())

    /// Nil where nothing is registered any more.
    var registry: (any BackingRegistry)? {
        state.withLock { state in
            guard case .on(let registry) = state.registering else { return nil }
            return registry
        }
    }

    func start(_ registry: any BackingRegistry) {
        state.withLock { $0.registering = .on(registry) }
    }

    /// Ends the registering; gives what lay ready.
    func stop() -> [Ready] {
        defer { state.wakeAll() }
        return state.withLock { state in
            defer { state.ready = [] }
            state.registering = .over(state.registering.registry)
            return state.ready
        }
    }

    /// Waits until more should be made; nil where nothing is registered any more.
    func waitUntilLow() -> (any BackingRegistry)? {
        state.withLock { state in
            while case .on(let registry) = state.registering {
                // Since it was noted, the last round may have made enough.
                if state.isLow, state.ready.count < Self.readyMin {
                    state.isLow = false
                    return registry
                }
                state.isLow = false
                self.state.wait(&state)
            }
            return nil
        }
    }

    /// Ends a registration, also one that outlived the registering.
    func unregister(_ id: BackingID) {
        state.withLock { $0.registering.registry }?.unregister(id)
    }

    func take() -> Ready? { state.withLock { $0.ready.popLast() } }

    /// Notes that a file that was taken has become an object, and will not come back.
    func noteKept() {
        let isLow = state.withLock { state in
            if state.ready.count < Self.readyMin { state.isLow = true }
            return state.isLow
        }
        if isLow { state.wakeAll() }
    }

    /// Puts an empty file back; false where there are enough.
    func put(_ file: Ready) -> Bool {
        state.withLock { state in
            guard case .on = state.registering, state.ready.count < Self.readyMax else {
                return false
            }
            state.ready.append(file)
            return true
        }
    }
}
