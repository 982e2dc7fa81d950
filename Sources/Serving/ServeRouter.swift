internal import HTTPTypes
public import Naming

/// What a server gives, and to whom it says that it has it.
public struct ServeOptions: Sendable {
    public var scope = BlockScope.tree
    /// Files as they are, and listings of directories, beside blocks and archives.
    public var isDeserialized = false
    /// Where the registry lies in the tree.
    public var registryDirectory = RegistryAPI.directoryDefault
    /// Where this server's gateway is found by others; empty, where routing is to name nobody.
    public var addresses: [ProviderAddress] = []
    /// Whom routing names as the provider.
    public var peer: IPNSName
    public var records: (any NameRecords)?
    public var names: (any NameLookup)?
    /// Domains that are served as sites of their own, and who knows what they lead to.
    public var sites: Set<DNSName> = []
    public var siteNames: (any NameLookup)?

    public init(peer: IPNSName) {
        self.peer = peer
    }
}

/// Sends each request to the handler of its first name.
public struct ServeRouter: RequestHandler {
    private let gateway: any RequestHandler
    private let routing: DelegatedRouting
    private let registry: RegistryAPI
    private let sites: HostSites?

    /// - Parameter log: takes what went wrong, one line each.
    public init(
        content: any ServedContent, _ options: ServeOptions,
        log: @escaping @Sendable (String) -> Void
    ) {
        let trustless = TrustlessGateway(
            content: content, scope: options.scope, records: options.records,
            names: options.names)
        if options.isDeserialized {
            gateway = PathGateway(
                content: content, scope: options.scope, names: options.names,
                trustless: trustless)
        } else {
            gateway = trustless
        }
        sites = options.siteNames.map { HostSites(options.sites, content: content, names: $0) }
        routing = DelegatedRouting(
            content: content, scope: options.scope, peer: options.peer,
            addresses: options.addresses, records: options.records)
        registry = RegistryAPI(
            content: content, scope: options.scope, directory: options.registryDirectory, log: log)
    }

    public func respond(to request: ServeRequest) -> ServeResponse {
        if let sites, sites.serves(request) { return sites.respond(to: request) }
        switch request.names.first.map({ String(decoding: $0, as: UTF8.self) }) {
        case "v2": return registry.respond(to: request)
        case "ipfs": return gateway.respond(to: request)
        case "ipns": return Self.canonical(request) ?? gateway.respond(to: request)
        case "routing": return routing.respond(to: request)
        default:
            return ServeResponse(
                404, [.contentType: "text/plain; charset=utf-8"],
                .bytes(Array("nothing here: /ipfs/CID, /ipns/NAME, /routing/v1 or /v2\n".utf8)))
        }
    }

    /// Sends who writes a key in another form to its one in base 36, so that a name has one origin and one place in caches
    /// (https://specs.ipfs.tech/http-gateways/path-gateway/).
    private static func canonical(_ request: ServeRequest) -> ServeResponse? {
        guard [.get, .head].contains(request.method), request.names.count >= 2,
            let text = String(validating: request.names[1], as: UTF8.self),
            text.utf8.count <= IPNSName.textLengthMax, let name = try? IPNSName(text),
            name.description != text
        else { return nil }
        // Behind the second slash, as it came.
        let rest = request.rawPath.dropFirst("/ipns/".count).drop { $0 != "/" }
        let query = request.rawQuery.map { "?\($0)" } ?? ""
        var response = ServeResponse(302, [.location: "/ipns/\(name)\(rest)\(query)"])
        CORS.add(to: &response.fields)
        return response
    }
}
