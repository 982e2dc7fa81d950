/// Ends calls from another thread.
///
/// One may be given to any number of calls, at once or one after the other. Calls that run end at
/// once, with an error that says so; calls that begin later end before anything is sent.
public final class Cancellation: Sendable {
    private struct State {
        var isCancelled = false
        var nextHandler = 0
        var handlers: [Int: @Sendable () -> Void] = [:]
    }

    private let state = Monitor(State())

    public init() {}

    /// Ends the calls. More than once is as good as once.
    public func cancel() {
        let handlers = state.withLock { state in
            state.isCancelled = true
            defer { state.handlers = [:] }
            return state.handlers
        }
        for handler in handlers.values {
            handler()
        }
    }

    /// Whether `cancel` was called.
    public var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// Has a handler called once when `cancel` is, on that thread; not at all if it was already, so
    /// look at `isCancelled` after this. For whoever makes calls that can be cancelled.
    ///
    /// - Returns: what `remove` forgets the handler by.
    public func onCancel(_ handler: @escaping @Sendable () -> Void) -> Int {
        state.withLock { state in
            state.nextHandler += 1
            if !state.isCancelled {
                state.handlers[state.nextHandler] = handler
            }
            return state.nextHandler
        }
    }

    /// Forgets a handler, which may be running at this moment.
    public func remove(handler: Int) {
        state.withLock { _ = $0.handlers.removeValue(forKey: handler) }
    }
}
