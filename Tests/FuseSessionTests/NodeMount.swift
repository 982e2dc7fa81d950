import Base
import Foundation
import FuseSession
import Glibc
import KuboDouble
import KuboStand
import Logging
import Testing
import Volume

/// A tree that stands at a double's MFS path, mounted, with blocks that never come where asked for.
///
/// Only other processes touch the mount: a thread of ours that hung there could not be ended.
final class NodeMount: Sendable {
    let double: DoubleNode
    let volume: Volume
    let path: String
    private let session: FuseSession
    private let server: JoinableThread
    private let directory: String

    static let mfsPath = "/registryfs/test"

    struct Refused: Error {
        let reason: String
    }

    /// - Parameters:
    ///   - files: names at the MFS path and their contents, of up to 1 MiB.
    ///   - beforeServed: called where the mount is in the tree, and nobody answers yet.
    init(
        files: [String: [UInt8]], configure: (inout FuseConfiguration) -> Void = { _ in },
        beforeServed: (DoubleNode, String) throws -> Void = { _, _ in }
    ) throws {
        directory = FileManager.default.temporaryDirectory.path + "/node-" + UUID().uuidString
        path = directory + "/mount"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        double = try DoubleNode()
        try Self.call(double, "files/mkdir?arg=\(Self.mfsPath)&parents=true")
        for (name, bytes) in files { try Self.add(double, name, bytes) }
        let log = Logger(label: "node-mount") { _ in SwiftLogNoOpLogHandler() }
        // So many reads of blocks that never come leave connections for others.
        var node = RemoteOptions(
            try KuboStand.remote(at: double.address, connectionsMax: 64, log: log))
        node.path = Self.mfsPath
        node.adoptsTree = true
        // Longer than any test waits for anything.
        node.fetch.fetchMilliseconds = 600_000
        node.publishIntervalMilliseconds = 200
        node.quietMilliseconds = 100
        var options = VolumeOptions()
        options.remote = node
        volume = try Volume.open(stateDirectory: directory + "/state", options: options, log: log)
        var configuration = FuseConfiguration()
        configure(&configuration)
        let session = try FuseSession(volume: volume, configuration: configuration, log: log)
        self.session = session
        server = try RingSwitch.whileOn { [double, path] in
            try session.mount(at: path)
            try beforeServed(double, path)
            let server = try Threads.start(name: "mount") {
                do {
                    try session.run()
                } catch {
                    Issue.record(error)
                }
            }
            guard session.waitUntilReady() else { throw Refused(reason: "the mount ended") }
            return server
        }
    }

    /// Whether requests come through io_uring.
    var rings: Rings { session.rings }

    /// Takes all away; a reader that still waits gets an error.
    func end() throws {
        session.stop()
        server.join()
        try volume.close()
        try double.clearFaults()
        double.stop()
        try FileManager.default.removeItem(atPath: directory)
    }

    /// Ends the session alone, and tells whether that came to an end.
    func stopSession() throws -> Bool {
        let isOver = Monitor(false)
        let thread = try Threads.start(name: "stop") { [session] in
            session.stop()
            isOver.withLock { $0 = true }
        }
        guard eventually({ isOver.withLock { $0 } }) else { return false }
        thread.join()
        return true
    }

    /// Whether the session has come to its end by itself.
    func sessionEnds() throws -> Bool {
        let isOver = Monitor(false)
        let thread = try Threads.start(name: "watch") { [session] in
            // Waits for an end that is under way.
            session.stop()
            isOver.withLock { $0 = true }
        }
        guard eventually({ isOver.withLock { $0 } }) else { return false }
        thread.join()
        return true
    }

    // MARK: The node

    func add(_ name: String, _ bytes: [UInt8]) throws { try Self.add(double, name, bytes) }

    func call(_ target: String) throws { try Self.call(double, target) }

    private static func add(_ double: DoubleNode, _ name: String, _ bytes: [UInt8]) throws {
        let (headers, body) = RawClient.multipart([bytes], name: "file")
        try call(
            double, "add?pin=false&cid-version=1&raw-leaves=true&to-files=\(mfsPath)/\(name)",
            headers, body)
    }

    private static func call(
        _ double: DoubleNode, _ target: String, _ headers: [String: String] = [:],
        _ body: [UInt8] = []
    ) throws {
        let response = try RawClient(double.address).send(
            "POST", "/api/v0/" + target, headers: headers, body: body)
        guard response.status == 200 else { throw Refused(reason: response.text) }
    }

    /// Takes the one block of a file from the node, which looks among its peers for it from now on.
    func loseBlock(of name: String) throws {
        struct Status: Decodable { var Hash: String }
        let client = try RawClient(double.address)
        let reply = try client.send(
            "POST", "/api/v0/files/stat?arg=\(Self.mfsPath)/\(name)", headers: [:], body: [])
        let hash = try JSONDecoder().decode(Status.self, from: Data(reply.text.utf8)).Hash
        try call("block/rm?arg=\(hash)&force=true")
    }

    /// No block that is asked for from now on ever comes.
    func hangBlocks() { Self.hangBlocks(of: double) }

    static func hangBlocks(of double: DoubleNode) {
        double.add(Fault(.hang, command: "block/get"))
    }

    /// How often a block was asked for.
    var blockCalls: Int { double.statistics["block/get"]?.calls ?? 0 }
}

/// Waits for a condition, for so long that it fails only where it never comes.
func eventually(seconds: Int = 300, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = ContinuousClock.now + .seconds(seconds)
    repeat {
        if try condition() { return true }
        usleep(10_000)
    } while ContinuousClock.now < end
    return try condition()
}

/// A program that runs beside the test.
///
/// A thread waits for it from its start: the ends of exit tests are not seen by Swift Testing while
/// any other child of the process has ended and nobody has taken notice.
final class Program: Sendable {
    private let pid: pid_t
    private let status: Monitor<Int32?>
    private let outputPath: String

    init(_ words: String...) throws {
        outputPath = FileManager.default.temporaryDirectory.path + "/out-" + UUID().uuidString
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        // The threads that tests run on block signals, which a child would take over.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let code = posix_spawnp(&pid, words[0], &actions, &attributes, arguments, environ)
        guard code == 0 else { throw NodeMount.Refused(reason: "\(words[0]): \(code)") }
        self.pid = pid
        let status = Monitor<Int32?>(nil)
        self.status = status
        try Threads.startDetached(name: "reaper") { [pid] in
            // Seen, but not taken away yet: until then no other process has its number.
            var info = siginfo_t()
            while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) != 0, errno == EINTR {}
            status.withLock { status in
                var word: Int32 = 0
                while waitpid(pid, &word, 0) < 0, errno == EINTR {}
                status = word
            }
        }
    }

    deinit { unlink(outputPath) }

    func signal(_ number: Int32) {
        status.withLock { status in
            if status == nil { kill(pid, number) }
        }
    }

    var hasEnded: Bool { status.withLock { $0 != nil } }

    /// Whether it came to an end.
    func ends() -> Bool { eventually { hasEnded } }

    /// The end that it came to: 0 for success, more for a failure, less for a signal's number; nil
    /// where it did not end.
    func result() -> Int32? {
        guard ends(), let word = status.withLock({ $0 }) else { return nil }
        return word & 0x7f == 0 ? (word >> 8) & 0xff : -(word & 0x7f)
    }

    /// What it wrote; nil where it did not end well.
    func output() -> [UInt8]? {
        guard result() == 0 else { return nil }
        return FileManager.default.contents(atPath: outputPath).map { [UInt8]($0) }
    }

    var outputText: String? { output().map { String(decoding: $0, as: UTF8.self) } }
}
