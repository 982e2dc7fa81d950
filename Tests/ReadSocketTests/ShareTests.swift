import Base
import Multiformats
import ReadSocket
import Serving
import Testing

/// What others wait for takes nothing from what is here.
@Suite struct ShareTests {
    /// A stand whose client has few connections of each kind.
    private func stand(waitingCountMax: Int) throws -> Stand {
        var bounds = ReadClientBounds()
        bounds.connectionCountMax = 5
        bounds.farCountMax = 2
        bounds.nameCountMax = 2
        bounds.farWaitingCountMax = waitingCountMax
        bounds.nameWaitingCountMax = waitingCountMax
        bounds.requestMilliseconds = 120_000
        return try Stand(client: bounds)
    }

    /// Begins requests that end only with the semaphore.
    private func begin(
        _ count: Int, _ body: @escaping @Sendable () -> Void
    ) throws -> [JoinableThread] {
        try (0..<count).map { _ in try Threads.start(name: "test") { body() } }
    }

    @Test func blocksThatNobodyGivesTakeNothingFromThoseThatAreHere() throws {
        let stand = try stand(waitingCountMax: 0)
        let semaphore = Base.Semaphore()
        stand.content.change { state in
            state.blocks = [cid(1): .wait(semaphore), cid(2): .bytes([2]), cid(3): .bytes([3])]
            state.elsewhere = [cid(1), cid(3)]
            state.entries = [[bytes("a")]: .directory]
        }
        let threads = try begin(2) {
            _ = try? stand.client.block(cid(1), scope: .any, reach: .everywhere)
        }
        #expect(eventually { stand.content.now.reaches.count { $0 == .everywhere } == 2 })
        // The double never answers these two, so there is no room for a third.
        let further = fault { () throws(ServeFault) in
            try stand.client.block(cid(3), scope: .any, reach: .everywhere)
        }
        #expect(further == .unavailable)
        try onThreads(8) { _ in
            for _ in 0..<20 {
                let place = try? stand.client.block(cid(2), scope: .any, reach: .everywhere)
                #expect(place?.count == 1)
            }
        }
        #expect(try stand.client.tree.entry(at: [bytes("a")]) == .directory)
        for _ in threads { semaphore.signal() }
        for thread in threads { thread.join() }
        #expect(try stand.client.block(cid(3), scope: .any, reach: .everywhere).read() == [3])
    }

    @Test func whoWaitsForTheShareComesToHisTurn() throws {
        let stand = try stand(waitingCountMax: 3)
        let semaphore = Base.Semaphore()
        stand.content.change { state in
            state.blocks = [cid(1): .wait(semaphore)]
            state.elsewhere = [cid(1)]
        }
        let answered = Monitor(0)
        let threads = try begin(5) {
            let place = try? stand.client.block(cid(1), scope: .any, reach: .everywhere)
            if place != nil { answered.withLock { $0 += 1 } }
        }
        #expect(eventually { stand.content.now.reaches.count { $0 == .everywhere } == 2 })
        for _ in threads { semaphore.signal() }
        for thread in threads { thread.join() }
        #expect(answered.withLock { $0 } == 5)
    }

    @Test func namesThatNobodyTellsTakeNothingFromBlocks() throws {
        let stand = try stand(waitingCountMax: 0)
        let semaphore = Base.Semaphore()
        stand.content.change { state in
            state.blocks = [cid(2): .bytes([2])]
            state.waitsForNames = semaphore
        }
        let threads = try begin(2) { _ = try? stand.client.tree.entry(at: []) }
        #expect(eventually { stand.connectionCount == 3 })
        let further = fault { () throws(ServeFault) in try stand.client.tree.entry(at: []) }
        #expect(further == .unavailable)
        #expect(try stand.client.block(cid(2), scope: .any, reach: .everywhere).read() == [2])
        for _ in threads { semaphore.signal() }
        for thread in threads { thread.join() }
    }

    @Test func aShareGivesItsRoomOn() throws {
        let share = RequestShare(runningMax: 1, waitingMax: 64)
        let most = Monitor((now: 0, most: 0))
        let end = MonotonicClock.milliseconds + 120_000
        let done = Monitor(0)
        try onThreads(16) { _ in
            for _ in 0..<50 {
                try? share.run(until: end) { () throws(ServeFault) in
                    most.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                    most.withLock { $0.now -= 1 }
                    done.withLock { $0 += 1 }
                }
            }
        }
        #expect(most.withLock { $0.most } == 1)
        #expect(done.withLock { $0 } == 800)
        #expect(share.counts == (0, 0))
    }

    @Test func aRequestThatFailsGivesItsRoomBack() {
        let share = RequestShare(runningMax: 1, waitingMax: 0)
        let end = MonotonicClock.milliseconds + 120_000
        for _ in 0..<3 {
            let found = fault { () throws(ServeFault) in
                try share.run(until: end) { () throws(ServeFault) in throw .notFound }
            }
            #expect(found == .notFound)
        }
        let late = fault { () throws(ServeFault) in
            try share.run(until: end) { () throws(ServeFault) in
                // No room, and no time to wait for it.
                try share.run(until: 0) { () throws(ServeFault) in }
            }
        }
        #expect(late == .unavailable || late == .timedOut)
        #expect(share.counts == (0, 0))
    }
}
