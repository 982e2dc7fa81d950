import ArgumentParser
import Checking

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
        try list("repaired", report.repaired, of: report.repairedCount)
        try list("problem", report.problems, of: report.problemCount)
        let directory = RawText.shown(stateDirectory)
        guard report.isClean else {
            let hint = repairs ? "" : ": --repair mends what can be mended"
            Program.complain(
                "\(directory): \(Figures.count(report.problemCount, "problem"))\(hint)")
            throw ExitCode(1)
        }
        let files = Figures.count(report.files, "file")
        let directories = Figures.count(report.directories, "directory", "directories")
        try Output.line(
            "\(directory) is clean: \(files), \(directories), "
                + "\(Figures.bytes(report.bytesHashed)) hashed")
        guard report.pending != CheckReport.Pending() else { return }
        try Output.line("the next mount puts in order: \(text(report.pending))")
    }

    private static func list(_ word: String, _ texts: [String], of count: UInt64) throws(Failure) {
        for text in texts { try Output.line("\(word): \(RawText.shown(text))") }
        guard count > UInt64(texts.count) else { return }
        try Output.line("\(word): \(Figures.count(count - UInt64(texts.count))) more")
    }

    private static func text(_ pending: CheckReport.Pending) -> String {
        let parts: [(UInt64, String, String)] = [
            (pending.unlinkedInodes, "open file without a name", "open files without a name"),
            (pending.unnamedFiles, "object without a row", "objects without a row"),
            (pending.deletedObjects, "object to be removed", "objects to be removed"),
            (
                pending.unsyncedSizes, "file that was being written",
                "files that were being written"
            ),
            (pending.lostFiles, "file that never had bytes", "files that never had bytes"),
            (pending.outdatedTrees, "outdated directory CID", "outdated directory CIDs"),
        ]
        return parts.filter { $0.0 > 0 }.map { Figures.count($0.0, $0.1, $0.2) }
            .joined(separator: ", ")
    }

    private static func check(
        _ stateDirectory: String, repairs: Bool
    ) throws(Failure) -> CheckReport {
        do throws(Failure) {
            let path = try VolumeAccess.checked(stateDirectory)
            var bar = ProgressBar("checking")
            do throws(CheckError) {
                return try Check.run(stateDirectory: path, repair: repairs) { done, total in
                    bar.update(bytes: done, of: total)
                }
            } catch {
                throw Failure(error.description)
            }
        } catch {
            throw Failure(error.message, exitCode: 2)
        }
    }
}
