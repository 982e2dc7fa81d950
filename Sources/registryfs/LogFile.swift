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

    private struct State {
        var byteCount: Int
    }

    /// The file's path; nil where standard error is what the caller gave.
    private let path: String?
    private let state: Monitor<State>

    /// Lines go to standard error as it is.
    init() {
        path = nil
        state = Monitor(State(byteCount: 0))
    }

    /// Lines go to a file, which becomes standard error.
    init(stateDirectory: String) throws(Errno) {
        let path = stateDirectory + "/" + Self.name
        let size = try Self.open(path)
        self.path = path
        state = Monitor(State(byteCount: size))
    }

    /// Appends one line.
    func write(_ line: String) {
        state.withLock { state in
            if let path, state.byteCount + line.utf8.count > Self.byteCountMax {
                rename(path, path + ".1")
                // Where that fails the old file stays standard error, and grows.
                state.byteCount = (try? Self.open(path)) ?? 0
            }
            state.byteCount += line.utf8.count
            SystemFiles.say(line, to: STDERR_FILENO)
        }
    }

    /// Makes the file standard error; returns its size.
    private static func open(_ path: String) throws(Errno) -> Int {
        let file = try Sys.open(path, flags: O_WRONLY | O_APPEND | O_CREAT, mode: 0o600)
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
