import Base
import Foundation
import FuseSession
import Glibc
import Logging
import Testing
import Volume

import struct SystemPackage.Errno

/// A log that keeps its lines.
private final class Lines: Sendable {
    private let lines = Monitor<[String]>([], rank: .log)

    struct Handler: LogHandler {
        let lines: Lines
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.lines.withLock { $0.append("\(event.message)") } }
    }

    var log: Logger { Logger(label: "test") { _ in Handler(lines: self) } }
    /// An array of their own, read while that of here grows (.ci/thread-sanitizer).
    var all: [String] { lines.withLock { $0.map { $0 } } }
}

@Suite struct FailureLogTests {
    private func failure(_ cause: String?, inode: UInt64 = 5) -> FailureLog.Failure {
        FailureLog.Failure(operation: "read", inode: inode, error: .ioError, cause: cause)
    }

    @Test func failureIsToldWithAllThatIsKnownOfIt() {
        let lines = Lines()
        let failures = FailureLog(log: lines.log)
        failures.note(failure("block bafk is lost")) { "/a/b" }
        failures.note(failure(nil, inode: 6)) { nil }
        #expect(lines.all.count == 2)
        #expect(lines.all.first?.hasPrefix("read of inode 5 (/a/b): ") == true, "\(lines.all)")
        #expect(lines.all.first?.hasSuffix(": block bafk is lost") == true, "\(lines.all)")
        #expect(lines.all.last?.hasSuffix(": no cause was noted") == true, "\(lines.all)")
        failures.end()
    }

    @Test func wordsOfOthersCannotLeaveTheirLine() {
        #expect(
            FailureLog.shown("a\nb\u{1b}[2J\u{9b}\u{202e}é") == #"a\u{a}b\u{1b}[2J\u{9b}\u{202e}é"#)
        #expect(FailureLog.shown(String(repeating: "x", count: 5000)).count < 700)
    }

    @Test func stormOfErrorsIsShortInTheLogAndCountedInFull() throws {
        let lines = Lines()
        let failures = FailureLog(log: lines.log)
        let threads = try (0..<4).map { number in
            try Threads.start(name: "storm") {
                for index in 0..<5_000 {
                    // The same, and ever new ones.
                    let cause = index % 2 == 0 ? "the same" : "\(number) \(index)"
                    failures.note(
                        FailureLog.Failure(
                            operation: index % 5 == 0 ? "write" : "read", inode: 7, error: .ioError,
                            cause: cause)
                    ) { nil }
                }
            }
        }
        for thread in threads { thread.join() }
        let shown = lines.all.count
        #expect(shown <= FailureLog.linesMax, "\(lines.all)")
        failures.end()
        let last = try #require(lines.all.last)
        #expect(lines.all.count == shown + 1)
        // "… : read: Input/output error (N), write: Input/output error (N)"
        let counts = last.split(separator: "(").dropFirst().compactMap {
            Int($0.prefix { $0.isNumber })
        }
        #expect(counts.count == 2 && counts.reduce(shown, +) == 20_000, "\(last)")
    }

    @Test func whatWasLeftOutIsToldAlthoughNothingFailsAnyMore() {
        let lines = Lines()
        let failures = FailureLog(log: lines.log, windowMilliseconds: 50)
        for _ in 0..<3 { failures.note(failure("again")) { nil } }
        #expect(eventually { lines.all.count >= 2 })
        #expect(lines.all.last?.contains("(2)") == true || lines.all.count > 2, "\(lines.all)")
        failures.end()
    }

    /// By a mount, with the device and with io_uring where it is to be had.
    @Test func errorOfAProgramIsInTheLogAndInTheCounts() throws {
        let directory = FileManager.default.temporaryDirectory.path + "/edge-" + UUID().uuidString
        let (state, point) = (directory + "/state", directory + "/mount")
        try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let lines = Lines()
        let volume = try Volume.open(
            stateDirectory: state, options: VolumeOptions(), log: lines.log)
        let bytes = [UInt8](repeating: 5, count: 100_000)
        let caller = Caller(uid: 0, gid: 0, pid: 1, umask: 0)
        let (made, opened) = try volume.create(
            FileName("flat"), in: .root, mode: 0o644, flags: OpenFlags(rawValue: O_RDWR),
            caller: caller)
        _ = try bytes.withBytes { (content) throws(Errno) in
            try volume.write(opened.handle, at: 0, content, clearSetID: false)
        }
        volume.release(opened.handle)
        _ = try volume.cid(of: made.inode)
        for place in FileManager.default.subpaths(atPath: state + "/objects") ?? [] {
            unlink(state + "/objects/" + place)
        }
        var configuration = FuseConfiguration()
        configuration.usesPassthrough = false
        let session = try FuseSession(volume: volume, configuration: configuration, log: lines.log)
        try session.mount(at: point)
        let server = try Threads.start(name: "mount") { try? session.run() }
        try #require(session.waitUntilReady())
        #expect(try Program("cat", point + "/flat").result() == 1)
        #expect(try Program("ls", "-l", point).result() == 0)
        #expect(try Program("cat", point + "/absent").result() == 1)
        let operations = session.operations
        session.stop()
        server.join()
        try volume.close()
        let line = try #require(
            lines.all.first { $0.contains("of inode \(made.inode.number) (/flat)") }, "\(lines.all)"
        )
        #expect(line.contains("is missing: run registryfs check"))
        #expect(!lines.all.contains { $0.contains("no cause was noted") }, "\(lines.all)")
        let lookups = try #require(operations.first { $0.name == "lookup" })
        #expect(lookups.count >= 2 && lookups.histogram.reduce(0, +) == lookups.count)
        #expect(operations.contains { $0.errors["EIO"] ?? 0 > 0 }, "\(operations)")
    }
}
