import Base
import Glibc
import Logging

import struct SystemPackage.Errno

/// Where the daemon's lines go: its standard error, which is the log file in the background.
///
/// The file is kept under `byteCountMax`: what is older goes to `registryfs.log.1`, and what is
/// older still goes away. Standard error is the file itself, so that the last words of a crash
/// are in it too.
final class LogFile: Sendable {
    static let name = "registryfs.log"
    static let byteCountMax = 10 << 20

    private struct State: ~Copyable {
        /// The directory of the file; nil where standard error is what the caller gave.
        var directory: OwnedDescriptor?
        var byteCount: Int
    }

    private let state: Monitor<State>

    /// Lines go to standard error as it is.
    init() {
        state = Monitor(State(directory: nil, byteCount: 0), rank: .log)
    }

    /// Lines go to a file, which becomes standard error.
    ///
    /// - Throws: EPERM where what is there may be another user's.
    init(stateDirectory: consuming OwnedDescriptor) throws(Errno) {
        let size = try Self.open(in: stateDirectory.raw)
        state = Monitor(State(directory: consume stateDirectory, byteCount: size), rank: .log)
    }

    /// Appends one line.
    func write(_ line: String) {
        state.withLock { state in
            if let directory = state.directory?.raw,
                state.byteCount + line.utf8.count > Self.byteCountMax
            {
                try? Sys.rename(Self.name, in: directory, to: Self.name + ".1", in: directory)
                // Where that fails the old file stays standard error, and grows.
                state.byteCount = (try? Self.open(in: directory)) ?? 0
            }
            state.byteCount += line.utf8.count
            SystemFiles.say(line, to: STDERR_FILENO)
        }
    }

    /// Makes the file standard error; returns its size.
    private static func open(in directory: Int32) throws(Errno) -> Int {
        let file = try Sys.openTrusted(
            name, in: directory, flags: O_WRONLY | O_APPEND | O_CREAT)
        guard dup2(file.raw, STDERR_FILENO) >= 0 else { throw Errno(rawValue: errno) }
        return Int(clamping: try Sys.status(of: file.raw).size)
    }
}

/// Writes each log message as one line: time, level, message, metadata.
struct LineLogHandler: LogHandler {
    private let file: LogFile
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    init(file: LogFile, level: Logger.Level) {
        self.file = file
        logLevel = level
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        let tail = all.sorted { $0.key < $1.key }.map { " \($0.key)=\(Self.quoted("\($0.value)"))" }
        let time = Figures.time(.now(), digits: 3)
        let message = RawText.shown("\(event.message)")
        file.write("\(time) \(event.level) \(message)\(tail.joined())\n")
    }

    private static func quoted(_ value: String) -> String {
        let shown = RawText.shown(value)
        return shown.contains(where: { $0 == " " || $0 == "\"" }) ? "\"\(shown)\"" : shown
    }
}
