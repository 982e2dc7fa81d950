import ArgumentParser
import Glibc

import struct SystemPackage.Errno

struct UnmountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unmount",
        abstract: "Make everything durable, then leave a mount; returns when its daemon has ended.")

    @Argument(help: "The mount point.", completion: .directory)
    var mountpoint: String

    @Flag(help: "Detach at once although something uses the mount.")
    var lazy = false

    func run() throws {
        try UnmountRun.run(mountpoint, isLazy: lazy)
    }
}

/// What `unmount` does once its arguments are read.
enum UnmountRun {
    private static let endSecondsMax = 10

    static func run(_ shown: String, isLazy: Bool) throws(Failure) {
        let mount = try mount(at: shown)
        let client = ControlClient(stateDirectory: mount.stateDirectory)
        let daemon = client.process
        do throws(Failure) {
            var request = ControlRequest(command: .unmount, isLazy: isLazy)
            request.shownPath = RawText.text(of: mount.point)
            let result = try client.ask(request)
            if result.isLingering == true {
                SystemFiles.say(
                    "registryfs: \(RawText.shown(mount.point)) is detached; its daemon"
                        + (daemon.map { " (pid \($0))" } ?? "")
                        + " ends when the last file is closed\n", to: STDERR_FILENO)
            } else if let daemon {
                waitForEnd(of: daemon)
            }
        } catch {
            try unmount(after: error, mount, isLazy: isLazy)
        }
    }

    private static func mount(at shown: String) throws(Failure) -> MountEntry {
        let table = try MountTable.read()
        guard let named = try PathWalk.mount(named: shown, in: table) else {
            throw Failure(
                "\(RawText.shown(shown)) is not a mount of registryfs: "
                    + "'registryfs status' lists them")
        }
        guard named.isRoot else {
            throw Failure(
                "\(RawText.shown(shown)) lies on the mount \(RawText.shown(named.mount.point)): "
                    + "unmount that")
        }
        guard !named.isBound else {
            throw Failure(
                "\(RawText.shown(shown)) is a bind mount of a directory of registryfs: "
                    + "use umount(8)")
        }
        return named.mount
    }

    /// The daemon's process ends after its answer; only then are its locks gone for certain.
    private static func waitForEnd(of process: Int32) {
        for _ in 0..<endSecondsMax * 100 where !Processes.hasEnded(process) { usleep(10_000) }
    }

    /// Unmounts without the daemon, or says why that is not to be.
    private static func unmount(
        after failure: Failure, _ mount: MountEntry, isLazy: Bool
    ) throws(Failure) {
        let point = RawText.shown(mount.point)
        switch failure.kind {
        case .busy:
            let users = Unmounting.users(of: mount.point)
            guard !users.isEmpty else { throw failure }
            throw Failure(
                "\(point) is in use by \(Unmounting.shown(users)): "
                    + "stop that first, or use --lazy", kind: .busy)
        case .unreachable:
            // Without a daemon nothing is left to be made durable.
            guard isLazy || Unmounting.isDead(mount.point) else {
                throw Failure("\(failure.message), yet \(point) answers: use --lazy")
            }
            try detach(mount.point)
        default:
            guard isLazy else { throw failure }
            Program.complain(failure.message)
            try detach(mount.point)
        }
    }

    private static func detach(_ point: [UInt8]) throws(Failure) {
        do throws(Errno) {
            try Unmounting.unmount(point, isLazy: true)
        } catch {
            throw Failure("\(RawText.shown(point)): cannot unmount: \(error.reason)")
        }
        SystemFiles.say(
            "registryfs: \(RawText.shown(point)) had no daemon that answers; it is detached\n",
            to: STDERR_FILENO)
    }
}
