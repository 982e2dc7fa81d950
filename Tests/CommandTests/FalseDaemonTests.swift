import Base
import Foundation
import Glibc
import Multiformats
import Testing

/// What the commands make of a daemon that lies: a socket at which a test listens.
struct FalseDaemonTests {
    private let directory: TemporaryDirectory
    private var state: String { directory.path + "/state" }
    private static let content = Array("what a block holds\n".utf8)
    private static let cid = CID.raw(sha256: content)

    init() throws {
        directory = try TemporaryDirectory()
        #expect(mkdir(state, 0o700) == 0)
        // Without it nobody takes it for a state directory.
        close(open(state + "/manifest.sqlite", O_RDWR | O_CREAT, 0o600))
    }

    /// Runs a command against a daemon that gives each connection the same answer.
    private func run(
        _ command: String, _ argument: String, answer: [UInt8]
    ) throws -> Program.Outcome {
        let daemon = try FalseDaemon(stateDirectory: state, answer: answer)
        defer { daemon.end() }
        let arguments = command == "export-car" ? ["-o", "-"] : []
        return try Program.run([command, "--state-dir", state] + arguments + [argument])
    }

    private static func data(_ bytes: [UInt8]) -> [UInt8] {
        Array("{\"data\":\(bytes.count)}\n".utf8) + bytes
    }

    private static let done = Array("{\"done\":{\"version\":1}}\n".utf8)

    @Test func blockThatMatchesIsWritten() throws {
        let answer = Self.data(Self.content) + Self.done
        let outcome = try run("block", Self.cid.description, answer: answer)
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.output == Self.content)
    }

    @Test(arguments: ["block", "export-car"])
    func bytesThatDoNotMatchAreNotWritten(_ command: String) throws {
        for bytes in [Array("other bytes".utf8), [], Self.content + [0]] {
            let answer = Self.data(bytes) + Self.done
            let outcome = try run(command, Self.cid.description, answer: answer)
            #expect(outcome.status == 1)
            #expect(outcome.output.isEmpty)
            #expect(try #require(outcome.errorLine).contains(Self.cid.description))
        }
    }

    @Test func blockWithoutAnEndIsNotGathered() throws {
        let piece = Self.data([UInt8](repeating: 7, count: 1 << 20))
        let outcome = try run(
            "block", Self.cid.description, answer: piece + piece + piece + Self.done)
        #expect(outcome.status == 1)
        #expect(outcome.output.isEmpty)
    }

    @Test func whatIsNoCIDIsNotPrinted() throws {
        let answer = Array("{\"done\":{\"version\":1,\"cid\":\"\\u001b[2Jowned\"}}\n".utf8)
        let outcome = try run("cid", "/", answer: answer)
        #expect(outcome.status == 1)
        #expect(outcome.output.isEmpty)
        #expect(!outcome.errors.utf8.contains(0x1b))
    }

    /// A terminal obeys C0 and C1 controls, and shows text in another order after a bidirectional one.
    @Test(arguments: ["\\u001b]0;owned\\u0007", "\\u009b31m", "\\u202eowned", "\\u007f", "\\r\\n"])
    func wordsOfADaemonAreShownOnOneLineWithoutControls(_ words: String) throws {
        let failed = "{\"failed\":{\"version\":1,\"kind\":\"failed\",\"message\":\"\(words)\"}}\n"
        let outcome = try run("inspect", "/", answer: Array(failed.utf8))
        #expect(outcome.status == 1)
        let line = try #require(outcome.errorLine)
        #expect(!line.unicodeScalars.contains { Self.isDeceptive($0) })
    }

    private static func isDeceptive(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) || scalar.value == 0x202e
    }

    @Test(.enabled(if: geteuid() == 0))
    func directoryOfAnotherUserIsNotAsked() throws {
        #expect(chown(state, 65_534, 65_534) == 0)
        let daemon = try FalseDaemon(
            stateDirectory: state, answer: Self.data(Self.content) + Self.done)
        defer { daemon.end() }
        let outcome = try Program.run([
            "block", "--state-dir", state, Self.cid.description,
        ])
        #expect(outcome.status == 1)
        #expect(try #require(outcome.errorLine).contains("65534"))
        #expect(daemon.connectionCount == 0)
    }
}

/// Listens at the control socket of a state directory, and gives everyone the same bytes.
final class FalseDaemon: Sendable {
    private let descriptor: Int32
    private let count = Monitor(0)

    var connectionCount: Int { count.withLock { $0 } }

    init(stateDirectory: String, answer: [UInt8]) throws {
        let path = Array((stateDirectory + "/control.sock").utf8)
        unlink(stateDirectory + "/control.sock")
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        try #require(path.count < MemoryLayout.size(ofValue: address.sun_path))
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let isBound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { general in
                bind(descriptor, general, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        try #require(isBound && chmod(stateDirectory + "/control.sock", 0o600) == 0)
        try #require(listen(descriptor, 16) == 0)
        Thread.detachNewThread { [descriptor, count] in
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { return }
                count.withLock { $0 += 1 }
                // Who only looks whether somebody listens sends nothing, and hangs up.
                var request = [UInt8](repeating: 0, count: 4096)
                if recv(client, &request, request.count, 0) > 0 {
                    _ = send(client, answer, answer.count, Int32(MSG_NOSIGNAL))
                }
                close(client)
            }
        }
    }

    func end() {
        shutdown(descriptor, Int32(SHUT_RDWR))
        close(descriptor)
    }
}
