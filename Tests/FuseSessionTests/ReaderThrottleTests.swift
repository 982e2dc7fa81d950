import Base
import FuseSession
import Synchronization
import Testing

/// Threads that play the workers: each enters, takes a request, leaves, and works on it.
private final class Crew: Sendable {
    let throttle: ReaderThrottle
    let waiting = Atomic<Int>(0)
    let waitingMost = Atomic<Int>(0)
    let requests: Monitor<Int>
    let served = Atomic<Int>(0)

    init(waitingMax: Int, requests: Int) {
        throttle = ReaderThrottle(waitingMax: waitingMax)
        self.requests = Monitor(requests)
    }

    /// Serves until no request is left; then ends the session as a worker does.
    func serve() {
        defer { throttle.close() }
        while throttle.enter() {
            let now = waiting.add(1, ordering: .relaxed).newValue
            waitingMost.max(now, ordering: .relaxed)
            let isTaken = requests.withLock { left in
                guard left > 0 else { return false }
                left -= 1
                return true
            }
            waiting.subtract(1, ordering: .relaxed)
            throttle.leave()
            guard isTaken else { return }
            served.add(1, ordering: .relaxed)
        }
    }
}

@Test(.timeLimit(.minutes(10)), arguments: [1, 2, 3, 16])
func noMoreThreadsWaitThanAllowedAndAllRequestsAreServed(_ waitingMax: Int) throws {
    let crew = Crew(waitingMax: waitingMax, requests: 50_000)
    var threads: [JoinableThread] = []
    for number in 0..<12 {
        threads.append(try Threads.start(name: "crew-\(number)") { crew.serve() })
    }
    // That every thread ends is the claim, too: none may rest for ever.
    for thread in threads { thread.join() }
    #expect(crew.served.load(ordering: .relaxed) == 50_000)
    #expect(crew.waitingMost.load(ordering: .relaxed) <= waitingMax)
}

@Test(.timeLimit(.minutes(10)))
func aBusyThreadIsReplacedByARestingOne() throws {
    let throttle = ReaderThrottle(waitingMax: 1)
    #expect(throttle.enter())
    let entered = Monitor(false)
    let other = try Threads.start(name: "resting") {
        let isOn = throttle.enter()
        entered.withLock { $0 = isOn }
        entered.wakeAll()
        throttle.leave()
    }
    // The first takes a request and stays busy with it: the other one must get its place, whether
    // it came before this or comes after.
    throttle.leave()
    try #require(eventually { entered.withLock { $0 } })
    other.join()
}

@Test(.timeLimit(.minutes(10)))
func closingSendsRestingThreadsHome() throws {
    let throttle = ReaderThrottle(waitingMax: 1)
    #expect(throttle.enter())
    let results = Monitor([Bool]())
    var threads: [JoinableThread] = []
    for number in 0..<8 {
        threads.append(
            try Threads.start(name: "resting-\(number)") {
                let isOn = throttle.enter()
                results.withLock { $0.append(isOn) }
            })
    }
    throttle.close()
    for thread in threads { thread.join() }
    #expect(results.withLock { $0 } == [Bool](repeating: false, count: 8))
    #expect(!throttle.enter())
}
