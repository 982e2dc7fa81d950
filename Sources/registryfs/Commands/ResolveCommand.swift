import ArgumentParser
import Base
import Logging
import Multiformats
import Naming

struct ResolveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resolve",
        abstract: "Find out what content a name leads to, and show each step.",
        discussion: """
            The last line is the path from /ipfs/ on. Records are verified here; what DNS says is \
            believed. With --state-dir it is kept there what was seen, so that no record goes back.
            """)

    @Argument(
        help: "An IPNS name, a domain, or a path from /ipns/ or /ipfs/ on; ipns:// and ipfs:// too."
    )
    var name: String

    @OptionGroup var servers: DNSOption
    @OptionGroup var gateways: GatewayOption
    @OptionGroup var access: KuboAccess

    @Option(
        help: ArgumentHelp("A file with an IPNS record.", valueName: "file"), completion: .file())
    var record: String?

    @OptionGroup var volume: VolumeOption

    @Option(help: ArgumentHelp("How long all of it may take (default: 30).", valueName: "seconds"))
    var timeout: Int = 30

    @OptionGroup var report: ReportOption

    func validate() throws {
        guard (1...3600).contains(timeout) else {
            throw ValidationError("--timeout: it must be from 1 to 3600 seconds")
        }
    }

    func run() throws {
        var settings = NameSettings()
        settings.dns = servers.dns
        settings.gateways = gateways.gateway
        settings.node = try access.settings()
        settings.record = record
        settings.stateDirectory = try volume.stateDir.map { (directory) throws(Failure) in
            try VolumeAccess.checked(directory)
        }
        try ResolveRun.run(name, settings, seconds: timeout, json: report.json)
    }
}

/// What `resolve` does once its arguments are read.
enum ResolveRun {
    static func run(
        _ name: String, _ settings: NameSettings, seconds: Int, json: Bool
    ) throws(Failure) {
        let reference = try Failure.ofUsage { () throws(NamingError) in
            try Reference(bytes: RawText.bytes(of: name))
        }
        guard case .path(let path) = reference else {
            throw Failure(
                "\(RawText.shown(name)) is a file: nothing has to be resolved", exitCode: 64)
        }
        let resolver = try settings.resolver(log: .ofCommand)
        var failure: Failure?
        let isRemembered = settings.stateDirectory != nil
        let found = try Failure.naming { () throws(NamingError) in
            try resolver.resolve(path, deadlineMilliseconds: seconds * 1000) { step in
                guard !json, failure == nil else { return }
                do throws(Failure) {
                    try Output.line(text(step, isRemembered: isRemembered))
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
        try Output.line(
            json
                ? try ReportText.json(ResolutionReport(found))
                : RawText.shown(found.path.bytes))
    }

    private static func text(_ step: ResolutionStep, isRemembered: Bool) -> String {
        let way = "\(RawText.shown(step.from.bytes)) -> \(RawText.shown(step.to.bytes))"
        var facts: [String] = []
        switch step.method {
        case .dnslink: facts.append("DNSLink of \(step.owner ?? "") by \(step.source)")
        case .ipns:
            facts.append("IPNS record \(step.sequence ?? 0) from \(step.source), verified")
            if let until = step.validUntil { facts.append("until \(Figures.time(until))") }
            if !isRemembered { facts.append("not compared with earlier ones (--state-dir)") }
        }
        facts.append("TTL \(step.ttlSeconds) s")
        let notes = step.notes.map { "\n  note: \(RawText.shown($0))" }.joined()
        return "\(way)\n  \(RawText.shown(facts.joined(separator: ", ")))\(notes)"
    }
}

/// What `resolve --json` prints. The keys are part of the program's interface.
struct ResolutionReport: Codable, Sendable {
    struct Step: Codable, Sendable {
        /// `dnslink` or `ipns`.
        var method: String
        var from: String
        var to: String
        var source: String
        /// The name whose TXT record it is.
        var owner: String?
        var sequence: UInt64?
        var validUntil: String?
        var ttlSeconds: UInt64
        var notes: [String]?
    }

    var path: String
    var root: String
    var ttlSeconds: UInt64?
    var validUntil: String?
    var steps: [Step]

    init(_ resolution: Resolution) {
        path = RawText.shown(resolution.path.bytes)
        root = "\(resolution.root)"
        ttlSeconds = resolution.ttlSeconds
        validUntil = resolution.validUntil.map { Figures.time($0) }
        steps = resolution.steps.map { step in
            Step(
                method: step.method.rawValue, from: RawText.shown(step.from.bytes),
                to: RawText.shown(step.to.bytes), source: step.source, owner: step.owner,
                sequence: step.sequence, validUntil: step.validUntil.map { Figures.time($0) },
                ttlSeconds: step.ttlSeconds, notes: step.notes.isEmpty ? nil : step.notes)
        }
    }
}
