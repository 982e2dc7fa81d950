import FuseSession
import Logging
import MerkleDAG
import Volume

/// What a person asked `mount` for, its options and those of `-o` put together.
struct MountSettings: Sendable, Equatable {
    var mountPoint = ""
    var stateDirectory = VolumeAccess.defaultStateDirectory
    /// The name of a profile; nil takes the volume's own, or the default for a new volume.
    var profile: String?
    var logLevel = Logger.Level.info
    /// Whom the CID of a directory is for.
    var directoryCIDs = DirectoryCIDs.owner
    /// The Kubo node that the volume publishes to; nil for none.
    var kubo: KuboSettings?
    /// Where content comes from beside it, and what the tree begins with.
    var sources = SourceSettings()
    /// Domains that are looked up because somebody asks for a repository of their name.
    var pullThrough = PullThroughSettings()
    /// How content is fetched, from whomever.
    var fetch = FetchSettings()
    /// When snapshots are made, and which of them stay.
    var snapshots = SnapshotSettings()
    /// Where a server of the volume listens that is kept beside the mount; none for no server.
    var serve: [String] = []
    /// The options of `-o` that are not for the daemon itself, as FUSE takes them.
    var fuseOptions: [String] = []
    /// How the volume is mounted, `fuseOptions` among it.
    var fuse = FuseConfiguration()

    /// Says what is wrong between the settings.
    func check() throws(Failure) {
        try snapshots.check(isReadOnly: fuse.isReadOnly)
        _ = try ServeSettings(subject: .volume(stateDirectory: stateDirectory), listen: serve)
            .addresses()
        let hasSources = !sources.gateways.isEmpty || !sources.archives.isEmpty
        guard fetch == FetchSettings() || kubo != nil || hasSources || pullThrough.isOn else {
            throw Failure(
                "options for what is fetched need somebody who has it: add --kubo, --gateway or --car",
                exitCode: 64)
        }
        try pullThrough.check(isReadOnly: fuse.isReadOnly)
        if let kubo, pullThrough.isOn, kubo.publishes {
            throw Failure(
                "with --pull-through a Kubo node is a source alone: leave --mfs-path, --publish-interval, --upload-limit, "
                    + "--durability and --from-mfs out", exitCode: 64)
        }
        guard !(kubo?.adoptsTree ?? false) || sources.origin == nil else {
            throw Failure("--from and --from-mfs exclude each other", exitCode: 64)
        }
        guard sources.origin == nil || kubo != nil || hasSources else {
            throw Failure(
                "--from needs somebody who has the content: add --gateway, --car or --kubo",
                exitCode: 64)
        }
    }

    /// Adds a list of options as mount(8) passes them, separated by commas.
    mutating func add(options list: String) throws(Failure) {
        for option in list.split(separator: ",").map(String.init) {
            let parts = option.split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false
            ).map(String.init)
            switch (parts[0], parts.count == 2 ? parts[1] : "") {
            case ("state-dir", let value): stateDirectory = value
            case ("profile", let value): profile = try Self.profile(named: value)
            case ("log-level", let value): logLevel = try Self.level(named: value)
            case ("serve", let value): serve.append(value)
            case ("directory-cids", let value): directoryCIDs = try Self.directoryCIDs(named: value)
            case (let name, let value):
                guard try !KuboSettings.apply(name, value, to: &kubo),
                    !sources.apply(name, value), try !fetch.apply(name, value),
                    try !snapshots.apply(name, value), try !pullThrough.apply(name, value)
                else { continue }
                try add(fuseOption: option)
            }
        }
    }

    private mutating func add(fuseOption option: String) throws(Failure) {
        do throws(FuseError) {
            try fuse.apply(options: option)
            fuseOptions.append(option)
        } catch {
            throw Failure("\(error); 'man mount' and docs/COMMANDS.md list them", exitCode: 64)
        }
    }

    /// Checks the name of a profile.
    static func profile(named name: String) throws(Failure) -> String {
        guard ImportProfile(name: name) != nil else {
            throw Failure(
                "unknown profile '\(RawText.shown(name))': "
                    + ImportProfile.names.joined(separator: " or "),
                exitCode: 64)
        }
        return name
    }

    /// Reads for whom the CIDs of directories are.
    static func directoryCIDs(named name: String) throws(Failure) -> DirectoryCIDs {
        guard let found = DirectoryCIDs(rawValue: name) else {
            let names = DirectoryCIDs.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure(
                "directory-cids '\(RawText.shown(name))': one of \(names)", exitCode: 64)
        }
        return found
    }

    /// Reads the name of a log level.
    static func level(named name: String) throws(Failure) -> Logger.Level {
        guard let level = Logger.Level(rawValue: name) else {
            let names = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure(
                "unknown log level '\(RawText.shown(name))': one of \(names)", exitCode: 64)
        }
        return level
    }
}
