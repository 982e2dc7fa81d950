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
    static func main() {
        var archives: [String] = []
        var faults: [Fault] = []
        DoubleProgram.run(
            "gateway-double", .gateway, isOffline: true,
            taking: { option, value, _ in
                switch option {
                case "--car": archives.append(try value())
                case "--fault": faults.append(try fault(try value()))
                case "--redirect":
                    faults.append(Fault(.redirect, command: "gateway", message: try value()))
                default: return false
                }
                return true
            },
            start: { node in
                for archive in archives {
                    for root in try node.addArchive(archive) { print("root \(root)") }
                }
                for fault in faults { node.add(fault) }
                return node.gatewayAddress
            })
    }

    /// `KIND[:VALUE[:COUNT]]`.
    private static func fault(_ text: String) throws -> Fault {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let kind = Fault.Kind(rawValue: String(parts[0])), parts.count <= 3 else {
            throw DoubleProgram.BadUsage("bad fault " + text)
        }
        return Fault(
            kind, command: "gateway", value: parts.count > 1 ? Int(parts[1]) : nil,
            count: parts.count > 2 ? Int(parts[2]) : nil)
    }
}
