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

    func validate() throws {
        guard (1...86_400).contains(timeout) else {
            throw ValidationError("--timeout: it must be from 1 to 86400 seconds")
        }
    }

    func run() throws {
        var request = ControlRequest(command: .sync)
        request.stallMilliseconds = timeout * 1000
        let client = try ControlClient(stateDirectory: SyncRun.mount(mountpoint).stateDirectory)
        var bar = ProgressBar("publishing")
        let result = try client.ask(
            request,
            pulse: { progress in
                guard let progress else { return }
                bar.update(bytes: progress.done, of: progress.done + progress.left)
            })
        if let root = result.cid { try Output.line(try ContentID.parse(root).description) }
    }
}

/// Which mount `sync` is about.
enum SyncRun {
    static func mount(_ point: String?) throws(Failure) -> MountEntry {
        let table = try MountTable.read()
        if let point {
            guard let named = try PathWalk.mount(named: point, in: table) else {
                throw Failure("\(RawText.shown(point)) is not on a mount of registryfs")
            }
            return named.mount
        }
        var devices: Set<String> = []
        let mounts = table.trustedRegistryMounts.filter { devices.insert($0.device).inserted }
        guard let mount = mounts.first, mounts.count == 1 else {
            throw Failure(
                mounts.isEmpty
                    ? "nothing is mounted"
                    : "more than one volume is mounted: name the mount point",
                exitCode: 64)
        }
        return mount
    }
}
