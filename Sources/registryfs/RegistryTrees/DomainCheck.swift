import Base
import FoundationEssentials
import Gateway
import HTTP
import Logging
import Multiformats
import Naming

/// Asks DNS what a domain says of its registry, and tells what is wrong.
struct DomainCheck {
    /// How long one question may take, in milliseconds.
    private static let questionMilliseconds: Int64 = 10_000
    /// How long a record may hold before it is worth a word, in seconds.
    private static let ttlSecondsMax: UInt32 = 3_600
    /// The most gateways that are asked.
    private static let gatewaysMax = 8
    /// The most records that are looked at.
    private static let recordsMax = 256

    private let domain: DomainSettings
    private let root: CID?
    private let key: KeyStore.Entry?
    private let resolver: any DNSResolver

    /// - Parameters:
    ///   - root: of the tree as it is in the volume; nil for none.
    ///   - key: the domain's key, and its last record; nil for none.
    init(_ domain: DomainSettings, root: CID?, key: KeyStore.Entry?) throws(Failure) {
        self.domain = domain
        self.root = root
        self.key = key
        var names = NameSettings()
        names.dns = domain.dns
        var configuration = HTTPConfiguration()
        configuration.userAgent = "registryfs/\(Version.text)"
        resolver = try names.dnsResolver(configuration)
    }

    /// Prints what is found, a line each.
    ///
    /// - Returns: whether nothing is wrong.
    func run(json: Bool) throws(Failure) -> Bool {
        var findings = Findings(owner: "_dnslink.\(domain.name)")
        if root == nil {
            findings.wrong("there is no tree of \(domain.name) yet: publish it without --check")
        }
        let texts = look(&findings)
        checkLink(texts.link, &findings)
        checkNodes(texts.all, &findings)
        checkGateways(texts.all, &findings)
        if json {
            try Output.line(try ReportText.json(findings.report(domain)))
        } else {
            for finding in findings.all {
                try Output.line(RawText.shown("\(finding.state): \(finding.text)"))
            }
        }
        return findings.isGood
    }

    // MARK: DNS

    /// The records of both names that may say something; `link` are those of the one that does.
    private func look(_ findings: inout Findings) -> (link: [DNSText], all: [DNSText]) {
        let below = texts(of: findings.owner, &findings)
        let above = texts(of: "\(domain.name)", &findings)
        let hasLink = { (texts: [DNSText]) in
            texts.contains { $0.bytes.starts(with: "dnslink=".utf8) }
        }
        guard !hasLink(below), hasLink(above) else { return (below, below + above) }
        findings.warn(
            "the record is at \(domain.name) alone, where few look: put it at \(findings.owner)")
        return (above, below + above)
    }

    private func texts(of name: String, _ findings: inout Findings) -> [DNSText] {
        do throws(NamingError) {
            let answer = try resolver.texts(
                of: try DNSName(name),
                deadline: MonotonicClock.milliseconds + Self.questionMilliseconds,
                cancellation: nil)
            guard case .texts(let texts) = answer else { return [] }
            return Array(texts.prefix(Self.recordsMax))
        } catch {
            findings.wrong("\(resolver.address) does not tell of \(name): \(error)")
            return []
        }
    }

    private func checkLink(_ texts: [DNSText], _ findings: inout Findings) {
        let links = texts.filter { $0.bytes.starts(with: "dnslink=".utf8) }
        let wanted = ZoneText.record(findings.owner, "dnslink=\(wantedPath)")
        guard let link = links.first else {
            return findings.wrong("no record leads anywhere: add '\(wanted)'")
        }
        guard Set(links.map(\.bytes)).count == 1 else {
            return findings.wrong(
                "\(links.count) records begin with dnslink=, and only one may: leave '\(wanted)' alone"
            )
        }
        let value = Array(link.bytes.dropFirst("dnslink=".utf8.count))
        guard let path = try? ContentPath(value) else {
            return findings.wrong(
                "'\(String(decoding: value.prefix(200), as: UTF8.self))' is no path: replace it by '\(wanted)'"
            )
        }
        checkTarget(path, wanted, &findings)
        if link.ttlSeconds > Self.ttlSecondsMax {
            findings.warn(
                "the record holds \(link.ttlSeconds) s, and a push is not seen before: lower its TTL to 300"
            )
        }
    }

    private var wantedPath: String {
        if domain.isByKey, let key { return "/ipns/\(key.name)" }
        return root.map { "/ipfs/\($0)" } ?? "/ipfs/CID"
    }

    private func checkTarget(
        _ path: ContentPath, _ wanted: String, _ findings: inout Findings
    ) {
        switch path.root {
        case .content(let cid):
            guard let root else { return }
            guard cid == root, path.names.isEmpty else {
                return findings.wrong(
                    "the record leads to \(path), and the newest tree is \(root): replace it by '\(wanted)'"
                )
            }
            findings.good("the record leads to the newest tree, \(root)")
        case .key(let name):
            guard let key, name == key.name else {
                return findings.wrong(
                    "the record leads to the key \(name), which is not that of here: replace it by '\(wanted)'"
                )
            }
            guard let record = key.record, let root, record.value == "/ipfs/\(root)" else {
                return findings.wrong(
                    "the key's last record does not lead to the newest tree: publish it without --check"
                )
            }
            guard record.validUntil > Timestamp.now() else {
                return findings.wrong("the key's last record has ended: publish it without --check")
            }
            findings.good("the record leads to the key \(name), and that to the newest tree")
        case .domain(let other):
            findings.warn(
                "the record leads on to \(other), which is not looked at: 'registryfs resolve \(domain.name)' does that"
            )
        }
    }

    // MARK: Who has the blocks

