import ArgumentParser
import Volume

/// When a mount makes snapshots, and which of those stay.
struct SnapshotSettings: Sendable, Equatable {
    /// The time between two, in seconds; nil for none.
    var everySeconds: Int64?
    /// Which of them stay; without a number all do.
    var rule = PruneRule()

    private static let secondsRange: ClosedRange<Int64> = 1...(366 * 86_400)

    private static let rules:
        [(name: String, path: any WritableKeyPath<PruneRule, Int?> & Sendable)] =
            [
                ("last", \.last), ("hourly", \.hourly), ("daily", \.daily), ("weekly", \.weekly),
                ("monthly", \.monthly), ("yearly", \.yearly),
            ]

    /// The arguments of `mount` that say the same.
    var arguments: [String] {
        guard let everySeconds else { return [] }
        let kept = Self.rules.flatMap { name, path in
            rule[keyPath: path].map { ["--snapshot-keep-\(name)", "\($0)"] } ?? []
        }
        return ["--snapshot-every", "\(everySeconds)s"] + kept
    }

    func check(isReadOnly: Bool) throws(Failure) {
        guard everySeconds != nil else {
            guard rule == PruneRule() else {
                throw Failure(
                    "--snapshot-keep-… is for snapshots that the mount makes: add --snapshot-every",
                    exitCode: 64)
            }
            return
        }
        guard !isReadOnly else {
            throw Failure(
                "--snapshot-every is for a mount that can be changed: leave it out, or --read-only and --follow",
                exitCode: 64)
        }
    }

    mutating func set(every text: String) throws(Failure) {
        everySeconds = try TimeLength.seconds(text, "--snapshot-every", in: Self.secondsRange)
    }

    /// Takes an option of `-o`; false where it is none of these.
    mutating func apply(_ option: String, _ value: String) throws(Failure) -> Bool {
        if option == "snapshot-every" {
            try set(every: value)
            return true
        }
        guard let (_, path) = Self.rules.first(where: { "snapshot-keep-\($0.name)" == option })
        else { return false }
        guard let count = Int(value) else {
            throw Failure("\(option)=\(RawText.shown(value)): a number", exitCode: 64)
        }
        rule[keyPath: path] = try Self.checked(count, option)
        return true
    }

    /// Checks how many are to stay.
    static func checked(_ count: Int?, _ option: String) throws(Failure) -> Int? {
        let range = PruneRule.countRange
        guard let count, !range.contains(count) else { return count }
        throw Failure(
            "\(option) \(count): a number from \(range.lowerBound) to \(range.upperBound)",
            exitCode: 64)
    }
}

/// The options of `mount` that are about snapshots.
struct SnapshotArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Make a snapshot so often, where the tree has changed: 15m, 1h, 1d.",
            valueName: "duration"))
    var snapshotEvery: String?

    @Option(help: ArgumentHelp("Of these, keep so many that were made last.", valueName: "n"))
    var snapshotKeepLast: Int?

    @Option(
        help: ArgumentHelp("The newest of each of so many hours that have one.", valueName: "n"))
    var snapshotKeepHourly: Int?

    @Option(help: ArgumentHelp("Of so many days.", valueName: "n"))
    var snapshotKeepDaily: Int?

    @Option(help: ArgumentHelp("Of so many weeks.", valueName: "n"))
    var snapshotKeepWeekly: Int?

    @Option(help: ArgumentHelp("Of so many months.", valueName: "n"))
    var snapshotKeepMonthly: Int?

    @Option(help: ArgumentHelp("Of so many years.", valueName: "n"))
    var snapshotKeepYearly: Int?

    func settings(over base: SnapshotSettings) throws(Failure) -> SnapshotSettings {
        var settings = base
        if let snapshotEvery { try settings.set(every: snapshotEvery) }
        let counts = [
            ("last", snapshotKeepLast), ("hourly", snapshotKeepHourly),
            ("daily", snapshotKeepDaily), ("weekly", snapshotKeepWeekly),
            ("monthly", snapshotKeepMonthly), ("yearly", snapshotKeepYearly),
        ]
        for case (let name, let count?) in counts {
            _ = try settings.apply("snapshot-keep-\(name)", "\(count)")
        }
        return settings
    }
}
