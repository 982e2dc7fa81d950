import ArgumentParser
import Base
import CARSource
import Gateway
import Glibc
import Logging
import MerkleDAG
import Multiformats
import Naming
import Remotes
import Volume

/// What `mount` was told of where content comes from beside a Kubo node, and what the tree begins with.
struct SourceSettings: Sendable, Equatable {
    /// URLs of gateways.
    var gateways: [String] = []
    /// Paths of CAR files.
    var archives: [String] = []
    /// What a new volume's tree begins with.
    var origin: String?
    /// The tree goes with the name.
    var follows = false
    /// Who is asked for domains; nil for the system's servers.
    var dns: String?

    /// The bound of gateways and CAR files, together.
    private static let countMax = 32
    /// The arguments of `mount` that say the same.
    var arguments: [String] {
        var arguments: [String] = []
        for gateway in gateways { arguments += ["--gateway", gateway] }
        for archive in archives { arguments += ["--car", archive] }
        if let origin { arguments += ["--from", origin] }
        if follows { arguments.append("--follow") }
        if let dns { arguments += ["--dns", dns] }
        return arguments
    }

    /// The settings for a process with another working directory, looked at as far as they stand for themselves.
    func located() throws(Failure) -> SourceSettings {
        var settings = self
        settings.archives = try archives.map(Self.absolute)
        for gateway in gateways { _ = try Self.url(gateway) }
        guard gateways.count + archives.count <= Self.countMax else {
            throw Failure(
                "more than \(Self.countMax) gateways and CAR files: leave some out", exitCode: 64)
        }
        guard let origin else {
            guard !follows else {
                throw Failure("--follow needs the name to follow: add --from", exitCode: 64)
            }
            return settings
        }
        switch try Self.reference(origin) {
        case .archive(let path):
            guard !follows else {
                throw Failure("a CAR file stays what it is: leave --follow out", exitCode: 64)
            }
            let path = try Self.absolute(RawText.text(of: path))
            settings.origin = path
            if !settings.archives.contains(path) { settings.archives.append(path) }
        case .path(let path):
            if case .content = path.root, follows {
                throw Failure(
                    "\(RawText.shown(origin)) stays what it is: leave --follow out", exitCode: 64)
            }
        }
        return settings
    }

    private static func absolute(_ path: String) throws(Failure) -> String {
        RawText.text(of: try SystemFiles.absolute(RawText.bytes(of: path)))
    }

    static func reference(_ text: String) throws(Failure) -> Reference {
        try Failure.ofUsage { () throws(NamingError) in
            try Reference(bytes: RawText.bytes(of: text))
        }
    }

    private static func url(_ text: String) throws(Failure) -> GatewayURL {
        do throws(GatewayURLError) {
            return try GatewayURL(text)
        } catch {
            throw Failure("\(error)", exitCode: 64)
        }
    }
}

/// Where the content of a mount comes from that is not here.
struct MountSources: Sendable {
    /// All of them as one; nil for a Kubo node alone, or for nobody.
    private(set) var all: (any RemoteBlocks)?
    /// These and those that domains name, where that is asked for.
    private(set) var announced: AnnouncedSources?
    /// What is known of each; nil where there is no set of them.
    var status: [SourceStatus]? { announced?.status() ?? (all as? SourceSet)?.status() }
    private let archives: [CARFileRemote]
    private let settings: SourceSettings

    /// Opens the CAR files, of which those without an index are read once. Sends nothing.
    ///
    /// - Parameters:
    ///   - node: the Kubo node of the mount.
    ///   - takesAnnounced: domains may name further ones.
    init(
        _ settings: SourceSettings, beside node: (any RemoteBlocks)?, takesAnnounced: Bool = false
    ) throws(Failure) {
        self.settings = settings
        var sources: [SourceSet.Source] = []
        var archives: [CARFileRemote] = []
        for path in settings.archives {
            do throws(RemoteError) {
                let archive = try CARFileRemote(path)
                archives.append(archive)
                sources.append(SourceSet.Source(archive, .archive))
            } catch {
                throw Failure("\(error)")
            }
        }
        self.archives = archives
        if let node, takesAnnounced || !(settings.gateways.isEmpty && archives.isEmpty) {
            sources.append(SourceSet.Source(node, .kubo))
        }
        for gateway in settings.gateways {
            do {
                var configuration = GatewayConfiguration(try GatewayURL(gateway))
                configuration.userAgent = "registryfs/\(Version.text)"
                sources.append(
                    SourceSet.Source(try GatewayRemote(configuration), .gateway))
            } catch {
                throw Failure("\(error)")
            }
        }
        if takesAnnounced {
            announced = AnnouncedSources(sources) { Self.links(of: $0, in: $1) }
            all = announced
        } else if !sources.isEmpty {
            all = SourceSet(sources)
        }
    }

    /// What a block links to: one with more links than a file's or a directory's has is not worth to be remembered whole.
    private static func links(of cid: CID, in block: [UInt8]) -> [CID] {
        guard cid.codec == .dagPB, let node = try? DAGNode(decoding: block) else { return [] }
        return node.links.prefix(1_024).map(\.cid)
    }

