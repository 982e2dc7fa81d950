import ArgumentParser
import Volume

struct SnapshotPruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune",
        abstract: "Delete all snapshots but those that a rule keeps; print the names of what goes.",
        discussion: "What any of the rules keeps stays. Time is UTC, and weeks begin on Monday.")

    @Option(help: ArgumentHelp("Those that were made last.", valueName: "n"))
    var keepLast: Int?

    @Option(
        help: ArgumentHelp("The newest of each of the newest hours that have one.", valueName: "n"))
    var keepHourly: Int?

    @Option(help: ArgumentHelp("Of days.", valueName: "n"))
    var keepDaily: Int?

    @Option(help: ArgumentHelp("Of weeks.", valueName: "n"))
    var keepWeekly: Int?

    @Option(help: ArgumentHelp("Of months.", valueName: "n"))
    var keepMonthly: Int?

    @Option(help: ArgumentHelp("Of years.", valueName: "n"))
    var keepYearly: Int?

    @Flag(help: "Only those that --snapshot-every made: all others stay, and do not count.")
    var automaticOnly = false

    @Flag(help: "Delete nothing.")
    var dryRun = false

    @OptionGroup var place: SnapshotPlace

    func run() throws {
        var request = SnapshotRequest(.prune)
        request.rule = try rule()
        request.automaticOnly = automaticOnly
        request.isDryRun = dryRun
        var deleted: [String] = []
        let result = try SnapshotAccess(place).askForAll(request, "pruning") {
            (snapshot) throws(Failure) in
            try SnapshotText.tellDeleted(snapshot, &deleted, json: place.json)
        }
        guard place.json else { return }
        try Output.line(
            try ReportText.json(
                DeletionReport(deleted: deleted, kept: result.kept, dryRun: dryRun)))
    }

    private func rule() throws(Failure) -> PruneRule {
        var rule = PruneRule()
        rule.last = try SnapshotSettings.checked(keepLast, "--keep-last")
        rule.hourly = try SnapshotSettings.checked(keepHourly, "--keep-hourly")
        rule.daily = try SnapshotSettings.checked(keepDaily, "--keep-daily")
        rule.weekly = try SnapshotSettings.checked(keepWeekly, "--keep-weekly")
        rule.monthly = try SnapshotSettings.checked(keepMonthly, "--keep-monthly")
        rule.yearly = try SnapshotSettings.checked(keepYearly, "--keep-yearly")
        guard rule.isUsable else {
            throw Failure(
                "without a rule nothing would stay: add --keep-last N, --keep-daily N or another",
                exitCode: 64)
        }
        return rule
    }
}
