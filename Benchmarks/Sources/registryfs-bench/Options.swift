/// What the command line says; `Benchmarks/run` writes it.
struct Options {
    var targets: [Target] = []
    var groups: [Group] = Group.allCases
    var rounds = 3
    var isQuick = false
    /// Measures the peers in every round, and not only in the first one.
    var allPeers = false
    /// The program `registryfs`, which tells when everything is sealed.
    var registryfs: String?
    var scratch = "/dev/shm"
    var json: String?
    var plot: String?
    var mustHold = false
    /// Facts of the machine, in order.
    var facts: [(key: String, value: String)] = []

    init(_ arguments: [String]) throws(Failure) {
        var only: [Group] = []
        var index = 0
        func value() throws(Failure) -> String {
            guard index + 1 < arguments.count else {
                throw Failure("\(arguments[index]) needs a value")
            }
            index += 1
            return arguments[index]
        }
        func pair() throws(Failure) -> (String, String) {
            let option = arguments[index]
            let text = try value()
            guard let equals = text.firstIndex(of: "=") else {
                throw Failure("\(option) needs NAME=VALUE, not \(text)")
            }
            return (String(text[..<equals]), String(text[text.index(after: equals)...]))
        }
        while index < arguments.count {
            switch arguments[index] {
            case "--target":
                let (name, directory) = try pair()
                targets.append(Target(name: name, directory: directory))
            case "--registry":
                let (name, text) = try pair()
                guard let port = UInt16(text) else { throw Failure("\(text) is no port") }
                try change(name) { $0.registryPort = port }
            case "--daemon":
                let (name, text) = try pair()
                guard let pid = Int32(text) else { throw Failure("\(text) is no process id") }
                try change(name) { $0.daemon = pid }
            case "--fact":
                let (key, text) = try pair()
                facts.append((key, text))
            case "--only":
                let name = try value()
                guard let group = Group(rawValue: name) else {
                    let known = Group.allCases.map(\.rawValue).joined(separator: ", ")
                    throw Failure("there is no group \(name): \(known)")
                }
                only.append(group)
            case "--rounds":
                let text = try value()
                guard let count = Int(text), (1...100).contains(count) else {
                    throw Failure("--rounds needs 1 to 100, not \(text)")
                }
                rounds = count
            case "--registryfs": registryfs = try value()
            case "--scratch": scratch = try value()
            case "--json": json = try value()
            case "--plot": plot = try value()
            case "--quick": isQuick = true
            case "--all-peers": allPeers = true
            case "--check": mustHold = true
            default: throw Failure("unknown option \(arguments[index])")
            }
            index += 1
        }
        if !only.isEmpty { groups = Group.allCases.filter { only.contains($0) } }
        guard targets.count >= 2 else { throw Failure("at least two --target are needed") }
    }

    private mutating func change(
        _ name: String, _ body: (inout Target) -> Void
    ) throws(Failure) {
        guard let index = targets.firstIndex(where: { $0.name == name }) else {
            throw Failure("--target \(name)=DIRECTORY must come first")
        }
        body(&targets[index])
    }
}
