internal import Base

internal import struct SystemPackage.Errno

/// An operation that waits for a node.
public final class RemoteWait: Sendable {
    /// Ends calls that the waiting thread makes itself.
    let cancellation = Cancellation()
    private let wake: @Sendable () -> Void

    init(wake: @escaping @Sendable () -> Void) {
        self.wake = wake
    }

    /// Ends the wait with EINTR. From any thread; more than once is as good as once.
    public func interrupt() {
        cancellation.cancel()
        wake()
    }

    var isInterrupted: Bool { cancellation.isCancelled }
}

/// Somebody who is told on the waiting thread that it waits, which may take as long as a node's answer.
public protocol RemoteWaitObserver: Sendable {
    /// On whose behalf the calling thread works: what waits for the node, and the threads that fetch,
    /// are shared out by it. Nil for the volume's own work.
    var user: UInt32? { get }
    /// The wait begins; `interrupt` may be called until `didWait` returns.
    func willWait(_ wait: RemoteWait)
    func didWait(_ wait: RemoteWait)
}

extension RemoteWaitObserver {
    public var user: UInt32? { nil }
}

/// The waits of a volume that are under way.
final class RemoteWaits: Sendable {
    private struct State {
        var observer: (any RemoteWaitObserver)?
        var waits: [ObjectIdentifier: RemoteWait] = [:]
        var isEnding = false
    }

    private let state = Monitor(State())

    func observe(_ observer: any RemoteWaitObserver) {
        state.withLock { $0.observer = observer }
    }

    /// On whose behalf the calling thread works.
    var user: UInt32? { state.withLock { $0.observer }?.user }

    /// Runs a body that waits for a node.
    func during<Result>(
        wake: @escaping @Sendable () -> Void = {},
        _ body: (RemoteWait) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        let wait = RemoteWait(wake: wake)
        let (observer, isEnding) = state.withLock { state in
            state.waits[ObjectIdentifier(wait)] = wait
            return (state.observer, state.isEnding)
        }
        defer { state.withLock { _ = $0.waits.removeValue(forKey: ObjectIdentifier(wait)) } }
        guard !isEnding else { throw .interrupted }
        observer?.willWait(wait)
        defer { observer?.didWait(wait) }
        return try body(wait)
    }

    /// Ends all waits, now and from now on.
    func end() {
        let waits = state.withLock { state in
            state.isEnding = true
            return Array(state.waits.values)
        }
        for wait in waits { wait.interrupt() }
    }
}

extension Volume {
    /// Has somebody told when an operation waits for the node.
    public func observeWaits(_ observer: any RemoteWaitObserver) {
        remotes.waits.observe(observer)
    }

    /// Ends all operations that wait for the node, with EINTR, and those that would.
    public func interruptWaits() {
        remotes.waits.end()
    }
}
