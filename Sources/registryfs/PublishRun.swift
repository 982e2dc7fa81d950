import Base
import Kubo
import Logging
import Multiformats
import Naming

/// What `publish` does once its arguments are read.
enum PublishRun {
    /// How long the node may take for a record: to find peers that keep it takes minutes.
    private static let putMilliseconds = 300_000
    /// How long the node may look for the last record.
    private static let getMilliseconds = 10_000
    /// The pause behind a round of `--watch` that failed, at most, in seconds.
    private static let pauseSecondsMax = 60.0

    static func run(
        _ target: PublishTarget, _ settings: PublishSettings, _ node: KuboAccess
    ) throws(Failure) {
        let keys = try KeyRun.open(settings.stateDirectory ?? target.stateDirectory)
        let client = try client(node, target, settings)
        let value = try value(of: target, isPublishing: client != nil && node.kubo == nil)
        try publish(value, keys, client, settings)
    }

    /// Goes on until a signal ends the process, which may come at any moment: a record is kept whole, or not
    /// at all.
    static func watch(
        _ target: PublishTarget, _ settings: PublishSettings, _ node: KuboAccess, seconds: Double
    ) throws(Failure) {
        guard case .path = target else {
            throw Failure(
                "--watch is for a mount: a CID never changes, nor does a volume that is not mounted",
                exitCode: 64)
        }
        let keys = try KeyRun.open(settings.stateDirectory ?? target.stateDirectory)
        let client = try client(node, target, settings)
        try watch(settings, seconds: seconds) { () throws(Failure) in
            try value(of: target, isPublishing: client != nil && node.kubo == nil)
        } publish: { (value) throws(Failure) in
            try publish(value, keys, client, settings)
        }
    }

    /// Publishes what a look finds, when it is another than the last, and before its record ends. What fails is told, and
    /// tried again.
    static func watch(
        _ settings: PublishSettings, seconds: Double,
        look: () throws(Failure) -> ContentPath, publish: (ContentPath) throws(Failure) -> Void
    ) throws(Failure) -> Never {
        var last: ContentPath?
        var renewAt: Int64 = 0
        var pause = seconds
        while true {
            do throws(Failure) {
                let value = try look()
                let now = MonotonicClock.milliseconds
                if value != last || now >= renewAt {
                    try publish(value)
                    // Long before it ends, so that a node that is away then does no harm.
                    renewAt = now + settings.lifetimeSeconds * 1000 / 2
                    last = value
                }
                pause = seconds
            } catch {
                guard error.kind != .foreign else { throw error }
                Program.complain(error.message)
                pause = max(seconds, min(2 * pause, pauseSecondsMax))
            }
            var left = UInt32(pause * 1000)
            while left > 0 {
                Threads.sleep(milliseconds: min(left, 1000))
                left -= min(left, 1000)
            }
        }
    }

    /// The node that records are handed to: the one that was named, or the mount's own.
    static func client(
        _ node: KuboAccess, _ target: PublishTarget, _ settings: PublishSettings
    ) throws(Failure) -> KuboClient? {
        guard !settings.isOffline else { return nil }
        var own: String?
        if case .path(_, let mount, _) = target, node.kubo == nil {
            let client = ControlClient(stateDirectory: mount.stateDirectory)
            own = try client.ask(ControlRequest(command: .status)).status?.kubo?.address
        }
        return try node.settings(or: own)?.client(log: .ofCommand)
    }

    /// The path that the name is to lead to, as it is now.
    ///
    /// - Parameter isPublishing: whether the mount's own node is to have the tree first.
    static func value(
        of target: PublishTarget, isPublishing: Bool
    ) throws(Failure) -> ContentPath {
        switch target {
        case .content(let path): return path
        case .path(let path, let mount, let isRoot):
            if isPublishing {
                var request = ControlRequest(command: .sync)
                request.stallMilliseconds = 60_000
                let published = try ControlClient(stateDirectory: mount.stateDirectory)
                    .ask(request).cid
                if isRoot, let published {
                    return ContentPath(.content(try ContentID.parse(published)))
                }
            }
            return try content(path, stateDirectory: nil)
        case .unmounted(let stateDirectory):
            return try content("/", stateDirectory: stateDirectory)
        }
    }

