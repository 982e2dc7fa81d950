import Base
import Foundation
import Multiformats
import Remotes
import Testing

/// A source that does what a test says.
private final class FakeRemote: RemoteBlocks {
    typealias Answer = @Sendable (BlockRequest) throws(RemoteError) -> [UInt8]

    private struct State {
        var answer: Answer
        var asked: [BlockRequest] = []
        var running = 0
    }

    let address: String
    private let state: Monitor<State>

    init(_ address: String, _ answer: @escaping Answer) {
        self.address = address
        state = Monitor(State(answer: answer))
    }

    /// How often it was asked.
    var count: Int { state.withLock { $0.asked.count } }
    var running: Int { state.withLock { $0.running } }

    func set(_ answer: @escaping Answer) { state.withLock { $0.answer = answer } }

    /// Blocks until it was asked so often.
    func waitForRequests(_ count: Int) {
        let end = ContinuousClock.now + .seconds(300)
        state.withLock { state in
            while state.asked.count < count, ContinuousClock.now < end {
                self.state.wait(&state, milliseconds: 1000)
            }
        }
    }

    func block(_ request: BlockRequest, memory: ReplyMemory?) throws(RemoteError) -> [UInt8] {
        let answer = state.withLock { state in
            state.asked.append(request)
            state.running += 1
            return state.answer
        }
        state.wakeAll()
        defer { state.withLock { $0.running -= 1 } }
        return try answer(request)
    }

    // MARK: Answers

    static func failing(_ kind: RemoteError.Kind, notBefore: Int64? = nil) -> Answer {
        { (_) throws(RemoteError) in
            throw RemoteError(kind, "fake: \(kind.rawValue)", notBefore: notBefore)
        }
    }

    static func giving(_ bytes: [UInt8]) -> Answer { { (_) throws(RemoteError) in bytes } }

    /// Never answers, but keeps to its deadline and to its cancellation.
    static let hanging: Answer = { (request) throws(RemoteError) in
        let isOver = Monitor(false)
        let handler = request.cancellation?.onCancel {
            isOver.withLock { $0 = true }
            isOver.wakeAll()
        }
        defer { if let handler { request.cancellation?.remove(handler: handler) } }
        let end = MonotonicClock.milliseconds + Int64(request.deadlineMilliseconds)
        isOver.withLock { state in
            while !state, !(request.cancellation?.isCancelled ?? false) {
                let left = end - MonotonicClock.milliseconds
                guard left > 0 else { return }
                isOver.wait(&state, milliseconds: Int(left))
            }
        }
        let isCancelled = request.cancellation?.isCancelled ?? false
        throw RemoteError(isCancelled ? .cancelled : .timeout, "fake: hanging")
    }
}

/// Several sources behind one: whom it asks, and what becomes of those who do not do what they should.
struct SourceSetTests {
    private let bytes: [UInt8] = [1, 2, 3]
    private var cid: CID { CID.raw(sha256: bytes) }

    /// A time that goes on when a test says so.
    private final class FakeClock: Sendable {
        private let time = Monitor<Int64>(1_000_000)
        var now: Int64 { time.withLock { $0 } }
        func advance(_ milliseconds: Int64) { time.withLock { $0 += milliseconds } }
    }

    private func make(
        _ remotes: [FakeRemote], _ clock: FakeClock? = nil, kind: SourceKind = .gateway,
        _ change: (inout SourceSet.Options) -> Void = { _ in }
    ) -> SourceSet {
        var options = SourceSet.Options()
        // So late that a slow machine makes no hedges that a test does not ask for.
        options.hedgeMilliseconds = 100_000...200_000
        options.restMillisecondsMax = 0
        if let clock { options.clock = { clock.now } }
        change(&options)
        return SourceSet(remotes.map { .init($0, kind) }, options: options)
    }

    private func get(
        _ set: SourceSet, milliseconds: Int = 60_000, asksPeers: Bool = true,
        _ cancellation: Cancellation? = nil
    ) throws(RemoteError) -> [UInt8] {
        var request = BlockRequest(cid, deadlineMilliseconds: milliseconds)
        request.asksPeers = asksPeers
        request.cancellation = cancellation
        return try set.block(request, memory: nil)
    }

