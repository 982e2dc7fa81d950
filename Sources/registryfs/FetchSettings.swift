import ArgumentParser
import Volume

/// What `mount` was told of what is fetched from others.
struct FetchSettings: Sendable, Equatable {
    var cacheSize: UInt64?
    var keptPaths: [String] = []
    var trustsModes = false
    var seconds: Double?

    /// The arguments of `mount` that say the same.
    var arguments: [String] {
        var arguments: [String] = []
        if let cacheSize { arguments += ["--cache-size", String(cacheSize)] }
        if trustsModes { arguments.append("--trust-modes") }
        for path in keptPaths { arguments += ["--keep", path] }
        if let seconds { arguments += ["--fetch-timeout", String(seconds)] }
        return arguments
    }

    /// Makes the volume's side of them.
    func apply(to options: inout FetchOptions) throws(Failure) {
        options.cacheSizeMax = cacheSize
        options.trustsModes = trustsModes
        options.keptPaths = keptPaths
        if let seconds {
            options.fetchMilliseconds = try KuboSettings.milliseconds(seconds, "--fetch-timeout")
        }
    }

    /// Takes an option of `-o`; false where it is none of these.
    mutating func apply(_ name: String, _ value: String) throws(Failure) -> Bool {
        switch name {
        case "cache-size": cacheSize = try KuboSettings.size(value)
        case "fetch-timeout": seconds = try KuboSettings.seconds(value, name)
        case "trust-modes": trustsModes = true
        case "keep": keptPaths.append(value)
        default: return false
        }
        return true
    }
}

/// The options of `mount` that are about what is fetched from others.
struct FetchArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The most content to keep here that others have, too, as in 10G.", valueName: "size"))
    var cacheSize: String?

    @Option(
        help: ArgumentHelp(
            "Content that always stays here: paths from the mount point on, with * and ?.",
            valueName: "glob"))
    var keep: [String] = []

    @Flag(help: "Let modes that come from others allow writing to the group and to others.")
    var trustModes = false

    @Option(
        help: ArgumentHelp(
            "How long a read waits for a block (default: 30).", valueName: "seconds"))
    var fetchTimeout: Double?

    func settings(over base: FetchSettings) throws(Failure) -> FetchSettings {
        var settings = base
        if let cacheSize { settings.cacheSize = try KuboSettings.size(cacheSize) }
        if trustModes { settings.trustsModes = true }
        settings.keptPaths += keep
        if let fetchTimeout { settings.seconds = fetchTimeout }
        return settings
    }
}