    private static func content(
        _ path: String, stateDirectory: String?
    ) throws(Failure) -> ContentPath {
        var finder = VolumeFinder(stateDirectory: stateDirectory, seals: true)
        let cid = try finder.cid(ofPath: path)
        try finder.close()
        return ContentPath(.content(cid))
    }

    private static func publish(
        _ value: ContentPath, _ keys: KeyStore, _ client: KuboClient?,
        _ settings: PublishSettings
    ) throws(Failure) {
        let (report, failure) = try sign(value, keys, client, settings)
        try Output.line(settings.json ? try ReportText.json(report) : words(for: report))
        if let failure { throw failure }
    }

    /// Signs a record, keeps it, and hands it to the node.
    ///
    /// - Returns: what was signed, and why the node did not take it.
    static func sign(
        _ value: ContentPath, _ keys: KeyStore, _ client: KuboClient?,
        _ settings: PublishSettings
    ) throws(Failure) -> (PublishReport, Failure?) {
        let key = try Failure.naming { () throws(NamingError) in
            try keys.key(labelled: settings.label)
        }
        guard let key else {
            throw Failure(
                "there is no key '\(settings.label)': registryfs key generate makes one",
                kind: .absent)
        }
        guard let text = String(validating: value.bytes, as: UTF8.self) else {
            throw Failure("\(RawText.shown(value.bytes)): a record leads to a path of UTF-8 alone")
        }
        var seen = client.flatMap { sequence(of: key.name, at: $0) }
        if let least = settings.sequenceMin, least > 0 { seen = max(seen ?? 0, least - 1) }
        let now = Timestamp.now()
        let until = Timestamp(
            seconds: now.seconds + settings.lifetimeSeconds,
            nanoseconds: now.subsecondNanoseconds)
        let record = try Failure.naming { [seen] () throws(NamingError) in
            try keys.sign(
                text, with: settings.label, validUntil: until,
                ttlNanoseconds: UInt64(settings.ttlSeconds) * 1_000_000_000, above: seen)
        }
        try PublishedRecords.put(record, of: key.name, stateDirectory: keys.stateDirectory)
        var failure: KuboError?
        if let client {
            do throws(KuboError) {
                try client.putRecord(
                    record.bytes, of: key.name.description, deadlineMilliseconds: putMilliseconds)
            } catch {
                failure = error
            }
        }
        let report = PublishReport(
            record, of: key.name, file: keys.recordPath(of: settings.label),
            node: failure == nil ? client.map { "\($0.configuration.address)" } : nil)
        return (
            report,
            failure.map { Failure("the record is kept, and was not handed over: \($0)") }
        )
    }

    /// The sequence that the node has; nil where it has none, or does not say.
    private static func sequence(of name: IPNSName, at client: KuboClient) -> UInt64? {
        guard
            let bytes = try? client.record(
                of: name.description, isOffline: true, deadlineMilliseconds: getMilliseconds)
        else { return nil }
        return (try? IPNSRecord(verifying: bytes, of: name, at: nil))?.sequence
    }

    private static func words(for report: PublishReport) -> String {
        let handed = report.kubo.map { "handed to \($0)" } ?? "handed to nobody"
        return RawText.shown(
            "/ipns/\(report.name) -> \(report.value), sequence \(report.sequence), until "
                + "\(report.validUntil), \(handed)") + "\n" + report.dnsRecord
    }
}

/// What `publish --json` prints. The keys are part of the program's interface.
struct PublishReport: Codable, Sendable {
    /// The IPNS name.
    var name: String
    var value: String
    var sequence: UInt64
    var validUntil: String
    var ttlSeconds: UInt64
    /// The file with the record.
    var record: String
    /// The node that took it; nil for none.
    var kubo: String?
    /// The line that has a domain lead to the name, for a zone's file.
    var dnsRecord: String

    init(_ record: IPNSRecord, of name: IPNSName, file: String, node: String?) {
        self.name = name.description
        value = record.value
        sequence = record.sequence
        validUntil = Figures.time(record.validUntil)
        ttlSeconds = record.ttlNanoseconds / 1_000_000_000
        self.record = file
        kubo = node
        dnsRecord = DNSLink.record(ContentPath(.key(name)), domain: "example.org")
    }
}
