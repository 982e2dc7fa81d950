import ArgumentParser
import FuseSession
import Logging
import MerkleDAG
import Volume

struct MountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount",
        abstract: "Mount a volume; returns when it is mounted and ready.")

    @Argument(help: "An empty directory.", completion: .directory)
    var mountpoint: String

    @Option(
        help: ArgumentHelp(
            "Where the volume's content is kept.", discussion: "It is made where it is missing.",
            valueName: "dir"),
        completion: .directory)
    var stateDir: String?

    @Option(
        help: ArgumentHelp(
            "How content becomes CIDs; fixed when the volume is made.",
            valueName: ImportProfile.names.joined(separator: "|")))
    var profile: String?

    @Flag(help: "Refuse every change.")
    var readOnly = false

    @Flag(
        inversion: .prefixedNo,
        help: "Let other users in (default for root; else /etc/fuse.conf must allow it).")
    var allowOther: Bool?

    @Flag(
        name: .customLong("no-passthrough"),
        help: "Serve every read and write by a request, also where the kernel could do it itself.")
    var refusesPassthrough = false

    @Flag(
        name: .customLong("no-io-uring"),
        help: "Take every request from the device, also where the kernel could use io_uring.")
    var refusesRings = false

    @Flag(
        name: .customLong("file-handles"),
        help: "Keep file handles valid, for NFS (not for the layers of overlayfs).")
    var keepsFileHandles = false

    @Option(
        help: ArgumentHelp(
            "Whom ipfs.cid of a directory is told to, beside root (default: owner).",
            valueName: DirectoryCIDs.allCases.map(\.rawValue).joined(separator: "|")))
    var directoryCids: String?

    @Option(
        help: ArgumentHelp(
            "Keep a 'registryfs serve' beside the mount that listens there; may be repeated.",
            valueName: "addr"))
    var serve: [String] = []

    @OptionGroup(title: "Source options")
    var sources: SourceArguments

    @OptionGroup(title: "Kubo options")
    var kuboOptions: KuboArguments

    @OptionGroup(title: "Options of what is fetched")
    var fetch: FetchArguments

    @OptionGroup(title: "Options of pull-through")
    var pullThrough: PullThroughArguments

    @OptionGroup(title: "Snapshot options")
    var snapshots: SnapshotArguments

    @Flag(help: "Stay in the foreground and log to standard error.")
    var foreground = false

    @Option(
        name: .customShort("o", allowingJoined: true),
        help: ArgumentHelp("Options as mount(8) passes them.", valueName: "option,…"))
    var options: [String] = []

    @Option(
        help: ArgumentHelp(
            "How much to log.",
            valueName: Logger.Level.allCases.map(\.rawValue).joined(separator: "|")))
    var logLevel: String?

    @Option(help: .hidden)
    var readyFd: Int32?

    func run() throws {
        try MountRun.run(try settings(), foreground: foreground, pipe: readyFd)
    }

    /// Options of their own win over those of `-o`.
    private func settings() throws(Failure) -> MountSettings {
        var settings = MountSettings()
        for list in options { try settings.add(options: list) }
        settings.mountPoint = mountpoint
        if let stateDir { settings.stateDirectory = stateDir }
        if let profile { settings.profile = try MountSettings.profile(named: profile) }
        if readOnly { settings.fuse.isReadOnly = true }
        if refusesPassthrough { settings.fuse.usesPassthrough = false }
        if refusesRings { settings.fuse.usesRings = false }
        if keepsFileHandles { settings.fuse.keepsFileHandles = true }
        if let allowOther { settings.fuse.allowsOthers = allowOther }
        if let directoryCids {
            settings.directoryCIDs = try MountSettings.directoryCIDs(named: directoryCids)
        }
        settings.serve += serve
        settings.kubo = try kuboOptions.settings(over: settings.kubo)
        settings.sources = sources.settings(over: settings.sources)
        settings.pullThrough = try pullThrough.settings(over: settings.pullThrough)
        settings.fetch = try fetch.settings(over: settings.fetch)
        settings.snapshots = try snapshots.settings(over: settings.snapshots)
        // What goes with a name nobody else may change.
        if settings.sources.follows { settings.fuse.isReadOnly = true }
        if let logLevel { settings.logLevel = try MountSettings.level(named: logLevel) }
        return settings
    }
}

