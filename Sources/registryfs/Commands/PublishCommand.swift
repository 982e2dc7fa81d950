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

    @Option(
        help: ArgumentHelp(
            "The key to sign with (default: self; of a domain: its name, with _ for each dot).",
            valueName: "key"))
    var key: String?

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

    @OptionGroup(title: "The registry of a domain")
    var registry: DomainArguments

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
        guard !registry.check || !watch else {
            throw ValidationError("--check and --watch exclude each other")
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
        let domain = try registry.settings()
        let key = self.key ?? domain?.label ?? KeyStore.defaultLabel
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
        if let domain {
            guard !withManifest else {
                throw Failure("--with-manifest and --domain exclude each other", exitCode: 64)
            }
            let run = DomainRun(domain, settings, node) { [target, volume] () throws(Failure) in
                try RegistryMount(
                    target, stateDirectory: volume.stateDir, directory: domain.registryDirectory)
            }
            return try run.run(checks: registry.check, watchSeconds: watch ? interval : nil)
        }
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
