import ArgumentParser
import Multiformats

struct SyncCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync",
        abstract: "Wait until a mount's tree, as it is now, is published at its Kubo node.",
        discussion: """
            Prints the published root's CID. Exits with 1 where it is given up: nothing moved for \
            the time of --timeout, and standard error says why.
            """)

    @Argument(help: "A mount point; may be left out where only one volume is mounted.")
    var mountpoint: String?

    @Option(
        help: ArgumentHelp(
            "How long nothing may move before it is given up.", valueName: "seconds"))
    var timeout: Int = 60

    @OptionGroup var volume: VolumeOption
    @OptionGroup var report: ReportOption

    func validate() throws {
        guard (1...86_400).contains(timeout) else {
            throw ValidationError("--timeout: it must be from 1 to 86400 seconds")
        }
    }

    func run() throws {
        try SyncRun.run(
            try VolumeChoice.find(mountpoint: mountpoint, stateDirectory: volume.stateDir),
            stallSeconds: timeout, json: report.json)
    }
}

/// What `sync --json` prints. The keys are part of the program's interface.
struct SyncReport: Codable, Sendable {
    /// The published root; nil where there is none.
    var root: String?
}

/// What `sync` does once its arguments are read.
enum SyncRun {
    static func run(
        _ choice: VolumeChoice?, stallSeconds: Int, json: Bool
    ) throws(Failure) {
        guard let choice else { throw Failure("nothing is mounted", exitCode: 64) }
        var directory = choice.stateDirectory
        if case .directory = choice { directory = try VolumeAccess.checked(directory) }
        var request = ControlRequest(command: .sync)
        request.stallMilliseconds = stallSeconds * 1000
        var bar = ProgressBar("publishing")
        let result = try ControlClient(stateDirectory: directory).ask(
            request,
            pulse: { progress in
                guard let progress else { return }
                bar.update(bytes: progress.done, of: progress.done + progress.left)
            })
        let root = try result.cid.map { (text) throws(Failure) in
            try ContentID.parse(text).description
        }
        if json {
            try Output.line(try ReportText.json(SyncReport(root: root)))
        } else if let root {
            try Output.line(root)
        }
    }
}
