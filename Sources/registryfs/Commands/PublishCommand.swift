import ArgumentParser
import Base
import Kubo
import Logging
import Multiformats
import Naming

struct PublishCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "publish",
        abstract: "Have an IPNS name lead to a tree: sign a record, and hand it to a Kubo node.",
        discussion: """
            Prints what was signed, and the TXT line that has a domain lead to the name. The record is \
            kept beside its key: one of --state-dir, else of the mount's own state directory, or of the \
            one mounted volume. What reads as a CID is taken as one: write ./NAME for a directory of \
            such a name.
            """)

    @Argument(
        help:
            "A CID, or a mount point or a path on a mount; left out, the one mounted volume, or that of --state-dir.",
        completion: .file())
    var target: String?

    @Option(help: ArgumentHelp("The key to sign with (default: self).", valueName: "key"))
    var key: String = KeyStore.defaultLabel

    @Option(
        help: ArgumentHelp("How long the record holds (default: 48h).", valueName: "duration"))
    var lifetime: String = "48h"

    @Option(
        help: ArgumentHelp(
            "How long others need not ask again (default: 5m).", valueName: "duration"))
    var ttl: String = "5m"

    @Option(
        help: ArgumentHelp(
            "The least sequence: for a key that was used elsewhere before.", valueName: "number"))
    var sequence: UInt64?

    @OptionGroup var node: KuboAccess
    @OptionGroup var volume: VolumeOption
    @OptionGroup var report: ReportOption

    @Flag(help: "Hand the record to nobody.")
    var offline = false

    @Flag(help: "Publish each new root of the mount, until a signal ends it.")
    var watch = false

    @Flag(
        help:
            "Make a snapshot of the mount with a portable manifest, and publish that: owners, modes and all else come with it."
    )
    var withManifest = false

    @Option(
        help: ArgumentHelp(
            "With --watch, how often the root is looked at (default: 5; 0.1 and more).",
            valueName: "seconds"))
    var interval: Double = 5

    func validate() throws {
        guard (0.1...86_400).contains(interval) else {
            throw ValidationError("--interval: it must be from 0.1 to 86400 seconds")
        }
        guard !withManifest || !watch else {
            throw ValidationError("--with-manifest and --watch exclude each other")
        }
        guard !offline || node.kubo == nil else {
            throw ValidationError("--offline and --kubo exclude each other")
        }
        guard sequence ?? 0 <= UInt64(Int64.max) else {
            throw ValidationError("--sequence: it must be below 2^63")
        }
    }

    func run() throws {
        var settings = PublishSettings(label: key)
        try KeyRun.check(key)
        // Ten years, as records hold that nobody renews.
        settings.lifetimeSeconds = try TimeLength.seconds(
            lifetime, "--lifetime", in: 60...(3650 * 86_400))
        settings.ttlSeconds = try TimeLength.seconds(
            ttl, "--ttl", in: 0...settings.lifetimeSeconds)
        settings.sequenceMin = sequence
        settings.isOffline = offline
        settings.stateDirectory = volume.stateDir
        settings.json = report.json
        var place = try PublishTarget(target, stateDirectory: volume.stateDir)
        if withManifest {
            let whose = place.stateDirectory
            place = try place.withManifest(key: key)
            settings.stateDirectory = settings.stateDirectory ?? whose
        }
        if watch {
            try PublishRun.watch(place, settings, node, seconds: interval)
        } else {
            try PublishRun.run(place, settings, node)
        }
    }
}

/// What `publish` was asked for.
struct PublishSettings {
    var label: String
    var lifetimeSeconds: Int64 = 0
    var ttlSeconds: Int64 = 0
    var sequenceMin: UInt64?
    var isOffline = false
    var stateDirectory: String?
    var json = false
}

/// What a name is to lead to.
enum PublishTarget {
    case content(ContentPath)
    /// A path as it was written, and the mount that it lies on.
    case path(String, MountEntry, isRoot: Bool)
    /// The root of a volume that is not mounted.
    case unmounted(stateDirectory: String)

    /// - Parameter stateDirectory: whose root is meant where there is no text.
    init(_ text: String?, stateDirectory: String?) throws(Failure) {
        guard let text else {
            self = try Self.root(stateDirectory)
            return
        }
        let bytes = RawText.bytes(of: text)
        if let cid = try? CID(parsing: text) {
            self = .content(
                try Failure.ofUsage { () throws(NamingError) in
                    try ContentPath(Array("/ipfs/\(cid)".utf8))
                })
            return
        }
        if text.hasPrefix("/ipfs/") || text.hasPrefix("/ipns/"),
            let path = try? ContentPath(bytes)
        {
            self = .content(path)
            return
        }
        let place = try PathWalk.place(of: bytes, in: try MountTable.read())
        guard case .registry(let mount, let names, _) = place else {
            throw Failure(
                "\(RawText.shown(text)) is neither a CID nor on a mount of registryfs: "
                    + "'registryfs status' lists them")
        }
        let isRoot = names.allSatisfy { $0.bytes.elementsEqual(".".utf8) }
        self = .path(text, mount, isRoot: isRoot)
    }

    private static func root(_ stateDirectory: String?) throws(Failure) -> PublishTarget {
        switch try VolumeChoice.find(stateDirectory: stateDirectory) {
        case .mounted(let mount):
            return .path(RawText.text(of: mount.point), mount, isRoot: true)
        case .directory(let directory):
            let path = try VolumeAccess.checked(directory)
            let root = [UInt8(ascii: "/")]
            let mount = try MountTable.read().trustedRegistryMounts.first { mount in
                mount.stateDirectory == path && mount.root == root
            }
            guard let mount else { return .unmounted(stateDirectory: path) }
            return .path(RawText.text(of: mount.point), mount, isRoot: true)
        case nil:
            throw Failure(
                "nothing is mounted: say what is to be published, or whose root by --state-dir",
                exitCode: 64)
        }
    }

    /// What stands for a volume's root now, and all that UnixFS cannot say of it: the manifest of a snapshot that is made
    /// for this, and stays until somebody deletes it.
    func withManifest(key: String) throws(Failure) -> PublishTarget {
        let access: SnapshotAccess
        switch self {
        case .path(_, let mount, isRoot: true): access = .mount(mount)
        case .unmounted(let stateDirectory): access = .stateDirectory(stateDirectory)
        case .content, .path:
            throw Failure("--with-manifest is for a mount point: give one", exitCode: 64)
        }
        var request = SnapshotRequest(.create)
        request.withManifest = true
        request.message = "published by the key \(key)"
        guard let manifest = try access.askForOne(request, "writing").manifest else {
            throw Failure("the daemon tells of no manifest")
        }
        return .content(
            try Failure.ofUsage { () throws(NamingError) in
                try ContentPath(Array("/ipfs/\(manifest)".utf8))
            })
    }

    /// The state directory of the volume; nil for content.
    var stateDirectory: String? {
        switch self {
        case .content: nil
        case .path(_, let mount, _): mount.stateDirectory
        case .unmounted(let stateDirectory): stateDirectory
        }
    }
}

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
        var last: ContentPath?
        var renewAt: Int64 = 0
        var pause = seconds
        while true {
            do throws(Failure) {
                let value = try value(
                    of: target, isPublishing: client != nil && node.kubo == nil)
                let now = MonotonicClock.milliseconds
                if value != last || now >= renewAt {
                    try publish(value, keys, client, settings)
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
    private static func client(
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
    private static func value(
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
        try Output.line(settings.json ? try ReportText.json(report) : words(for: report))
        if let failure {
            throw Failure("the record is kept, and was not handed over: \(failure)")
        }
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