    private func failure(_ body: () throws(RemoteError) -> Void) -> RemoteError? {
        do throws(RemoteError) {
            try body()
            return nil
        } catch {
            #expect(!error.description.contains { $0.isNewline })
            return error
        }
    }

    // MARK: Order

    @Test func theFirstThatAnswersIsEnough() throws {
        let one = FakeRemote("one", FakeRemote.giving(bytes))
        let two = FakeRemote("two", FakeRemote.giving(bytes))
        let set = make([one, two])
        #expect(try get(set) == bytes)
        #expect(one.count == 1 && two.count == 0)
        let status = set.status()
        #expect(status.map(\.address) == ["one", "two"])
        #expect(status[0].blocks == 1 && status[0].bytes == 3 && status[1].blocks == 0)
        #expect(status.allSatisfy { $0.state == .ok && $0.kind == .gateway })
        #expect(set.address == "one, two")
    }

    @Test func whatOneLacksTheNextIsAskedForAtOnce() throws {
        let one = FakeRemote("one", FakeRemote.failing(.notFound))
        let two = FakeRemote("two", FakeRemote.giving(bytes))
        let set = make([one, two])
        for asksPeers in [true, false] { #expect(try get(set, asksPeers: asksPeers) == bytes) }
        #expect(set.status()[0].state == .ok)
    }

    @Test func filesAreAskedBeforeAllOthers() throws {
        let gateway = FakeRemote("gateway", FakeRemote.giving(bytes))
        let file = FakeRemote("file", FakeRemote.giving(bytes))
        let set = SourceSet([.init(gateway, .gateway), .init(file, .archive)])
        for _ in 0..<100 { #expect(try get(set) == bytes) }
        #expect(gateway.count == 0)
    }

    @Test func theFastestIsAskedFirstAndTheOthersNowAndThen() throws {
        let clock = FakeClock()
        func taking(_ milliseconds: Int64) -> FakeRemote.Answer {
            { [bytes] (_) throws(RemoteError) in
                clock.advance(milliseconds)
                return bytes
            }
        }
        let slow = FakeRemote("slow", taking(100))
        let fast = FakeRemote("fast", taking(10))
        let set = make([slow, fast], clock) { $0.exploresEvery = 10 }
        for _ in 0..<100 { #expect(try get(set) == bytes) }
        #expect(slow.count > 5 && slow.count < 15)
        #expect(fast.count == 100 - slow.count)
        // It becomes the faster one.
        slow.set(taking(1))
        for _ in 0..<300 { #expect(try get(set) == bytes) }
        #expect(slow.count > 150)
        let status = set.status()
        #expect((status[0].latencyMilliseconds ?? 100) < 10)
    }

    // MARK: Failures

    @Test func nobodyHasItOnlyWhereAllSaySo() throws {
        let one = FakeRemote("one", FakeRemote.failing(.notFound))
        let two = FakeRemote("two", FakeRemote.failing(.notFound))
        #expect(
            failure { () throws(RemoteError) in _ = try get(make([one, two])) }?.kind == .notFound)
        #expect(one.count == 1 && two.count == 1)
        for kind in [RemoteError.Kind.unreachable, .timeout, .busy, .failed, .refused] {
            two.set(FakeRemote.failing(kind))
            #expect(
                failure { () throws(RemoteError) in _ = try get(make([one, two])) }?.kind == kind)
            // Then it is looked for, by whoever can.
            #expect(
                failure { () throws(RemoteError) in _ = try get(make([one, two]), asksPeers: false)
                }?.kind
                    == .notFound)
        }
    }

    @Test(arguments: [RemoteError.Kind.unreachable, .timeout, .failed, .busy])
    func whoFailsRestsForATimeThatGrows(_ kind: RemoteError.Kind) throws {
        let clock = FakeClock()
        let one = FakeRemote("one", FakeRemote.failing(kind))
        let two = FakeRemote("two", FakeRemote.giving(bytes))
        let set = make([one, two], clock) { $0.exploresEvery = 1 }
        func rest() -> Int64 {
            if case .backingOff(let milliseconds, let why) = set.status()[0].state {
                #expect(why.contains(kind.rawValue))
                return milliseconds
            }
            return 0
        }
        var rests: [Int64] = []
        var count = 0
        for _ in 0..<10 {
            // A search that finds nothing in time says nothing of whom it was asked.
            while rest() == 0 {
                clock.advance(1)
                #expect(try get(set, asksPeers: false) == bytes)
            }
            count += 1
            #expect(one.count == count)
            rests.append(rest())
            clock.advance(rest() - 1)
            #expect(try get(set, asksPeers: false) == bytes)
            #expect(one.count == count)
            clock.advance(1)
        }
        #expect(rests == [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000])
        one.set(FakeRemote.giving(bytes))
        while one.count == count {
            clock.advance(1)
            #expect(try get(set) == bytes)
        }
        #expect(rest() == 0)
        one.set(FakeRemote.failing(kind))
        while rest() == 0 {
            clock.advance(1)
            #expect(try get(set, asksPeers: false) == bytes)
        }
        #expect(rest() == 250)
    }

    @Test func whoSaysWhenIsNotAskedBefore() throws {
        let clock = FakeClock()
        let one = FakeRemote("one", FakeRemote.failing(.busy, notBefore: clock.now + 60_000))
        let two = FakeRemote("two", FakeRemote.giving(bytes))
        let set = make([one, two], clock) { $0.exploresEvery = 1 }
        #expect(try get(set) == bytes)
        one.set(FakeRemote.giving(bytes))
        clock.advance(59_999)
        for _ in 0..<10 { #expect(try get(set) == bytes) }
        #expect(one.count == 1)
        clock.advance(1)
        for _ in 0..<10 { #expect(try get(set) == bytes) }
        #expect(one.count > 1)
    }

    @Test func theOnlyOneIsWaitedForAndAskedAgain() throws {
        let one = FakeRemote("one", FakeRemote.failing(.unreachable))
        one.set { [bytes] (_) throws(RemoteError) in
            guard one.count > 1 else { throw RemoteError(.unreachable, "fake: away") }
            return bytes
        }
        #expect(try get(make([one]) { $0.restMillisecondsMax = 10_000 }) == bytes)
        #expect(one.count == 2)
    }

    @Test func theOnlyOneThatIsBusyIsWaitedForAsItSaid() throws {
        let one = FakeRemote("one", FakeRemote.failing(.failed))
        one.set { [bytes] (_) throws(RemoteError) in
            guard one.count > 1 else {
                throw RemoteError(
                    .busy, "fake: busy", notBefore: MonotonicClock.milliseconds + 50)
            }
            return bytes
        }
        #expect(try get(make([one])) == bytes)
        one.set(FakeRemote.failing(.busy, notBefore: MonotonicClock.milliseconds + 100_000_000))
        let error = failure { () throws(RemoteError) in _ = try get(make([one])) }
        #expect(error?.kind == .busy && error?.notBefore != nil)
    }

    @Test func whoKeepsFailingIsAskedABoundedTimes() throws {
        let one = FakeRemote("one", FakeRemote.failing(.unreachable))
        let set = make([one]) { $0.restMillisecondsMax = 1_000 }
        #expect(failure { () throws(RemoteError) in _ = try get(set) }?.kind == .unreachable)
        #expect((2...4).contains(one.count))
    }

    @Test func manyThatFailTogetherAreOneFailure() throws {
        let clock = FakeClock()
        let gate = Monitor(0)
        let one = FakeRemote("one") { (_) throws(RemoteError) in
            gate.withLock { count in
                count += 1
                gate.wakeAll()
                while count < 8 { gate.wait(&count, milliseconds: 1_000) }
            }
            throw RemoteError(.unreachable, "fake: away")
        }
        let set = make([one], clock)
        let threads = try (0..<8).map { _ in
            try Threads.start(name: "ask") { _ = try? get(set) }
        }
        for thread in threads { thread.join() }
        guard case .backingOff(let milliseconds, _) = set.status()[0].state else {
            Issue.record("it does not rest")
            return
        }
        #expect(milliseconds <= 500)
        #expect(set.status()[0].failures == 8)
    }

    // MARK: Lies

    @Test func whoGaveWrongBytesIsNotAskedAgain() throws {
        let clock = FakeClock()
        let liar = FakeRemote("liar", FakeRemote.failing(.wrongBytes))
        let honest = FakeRemote("honest", FakeRemote.giving(bytes))
        let set = make([liar, honest], clock) { $0.exploresEvery = 1 }
        for _ in 0..<20 {
            #expect(try get(set) == bytes)
            clock.advance(10_000_000)
        }
        #expect(liar.count == 1)
        let status = set.status()
        #expect(status[0].state == .excluded(because: "fake: wrongBytes"))
        #expect(status[0].wrongAnswers == 1 && status[1].wrongAnswers == 0)
        honest.set(FakeRemote.failing(.notFound))
        #expect(failure { () throws(RemoteError) in _ = try get(set) }?.kind == .notFound)
        honest.set(FakeRemote.failing(.wrongBytes))
        #expect(failure { () throws(RemoteError) in _ = try get(set) }?.kind == .wrongBytes)
        #expect(failure { () throws(RemoteError) in _ = try get(set) }?.kind == .wrongBytes)
        #expect(honest.count == 22)
    }

    @Test func aDamagedFileIsStillAskedForItsOtherBlocks() throws {
        let file = FakeRemote("file", FakeRemote.failing(.wrongBytes))
        let set = make([file], kind: .archive)
        #expect(failure { () throws(RemoteError) in _ = try get(set) }?.kind == .wrongBytes)
        file.set(FakeRemote.giving(bytes))
        #expect(try get(set) == bytes)
        #expect(set.status()[0].wrongAnswers == 1 && set.status()[0].state == .ok)
    }

    // MARK: Hedges

    @Test func anotherIsAskedWhereTheFirstDoesNotAnswer() throws {
        let stuck = FakeRemote("stuck", FakeRemote.hanging)
        let other = FakeRemote("other", FakeRemote.giving(bytes))
        let set = make([stuck, other]) { $0.hedgeMilliseconds = 0...0 }
        #expect(try get(set, milliseconds: 300_000) == bytes)
        #expect(stuck.count == 1 && other.count == 1 && stuck.running == 0)
        let status = set.status()
        #expect(status[1].blocks == 1 && status[0].blocks == 0)
        // Having lost it is the slower one, so the other is the first now.
        #expect(try get(set, milliseconds: 300_000) == bytes)
        #expect(other.count == 2)
    }

    @Test func aHedgeThatLacksTheBlockIsFollowedByTheNext() throws {
        let stuck = FakeRemote("stuck", FakeRemote.hanging)
        let without = FakeRemote("without", FakeRemote.failing(.notFound))
        let other = FakeRemote("other", FakeRemote.giving(bytes))
        let set = make([stuck, without, other]) { $0.hedgeMilliseconds = 0...0 }
        #expect(try get(set, milliseconds: 300_000) == bytes)
        #expect(without.count == 1 && other.count == 1)
    }

    @Test func whoLosesAgainAndAgainRests() throws {
        let stuck = FakeRemote("stuck", FakeRemote.hanging)
        let other = FakeRemote("other", FakeRemote.giving(bytes))
        let set = make([stuck, other]) {
            $0.hedgeMilliseconds = 0...0
            $0.exploresEvery = 1
            // Else the rest may be over before it is looked at.
            $0.clock = { 1_000 }
        }
        for _ in 0..<50 where set.status()[0].state == .ok {
            #expect(try get(set, milliseconds: 300_000, asksPeers: false) == bytes)
        }
        guard case .backingOff = set.status()[0].state else {
            Issue.record("it does not rest")
            return
        }
    }

    @Test func noMoreThanTheBoundAreAskedAtOnce() throws {
        let remotes = (0..<5).map { FakeRemote("\($0)", FakeRemote.hanging) }
        let set = make(remotes) {
            $0.hedgeMilliseconds = 0...0
            $0.parallelMax = 3
        }
        let cancellation = Cancellation()
        let asker = try Threads.start(name: "ask") {
            let error = failure { () throws(RemoteError) in
                _ = try get(set, milliseconds: 300_000, cancellation)
            }
            #expect(error?.kind == .cancelled)
        }
        for remote in remotes[..<3] { remote.waitForRequests(1) }
        // Time for one more, were there one.
        Threads.sleep(milliseconds: 20)
        cancellation.cancel()
        asker.join()
        #expect(remotes.map(\.count) == [1, 1, 1, 0, 0])
        for remote in remotes {
            while remote.running > 0 { Threads.sleep(milliseconds: 1) }
        }
    }

    @Test func withoutAThreadForAHedgeTheFirstGoesOn() throws {
        let stuck = FakeRemote("stuck", FakeRemote.hanging)
        let other = FakeRemote("other", FakeRemote.giving(bytes))
        let set = make([stuck, other]) {
            $0.hedgeMilliseconds = 0...0
            $0.hedgeThreadsMax = 0
        }
        let error = failure { () throws(RemoteError) in _ = try get(set, milliseconds: 50) }
        #expect(error == nil || error?.kind == .timeout)
    }

    @Test func nothingGoesOnBeyondTheDeadline() throws {
        let remotes = (0..<3).map { FakeRemote("\($0)", FakeRemote.hanging) }
        let set = make(remotes) { $0.hedgeMilliseconds = 0...0 }
        #expect(
            failure { () throws(RemoteError) in _ = try get(set, milliseconds: 50) }?.kind
                == .timeout)
        #expect(
            failure { () throws(RemoteError) in _ = try get(set, milliseconds: 0) }?.kind
                == .timeout)
    }

    @Test func cancellationReachesAllRequests() throws {
        let remotes = (0..<2).map { FakeRemote("\($0)", FakeRemote.hanging) }
        let set = make(remotes) { $0.hedgeMilliseconds = 0...0 }
        let cancellation = Cancellation()
        let canceller = try Threads.start(name: "cancel") {
            for remote in remotes { remote.waitForRequests(1) }
            cancellation.cancel()
        }
        #expect(
            failure { () throws(RemoteError) in
                _ = try get(set, milliseconds: 300_000, cancellation)
            }?.kind
                == .cancelled)
        canceller.join()
        for remote in remotes {
            while remote.running > 0 { Threads.sleep(milliseconds: 1) }
        }
        #expect(
            failure { () throws(RemoteError) in _ = try get(set, cancellation) }?.kind == .cancelled
        )
    }

    @Test func itWorksForManyThreadsOverSourcesThatFail() throws {
        let blocks = (0..<64).map { number -> (CID, [UInt8]) in
            let bytes = [UInt8](repeating: UInt8(number), count: 1000)
            return (CID.raw(sha256: bytes), bytes)
        }
        let byCID = Dictionary(uniqueKeysWithValues: blocks)
        let counter = Monitor(0)
        let remotes = (0..<3).map { number in
            FakeRemote("\(number)") { (request) throws(RemoteError) in
                let turn = counter.withLock { count in
                    count += 1
                    return count
                }
                switch (turn + number) % 61 {
                case 0: throw RemoteError(.notFound, "fake")
                case 1: throw RemoteError(.unreachable, "fake")
                case 2...8:
                    Threads.sleep(milliseconds: 3)
                default: break
                }
                if request.cancellation?.isCancelled ?? false {
                    throw RemoteError(.cancelled, "fake")
                }
                return byCID[request.cid] ?? []
            }
        }
        let set = make(remotes) {
            $0.hedgeMilliseconds = 1...2
            $0.restMillisecondsMax = 10_000
            $0.hedgeThreadsMax = 4
        }
        let given = Monitor(0)
        let threads = try (0..<16).map { thread in
            try Threads.start(name: "ask") {
                let memory = ReplyMemory()
                for step in 0..<100 {
                    let (cid, bytes) = blocks[(thread * 7 + step) % blocks.count]
                    var request = BlockRequest(cid, deadlineMilliseconds: 60_000)
                    request.asksPeers = true
                    do throws(RemoteError) {
                        let found = try set.block(request, memory: memory)
                        #expect(found == bytes)
                        memory.keep(found)
                        given.withLock { $0 += 1 }
                    } catch {
                        #expect([.notFound, .unreachable].contains(error.kind))
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(given.withLock { $0 } > 1_500)
        #expect(set.status().reduce(0) { $0 + $1.blocks } >= UInt64(given.withLock { $0 }))
    }
}
