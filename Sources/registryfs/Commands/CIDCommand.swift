import ArgumentParser
import Multiformats

struct CIDCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cid",
        abstract: "Print the CID of files and directories, sealing what is not sealed yet.",
        discussion: "A symlink's CID is its own. With more than one path, each line ends with it.")

    @Argument(help: "Paths on a mount.", completion: .file())
    var paths: [String]

    @OptionGroup var volume: VolumeOption
    @OptionGroup(title: "Sources of a volume that is not mounted")
    var offline: OfflineOptions
    @OptionGroup var report: ReportOption

    func run() throws {
        try CIDRun.run(
            paths, stateDirectory: volume.stateDir, try offline.sources(), json: report.json)
    }
}

/// What `cid --json` prints. The keys are part of the program's interface.
struct CIDsReport: Codable, Sendable {
    struct Entry: Codable, Sendable {
        var path: String
        /// Nil where there is none.
        var cid: String?
        /// Why there is none.
        var error: String?
    }

    var cids: [Entry]
}

/// What `cid` does once its arguments are read.
enum CIDRun {
    static func run(
        _ paths: [String], stateDirectory: String?, _ sources: OfflineSources, json: Bool
    ) throws {
        var finder = VolumeFinder(stateDirectory: stateDirectory, seals: true, sources: sources)
        var report = CIDsReport(cids: [])
        var hasFailed = false
        for path in paths {
            var entry = CIDsReport.Entry(path: RawText.shown(path))
            do throws(Failure) {
                let cid = try finder.cid(ofPath: path).description
                entry.cid = cid
                if !json {
                    try Output.line(paths.count == 1 ? cid : "\(cid) \(entry.path)")
                }
            } catch {
                entry.error = error.message
                Program.complain(error.message)
                hasFailed = true
            }
            report.cids.append(entry)
        }
        try finder.close()
        if json { try Output.line(try ReportText.json(report)) }
        if hasFailed { throw ExitCode(1) }
    }
}
