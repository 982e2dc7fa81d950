import ArgumentParser
import HTTPServer
import Logging
import Naming
import Serving

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve a volume, or a tree from elsewhere, over HTTP, read-only.",
        discussion: """
            A trustless gateway (/ipfs, /ipns), delegated routing (/routing/v1) and a registry (/v2). \
            A volume is served by its daemon, which may come and go. Started by root it opens what it \
            needs and becomes another user. Sockets of systemd are taken where they are handed over.
            """)

    @Option(
        help: ArgumentHelp(
            "Where to listen: host:port, [ipv6]:port, :port, unix:/path; may be repeated (default: \(ServeSettings.listenDefault)).",
            valueName: "addr"))
    var listen: [String] = []

    @OptionGroup var volume: VolumeOption

    @Option(
        help: ArgumentHelp(
            "Serve this instead of a volume: what 'mount --from' takes.", valueName: "ref"))
    var from: String?

    @OptionGroup(title: "Sources of --from")
    var content: ContentOptions
    @OptionGroup(title: "Sources of --from")
    var kubo: KuboAccess
    @OptionGroup(title: "Sources of --from")
    var names: DNSOption

    @Flag(help: "Serve files and listings of directories as well, for browsers.")
    var deserialized = false

    @Flag(
        help:
            "Give every block that is here, not only those of the tree, its snapshots and published roots."
    )
    var anyBlock = false

    @Flag(
        help: ArgumentHelp(
            "Look names up that others ask for below /ipns: keys and domains, not only the volume's own.",
            discussion: "By --gateway, --kubo and --dns."))
    var resolveNames = false

    @Option(
        help: ArgumentHelp(
            "Serve what this domain's DNSLink leads to, as a site, to who asks for this host; may be repeated.",
            valueName: "domain"))
    var hostDomain: [String] = []

    @Option(
        name: .customLong("external-url"),
        help: ArgumentHelp(
            "Where others find this server, for routing; may be repeated.", valueName: "url"))
    var externalURL: [String] = []

    @Option(
        help: ArgumentHelp(
            "Where the registry lies in the tree (default: docker/registry/v2).", valueName: "path")
    )
    var registryDir: String?

    @Option(
        help: ArgumentHelp("The certificate and its chain, in PEM.", valueName: "file"),
        completion: .file())
    var tlsCert: String?

    @Option(help: ArgumentHelp("Its key, in PEM.", valueName: "file"), completion: .file())
    var tlsKey: String?

    @Option(
        help: ArgumentHelp(
            "Give to those alone who have one of these tokens, one a line.", valueName: "file"),
        completion: .file())
    var tokenFile: String?

    @Option(
        help: ArgumentHelp("Give to these networks alone; may be repeated.", valueName: "cidr"))
    var allow: [String] = []

    @Option(
        help: ArgumentHelp(
            "Append a line for each request; - for standard output.", valueName: "file"),
        completion: .file())
    var accessLog: String?

    @Option(
        help: ArgumentHelp(
            "How its lines look (default: common).",
            valueName: AccessLog.Format.allCases.map(\.rawValue).joined(separator: "|")))
    var accessLogFormat: String = AccessLog.Format.common.rawValue

    @Option(
        help: ArgumentHelp(
            "Whom root's process becomes (default: \(ServeUser.defaultName)).", valueName: "name"))
    var user: String?

    @Option(help: ArgumentHelp("Connections at a time (default: 10000).", valueName: "number"))
    var maxConnections: Int?

    @Option(
        help: ArgumentHelp(
            "How much to log.",
            valueName: Logger.Level.allCases.map(\.rawValue).joined(separator: "|")))
    var logLevel: String?

    @Option(
        help: ArgumentHelp(
            "The mode of unix sockets, in octal digits (default: \(ServeSettings.socketModeDefault)).",
            valueName: "mode"))
    var socketMode: String?

    @Option(
        help: ArgumentHelp("The group of unix sockets, by its name or number.", valueName: "group"))
    var socketGroup: String?

    /// The process that started this one and looks after it.
    @Option(help: .hidden)
    var supervisedBy: Int32?

    func validate() throws {
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key belong together")
        }
        guard AccessLog.Format(rawValue: accessLogFormat) != nil else {
            throw ValidationError(
                "--access-log-format '\(RawText.shown(accessLogFormat))': common or json")
        }
        guard (1...1_000_000).contains(maxConnections ?? 1) else {
            throw ValidationError("--max-connections: it must be from 1 to 1000000")
        }
        guard
            socketMode == nil && socketGroup == nil
                || listen.contains(where: { $0.hasPrefix("unix:") })
        else {
            throw ValidationError(
                "--socket-mode and --socket-group are for sockets of --listen unix:/path")
        }
        guard from == nil || volume.stateDir == nil else {
            throw ValidationError("--from and --state-dir exclude each other")
        }
    }

    func run() throws {
        var settings = ServeSettings(subject: try subject())
        settings.listen = listen
        settings.scope = anyBlock ? .any : .tree
        settings.isDeserialized = deserialized
        settings.externalURLs = externalURL
        settings.registryDirectory = registryDir
        settings.certificateFile = tlsCert
        settings.keyFile = tlsKey
        settings.tokenFile = tokenFile
        settings.allowed = allow
        settings.accessLogFile = accessLog
        settings.accessLogFormat = AccessLog.Format(rawValue: accessLogFormat) ?? .common
        settings.user = user
        settings.connectionsMax = maxConnections
        settings.supervisor = supervisedBy
        settings.socketMode = socketMode
        settings.socketGroup = socketGroup
        if resolveNames || !hostDomain.isEmpty {
            settings.names = NameSettings(
                dns: names.dns, gateways: content.gateways.gateway, node: try kubo.settings())
            settings.resolvesAllNames = resolveNames
            settings.sites = try Set(hostDomain.map(Self.site))
        }
        if let logLevel { settings.logLevel = try MountSettings.level(named: logLevel) }
        try ServeRun.run(settings)
    }

    private static func site(_ text: String) throws(Failure) -> DNSName {
        let domain = try Failure.ofUsage { () throws(NamingError) in try DNSName(text) }
        guard domain.hasDot else {
            throw Failure("--host-domain \(RawText.shown(text)): a domain has a dot", exitCode: 64)
        }
        return domain
    }

    private func subject() throws(Failure) -> ServeSettings.Subject {
        guard let from else {
            let asksForNames = resolveNames || !hostDomain.isEmpty
            guard content.car.isEmpty,
                asksForNames
                    || content.gateways.gateway.isEmpty && kubo.isEmpty && names.dns == nil
            else {
                throw Failure(
                    "a volume has sources of its own: --gateway, --car, --kubo and --dns go with --from, all but --car also with --resolve-names and --host-domain",
                    exitCode: 64)
            }
            let choice = try VolumeChoice.find(stateDirectory: volume.stateDir)
            let directory = choice?.stateDirectory ?? VolumeAccess.defaultStateDirectory
            return .volume(stateDirectory: try VolumeAccess.checked(directory))
        }
        var sources = SourceSettings()
        sources.gateways = content.gateways.gateway
        sources.archives = content.car
        sources.dns = names.dns
        sources.origin = from
        return .origin(try sources.located(), node: try kubo.settings())
    }
}
