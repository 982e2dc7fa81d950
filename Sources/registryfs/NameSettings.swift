import ArgumentParser
import Base
import Glibc
import HTTP
import Kubo
import Logging
import Naming

/// Whom names are asked of.
struct NameSettings: Sendable, Equatable {
    /// A name server, or the URL of one over HTTPS; nil for the system's.
    var dns: String?
    /// The URLs of gateways that give records.
    var gateways: [String] = []
    /// A Kubo node that gives records.
    var node: KuboSettings?
    /// A file with a record.
    var record: String?
    /// Where is kept what was seen of each name; nil where it is not.
    var stateDirectory: String?

    /// The directory of a state directory in which the last record of each name is.
    static let storeName = "names"

    /// Makes the resolver. Sends nothing.
    func resolver(log: Logger) throws(Failure) -> NameResolver {
        let parts = try parts(log: log)
        guard parts.sources.count <= NameResolver.sourcesMax else {
            throw Failure(
                "more than \(NameResolver.sourcesMax) gateways, nodes and files", exitCode: 64)
        }
        return NameResolver(dns: parts.dns, sources: parts.sources, store: parts.store)
    }

    /// What a resolver is made of. Sends nothing.
    func parts(
        log: Logger
    ) throws(Failure) -> (
        dns: any DNSResolver, sources: [any IPNSRecordSource], store: SequenceStore?
    ) {
        var sources: [any IPNSRecordSource] = []
        if let record { sources.append(RecordFile(path: record)) }
        if let node { sources.append(KuboRecords(try node.client(log: log))) }
        var configuration = HTTPConfiguration()
        configuration.userAgent = "registryfs/\(Version.text)"
        for gateway in gateways {
            sources.append(
                try Failure.ofUsage { () throws(NamingError) in
                    try GatewayRecords(gateway, configuration: configuration)
                })
        }
        let store = try stateDirectory.map { (directory) throws(Failure) in
            try Failure.naming { () throws(NamingError) in
                try SequenceStore(directory: "\(directory)/\(Self.storeName)")
            }
        }
        return (try dnsResolver(configuration), sources, store)
    }

    /// Who is asked for domains. Sends nothing.
    func dnsResolver(
        _ configuration: HTTPConfiguration
    ) throws(Failure) -> any DNSResolver {
        guard let dns, dns != "system" else { return SystemResolver() }
        return try Failure.ofUsage { () throws(NamingError) -> any DNSResolver in
            guard !dns.contains("://") else {
                guard dns.hasPrefix("https://") else {
                    throw NamingError(
                        .malformed, "'\(dns)' is no name server: over HTTP it must be https://")
                }
                return try HTTPSResolver(dns, configuration: configuration)
            }
            return try ServerResolver(dns)
        }
    }
}

extension Failure {
    /// Runs what reads an argument; its errors are wrong usage.
    static func ofUsage<Result>(
        _ body: () throws(NamingError) -> Result
    ) throws(Failure) -> Result {
        do throws(NamingError) {
            return try body()
        } catch {
            throw Failure(error.description, exitCode: 64)
        }
    }

    /// Runs what may fail whatever the arguments are.
    static func naming<Result>(
        _ body: () throws(NamingError) -> Result
    ) throws(Failure) -> Result {
        do throws(NamingError) {
            return try body()
        } catch {
            throw Failure(error.description, kind: error.kind == .notFound ? .absent : .failed)
        }
    }
}

/// A length of time as people write it.
enum TimeLength {
    /// Reads `30s`, `5m`, `48h` or `7d`, in seconds.
    static func seconds(
        _ text: String, _ option: String, in range: ClosedRange<Int64>
    ) throws(Failure) -> Int64 {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        guard let last = text.last, let unit = units[last], let count = Int64(text.dropLast()),
            text.utf8.dropLast().allSatisfy({ (48...57).contains($0) }),
            !count.multipliedReportingOverflow(by: unit).overflow, range.contains(count * unit)
        else {
            throw Failure(
                "\(option) \(RawText.shown(text)): a time as 30s, 5m, 48h or 7d, from "
                    + "\(range.lowerBound)s to \(range.upperBound / 86_400)d",
                exitCode: 64)
        }
        return count * unit
    }
}
