import Base
import FoundationEssentials
import Glibc
import HTTPServer
import Kubo
import Logging
import Naming
import ReadSocket
import Remotes
import ServiceLifecycle
import Serving
import UnixSignals
import Volume

import struct SystemPackage.Errno

/// What `serve` does once its arguments are read: open all that root alone can open, let go of its rights, then listen to others.
enum ServeRun {
    /// Serves until a signal ends it; blocks until then.
    static func run(_ settings: ServeSettings) throws(Failure) {
        let log = Logger(label: "registryfs serve") { _ in
            LineLogHandler(file: LogFile(), level: settings.logLevel)
        }
        signal(SIGPIPE, SIG_IGN)
        takeSignals()
        let environment = ProcessInfo.processInfo.environment
        let user =
            try geteuid() == 0 ? ServeUser(named: settings.user ?? ServeUser.defaultName) : nil
        guard user != nil || settings.user == nil else {
            throw Failure("only root can serve as another user: leave --user out", exitCode: 64)
        }
        var sockets = try ServeSettings.telling { () throws(ServerFailure) in
            try ListeningSocket.inherited(environment)
        }
        if sockets.isEmpty {
            let access = try settings.socketAccess()
            for address in try settings.addresses() {
                sockets += try ServeSettings.telling { () throws(ServerFailure) in
                    try ListeningSocket.open(address, access: access)
                }
            }
        }
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { unsetenv(name) }
        // The service is the mount: its manager is not to be told of a server that ends and begins.
        if settings.supervisor != nil { unsetenv("NOTIFY_SOCKET") }
        let accessLog = try accessLog(settings)
        var configuration = try settings.configuration(accessLog: accessLog)
        configuration.refusal = { RegistryAPI.refusal(of: $0, status: $1) }
        let place = try place(settings)
        let resolver = try settings.names?.resolver(log: log)
        if settings.supervisor != nil { Confinement.takeNoPrecedence() }
        try user?.become()
        ServeConfinement.apply()
        if let supervisor = settings.supervisor {
            try ServeConfinement.endWithParent(supervisor)
        }
        if let unreadable = configuration.certificate?.whatIsUnreadable() {
            log.warning("\(unreadable)")
        }
        let (content, records) = try place.open(settings, log: log)
        var options = ServeOptions(peer: PrivateKey().name)
        options.scope = settings.scope
        options.isDeserialized = settings.isDeserialized
        options.records = records
        options.names = records
        if let resolver {
            if settings.resolvesAllNames {
                options.names = ResolvedNames(resolver, own: records)
            }
            options.sites = settings.sites
            options.siteNames = ResolvedNames(resolver, only: settings.sites)
        }
        if let directory = settings.registryDirectory {
            options.registryDirectory = SystemFiles.components(RawText.bytes(of: directory))
        }
        for url in settings.externalURLs {
            do throws(ProviderAddressError) {
                options.addresses.append(try ProviderAddress(baseURL: url))
            } catch {
                throw Failure("--external-url \(RawText.shown(url)): \(error)", exitCode: 64)
            }
        }
        let router = ServeRouter(content: content, options) { log.warning("\($0)") }
        try serve(
            HTTPService(configuration, sockets: sockets, handler: router, log: log),
            isSecure: configuration.certificate != nil, log)
        (content as? ReadClient)?.close()
        for socket in sockets { socket.removeName() }
    }

    /// Whoever started this process may have blocked the signals that end it.
    private static func takeSignals() {
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }

    /// Runs the service on Swift's threads, and waits for its end on this one.
    private static func serve(
        _ service: HTTPService, isSecure: Bool, _ log: Logger
    ) throws(Failure) {
        var groupLog = log
        groupLog.logLevel = .error
        let group = ServiceGroup(
            services: [service], gracefulShutdownSignals: [.sigterm, .sigint], logger: groupLog)
        let end = Semaphore()
        let failure = Monitor<String?>(nil)
        Task.detached {
            do {
                try await group.run()
            } catch {
                failure.withLock { $0 = "\(error)" }
            }
            end.signal()
        }
        for address in service.addresses {
            let scheme = isSecure ? "https" : "http"
            switch address {
            case .network: Program.say("serving at \(scheme)://\(address)")
            case .unix: Program.say("serving at \(address)")
            }
        }
        let readiness = Readiness(pipe: nil)
        _ = readiness.ready()
        end.wait()
        readiness.stopping()
        if let reason = failure.withLock({ $0 }) { throw Failure(reason) }
    }

