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

    @OptionGroup var volume: VolumeOption

    @Flag(help: "Repair what can be repaired; without it nothing is changed.")
    var repair = false

    @OptionGroup var report: ReportOption

    func run() throws {
        try CheckRun.run(
            volume.stateDir ?? VolumeAccess.defaultStateDirectory, repairs: repair,
            json: report.json)
    }
}

/// What `check --json` prints. The keys are part of the program's interface.
struct CheckedReport: Codable, Sendable {
    var stateDirectory: String
    var clean: Bool
    /// The first of them; the counts go on.
    var problems: [String]
    var problemCount: UInt64
    var repaired: [String]
    var repairedCount: UInt64
    var files: UInt64
    var directories: UInt64
    var symlinks: UInt64
    var objects: UInt64
    var bytesHashed: UInt64
    /// What the next mount puts in order, in words; empty where there is nothing.
    var pending: [String]

    init(_ report: CheckReport, of stateDirectory: String) {
        self.stateDirectory = RawText.shown(stateDirectory)
        clean = report.isClean
        problems = report.problems.map { RawText.shown($0) }
        problemCount = report.problemCount
        repaired = report.repaired.map { RawText.shown($0) }
        repairedCount = report.repairedCount
        files = report.files
        directories = report.directories
        symlinks = report.symlinks
        objects = report.objects
        bytesHashed = report.bytesHashed
        pending = CheckRun.words(for: report.pending)
    }
}

/// What `check` does once its arguments are read.
enum CheckRun {
    static func run(_ stateDirectory: String, repairs: Bool, json: Bool) throws {
        let report = try check(stateDirectory, repairs: repairs)
        guard !json else {
            try Output.line(try ReportText.json(CheckedReport(report, of: stateDirectory)))
            guard report.isClean else { throw ExitCode(1) }
            return
        }
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
        try Output.line(
            "the next mount puts in order: "
                + words(for: report.pending).joined(separator: ", "))
    }

    private static func list(_ word: String, _ texts: [String], of count: UInt64) throws(Failure) {
        for text in texts { try Output.line("\(word): \(RawText.shown(text))") }
        guard count > UInt64(texts.count) else { return }
        try Output.line("\(word): \(Figures.count(count - UInt64(texts.count))) more")
    }

    static func words(for pending: CheckReport.Pending) -> [String] {
        let parts: [(UInt64, String, String)] = [
            (pending.unlinkedInodes, "open file without a name", "open files without a name"),
            (pending.unfinishedImports, "import that did not end", "imports that did not end"),
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
