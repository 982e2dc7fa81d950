import ArgumentParser
import FoundationEssentials
import Glibc
import Kubo
import Logging
import Volume

/// What `mount` was told of the Kubo node that the volume publishes to.
struct KuboSettings: Sendable, Equatable {
    /// An address, or `auto` for that of the Kubo node whose repository `$IPFS_PATH` names.
    var address: String
    var path: String?
    var publishSeconds: Double?
    var uploadLimit: UInt64?
    var isDurableAtRemote = false
    var adoptsTree = false
    /// A file with the credentials.
    var credentialsFile: String?
    var sendsCredentialsInTheOpen = false

    /// Something was said of what the node is given.
    var publishes: Bool {
        path != nil || publishSeconds != nil || uploadLimit != nil || isDurableAtRemote
            || adoptsTree
    }

    /// The arguments of `mount` that say the same.
    var arguments: [String] {
        var arguments = ["--kubo", address]
        if let path { arguments += ["--mfs-path", path] }
        if let publishSeconds { arguments += ["--publish-interval", String(publishSeconds)] }
        if let uploadLimit { arguments += ["--upload-limit", String(uploadLimit)] }
        if isDurableAtRemote { arguments += ["--durability", "kubo"] }
        if adoptsTree { arguments.append("--from-mfs") }
        if let credentialsFile { arguments += ["--kubo-auth-file", credentialsFile] }
        if sendsCredentialsInTheOpen { arguments.append("--kubo-auth-over-http") }
        return arguments
    }

    /// The settings for a process with another working directory.
    func located() -> KuboSettings {
        var settings = self
        if let file = credentialsFile, !file.hasPrefix("/"), let here = getcwd(nil, 0) {
            settings.credentialsFile = String(cString: here) + "/" + file
            free(here)
        }
        return settings
    }

    /// Where the Kubo node is, and who we are there. Sends nothing.
    ///
    /// - Throws: also for credentials that would go to another machine in the open.
    func configuration() throws(Failure) -> KuboConfiguration {
        var configuration = KuboConfiguration(
            address: try parsedAddress(), credentials: try credentials())
        configuration.sendsCredentialsInTheOpen = sendsCredentialsInTheOpen
        guard
            configuration.credentials == nil || configuration.address.isPrivate
                || sendsCredentialsInTheOpen
        else {
            throw Failure(
                "\(configuration.address): everyone on the way could read the credentials: "
                    + "use https, or --kubo-auth-over-http where the way is private", exitCode: 64)
        }
        return configuration
    }

    /// Checks the settings, and makes the volume's side of them. Sends nothing.
    func options(log: Logger) throws(Failure) -> RemoteOptions {
        var options = RemoteOptions(KuboRemote(try client(log: log)))
        options.path = try checkedPath()
        if let publishSeconds {
            options.publishIntervalMilliseconds = try Self.milliseconds(
                publishSeconds, "--publish-interval")
            options.quietMilliseconds = min(
                options.quietMilliseconds, options.publishIntervalMilliseconds)
        }
        options.isDurableAtRemote = isDurableAtRemote
        options.adoptsTree = adoptsTree
        return options
    }

    /// A client of the node. Sends nothing.
    func client(log: Logger) throws(Failure) -> KuboClient {
        var configuration = try configuration()
        configuration.userAgent = "registryfs/\(Version.text)"
        configuration.uploadBytesPerSecond = uploadLimit
        do throws(KuboError) {
            return try KuboClient(configuration, log: log)
        } catch {
            throw Failure("\(error)")
        }
    }

    private func parsedAddress() throws(Failure) -> KuboAddress {
        do throws(KuboAddressError) {
            guard address == "auto" else { return try KuboAddress(address) }
            return try .discovered(environment: ProcessInfo.processInfo.environment)
        } catch {
            throw Failure("\(error)", exitCode: 64)
        }
    }

    private func credentials() throws(Failure) -> KuboCredentials? {
        do throws(KuboCredentialsError) {
            if let credentialsFile { return try KuboCredentials(file: credentialsFile) }
            return try KuboCredentials(environment: SecretEnvironment.variables)
        } catch {
            throw Failure("\(error)", exitCode: 64)
        }
    }

    private func checkedPath() throws(Failure) -> String? {
        guard let path else { return nil }
        let names = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        guard path.hasPrefix("/"), !names.isEmpty,
            names.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." })
        else {
            throw Failure(
                "--mfs-path \(RawText.shown(path)): it must be a path from / on, below /",
                exitCode: 64)
        }
        return path
    }

