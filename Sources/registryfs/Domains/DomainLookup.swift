import Base
import FoundationEssentials
import Gateway
import HTTP
import Logging
import Multiformats
import Naming
import Remotes
import Volume

/// Where domains lead, by DNS and IPNS, and who has what is there.
///
/// Each look-up asks anew: how long an answer counts is the volume's to decide.
final class DomainLookup: DomainDirectory {
    /// How long the domain's own records are waited for where its `_dnslink` names no gateway, and the mount has other
    /// sources, in milliseconds. They were asked for at the same time.
    private static let graceMilliseconds: Int64 = 500
    /// The most requests at a time to one gateway that a domain names.
    private static let requestsMax = 8

    private let patterns: [DomainPattern]
    private let isInsecure: Bool
    private let dns: any DNSResolver
    private let records: [any IPNSRecordSource]
    private let store: SequenceStore?
    private let sources: AnnouncedSources
    private let nodes: NodeIntroductions?
    private let log: Logger

    /// Makes the directory of a mount. Sends nothing.
    ///
    /// - Parameters:
    ///   - names: whom names are asked of.
    ///   - sources: told of the gateways that domains name.
    ///   - nodes: told of the nodes that domains name; nil without a Kubo node.
    init(
        _ settings: PullThroughSettings, names: NameSettings, sources: AnnouncedSources,
        nodes: NodeIntroductions?, log: Logger
    ) throws(Failure) {
        patterns = try settings.parsedPatterns()
        isInsecure = settings.isInsecure
        let parts = try names.parts(log: log)
        dns = parts.dns
        // One place is for the gateways that the domain names.
        records = Array(parts.sources.prefix(NameResolver.sourcesMax - 1))
        store = parts.store
        self.sources = sources
        self.nodes = nodes
        self.log = log
    }

    func covers(_ domain: String) -> Bool { patterns.contains { $0.covers(domain) } }

    func resolve(
        _ domain: String, deadline: Int64, cancellation: Cancellation
    ) throws(DomainError) -> DomainRoot {
        var steps: [String] = []
        var questions: DomainQuestions?
        do throws(NamingError) {
            let name = try DNSName(domain)
            let asked = DomainQuestions(
                name, by: dns, deadline: deadline, cancellation: cancellation,
                listener: listener(for: domain))
            questions = asked
            asked.begin()
            let announced = AnnouncedRecords(questions: asked, isPublicOnly: !isInsecure) {
                [self] in accepted($0, domain)
            }
            let resolver = NameResolver(dns: asked, sources: records + [announced], store: store)
            let left = max(0, deadline - MonotonicClock.milliseconds)
            let found = try resolver.resolve(
                ContentPath(.domain(name)), deadlineMilliseconds: Int(clamping: left),
                cancellation: cancellation
            ) { steps.append(Self.line($0)) }
            sources.note(root: found.root, of: domain)
            // Else nobody may be there to be asked for its blocks.
            let end =
                sources.hasOwn ? MonotonicClock.milliseconds + Self.graceMilliseconds : deadline
            _ = asked.gateways(until: min(end, deadline))
            return DomainRoot(
                cid: found.root, path: found.names,
                lifetimeSeconds: found.ttlSeconds.map { Double($0) }, steps: steps)
        } catch {
            let isAbsent = error.kind == .notFound && steps.isEmpty
            throw DomainError(
                isAbsent ? .absent : .failed, error.description,
                lifetimeSeconds: isAbsent ? questions?.absentSeconds.map { Double($0) } : nil)
        }
    }

    /// Looks domains up again whose trees are here, on threads of its own: who has their blocks is known by their look-up
    /// alone, and the volume may not need one for a long time. Returns at once.
    func recall(_ domains: [String], milliseconds: Int) {
        let waiting = Monitor(Array(domains.prefix(AnnouncedSources.sourcesMax).reversed()))
        for _ in 0..<min(Self.recallThreads, domains.count) {
            let thread: Void? = try? Threads.startDetached(name: "rfs-recall") { [self] in
                while let domain = waiting.withLock({ $0.popLast() }) {
                    let deadline = MonotonicClock.milliseconds + Int64(milliseconds)
                    // What fails here is looked at again when its time has come.
                    _ = try? resolve(domain, deadline: deadline, cancellation: Cancellation())
                }
            }
            guard thread != nil else { return }
        }
    }

    private static let recallThreads = 4

    private static func line(_ step: ResolutionStep) -> String {
        let notes = step.notes.map { "; \($0)" }.joined()
        return oneLine(
            "\(step.from) -> \(step.to) (\(step.method.rawValue), \(step.source))\(notes)")
    }

    // MARK: Who has it

    private func listener(for domain: String) -> DomainQuestions.Listener {
        DomainQuestions.Listener(
            nodes: { [self] found in
                nodes?.introduce(found.filter { NodeAddress.isAsked($0, isInsecure: isInsecure) })
            },
            gateways: { [self] found in
                for text in found { announce(text, domain) }
            })
    }

    private func announce(_ text: String, _ domain: String) {
        guard let url = accepted(text, domain) else { return }
        var configuration = GatewayConfiguration(url)
        configuration.userAgent = "registryfs/\(Version.text)"
        configuration.isPublicOnly = !isInsecure
        configuration.requestsMax = Self.requestsMax
        do throws(RemoteError) {
            try sources.announce(url.description, by: domain) { () throws(RemoteError) in
                log.info(
                    "a domain names a gateway",
                    metadata: ["domain": "\(domain)", "gateway": "\(url)"])
                return try GatewayRemote(configuration)
            }
        } catch {
            log.warning("\(error)")
        }
    }

    /// The URL of a gateway that may be asked; nil for one that may not.
    private func accepted(_ text: String, _ domain: String) -> GatewayURL? {
        do throws(GatewayURLError) {
            let url = try GatewayURL(text)
            guard isInsecure || url.isEncrypted else {
                log.info(
                    "a gateway that a domain names is passed over: it is not https",
                    metadata: ["domain": "\(domain)", "gateway": "\(url)"])
                return nil
            }
            return url
        } catch {
            log.info("a domain names \(error)", metadata: ["domain": "\(domain)"])
            return nil
        }
    }

    /// Records of keys, from the gateways that the domain names: one after the other, each with its part of the time.
    private struct AnnouncedRecords: IPNSRecordSource {
        let questions: DomainQuestions
        let isPublicOnly: Bool
        let accepted: @Sendable (String) -> GatewayURL?

        var address: String { "the gateways that the domain names" }

        func record(
            of name: IPNSName, deadline: Int64, cancellation: Cancellation?
        ) throws(NamingError) -> [UInt8] {
            var configuration = HTTPConfiguration()
            configuration.userAgent = "registryfs/\(Version.text)"
            let urls = questions.gateways(until: deadline).compactMap(accepted)
            var last = NamingError(.notFound, "the domain names no gateway that is asked")
            for (index, url) in urls.enumerated() {
                let now = MonotonicClock.milliseconds
                let part = (deadline - now) / Int64(urls.count - index)
                do throws(NamingError) {
                    let gateway = try GatewayRecords(
                        url.description, isPublicOnly: isPublicOnly, configuration: configuration)
                    return try gateway.record(
                        of: name, deadline: now + part, cancellation: cancellation)
                } catch {
                    last = error
                }
            }
            throw last
        }
    }
}
