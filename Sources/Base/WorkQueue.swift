internal import DequeModule

/// Items that wait to be worked at, each from a point in time on: first come, first served, where
/// that is the same for all.
///
/// Each item is in it once. So it is as long as there are different items, which is for its owner to
/// bound; of items that are put off over and over it keeps `staleMax` old places, or as many as there
/// are items, and no more.
///
/// Any thread may call any of it. `take` blocks; all else holds the lock for a moment.
public final class WorkQueue<Item: Hashable & Sendable>: Sendable {
    private struct Place {
        let item: Item
        /// When the item may be taken, in nanoseconds of `MonotonicClock`.
        let due: Int64
    }

    private struct State {
        /// When each item may be taken.
        var due: [Item: Int64] = [:]
        /// In the order in which they become due. An item that was put off is in it twice; the place
        /// counts that has the time that `due` has.
        var order = Deque<Place>()
        var isStopped = false
    }

    private let state = Monitor(State())

    private static var staleMax: Int { 1_024 }

    /// Nothing waits in it.
    public init() {}

    /// Items that wait.
    public var count: Int { state.withLock { $0.due.count } }

    /// Adds an item, or puts it off where it is there: by the delay, and up to an eighth of it more, so
    /// that many become due at once and the threads need not wake for each.
    ///
    /// - Parameter delayMilliseconds: 0 or more.
    public func add(_ item: Item, delayMilliseconds: Int = 0) {
        var due = MonotonicClock.nanoseconds
        if delayMilliseconds > 0 {
            let step = Int64(delayMilliseconds) * (1_000_000 / 8)
            due = (due + 8 * step) / step * step + step - 1
        }
        let isFirst = state.withLock { [due] state in
            guard !state.isStopped else { return false }
            state.due[item] = due
            if state.order.count > 2 * state.due.count + Self.staleMax {
                state.order.removeAll { state.due[$0.item] != $0.due }
            }
            var index = state.order.count
            while index > 0, state.order[index - 1].due > due { index -= 1 }
            state.order.insert(Place(item: item, due: due), at: index)
            return index == 0
        }
        // Else somebody waits for an earlier one already, and comes to this one after it.
        if isFirst { state.wakeAll() }
    }

    /// Blocks until an item is due, and takes it out; nil once the queue is stopped, whatever is left.
    public func take() -> Item? {
        state.withLock { state in
            while !state.isStopped {
                guard let first = state.order.first else {
                    // What room a burst took is given back.
                    state.order = []
                    self.state.wait(&state)
                    continue
                }
                let wait = first.due - MonotonicClock.nanoseconds
                if wait > 0 {
                    self.state.wait(&state, milliseconds: Int(wait / 1_000_000) + 1)
                    continue
                }
                state.order.removeFirst()
                // Put off since: its later place in the order counts.
                guard state.due[first.item] == first.due else { continue }
                state.due.removeValue(forKey: first.item)
                return first.item
            }
            return nil
        }
    }

    /// Ends all `take`, now and from now on; what is added after it is dropped.
    public func stop() {
        state.withLock { $0.isStopped = true }
        state.wakeAll()
    }
}
