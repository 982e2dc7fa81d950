import Foundation
import KuboDouble

/// A trustless gateway's double as a program, for tests that are shell scripts: that of the Kubo node's
/// double, without anybody who asks for its RPC.
///
///     gateway-double [--car FILE]… [--store DIR] [--port N] [--port-file F] [--control-port-file F]
///                    [--fault KIND[:VALUE[:COUNT]]]… [--redirect URL]
///
/// Serves the blocks of the archives, and of a directory as `kubo-double --store` makes it (what comes by
/// `--car` is stored there too). The kinds of faults are those of `Fault.Kind`, for all requests unless a
/// count is given; more of them, and `refuse`, by `POST /double/faults` at the control port. Prints one line
/// for each root, and one when it listens, and runs until it is killed.
@main
enum Server {
    private struct BadUsage: Error {
        var what: String
    }

    static func main() {
        do {
            try run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            FileHandle.standardError.write(Data("gateway-double: \(error)\n".utf8))
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) throws {
        var options = DoubleNode.Options()
        options.isOffline = true
        var files: [String: String] = [:]
        var archives: [String] = []
        var faults: [Fault] = []
        var rest = arguments[...]
        while let option = rest.popFirst() {
            guard let value = rest.popFirst() else {
                throw BadUsage(what: option + " needs a value")
            }
            switch option {
            case "--port":
                guard let port = Int(value) else { throw BadUsage(what: "bad port") }
                options.gatewayPort = port
            case "--port-file", "--control-port-file": files[option] = value
            case "--store": options.storeDirectory = value
            case "--car": archives.append(value)
            case "--fault": faults.append(try fault(value))
            case "--redirect":
                faults.append(Fault(.redirect, command: "gateway", message: value))
            default: throw BadUsage(what: "unknown option " + option)
            }
        }
        // Whoever reads the lines may go away.
        signal(SIGPIPE, SIG_IGN)
        let node = try DoubleNode(options)
        for archive in archives {
            for root in try node.addArchive(archive) { print("root \(root)") }
        }
        for fault in faults { node.add(fault) }
        for (option, port) in [
            ("--port-file", node.gatewayPort), ("--control-port-file", node.controlPort),
        ] {
            guard let file = files[option] else { continue }
            try Data("\(port)\n".utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
        }
        print("gateway-double listens on \(node.gatewayAddress)")
        fflush(nil)
        while true { pause() }
    }

    /// `KIND[:VALUE[:COUNT]]`.
    private static func fault(_ text: String) throws -> Fault {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let kind = Fault.Kind(rawValue: String(parts[0])), parts.count <= 3 else {
            throw BadUsage(what: "bad fault " + text)
        }
        return Fault(
            kind, command: "gateway", value: parts.count > 1 ? Int(parts[1]) : nil,
            count: parts.count > 2 ? Int(parts[2]) : nil)
    }
}