/// What `mount` does once its arguments are read.
enum MountRun {
    static func run(
        _ wanted: MountSettings, foreground: Bool, pipe: Int32?
    ) throws(Failure) {
        _ = try wanted.kubo?.configuration()
        let settings = try located(wanted)
        try settings.check()
        try Unmounting.removeDeadMounts(at: RawText.bytes(of: settings.mountPoint))
        if foreground {
            try Daemon.run(settings, pipe: pipe)
        } else {
            try Daemonizer.start(
                arguments: arguments(settings), stateDirectory: settings.stateDirectory)
        }
    }

    /// The settings with full paths, which the daemon needs because it changes its directory.
    private static func located(_ wanted: MountSettings) throws(Failure) -> MountSettings {
        var settings = wanted
        let table = try MountTable.read()
        let point = try location(of: wanted.mountPoint, in: table)
        let state = try location(of: wanted.stateDirectory, in: table)
        for path in [point, state] where RawText.carriesBytes(RawText.text(of: path)) {
            throw Failure("\(RawText.shown(path)): the path must be UTF-8")
        }
        guard !MountTable.isInside(state, point) && !MountTable.isInside(point, state) else {
            throw Failure(
                "mount point \(RawText.shown(point)) and state directory \(RawText.shown(state)) "
                    + "must not lie within each other: give another --state-dir")
        }
        settings.mountPoint = RawText.text(of: point)
        settings.stateDirectory = RawText.text(of: state)
        settings.kubo = settings.kubo?.located()
        settings.sources = try settings.sources.located()
        return settings
    }

    /// A path without symlinks; its last parts may be missing. A mount of ours at its end, dead or
    /// alive, is not touched; one above it would make this daemon depend on another.
    private static func location(of path: String, in table: MountTable) throws(Failure) -> [UInt8] {
        guard !path.isEmpty else { throw Failure("a path cannot be empty", exitCode: 64) }
        let bytes = RawText.bytes(of: path)
        // Asked as the directory that it names, so that its own symlink is followed too: the kernel
        // lists a mount by the name without symlinks.
        switch try PathWalk.place(of: bytes + Array("/.".utf8), in: table) {
        case .elsewhere(let path):
            return path
        case .registry(let mount, let names, let fixedCount):
            guard names.count == fixedCount else {
                throw Failure(
                    "\(RawText.shown(path)) lies on another mount of registryfs, "
                        + "\(RawText.shown(mount.point)): take a directory elsewhere")
            }
            return mount.point
        }
    }

    private static func arguments(_ settings: MountSettings) -> [String] {
        var arguments = [
            "mount", "--foreground", "--ready-fd", String(Readiness.pipeDescriptor),
            "--state-dir", settings.stateDirectory, "--log-level", settings.logLevel.rawValue,
        ]
        if let profile = settings.profile { arguments += ["--profile", profile] }
        if !settings.fuseOptions.isEmpty {
            arguments += ["-o", settings.fuseOptions.joined(separator: ",")]
        }
        arguments += ["--directory-cids", settings.directoryCIDs.rawValue]
        arguments += settings.kubo?.arguments ?? []
        arguments += settings.sources.arguments + settings.fetch.arguments
        arguments += settings.pullThrough.arguments + settings.snapshots.arguments
        for address in settings.serve { arguments += ["--serve", address] }
        if !settings.fuse.usesPassthrough { arguments.append("--no-passthrough") }
        if !settings.fuse.usesRings { arguments.append("--no-io-uring") }
        if settings.fuse.keepsFileHandles { arguments.append("--file-handles") }
        if settings.fuse.isReadOnly { arguments.append("--read-only") }
        arguments.append(settings.fuse.allowsOthers ? "--allow-other" : "--no-allow-other")
        return arguments + ["--", settings.mountPoint]
    }
}
