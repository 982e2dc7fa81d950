import Base
import HTTPServer
import HTTPTypes
import Serving
import Testing

/// Clients that take their answers slowly.
@Suite struct TakingRateTests {
    /// Of 1 KiB in a second over a minute, with nothing at all for a minute at most.
    private func rate() -> TakingRate {
        TakingRate(stall: 60_000, window: 60_000, bytesPerSecond: 1_024, at: 0)
    }

    /// When a client that takes some bytes every few milliseconds is too slow, in milliseconds; nil where it is not in a day.
    private func end(taking bytes: UInt64, every interval: Int64) -> Int64? {
        var rate = rate()
        for now in stride(from: Int64(0), through: 86_400_000, by: 5_000) {
            let taken = UInt64(now / interval) * bytes
            if rate.isTooSlow(taken: taken, at: now) { return now }
        }
        return nil
    }

    @Test func whoTakesAByteAMinuteIsTooSlow() {
        #expect(end(taking: 1, every: 60_000).map { $0 <= 120_000 } == true)
        #expect(end(taking: 1, every: 1_000).map { $0 <= 120_000 } == true)
        #expect(end(taking: 0, every: 1_000).map { $0 <= 120_000 } == true)
    }

    @Test func whoTakesAFewKiBASecondGoesOn() {
        #expect(end(taking: 3 << 10, every: 1_000) == nil)
        // As an HTTP/2 stream is seen, in steps of 64 KiB.
        #expect(end(taking: 64 << 10, every: 25_000) == nil)
    }

    /// What looks at what was taken say, one after the other; nothing waits for the client where nothing is said to be taken.
    private func judge(
        _ looks: (taken: UInt64?, at: Int64)..., by rate: TakingRate? = nil
    ) -> [Bool] {
        var rate = rate ?? self.rate()
        return looks.map { look in
            if let taken = look.taken { return rate.isTooSlow(taken: taken, at: look.at) }
            rate.rest(at: look.at)
            return false
        }
    }

    @Test func aWindowThatWasFastIsNoStoreForThoseThatFollow() {
        let judged = judge(
            (0, 0), (1 << 30, 60_000), (1 << 30 + 1, 90_000), (1 << 30 + 2, 120_000))
        #expect(judged == [false, false, false, true])
    }

    @Test func timeInWhichNothingWaitsForTheClientDoesNotCount() {
        let judged = judge(
            (0, 0), (nil, 600_000), (1, 605_000), (2, 660_000), (3, 665_000))
        #expect(judged == [false, false, false, false, true])
    }

    @Test func withoutABoundOnlyAStallCounts() {
        let unbound = TakingRate(stall: 60_000, window: 60_000, bytesPerSecond: 0, at: 0)
        let judged = judge(
            (1, 50_000), (2, 100_000), (3, 150_000), (4, 200_000), (4, 260_000), (4, 260_001),
            by: unbound)
        #expect(judged == [false, false, false, false, false, true])
    }

    @Test func clientThatDripsIsClosed() async throws {
        let file = try TestFile(byteCount: 1 << 20)
        let places = (0..<64).map { _ in file.range(0..<1 << 20) }
        try await withServer(
            {
                $0.stallMilliseconds = 3_600_000
                $0.takingMilliseconds = 200
                $0.takenBytesPerSecondMin = 1 << 30
            }, handler: { _ in ServeResponse(200, [:], .pieces(places)) }
        ) { server in
            let client = try RawClient(to: server.address, receiveBytes: 4_096)
            try client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            #expect(try client.receiveReply(isHead: true).status == 200)
            // It takes some all the time, and yet it ends before there is no more.
            #expect(try client.receiveToEnd(pausing: 5).count < 64 << 20)
        }
    }
}
