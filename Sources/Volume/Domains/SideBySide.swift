internal import Base
internal import MerkleDAG

/// Does work for each of several things, in their order, on several threads, the calling one among them. The first failure
/// ends it.
func sideBySide<Item: Sendable, Outcome: Sendable>(
    _ items: [Item], threadsMax: Int,
    _ body: @escaping @Sendable (Item) throws(DAGReadError) -> Outcome
) throws(DAGReadError) -> [Outcome] {
    let work = SideBySide(items, body)
    var threads: [JoinableThread] = []
    // Without more threads it takes longer.
    while threads.count < min(threadsMax, items.count) - 1,
        let thread = try? Threads.start(name: "rfs-static", { work.run() })
    {
        threads.append(thread)
    }
    work.run()
    for thread in threads { thread.join() }
    return try work.outcomes()
}

private final class SideBySide<Item: Sendable, Outcome: Sendable>: Sendable {
    private struct State {
        var next = 0
        var outcomes: [Int: Outcome] = [:]
        var failures: [Int: DAGReadError] = [:]
    }

    private let items: [Item]
    private let body: @Sendable (Item) throws(DAGReadError) -> Outcome
    private let state = Monitor(State())

    init(
        _ items: [Item], _ body: @escaping @Sendable (Item) throws(DAGReadError) -> Outcome
    ) {
        self.items = items
        self.body = body
    }

    func run() {
        while let index = next() {
            do throws(DAGReadError) {
                let outcome = try body(items[index])
                state.withLock { $0.outcomes[index] = outcome }
            } catch {
                state.withLock { $0.failures[index] = error }
            }
        }
    }

    private func next() -> Int? {
        state.withLock { state in
            guard state.failures.isEmpty, state.next < items.count else { return nil }
            defer { state.next += 1 }
            return state.next
        }
    }

    /// - Precondition: all threads have ended.
    func outcomes() throws(DAGReadError) -> [Outcome] {
        let (outcomes, failures) = state.withLock { ($0.outcomes, $0.failures) }
        if let first = failures.min(by: { $0.key < $1.key }) { throw first.value }
        return items.indices.compactMap { outcomes[$0] }
    }
}
