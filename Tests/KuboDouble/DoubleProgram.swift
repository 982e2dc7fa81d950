internal import Foundation

/// A double as a program: what those of the Kubo node and of the gateway have in common.
///
/// All take `--port N`, `--port-file F` (where they write the port), `--control-port-file F` and `--store DIR`. A
/// program prints one line when it listens, and runs until it is killed.
public enum DoubleProgram {
    /// What a program is there for: what `--port` is about.
    public enum Service {
        case rpc, gateway
    }

    /// Arguments that a program does not know or cannot use.
    public struct BadUsage: Error {
        public var what: String

        public init(_ what: String) { self.what = what }
    }

    /// Reads the arguments, makes a node and serves it.
    ///
    /// - Parameters:
    ///   - take: takes an option of the program's own, whose value it asks for where it has one; false for one that it
    ///     does not know.
    ///   - start: prepares the node; gives what is said of where it listens.
    public static func run(
        _ name: String, _ service: Service, isOffline: Bool = false,
        taking take: (
            _ option: String, _ value: () throws -> String, inout DoubleNode.Options
        ) throws -> Bool,
        start: (DoubleNode) throws -> String
    ) -> Never {
        do {
            var options = DoubleNode.Options()
            options.isOffline = isOffline
            var files: [String: String] = [:]
            var rest = CommandLine.arguments.dropFirst()
            while let option = rest.popFirst() {
                func value() throws -> String {
                    guard let value = rest.popFirst() else {
                        throw BadUsage(option + " needs a value")
                    }
                    return value
                }
                switch option {
                case "--port":
                    guard let port = Int(try value()) else { throw BadUsage("bad port") }
                    switch service {
                    case .rpc: options.port = port
                    case .gateway: options.gatewayPort = port
                    }
                case "--port-file", "--control-port-file", "--gateway-port-file":
                    files[option] = try value()
                case "--store": options.storeDirectory = try value()
                default:
                    guard try take(option, value, &options) else {
                        throw BadUsage("unknown option " + option)
                    }
                }
            }
            // Whoever reads the lines may go away.
            signal(SIGPIPE, SIG_IGN)
            let node = try DoubleNode(options)
            let place = try start(node)
            for (option, port) in [
                ("--port-file", service == .rpc ? node.port : node.gatewayPort),
                ("--control-port-file", node.controlPort),
                ("--gateway-port-file", node.gatewayPort),
            ] {
                guard let file = files[option] else { continue }
                try Data("\(port)\n".utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
            }
            print("\(name) listens on \(place)")
            fflush(nil)
            while true { pause() }
        } catch {
            FileHandle.standardError.write(Data("\(name): \(error)\n".utf8))
            exit(1)
        }
    }
}
