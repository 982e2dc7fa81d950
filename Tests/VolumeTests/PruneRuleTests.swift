import Foundation
import Multiformats
import Testing
import Volume

/// Snapshots of these moments, numbered as they come, which is how they were made.
private func snapshots(_ times: [String]) throws -> [Snapshot] {
    let root = CID.raw(sha256: [])
    return try times.enumerated().map { index, time in
        let date = try #require(ISO8601DateFormatter().date(from: time + "Z"))
        return Snapshot(
            number: UInt64(index + 1), name: time, root: root, treeSize: 0,
            createdAt: Int64(date.timeIntervalSince1970) * 1_000_000_000)
    }
}

private func rule(
    last: Int? = nil, hourly: Int? = nil, daily: Int? = nil, weekly: Int? = nil,
    monthly: Int? = nil, yearly: Int? = nil
) -> PruneRule {
    var rule = PruneRule()
    (rule.last, rule.hourly, rule.daily) = (last, hourly, daily)
    (rule.weekly, rule.monthly, rule.yearly) = (weekly, monthly, yearly)
    return rule
}

struct PruneRuleTests {
    /// Over the end of an hour, a day, a week, a month and a year.
    private static let times = [
        "2024-12-29T23:59:59",  // the last second of ISO week 2024-52, a Sunday
        "2024-12-30T00:00:00",  // ISO week 2025-01
        "2024-12-31T22:00:00",
        "2024-12-31T22:59:59",
        "2024-12-31T23:00:00",
        "2025-01-01T00:00:00",
        "2025-01-05T12:00:00",  // still ISO week 2025-01
        "2025-01-06T00:00:00",  // ISO week 2025-02
        "2025-02-28T10:00:00",
        "2025-02-28T10:30:00",
    ]

    static let table: [(PruneRule, [Int])] = [
        (rule(last: 1), [10]),
        (rule(last: 3), [8, 9, 10]),
        (rule(last: 99), Array(1...10)),
        (rule(hourly: 1), [10]),
        (rule(hourly: 2), [8, 10]),
        // Of two in one hour the later one.
        (rule(hourly: 6), [4, 5, 6, 7, 8, 10]),
        (rule(hourly: 99), [1, 2, 4, 5, 6, 7, 8, 10]),
        (rule(daily: 99), [1, 2, 5, 6, 7, 8, 10]),
        (rule(daily: 4), [6, 7, 8, 10]),
        (rule(weekly: 99), [1, 7, 8, 10]),
        (rule(weekly: 3), [7, 8, 10]),
        (rule(monthly: 99), [5, 8, 10]),
        (rule(monthly: 1), [10]),
        (rule(yearly: 99), [5, 10]),
        // What any rule keeps stays.
        (rule(last: 2, yearly: 2), [5, 9, 10]),
        (rule(daily: 2, weekly: 4), [1, 7, 8, 10]),
        (rule(last: 1, hourly: 1, daily: 1, weekly: 1, monthly: 1, yearly: 1), [10]),
    ]

    @Test(arguments: table) func whatIsKeptIsAsTheTableSays(
        _ rule: PruneRule, _ kept: [Int]
    ) throws {
        // The order in which they are given does not count.
        let all = try snapshots(Self.times)
        let pruned = rule.pruned(of: all.shuffled()).map { Int($0.number) }
        #expect(pruned == (1...10).filter { !kept.contains($0) })
    }

    @Test func oneThatWasMadeAfterTheClockWentBackIsTheNewest() throws {
        let all = try snapshots(["2025-06-01T10:00:00", "2025-06-01T09:00:00"])
        #expect(rule(last: 1).pruned(of: all).map(\.number) == [1])
        #expect(rule(daily: 1).pruned(of: all).map(\.number) == [1])
        #expect(rule(hourly: 2).pruned(of: all).isEmpty)
    }

    @Test func timesBeforeTheEpochHavePeriodsToo() throws {
        let all = try snapshots([
            "1969-12-28T23:00:00", "1969-12-29T01:00:00", "1969-12-31T23:59:59",
            "1970-01-01T00:00:00",
        ])
        #expect(rule(weekly: 9).pruned(of: all).map(\.number) == [2, 3])
        #expect(rule(yearly: 9).pruned(of: all).map(\.number) == [1, 2])
        #expect(rule(daily: 9).pruned(of: all).isEmpty)
    }

    @Test func nothingIsPrunedOfNothing() {
        #expect(rule(last: 1).pruned(of: []).isEmpty)
        #expect(rule(yearly: 1).isUsable)
    }

    @Test func aRuleThatKeepsNothingIsNone() {
        #expect(!PruneRule().isUsable)
        #expect(!rule(last: 0).isUsable)
        #expect(!rule(last: 1, daily: -1).isUsable)
        #expect(!rule(weekly: 1_000_001).isUsable)
    }
}
