// What a domain's owner says that it leads to, in DNS.
//
// Record:   TXT of _dnslink.DOMAIN: `dnslink=` and a path from /ipfs/ or /ipns/ on, or a CID. Where that name is
//           not there, or has no such record, the domain's own TXT records: of old they stood there, and what
//           Kubo asks today is the first alone.
// Validity: one valid record exactly. What begins otherwise is not meant for this.
// Source:   https://specs.ipfs.tech/http-gateways/dnslink-gateway/, https://dnslink.dev, and
//           namesys/dns_resolver.go of boxo

public import Base
internal import Multiformats

/// What was found in DNS.
public struct DNSLink: Hashable, Sendable {
    /// Where the domain leads.
    public var path: ContentPath
    /// The name whose record says so.
    public var owner: String
    /// How long it holds, in seconds: the record's time to live.
    public var ttlSeconds: UInt32
    /// What was looked at before, and did not say; nil where the first record did.
    public var detour: String?

    private static let label = "_dnslink"
    private static let prefix = "dnslink="
    /// The most records of one name that are looked at.
    static let recordCountMax = 256

    /// Asks where a domain leads.
    ///
    /// - Throws: `notFound` where nothing says so, `ambiguous` where several records do; what the resolver does.
    public static func find(
        _ domain: DNSName, by resolver: some DNSResolver, deadline: Int64,
        cancellation: Cancellation? = nil
    ) throws(NamingError) -> DNSLink {
        var reasons: [String] = []
        for name in [domain.below(label), domain].compactMap(\.self) {
            let answer = try resolver.texts(
                of: name, deadline: deadline, cancellation: cancellation)
            switch answer {
            case .noSuchName: reasons.append("there is no \(name)")
            case .noTexts: reasons.append("\(name) has no TXT record")
            case .texts(let texts):
                let detour = reasons.isEmpty ? nil : reasons.joined(separator: ", ")
                let found = try link(in: texts, of: name)
                if var link = found.link {
                    link.detour = detour
                    return link
                }
                reasons.append(found.reason)
            }
        }
        throw NamingError(
            .notFound, "\(domain) leads nowhere: \(reasons.joined(separator: ", "))")
    }

    private static func link(
        in texts: [DNSText], of name: DNSName
    ) throws(NamingError) -> (link: DNSLink?, reason: String) {
        var links: [DNSLink] = []
        var fault: String?
        guard texts.count <= recordCountMax else {
            throw NamingError(.malformed, "\(name) has more than \(recordCountMax) TXT records")
        }
        // A record that stands there twice says nothing else.
        var seen: Set<[UInt8]> = []
        for text in texts where text.bytes.starts(with: prefix.utf8) {
            guard seen.insert(text.bytes).inserted else { continue }
            do throws(NamingError) {
                let path = try parse(Array(text.bytes.dropFirst(prefix.utf8.count)))
                links.append(
                    DNSLink(path: path, owner: "\(name)", ttlSeconds: text.ttlSeconds))
            } catch {
                fault = error.description
            }
        }
        guard links.count <= 1 else {
            let paths = links.prefix(3).map(\.path.description).joined(separator: ", ")
            throw NamingError(
                .ambiguous,
                "\(name) has \(links.count) records that begin with \(prefix) (\(paths)): "
                    + "it must have one")
        }
        if let link = links.first { return (link, "") }
        if let fault { return (nil, "the record of \(name) is none: \(fault)") }
        return (nil, "\(name) has no TXT record that begins with \(prefix)")
    }

    private static func parse(_ value: [UInt8]) throws(NamingError) -> ContentPath {
        if value.first != UInt8(ascii: "/"),
            let cid = try? CID(parsing: ContentPath.shown(value)), cid.codec != .libp2pKey
        {
            return ContentPath(.content(cid))
        }
        return try ContentPath(value)
    }

    /// The TXT record that has a domain lead to a path, for people to paste: a name and its value.
    public static func record(_ path: ContentPath, domain: String) -> String {
        "\(label).\(domain). TXT \"\(prefix)\(path)\""
    }
}
