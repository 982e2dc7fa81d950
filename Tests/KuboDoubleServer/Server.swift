import KuboDouble

/// A Kubo node's double as a program, for tests that are shell scripts.
///
///     kubo-double [--host ADDRESS] [--port N] [--port-file F] [--control-port-file F] [--gateway-port-file F]
///                 [--unix PATH] [--store DIR] [--auth bearer:X] [--offline]
///                 [--profile unixfs-v0-2015]
///
/// Prints one line when it listens, and runs until it is killed.
@main
enum Server {
    static func main() {
        DoubleProgram.run(
            "kubo-double", .rpc,
            taking: { option, value, options in
                switch option {
                case "--host": options.host = try value()
                case "--unix": options.unixPath = try value()
                case "--auth":
                    options.authorizations.append(
                        DoubleNode.Authorization(secret: try value()))
                case "--offline": options.isOffline = true
                case "--profile": try options.setProfile(try value())
                default: return false
                }
                return true
            },
            start: { node in "\(node.address) as version \(kuboDoubleVersion)" })
    }
}
