internal import Glibc

/// Which snapshots stay when others are deleted. One that any of the rules keeps stays.
public struct PruneRule: Sendable, Equatable, Codable {
    /// How many are kept, of those that were made last.
    public var last: Int?
    /// For how many of the newest hours, days, weeks, months and years that have one the newest is kept. Time is UTC, and a
    /// week begins on Monday (ISO 8601).
    public var hourly: Int?
    public var daily: Int?
    public var weekly: Int?
    public var monthly: Int?
    public var yearly: Int?

    /// The numbers that a rule can have.
    public static let countRange = 1...1_000_000

    public init() {}

    /// Whether it says what stays, in numbers that a rule can have.
    public var isUsable: Bool {
        let counts = [last, hourly, daily, weekly, monthly, yearly].compactMap(\.self)
        return !counts.isEmpty && counts.allSatisfy { Self.countRange.contains($0) }
    }

    /// The snapshots that no rule keeps, the oldest first. What was made later counts as newer, whatever the clock said.
    ///
    /// - Precondition: it is usable.
    public func pruned(of snapshots: [Snapshot]) -> [Snapshot] {
        precondition(isUsable, "a rule that keeps nothing")
        let newestFirst = snapshots.sorted { $0.number > $1.number }
        var kept = Set(newestFirst.prefix(last ?? 0).map(\.number))
        let periods: [(Int?, (Int64) -> Int64)] = [
            (hourly, { Self.floor($0, 3_600) }),
            (daily, { Self.floor($0, 86_400) }),
            // The epoch began on a Thursday.
            (weekly, { Self.floor(Self.floor($0, 86_400) + 3, 7) }),
            (monthly, Self.month), (yearly, { Self.floor(Self.month($0), 12) }),
        ]
        for (count, period) in periods {
            guard let count else { continue }
            kept.formUnion(Self.newest(of: newestFirst, in: count, by: period))
        }
        return newestFirst.reversed().filter { !kept.contains($0.number) }
    }

    /// The newest snapshot of each of the newest periods that have one.
    private static func newest(
        of newestFirst: [Snapshot], in count: Int, by period: (Int64) -> Int64
    ) -> [UInt64] {
        var newest: [Int64: UInt64] = [:]
        for snapshot in newestFirst {
            let key = period(floor(snapshot.createdAt, 1_000_000_000))
            newest[key] = newest[key] ?? snapshot.number
        }
        return newest.sorted { $0.key > $1.key }.prefix(count).map(\.value)
    }

    private static func floor(_ value: Int64, _ divisor: Int64) -> Int64 {
        let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }

    /// Months since the year 0 of seconds since the epoch.
    private static func month(_ seconds: Int64) -> Int64 {
        var time = time_t(seconds)
        var parts = tm()
        // What 64 bits of nanoseconds can say is far within what this takes.
        gmtime_r(&time, &parts)
        return (Int64(parts.tm_year) + 1900) * 12 + Int64(parts.tm_mon)
    }
}
