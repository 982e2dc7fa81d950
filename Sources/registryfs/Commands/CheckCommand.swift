import ArgumentParser
import Volume

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Verify a whole state directory that is not mounted.",
        discussion: """
            Exits with 0 where all is well, 1 where problems were found and not all repaired, 2 \
            where the check could not be made.
            """)

    @Option(
        help: ArgumentHelp("The state directory.", valueName: "dir"), completion: .directory)
    var stateDir = VolumeAccess.defaultStateDirectory

    @Flag(help: "Repair what can be repaired; without it nothing is changed.")
    var repair = false

    func run() throws {
        try CheckRun.run(stateDir, repairs: repair)
    }
}

/// What `check` does once its arguments are read.
enum CheckRun {
    static func run(_ stateDirectory: String, repairs: Bool) throws {
        let report = try check(stateDirectory, repairs: repairs)
        for repaired in report.repaired {
            try Output.line("repaired: \(RawText.shown(repaired))")
        }
        for problem in report.problems { try Output.line("problem: \(RawText.shown(problem))") }
        guard report.problems.isEmpty else {
            let hint = repairs ? "" : ": --repair mends what can be mended"
            Program.complain(
                "\(RawText.shown(stateDirectory)): "
                    + Figures.count(UInt64(report.problems.count), "problem") + hint)
            throw ExitCode(1)
        }
        try Output.line("\(RawText.shown(stateDirectory)) is clean")
    }

    private static func check(
        _ stateDirectory: String, repairs: Bool
    ) throws(Failure) -> CheckReport {
        do throws(Failure) {
            let path = try VolumeAccess.checked(stateDirectory)
            var bar = ProgressBar("checking")
            do throws(VolumeError) {
                return try Volume.check(stateDirectory: path, repair: repairs) { done, total in
                    bar.update(bytes: done, of: total)
                }
            } catch {
                throw Failure(volume: error)
            }
        } catch {
            throw Failure(error.message, exitCode: 2)
        }
    }
}