    /// Where domains lead, for a mount that looks them up; nil for one that does not.
    func domains(
        _ wanted: PullThroughSettings, node: KuboSettings?, stateDirectory: String, log: Logger
    ) throws(Failure) -> DomainOptions? {
        guard wanted.isOn, let announced else { return nil }
        let nodes = try node.map { (node) throws(Failure) in
            NodeIntroductions(try node.client(log: log), log: log)
        }
        var options = DomainOptions(
            try DomainLookup(
                wanted, names: names(node: node, stateDirectory: stateDirectory),
                sources: announced, nodes: nodes, log: log))
        if let seconds = wanted.seconds { options.lookupMilliseconds = Int(seconds * 1000) }
        if let range = wanted.lifetimeSeconds {
            options.lifetimeSeconds = Double(range.lowerBound)...Double(range.upperBound)
            options.absentSeconds = min(options.absentSeconds, options.lifetimeSeconds.upperBound)
        }
        return options
    }

    /// What the tree begins with, or follows; nil where nothing was said.
    func origin(
        node: KuboSettings?, stateDirectory: String?, log: Logger
    ) throws(Failure) -> OriginOptions? {
        guard let text = settings.origin else { return nil }
        var options: OriginOptions
        switch try SourceSettings.reference(text) {
        case .archive(let path):
            let root = try onlyRoot(ofArchive: RawText.text(of: path))
            options = OriginOptions(reference: "/ipfs/\(root)") { _ throws(OriginError) in
                OriginRoot(cid: root)
            }
        case .path(let path):
            let resolver = names(node: node, stateDirectory: stateDirectory)
            let milliseconds = Self.resolveMilliseconds
            options = OriginOptions(reference: RawText.shown(path.bytes)) {
                (cancellation) throws(OriginError) in
                do throws(Failure) {
                    return try resolver.root(
                        of: path, milliseconds: milliseconds, cancellation, log: log)
                } catch {
                    throw OriginError(error.message)
                }
            }
        }
        options.follows = settings.follows
        return options
    }

    /// What a path leads to now. Blocks for the network where it begins with a name.
    func root(
        of path: ContentPath, node: KuboSettings?, stateDirectory: String, log: Logger
    ) throws(Failure) -> OriginRoot {
        try names(node: node, stateDirectory: stateDirectory).root(
            of: path, milliseconds: Self.resolveMilliseconds, Cancellation(), log: log)
    }

    private func names(node: KuboSettings?, stateDirectory: String?) -> NameSettings {
        var names = NameSettings()
        names.dns = settings.dns
        names.gateways = settings.gateways
        names.node = node
        names.stateDirectory = stateDirectory
        return names
    }

    /// How long it may take to find out what a name leads to.
    private static let resolveMilliseconds = 60_000

    private func onlyRoot(ofArchive path: String) throws(Failure) -> CID {
        guard let archive = archives.first(where: { $0.address == path }) else {
            throw Failure("\(RawText.shown(path)): it is none of the CAR files")
        }
        guard let root = archive.roots.first, archive.roots.count == 1 else {
            let roots = archive.roots.prefix(8).map { "\($0)" }.joined(separator: ", ")
            throw Failure(
                "\(RawText.shown(path)) has \(archive.roots.count) roots"
                    + (roots.isEmpty ? "" : " (\(roots))")
                    + ": say which by --from /ipfs/CID, and name the file by --car")
        }
        return root
    }
}

extension NameSettings {
    /// What a path leads to now. Blocks for the network.
    func root(
        of path: ContentPath, milliseconds: Int, _ cancellation: Cancellation, log: Logger
    ) throws(Failure) -> OriginRoot {
        if case .content(let cid) = path.root { return OriginRoot(cid: cid, path: path.names) }
        let resolver = try resolver(log: log)
        let found = try Failure.naming { () throws(NamingError) in
            try resolver.resolve(
                path, deadlineMilliseconds: milliseconds, cancellation: cancellation)
        }
        // A record's owner may want each change to be seen at once, and says so by a TTL of 0. Of DNS nobody asks that often.
        let asksDNS = found.steps.contains { $0.method == .dnslink }
        return OriginRoot(
            cid: found.root, path: found.names,
            lifetimeSeconds: found.ttlSeconds.map { max(Double($0), asksDNS ? 5 : 0) })
    }
}

/// The options of `mount` that are about where content comes from.
struct SourceArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What a new volume's tree begins with.",
            discussion: """
                A CID, /ipfs/CID/path, ipfs://…, /ipns/NAME/path, ipns://…, a domain, or a .car \
                file. Directories are loaded when they are looked into, content when it is read.
                """,
            valueName: "ref"))
    var from: String?

    @Flag(help: "With --from and a name: read only, and go with what the name stands for.")
    var follow = false

    @OptionGroup var content: ContentOptions
    @OptionGroup var names: DNSOption

    func settings(over base: SourceSettings) -> SourceSettings {
        var settings = base
        settings.gateways += content.gateways.gateway
        settings.archives += content.car
        if let from { settings.origin = from }
        if follow { settings.follows = true }
        if let dns = names.dns { settings.dns = dns }
        return settings
    }
}

extension SourceSettings {
    /// Takes an option of `-o`; false where it is none of these.
    mutating func apply(_ name: String, _ value: String) -> Bool {
        switch name {
        case "gateway": gateways.append(value)
        case "car": archives.append(value)
        case "from": origin = value
        case "follow": follows = true
        case "dns": dns = value
        default: return false
        }
        return true
    }
}
