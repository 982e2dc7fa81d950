internal import Foundation

/// The node that a test runs against: the double, or a real one where there is one.
///
/// A real node is given by `REGISTRYFS_TEST_KUBO` (an address as `http://127.0.0.1:5001` or
/// `/ip4/127.0.0.1/tcp/5001`), or is an `ipfs` on PATH, which is started on a temporary repository,
/// on loopback and without peers, once for all tests of a process, and ends with it. So tests keep to
/// names of their own on it, and never collect its garbage.
public final class TestNode: Sendable {
    /// The kinds of nodes.
    public enum Kind: String, Sendable, CaseIterable {
        case double
        /// `REGISTRYFS_TEST_KUBO`.
        case given
        /// `ipfs` on PATH.
        case started
    }

    /// Why a real node did not start.
    public struct NotStarted: Error {
        public var reason: String
    }

    public let kind: Kind
    /// Its RPC, as `http://127.0.0.1:PORT`, or as it was given.
    public let address: String
    /// The double, where it is one.
    public let double: DoubleNode?

    private init(_ kind: Kind, address: String, double: DoubleNode? = nil) {
        self.kind = kind
        self.address = address
        self.double = double
    }

    deinit { double?.stop() }

    /// What tests are run against: the double, and a real node if there is one. Says so in one line
    /// on standard error if there is none.
    public static let kinds: [Kind] = {
        if environment["REGISTRYFS_TEST_KUBO"] != nil { return [.double, .given] }
        if executable != nil { return [.double, .started] }
        FileHandle.standardError.write(
            Data(
                "no real Kubo node to test with (REGISTRYFS_TEST_KUBO, or ipfs on PATH): the double only\n"
                    .utf8))
        return [.double]
    }()

    /// A node of that kind: a double of its own, or the real one that all share.
    public static func make(
        _ kind: Kind, options: DoubleNode.Options = DoubleNode.Options()
    ) throws -> TestNode {
        switch kind {
        case .double:
            let node = try DoubleNode(options)
            return TestNode(.double, address: node.address, double: node)
        case .given:
            guard let address = environment["REGISTRYFS_TEST_KUBO"] else {
                throw NotStarted(reason: "REGISTRYFS_TEST_KUBO is not set")
            }
            return TestNode(.given, address: address)
        case .started:
            return TestNode(.started, address: try shared.get().address)
        }
    }

    private static var environment: [String: String] { ProcessInfo.processInfo.environment }

    /// `ipfs` on PATH.
    public static let executable: String? = {
        (environment["PATH"] ?? "").split(separator: ":").map { $0 + "/ipfs" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    private static let shared: Result<RealNode, any Error> = Result {
        try RealNode(isOffline: true)
    }
}

/// An `ipfs daemon` on a temporary repository.
///
/// `@unchecked Sendable`: nothing changes after the start but what `lock` guards.
public final class RealNode: @unchecked Sendable {
    /// Its RPC, as `http://127.0.0.1:PORT`.
    public private(set) var address = ""
    /// Its repository.
    public let directory: String
    private let executable: String
    private let isOffline: Bool
    private let lock = NSLock()
    private var process: Process?
    /// Closed when this process ends, however it does; the node ends then.
    private var lifeline: FileHandle?

    /// Makes a repository and starts a node on it; blocks until the RPC answers.
    ///
    /// - Parameters:
    ///   - isOffline: as `ipfs daemon --offline`; otherwise it has no peers, and waits for blocks.
    ///   - configuration: more settings, as `["API.Authorizations": "{…}"]`, in JSON.
    public init(isOffline: Bool, configuration: [String: String] = [:]) throws {
        guard let executable = TestNode.executable else {
            throw TestNode.NotStarted(reason: "there is no ipfs on PATH")
        }
        self.executable = executable
        self.isOffline = isOffline
        directory = FileManager.default.temporaryDirectory.path + "/kubo-" + UUID().uuidString
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        try run(["init", "--profile=unixfs-v1-2025", "--empty-repo"])
        let settings = [
            "Addresses.API": "\"/ip4/127.0.0.1/tcp/0\"",
            "Addresses.Gateway": "\"/ip4/127.0.0.1/tcp/0\"",
            "Addresses.Swarm": isOffline ? "[]" : "[\"/ip4/127.0.0.1/tcp/0\"]",
            "AutoConf.Enabled": "false", "Bootstrap": "null", "DNS.Resolvers": "{}",
            "Discovery.MDNS.Enabled": "false", "Ipns.DelegatedPublishers": "[]",
            "Routing.DelegatedRouters": "[]", "AutoTLS.Enabled": "false",
        ]
        for (key, value) in settings.merging(configuration, uniquingKeysWith: { $1 }) {
            try run(["config", "--json", key, value])
        }
        try start()
    }

    deinit {
        kill()
        try? FileManager.default.removeItem(atPath: directory)
    }

    private var environment: [String: String] {
        ProcessInfo.processInfo.environment.merging(
            ["IPFS_PATH": directory, "IPFS_TELEMETRY": "off"], uniquingKeysWith: { $1 })
    }

    private func run(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = environment
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw TestNode.NotStarted(reason: "ipfs " + arguments.joined(separator: " "))
        }
    }

    /// Starts the daemon, on another port than before; blocks until the RPC answers.
    public func start() throws {
        lock.lock()
        defer { lock.unlock() }
        try? FileManager.default.removeItem(atPath: directory + "/api")
        let process = Process()
        let pipe = Pipe()
        // The shell ends the daemon when its input ends, which our death does too. It does not wait
        // for it: signals may be blocked in the thread that starts it, and so in the shell.
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = [
            "-c",
            "\"$0\" daemon \"$@\" </dev/null >\"$IPFS_PATH/log\" 2>&1 & pid=$!; "
                + "read -r line; kill -9 $pid; "
                + "[ \"$line\" = keep ] || rm -rf \"$IPFS_PATH\"",
            executable,
        ]
        if isOffline { process.arguments?.append("--offline") }
        process.environment = environment
        process.standardInput = pipe
        // Whoever reads our output waits for its end.
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process = process
        lifeline = pipe.fileHandleForWriting
        for _ in 0..<600 {
            Thread.sleep(forTimeInterval: 0.1)
            guard let text = try? String(contentsOfFile: directory + "/api", encoding: .utf8),
                let client = try? RawClient(text.trimmingCharacters(in: .whitespacesAndNewlines)),
                (try? client.send("POST", "/api/v0/version")) != nil
            else { continue }
            let parts = text.trimmingCharacters(in: .whitespacesAndNewlines).split(separator: "/")
            address = "http://127.0.0.1:\(parts.last ?? "")"
            return
        }
        throw TestNode.NotStarted(reason: "ipfs daemon does not answer")
    }

    /// Kills the daemon, as kill -9 does.
    public func kill() {
        lock.lock()
        defer { lock.unlock() }
        // The repository is for the next start.
        try? lifeline?.write(contentsOf: Data("keep\n".utf8))
        try? lifeline?.close()
        lifeline = nil
        process?.waitUntilExit()
        process = nil
    }
}