    private func checkNodes(_ texts: [DNSText], _ findings: inout Findings) {
        let values = Self.values("ipfsnode=", in: texts)
        for value in values {
            let addresses = Self.addresses(value)
            let isGood =
                !addresses.isEmpty
                && addresses.allSatisfy { address in
                    address.hasPrefix("/") && address.contains("/p2p/")
                        && address.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
                }
            guard isGood else {
                findings.wrong(
                    "'ipfsnode=\(value)' is no address: it is as /ip4/A.B.C.D/tcp/4001/p2p/PEER")
                continue
            }
            findings.good("a node is told: \(addresses.joined(separator: ", "))")
        }
        guard values.isEmpty, Self.values("gateway=", in: texts).isEmpty else { return }
        findings.warn(
            "nobody is told to have the blocks: add a gateway= (--gateway-url) or an ipfsnode= record"
        )
    }

    /// A multiaddr, or a JSON array of them.
    private static func addresses(_ value: String) -> [String] {
        guard value.hasPrefix("[") else { return [value] }
        return (try? JSONDecoder().decode([String].self, from: Data(value.utf8))) ?? []
    }

    private func checkGateways(_ texts: [DNSText], _ findings: inout Findings) {
        let told = Self.values("gateway=", in: texts)
        let gateways = Set(told.compactMap { try? GatewayURL($0) })
        for url in domain.gateways where !gateways.contains(url) {
            findings.wrong(
                "the gateway \(url) is not told: add '\(ZoneText.record(findings.owner, "gateway=\(url)"))'"
            )
        }
        for value in told.prefix(Self.gatewaysMax) {
            do throws(GatewayURLError) {
                let gateway = try GatewayURL(value)
                ask(gateway, &findings)
                if leadsToKey(texts) { askForRecord(gateway, &findings) }
            } catch {
                findings.wrong("'gateway=\(value)': \(error)")
            }
        }
    }

    /// Asks a gateway for the root's block, once.
    private func ask(_ gateway: GatewayURL, _ findings: inout Findings) {
        guard let root else { return }
        do throws(HTTPError) {
            var configuration = HTTPConfiguration()
            configuration.userAgent = "registryfs/\(Version.text)"
            var request = HTTPRequest(.get, "\(gateway)/ipfs/\(root)?format=raw")
            request.headers.append("Accept", "application/vnd.ipld.raw")
            request.acceptedStatuses = 200...200
            request.replyBytesMax = 2 << 20
            request.redirectsMax = 3
            request.limits.deadline = MonotonicClock.milliseconds + Self.questionMilliseconds
            let block = try HTTPClient(configuration).send(request).body
            let isRoot: Bool
            do throws(MultihashError) {
                try block.withBytes { (bytes) throws(MultihashError) in try root.verify(bytes)
                }
                isRoot = true
            } catch {
                isRoot = false
            }
            guard isRoot else {
                return findings.wrong("the gateway \(gateway) gives other bytes than the tree's")
            }
            findings.good("the gateway \(gateway) has the tree's root")
        } catch {
            findings.wrong("the gateway \(gateway) does not give the tree: \(error)")
        }
    }

    private func leadsToKey(_ texts: [DNSText]) -> Bool {
        guard let key else { return false }
        return Self.values("dnslink=", in: texts).contains { value in
            (try? ContentPath(Array(value.utf8)))?.root == .key(key.name)
        }
    }

    /// Asks a gateway for the key's record: it may have the tree, and not what leads to it.
    private func askForRecord(_ gateway: GatewayURL, _ findings: inout Findings) {
        guard let key, let root else { return }
        do throws(NamingError) {
            let bytes = try GatewayRecords("\(gateway)").record(
                of: key.name, deadline: MonotonicClock.milliseconds + Self.questionMilliseconds,
                cancellation: nil)
            let record = try? IPNSRecord(verifying: bytes, of: key.name, at: Timestamp.now())
            guard record?.value == "/ipfs/\(root)" else {
                return findings.warn(
                    "the gateway \(gateway) gives another record of the key than the newest, or one that has ended"
                )
            }
            findings.good("the gateway \(gateway) has the key's record")
        } catch {
            findings.warn(
                "the gateway \(gateway) does not give the key's record, which others then look for elsewhere: \(error)"
            )
        }
    }

    private static func values(_ prefix: String, in texts: [DNSText]) -> [String] {
        var values: [String] = []
        for text in texts where text.bytes.starts(with: prefix.utf8) {
            let value = String(decoding: text.bytes.dropFirst(prefix.utf8.count), as: UTF8.self)
            if !values.contains(value) { values.append(value) }
        }
        return values
    }
}

/// What was found.
private struct Findings {
    let owner: String
    private(set) var all: [DomainCheckReport.Finding] = []

    init(owner: String) { self.owner = owner }

    mutating func good(_ text: String) { all.append(.init(state: "ok", text: text)) }
    mutating func warn(_ text: String) { all.append(.init(state: "warning", text: text)) }
    mutating func wrong(_ text: String) { all.append(.init(state: "wrong", text: text)) }

    var isGood: Bool { all.allSatisfy { $0.state != "wrong" } }

    func report(_ domain: DomainSettings) -> DomainCheckReport {
        DomainCheckReport(domain: "\(domain.name)", good: isGood, findings: all)
    }
}

/// What `publish --domain --check --json` prints. The keys are part of the program's interface.
struct DomainCheckReport: Codable, Sendable {
    struct Finding: Codable, Sendable {
        /// `ok`, `warning` or `wrong`.
        var state: String
        /// One line; of what is wrong, with what to do.
        var text: String
    }

    var domain: String
    /// Whether nothing is wrong.
    var good: Bool
    var findings: [Finding]
}