    private static func accessLog(_ settings: ServeSettings) throws(Failure) -> AccessLog? {
        guard let path = settings.accessLogFile else { return nil }
        let descriptor: Int32
        if path == "-" {
            descriptor = STDOUT_FILENO
        } else {
            do throws(Errno) {
                // For as long as the process is there.
                descriptor = try Sys.open(
                    path, flags: O_WRONLY | O_APPEND | O_CREAT, mode: 0o640
                ).take()
            } catch {
                throw Failure(
                    "the access log \(RawText.shown(path)) cannot be opened: \(error.reason)")
            }
        }
        return try ServeSettings.telling { () throws(ServerFailure) in
            try AccessLog(settings.accessLogFormat) { line in
                line.withUnsafeBytes { try? SystemFiles.write($0, to: descriptor) }
            }
        }
    }

    private static func place(_ settings: ServeSettings) throws(Failure) -> ServePlace {
        switch settings.subject {
        case .volume(let stateDirectory):
            return try ServePlace(stateDirectory: stateDirectory)
        case .origin(let sources, let node):
            return try ServePlace(sources, node)
        }
    }
}

/// What is served, as far as it has to be opened before the rights go.
private struct ServePlace: ~Copyable {
    private var directory: OwnedDescriptor?
    private var owner: UInt32 = 0
    private var sources: MountSources?
    private var node: KuboSettings?

    init(stateDirectory: String) throws(Failure) {
        do throws(Errno) {
            let opened = try ReadPlace.open(stateDirectory: stateDirectory)
            owner = try Sys.status(of: opened.raw).owner
            directory = consume opened
        } catch {
            guard error == .noSuchFileOrDirectory else {
                throw Failure(
                    "\(RawText.shown(stateDirectory)) cannot be opened: \(error.reason)")
            }
            throw Failure(
                "no volume was ever mounted with \(RawText.shown(stateDirectory)): mount it first, or give another --state-dir"
            )
        }
    }

    /// Opens CAR files; asks nobody yet.
    init(_ settings: SourceSettings, _ node: KuboSettings?) throws(Failure) {
        self.node = node
        let store = try node.map { (node) throws(Failure) in
            KuboRemote(try node.client(log: .ofCommand))
        }
        let opened = try MountSources(settings, beside: store)
        sources = opened
        blocks = opened.all ?? store
    }

    private var blocks: (any RemoteBlocks)?

    consuming func open(
        _ settings: ServeSettings, log: Logger
    ) throws(Failure) -> (any ServedContent, OwnRecords?) {
        if let sources {
            guard let blocks,
                let origin = try sources.origin(node: node, stateDirectory: nil, log: log)
            else {
                throw Failure(
                    "--from needs somebody who has the content: add --gateway, --car or --kubo",
                    exitCode: 64)
            }
            do throws(OriginError) {
                return (try SourcesContent(origin: origin, sources: blocks, log: log), nil)
            } catch {
                throw Failure("\(RawText.shown(origin.reference)): \(error.description)")
            }
        }
        guard let directory = directory.take() else { preconditionFailure("nothing to serve") }
        do throws(Errno) {
            let copy = dup(directory.raw)
            guard copy >= 0 else { throw Errno(rawValue: errno) }
            Descriptors.closeOnExec(copy)
            return (
                try ReadClient(directory: OwnedDescriptor(copy), owner: owner, log: log),
                OwnRecords(directory: directory)
            )
        } catch {
            throw Failure("cannot serve: \(error.reason)")
        }
    }
}
