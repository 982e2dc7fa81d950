import ArgumentParser
import Kubo
import Logging
import MerkleDAG
import Remotes
import Volume

// Options that several commands have. Each stands here once.

/// Which volume, for commands that need no mount.
struct VolumeOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The state directory that is meant, mounted or not; paths are those inside of its volume.",
            valueName: "dir"),
        completion: .directory)
    var stateDir: String?
}

/// How a command answers.
struct ReportOption: ParsableArguments {
    @Flag(help: "Print JSON.")
    var json = false
}

/// Gateways.
struct GatewayOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A trustless gateway that gives blocks and IPNS records; may be repeated.",
            valueName: "url"))
    var gateway: [String] = []
}

/// Who knows domains.
struct DNSOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Who is asked for domains: A.B.C.D[:PORT], [IPV6][:PORT], or https:// and the rest.",
            discussion: "The system's servers where it is left out.", valueName: "server"))
    var dns: String?
}

/// Who has blocks beside a Kubo node.
struct ContentOptions: ParsableArguments {
    @OptionGroup var gateways: GatewayOption

    @Option(
        help: ArgumentHelp("A CAR file that has blocks; may be repeated.", valueName: "file"),
        completion: .file())
    var car: [String] = []
}

/// A Kubo node, and who we are there.
struct KuboAccess: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A Kubo node; 'auto' takes that of $IPFS_PATH.",
            discussion: "An http:// address, a multiaddr, host:port or /unix/PATH.",
            valueName: "addr"))
    var kubo: String?

    @Option(
        help: ArgumentHelp(
            "A file with the node's credentials: bearer:TOKEN or basic:USER:PASSWORD.",
            discussion:
                "The environment variable \(KuboCredentials.environmentName) may have them.",
            valueName: "file"),
        completion: .file())
    var kuboAuthFile: String?

    @Flag(
        name: .customLong("kubo-auth-over-http"),
        help: "Let the credentials go over plain http to another machine.")
    var kuboAuthOverHTTP = false

    /// Whether none of them is given.
    var isEmpty: Bool { kubo == nil && kuboAuthFile == nil && !kuboAuthOverHTTP }

    /// The settings; nil without a Kubo node.
    ///
    /// - Parameters:
    ///   - base: what was said of it elsewhere.
    ///   - other: the address of one that is taken where none was given.
    func settings(
        over base: KuboSettings? = nil, or other: String? = nil
    ) throws(Failure) -> KuboSettings? {
        guard let address = kubo ?? base?.address ?? other else {
            guard isEmpty else { throw Self.isMissing }
            return nil
        }
        var settings = base ?? KuboSettings(address: address)
        settings.address = address
        if let kuboAuthFile { settings.credentialsFile = kuboAuthFile }
        if kuboAuthOverHTTP { settings.sendsCredentialsInTheOpen = true }
        return settings
    }

    static var isMissing: Failure {
        Failure("options for a node need the node: add --kubo ADDR", exitCode: 64)
    }
}

/// Who has what a volume that is not mounted has not; a mount has sources of its own.
struct OfflineOptions: ParsableArguments {
    @OptionGroup var content: ContentOptions
    @OptionGroup var kubo: KuboAccess

    /// - Parameter dns: who is asked for domains, where names are resolved.
    func sources(dns: String? = nil) throws(Failure) -> OfflineSources {
        var settings = SourceSettings()
        settings.gateways = content.gateways.gateway
        settings.archives = content.car
        settings.dns = dns
        return OfflineSources(content: try settings.located(), node: try kubo.settings())
    }
}

/// Where a volume that is not mounted gets what is not here.
struct OfflineSources: Sendable {
    var content = SourceSettings()
    var node: KuboSettings?

    var isEmpty: Bool { content == SourceSettings() && node == nil }

    /// Opens them. Sends nothing.
    func open(log: Logger) throws(Failure) -> (MountSources, FetchOptions?) {
        let store = try node.map { (node) throws(Failure) in
            KuboRemote(try node.client(log: log))
        }
        let sources = try MountSources(content, beside: store)
        let blocks: (any RemoteBlocks)? = sources.all ?? store
        return (sources, blocks.map { FetchOptions($0) })
    }

    /// Refuses them where a daemon answers.
    func refuseForMount() throws(Failure) {
        guard isEmpty else {
            throw Failure(
                "a mounted volume asks its own sources: leave --gateway, --car, --kubo and --dns out",
                exitCode: 64)
        }
    }
}

/// The volume that a command is about as a whole.
enum VolumeChoice {
    /// By a mount of it.
    case mounted(MountEntry)
    /// By its state directory, mounted or not.
    case directory(String)

    /// The one that a person named, or the only one that is mounted; nil where none is.
    static func find(
        mountpoint: String? = nil, stateDirectory: String? = nil
    ) throws(Failure) -> VolumeChoice? {
        let table = try MountTable.read()
        if let mountpoint {
            guard stateDirectory == nil else {
                throw Failure("a mount point and --state-dir exclude each other", exitCode: 64)
            }
            guard let named = try PathWalk.mount(named: mountpoint, in: table) else {
                throw Failure(
                    "\(RawText.shown(mountpoint)) is not on a mount of registryfs: "
                        + "'registryfs status' lists them")
            }
            guard named.mount.isTrusted else {
                throw Failure(named.mount.otherUser, kind: .foreign)
            }
            return .mounted(named.mount)
        }
        if let stateDirectory { return .directory(stateDirectory) }
        let mounts = table.trustedRegistryMounts
        guard Set(mounts.map(\.device)).count <= 1 else {
            throw Failure(
                "more than one volume is mounted: say which one is meant by its mount point or --state-dir",
                exitCode: 64)
        }
        // A bind mount may show a part of it.
        let whole = mounts.first { $0.root == [UInt8(ascii: "/")] }
        return (whole ?? mounts.first).map { .mounted($0) }
    }

    var stateDirectory: String {
        switch self {
        case .mounted(let mount): mount.stateDirectory
        case .directory(let path): path
        }
    }

    /// The path that a person gave, or the root of the volume that is meant where none was given; and the state directory
    /// in which it is to be understood, nil for a path on a mount.
    static func place(
        _ path: String?, stateDirectory: String?
    ) throws(Failure) -> (path: String, stateDirectory: String?) {
        if let path { return (path, stateDirectory) }
        return switch try find(stateDirectory: stateDirectory) {
        case .mounted(let mount): (RawText.text(of: mount.point), nil)
        case .directory(let directory): ("/", directory)
        case nil: ("/", VolumeAccess.defaultStateDirectory)
        }
    }
}
