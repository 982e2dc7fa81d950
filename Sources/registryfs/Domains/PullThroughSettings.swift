import ArgumentParser
import Naming

/// What `mount` was told of the domains that are looked up because somebody asks for a repository of their name.
struct PullThroughSettings: Sendable, Equatable {
    /// Patterns of domains; none for no such look-up.
    var patterns: [String] = []
    /// How long one look-up may take, in seconds.
    var seconds: Double?
    /// How long an answer of DNS counts at least and at most, in seconds.
    var lifetimeSeconds: ClosedRange<Int64>?
    /// What domains name may be asked in the open, and on this machine and in its networks.
    var isInsecure = false

    /// The most patterns.
    private static let patternsMax = 256
    private static let ttlOption = "--pull-through-ttl"
    private static let timeoutOption = "--pull-through-timeout"
    private static let timeoutRange = 0.1...600

    var isOn: Bool { !patterns.isEmpty }

    /// The arguments of `mount` that say the same.
    var arguments: [String] {
        var arguments: [String] = []
        for pattern in patterns { arguments += ["--pull-through", pattern] }
        if let seconds { arguments += [Self.timeoutOption, String(seconds)] }
        if let range = lifetimeSeconds {
            arguments += [Self.ttlOption, "\(range.lowerBound)s..\(range.upperBound)s"]
        }
        if isInsecure { arguments.append("--pull-through-insecure") }
        return arguments
    }

    /// Says what is wrong with the settings.
    ///
    /// - Parameter isReadOnly: of the mount.
    func check(isReadOnly: Bool) throws(Failure) {
        guard isOn else {
            guard self == PullThroughSettings() else {
                throw Failure(
                    "options of pull-through need the domains that are meant: add --pull-through PATTERN",
                    exitCode: 64)
            }
            return
        }
        _ = try parsedPatterns()
        guard !isReadOnly else {
            throw Failure(
                "--pull-through makes directories: leave --read-only and --follow out", exitCode: 64
            )
        }
        if let seconds, !Self.timeoutRange.contains(seconds) {
            throw Failure(
                "\(Self.timeoutOption): it must be from 0.1 to 600 seconds", exitCode: 64)
        }
    }

    func parsedPatterns() throws(Failure) -> [DomainPattern] {
        guard patterns.count <= Self.patternsMax else {
            throw Failure("more than \(Self.patternsMax) patterns of domains", exitCode: 64)
        }
        return try patterns.map { (text) throws(Failure) in
            try Failure.ofUsage { () throws(NamingError) in try DomainPattern(text) }
        }
    }

    /// Takes an option of `-o`; false where it is none of these.
    mutating func apply(_ name: String, _ value: String) throws(Failure) -> Bool {
        switch name {
        case "pull-through": patterns.append(value)
        case "pull-through-timeout": seconds = try KuboSettings.seconds(value, name)
        case "pull-through-ttl": lifetimeSeconds = try Self.lifetimes(value)
        case "pull-through-insecure": isInsecure = true
        default: return false
        }
        return true
    }

    /// Reads `30s..1h`, in seconds.
    static func lifetimes(_ text: String) throws(Failure) -> ClosedRange<Int64> {
        let wrong = Failure(
            "\(ttlOption) \(RawText.shown(text)): two times as in 30s..1h, the shorter one first",
            exitCode: 64)
        guard let dots = text.firstRange(of: "..") else { throw wrong }
        let range: ClosedRange<Int64> = 1...7 * 86_400
        let least = try TimeLength.seconds(
            String(text[..<dots.lowerBound]), ttlOption, in: range)
        let most = try TimeLength.seconds(
            String(text[dots.upperBound...]), ttlOption, in: range)
        guard least <= most else { throw wrong }
        return least...most
    }
}

/// The options of `mount` that are about domains.
struct PullThroughArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Look up domains because somebody asks for a repository of their name; may be repeated.",
            discussion:
                "example.com, *.example.com for all below, or * for all that are everybody's.",
            valueName: "pattern"))
    var pullThrough: [String] = []

    @Option(
        help: ArgumentHelp(
            "How long one look-up may take, from DNS to its blocks (default: 10).",
            valueName: "seconds"))
    var pullThroughTimeout: Double?

    @Option(
        help: ArgumentHelp(
            "How long an answer of DNS counts at least and at most (default: 30s..1h).",
            valueName: "min..max"))
    var pullThroughTtl: String?

    @Flag(
        help:
            "Ask gateways that domains name over plain http too, and at addresses that are not public."
    )
    var pullThroughInsecure = false

    func settings(over base: PullThroughSettings) throws(Failure) -> PullThroughSettings {
        var settings = base
        settings.patterns += pullThrough
        if let pullThroughTimeout { settings.seconds = pullThroughTimeout }
        if let text = pullThroughTtl {
            settings.lifetimeSeconds = try PullThroughSettings.lifetimes(text)
        }
        if pullThroughInsecure { settings.isInsecure = true }
        return settings
    }
}