    static func milliseconds(_ seconds: Double, _ name: String) throws(Failure) -> Int {
        guard seconds >= 0.1, seconds <= 86_400 else {
            throw Failure("\(name): it must be from 0.1 to 86400 seconds", exitCode: 64)
        }
        return Int(seconds * 1000)
    }

    /// Reads a size as `500M`, `10GiB` or in bytes.
    static func size(_ text: String) throws(Failure) -> UInt64 {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        var unit = text.dropFirst(digits.count).lowercased()
        if unit.hasSuffix("ib") {
            unit.removeLast(2)
        } else if unit.hasSuffix("b") {
            unit.removeLast()
        }
        let shifts: [String: UInt64] = ["": 0, "k": 10, "m": 20, "g": 30, "t": 40]
        guard let value = UInt64(digits), let shift = shifts[unit],
            value.multipliedReportingOverflow(by: 1 << shift).overflow == false
        else {
            throw Failure(
                "'\(RawText.shown(text))' is no size: 500M, 10G or a number of bytes", exitCode: 64)
        }
        return value << shift
    }
}

/// The options of `mount` that are about a Kubo node.
struct KuboArguments: ParsableArguments {
    @OptionGroup var access: KuboAccess

    @Option(
        help: ArgumentHelp(
            "Where the tree stands in the node's MFS (default: /registryfs/ and the volume's id).",
            valueName: "path"))
    var mfsPath: String?

    @Option(
        help: ArgumentHelp(
            "How long a tree that never rests waits to be published (default: 5).",
            valueName: "seconds"))
    var publishInterval: Double?

    @Option(
        help: ArgumentHelp("The most to send in a second, as in 20M.", valueName: "size"))
    var uploadLimit: String?

    @Option(
        help: ArgumentHelp(
            "When fsync returns: with the file on this disk, or at the node as well.",
            valueName: "local|kubo"))
    var durability: String?

    @Flag(help: "Begin a new volume with the tree that stands at the MFS path.")
    var fromMfs = false

    /// The settings; nil without a Kubo node.
    func settings(over base: KuboSettings?) throws(Failure) -> KuboSettings? {
        guard var settings = try access.settings(over: base) else {
            let isAlone =
                mfsPath == nil && publishInterval == nil && uploadLimit == nil
                && durability == nil && !fromMfs
            guard isAlone else { throw KuboAccess.isMissing }
            return nil
        }
        if let mfsPath { settings.path = mfsPath }
        if let publishInterval { settings.publishSeconds = publishInterval }
        if let uploadLimit { settings.uploadLimit = try KuboSettings.size(uploadLimit) }
        if let durability { try settings.set(durability: durability) }
        if fromMfs { settings.adoptsTree = true }
        return settings
    }
}

extension KuboSettings {
    mutating func set(durability text: String) throws(Failure) {
        switch text {
        case "local": isDurableAtRemote = false
        case "kubo": isDurableAtRemote = true
        default:
            throw Failure(
                "unknown durability '\(RawText.shown(text))': local or kubo", exitCode: 64)
        }
    }

    /// Takes an option of `-o`; false where it is none of these.
    static func apply(
        _ name: String, _ value: String, to settings: inout KuboSettings?
    ) throws(Failure) -> Bool {
        let names = [
            "kubo", "mfs-path", "publish-interval", "upload-limit", "durability", "from-mfs",
            "kubo-auth-file", "kubo-auth-over-http",
        ]
        guard names.contains(name) else { return false }
        var kubo = settings ?? KuboSettings(address: "")
        switch name {
        case "kubo": kubo.address = value
        case "mfs-path": kubo.path = value
        case "upload-limit": kubo.uploadLimit = try size(value)
        case "publish-interval": kubo.publishSeconds = try seconds(value, name)
        case "durability": try kubo.set(durability: value)
        case "from-mfs": kubo.adoptsTree = true
        case "kubo-auth-over-http": kubo.sendsCredentialsInTheOpen = true
        default: kubo.credentialsFile = value
        }
        settings = kubo
        return true
    }

    static func seconds(_ text: String, _ name: String) throws(Failure) -> Double {
        guard let seconds = Double(text) else {
            throw Failure("\(name)=\(RawText.shown(text)): a number of seconds", exitCode: 64)
        }
        return seconds
    }
}
