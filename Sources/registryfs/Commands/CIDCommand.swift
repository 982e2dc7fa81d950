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

    func run() throws {
        try CIDRun.run(paths, stateDirectory: volume.stateDir)
    }
}

/// The option of commands that also work on a volume that is not mounted.
struct VolumeOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The volume's state directory, mounted or not; paths are those inside of the volume.",
            valueName: "dir"),
        completion: .directory)
    var stateDir: String?
}

/// What `cid` does once its arguments are read.
enum CIDRun {
    static func run(_ paths: [String], stateDirectory: String?) throws {
        var finder = VolumeFinder(stateDirectory: stateDirectory, seals: true)
        var hasFailed = false
        for path in paths {
            do throws(Failure) {
                let cid = try finder.cid(ofPath: path).description
                try Output.line(paths.count == 1 ? cid : "\(cid) \(RawText.shown(path))")
            } catch {
                Program.complain(error.message)
                hasFailed = true
            }
        }
        try finder.close()
        if hasFailed { throw ExitCode(1) }
    }
}
