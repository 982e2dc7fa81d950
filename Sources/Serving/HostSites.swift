internal import HTTPTypes
internal import Naming

/// Domains whose content is served as sites of their own: a request whose Host is one of them is for what its DNSLink leads to,
/// whatever its path begins with.
///
/// Source: https://specs.ipfs.tech/http-gateways/dnslink-gateway/
struct HostSites: RequestHandler {
    private let domains: Set<String>
    private let gateway: PathGateway

    /// - Parameter names: knows what the domains lead to.
    init(_ domains: Set<DNSName>, content: any ServedContent, names: any NameLookup) {
        self.domains = Set(domains.map(\.description))
        // Paths begin at what a domain leads to, so nothing else can be asked for, and that is to be served.
        gateway = PathGateway(
            content: content, scope: .any, names: names,
            trustless: TrustlessGateway(content: content, scope: .any, names: names),
            redirects: true)
    }

    /// Whether a request is for one of the domains.
    func serves(_ request: ServeRequest) -> Bool { domain(of: request) != nil }

    func respond(to request: ServeRequest) -> ServeResponse {
        guard let domain = domain(of: request) else { return ServeResponse(421) }
        var request = request
        request.names = [Array("ipns".utf8), Array(domain.utf8)] + request.names
        request.rawPath = "/ipns/\(domain)\(request.rawPath)"
        var response = gateway.respond(to: request)
        // Of blocks and archives, whose gateway knows of no hosts.
        let prefix = "/ipns/\(domain)/"
        if let location = response.fields[.contentLocation], location.hasPrefix(prefix) {
            response.fields[.contentLocation] = String(location.dropFirst(prefix.utf8.count - 1))
        }
        return response
    }

    /// The domain that Host names, without its port.
    private func domain(of request: ServeRequest) -> String? {
        guard !domains.isEmpty, let name = HTTPField.Name("Host"), let host = request.fields[name],
            host.utf8.count <= DNSName.lengthMax + 7
        else { return nil }
        var text = host.lowercased()[...]
        if let colon = text.lastIndex(of: ":"),
            text[text.index(after: colon)...].utf8.allSatisfy({ (48...57).contains($0) })
        {
            text = text[..<colon]
        }
        if text.hasSuffix(".") { text.removeLast() }
        let domain = String(text)
        return domains.contains(domain) ? domain : nil
    }
}
