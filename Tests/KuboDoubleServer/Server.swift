import Foundation
import KuboDouble

/// A Kubo node's double as a program, for tests that are shell scripts.
///
///     kubo-double [--port N] [--port-file F] [--control-port-file F] [--gateway-port-file F]
///                 [--unix PATH] [--store DIR] [--auth bearer:X] [--offline]
///                 [--profile unixfs-v0-2015]
///
/// Prints one line when it listens, and runs until it is killed.
@main
enum Server {
    private struct BadUsage: Error {
        var what: String
    }

    static func main() {
        do {
            try run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            FileHandle.standardError.write(Data("kubo-double: \(error)\n".utf8))
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) throws {
        var options = DoubleNode.Options()
        var files: [String: String] = [:]
        var rest = arguments[...]
        while let option = rest.popFirst() {
            func value() throws -> String {
                guard let value = rest.popFirst() else {
                    throw BadUsage(what: option + " needs a value")
                }
                return value
            }
            switch option {
            case "--port":
                guard let port = Int(try value()) else { throw BadUsage(what: "bad port") }
                options.port = port
            case "--port-file", "--control-port-file", "--gateway-port-file":
                files[option] = try value()
            case "--unix": options.unixPath = try value()
            case "--store": options.storeDirectory = try value()
            case "--auth":
                options.authorizations.append(DoubleNode.Authorization(secret: try value()))
            case "--offline": options.isOffline = true
            case "--profile": try options.setProfile(try value())
            default: throw BadUsage(what: "unknown option " + option)
            }
        }
        // Whoever reads the line may go away.
        signal(SIGPIPE, SIG_IGN)
        let node = try DoubleNode(options)
        for (option, port) in [
            ("--port-file", node.port), ("--control-port-file", node.controlPort),
            ("--gateway-port-file", node.gatewayPort),
        ] {
            guard let file = files[option] else { continue }
            try Data("\(port)\n".utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
        }
        print("kubo-double \(kuboDoubleVersion) listens on \(node.address)")
        fflush(nil)
        while true { pause() }
    }
}
