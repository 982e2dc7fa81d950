import ArgumentParser
import Gateway
import Naming
import RegistryLayout

/// The options of `publish` that are about the registry of a domain.
struct DomainArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Publish the repositories of this domain alone, as a tree of their own.",
            valueName: "name"))
    var domain: String?

    @Option(
        help: ArgumentHelp(
            "Which repositories, * for any part; may be repeated (default: the domain's name, and all below it).",
            valueName: "pattern"))
    var repo: [String] = []

    @Option(
        name: .customLong("gateway-url"),
        help: ArgumentHelp(
            "A gateway that serves the tree, to be told in DNS; may be repeated.", valueName: "url")
    )
    var gatewayURL: [String] = []

    @Flag(help: "Have DNS lead to the key's name, which stays, and not to the tree's CID.")
    var byKey = false

    @Flag(help: "Ask DNS and the gateways, and say what is wrong; publish nothing.")
    var check = false

    @Option(
        help: ArgumentHelp(
            "Where the registry lies in the volume (default: docker/registry/v2).",
            valueName: "path"))
    var registryDir: String?

    @OptionGroup var names: DNSOption

    /// Nil where no domain is meant.
    func settings() throws(Failure) -> DomainSettings? {
        guard let domain else {
            guard repo.isEmpty, gatewayURL.isEmpty, !byKey, !check, registryDir == nil,
                names.dns == nil
            else {
                throw Failure(
                    "--repo, --gateway-url, --by-key, --check, --registry-dir and --dns go with --domain",
                    exitCode: 64)
            }
            return nil
        }
        let name = try Failure.ofUsage { () throws(NamingError) in try DNSName(domain) }
        guard name.hasDot else {
            throw Failure("--domain \(RawText.shown(domain)): a domain has a dot", exitCode: 64)
        }
        var settings = DomainSettings(name: name)
        settings.isByKey = byKey
        settings.registryDirectory = registryDir
        settings.dns = names.dns
        for pattern in repo.isEmpty ? ["\(name)", "\(name)/*"] : repo {
            let parsed = try Failure.ofUsage { () throws(LayoutError) in
                try RepositoryPattern(pattern)
            }
            guard parsed.takesAllTags else {
                throw Failure(
                    "--repo \(RawText.shown(pattern)): whole repositories, without a tag",
                    exitCode: 64)
            }
            settings.repositories.append(parsed)
        }
        for url in gatewayURL {
            do throws(GatewayURLError) {
                settings.gateways.append(try GatewayURL(url))
            } catch {
                throw Failure("--gateway-url: \(error)", exitCode: 64)
            }
        }
        return settings
    }
}

/// A domain whose registry is published.
struct DomainSettings {
    let name: DNSName
    var repositories: [RepositoryPattern] = []
    var gateways: [GatewayURL] = []
    /// Whether DNS is to lead to the key's name.
    var isByKey = false
    var registryDirectory: String?
    var dns: String?

    init(name: DNSName) { self.name = name }

    /// How the domain's key is called, where nobody says: a key's name has no dots.
    var label: String { "\(name)".split(separator: ".").joined(separator: "_") }

    /// Where its tree is in the volume.
    var path: [String] { ["domains", "\(name)"] }
}

/// Lines of a zone's file.
enum ZoneText {
    /// The longest string of a record, in bytes; RFC 1035, section 3.3.
    private static let stringMax = 255

    /// A TXT record, its text in as many strings as it takes; RFC 1035, section 5.1.
    static func record(_ owner: String, _ text: String) -> String {
        var strings: [String] = []
        var bytes = Array(text.utf8)[...]
        repeat {
            strings.append("\"" + bytes.prefix(stringMax).map(escaped).joined() + "\"")
            bytes = bytes.dropFirst(stringMax)
        } while !bytes.isEmpty
        return "\(owner). TXT \(strings.joined(separator: " "))"
    }

    private static func escaped(_ byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            return "\\" + String(UnicodeScalar(byte))
        case 0x20..<0x7f:
            return String(UnicodeScalar(byte))
        default:
            let digits = String(byte)
            return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
        }
    }
}
