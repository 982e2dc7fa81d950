public import Base
internal import Multiformats

/// Finds out what content a name leads to, by DNSLink and IPNS.
///
/// Records are checked here, whoever gives them. What DNS says is believed. Walks no paths: what is left of
/// one is the mount's work. Every call blocks the calling thread until it is done or its time is over.
public final class NameResolver: Sendable {
    /// How many names may lead to each other.
    public static let depthMax = 32
    /// How long others are waited for once somebody gave a record, in milliseconds: theirs may be later.
    public static let graceMilliseconds = 2_000
    /// The most sources of records that are asked.
    public static let sourcesMax = 16

    private let dns: DNSCache
    private let sources: [any IPNSRecordSource]
    private let store: SequenceStore?

    /// - Parameters:
    ///   - dns: who is asked for domains.
    ///   - sources: who is asked for IPNS records, all at once; at most `sourcesMax`.
    ///   - store: what was seen before; nil to remember nothing, so that records may go back.
    ///   - clock: by which answers of DNS grow old, in milliseconds.
    public init(
        dns: any DNSResolver, sources: [any IPNSRecordSource], store: SequenceStore?,
        clock: @escaping @Sendable () -> Int64 = { MonotonicClock.milliseconds }
    ) {
        precondition(sources.count <= Self.sourcesMax, "there are too many sources of records")
        self.dns = DNSCache(dns, clock: clock)
        self.sources = sources
        self.store = store
    }

    /// Follows a path to content.
    ///
    /// - Parameters:
    ///   - deadlineMilliseconds: how long all of it may take, 0 or more.
    ///   - report: takes each step once it is made, also where a later one fails.
    public func resolve(
        _ path: ContentPath, deadlineMilliseconds: Int, cancellation: Cancellation? = nil,
        report: (ResolutionStep) -> Void = { _ in }
    ) throws(NamingError) -> Resolution {
        let deadline = MonotonicClock.milliseconds + Int64(clamping: max(0, deadlineMilliseconds))
        var path = path
        var steps: [ResolutionStep] = []
        var seen: Set<ContentPath.Root> = []
        while true {
            if case .content(let root) = path.root {
                return Resolution(root: root, names: path.names, steps: steps)
            }
            guard seen.insert(path.root).inserted else {
                throw NamingError(
                    .tooDeep,
                    "\(ContentPath(path.root)) leads back to itself after \(steps.count) steps")
            }
            guard steps.count < Self.depthMax else {
                throw NamingError(.tooDeep, "more than \(Self.depthMax) names lead to each other")
            }
            let step = try self.step(from: path, deadline: deadline, cancellation)
            report(step)
            steps.append(step)
            path = step.to
        }
    }

    private func step(
        from path: ContentPath, deadline: Int64, _ cancellation: Cancellation?
    ) throws(NamingError) -> ResolutionStep {
        switch path.root {
        case .content: preconditionFailure("content leads to nothing else")
        case .domain(let domain):
            let link = try DNSLink.find(
                domain, by: dns, deadline: deadline, cancellation: cancellation)
            return ResolutionStep(
                method: .dnslink, from: path, to: Self.joined(link.path, path.names),
                source: dns.address, owner: link.owner, sequence: nil, validUntil: nil,
                ttlSeconds: UInt64(link.ttlSeconds), notes: link.detour.map { [$0] } ?? [])
        case .key(let name):
            let (record, source, notes) = try self.record(
                of: name, deadline: deadline, cancellation)
            let target = try ContentPath.telling("the record of \(name)") {
                () throws(NamingError) in
                try ContentPath(Array(record.value.utf8))
            }
            return ResolutionStep(
                method: .ipns, from: path, to: Self.joined(target, path.names), source: source,
                owner: nil, sequence: record.sequence, validUntil: record.validUntil,
                ttlSeconds: record.ttlNanoseconds / 1_000_000_000, notes: notes)
        }
    }

    private static func joined(_ path: ContentPath, _ names: [[UInt8]]) -> ContentPath {
        ContentPath(path.root, names: path.names + names)
    }

    // MARK: Records

    /// The latest record that anybody has, who gave it, and what the others said.
    public func record(
        of name: IPNSName, deadline: Int64, _ cancellation: Cancellation? = nil
    ) throws(NamingError) -> (record: IPNSRecord, source: String, notes: [String]) {
        guard !sources.isEmpty else {
            throw NamingError(
                .notFound,
                "nobody is there to ask for the record of \(name): give a gateway, a Kubo "
                    + "node or a file")
        }
        let answers = try RecordQuestion.ask(
            sources, for: name, deadline: deadline, cancellation)
        var best: (record: IPNSRecord, source: String)?
        var failures: [NamingError] = []
        for (source, answer) in answers {
            switch answer {
            case .failure(let error): failures.append(error)
            case .success(let record):
                if let best, !record.supersedes(best.record) { continue }
                best = (record, source)
            }
        }
        guard let best else { throw Self.together(failures, name) }
        var notes = failures.map(\.description)
        guard let store else { return (best.record, best.source, notes) }
        let accepted = try store.accept(best.record, of: name)
        if accepted != best.record {
            guard accepted.validUntil > .now() else {
                throw NamingError(
                    .expired,
                    "the latest record of \(name) \(IPNSRecordError.expired(accepted.validUntil))")
            }
            notes.append("the record that was seen before holds longer, and counts")
        }
        return (accepted, best.source, notes)
    }

    /// One error for all sources: of the kind of the first that is not just about having none.
    private static func together(_ failures: [NamingError], _ name: IPNSName) -> NamingError {
        let first = failures.first { $0.kind != .notFound } ?? failures.first
        guard let first, failures.count > 1 else {
            return first ?? NamingError(.notFound, "nobody has a record of \(name)")
        }
        let others = failures.map(\.description).joined(separator: "; ")
        return NamingError(first.kind, "nobody has a record of \(name) that counts: \(others)")
    }
}
