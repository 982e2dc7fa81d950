internal import Base
internal import Glibc

/// Writes a line for each request, on a thread of its own: a sink that blocks holds up no request.
///
/// Lines that nobody takes are bounded: beyond `linesMax` they are dropped, and their number is told in a line of its own
/// kind (`# 12 lines dropped`, or `{"dropped":12}`).
public final class AccessLog: Sendable {
    public enum Format: String, Sendable, CaseIterable {
        /// The common log format, and behind it the milliseconds.
        case common
        /// A JSON object on each line.
        case json
    }

    /// One request, when it has ended.
    struct Entry: Sendable {
        var remote: String
        var method: String
        var target: String
        var version: String
        var status: Int
        /// Of the body.
        var bytesSent: UInt64
        /// Whether all of it was sent.
        var isWhole: Bool
        var milliseconds: Int64
        var time: Timestamp
    }

    /// The most lines that wait.
    public static let linesMax = 10_000

    private struct State {
        var lines: [[UInt8]] = []
        var droppedCount = 0
        var isOver = false
    }

    private let format: Format
    private let state = Monitor(State())
    private let thread: Monitor<JoinableThread?>

    /// - Parameter sink: takes a line with its end; called by one thread, one line at a time; may block.
    /// - Throws: where the system has no thread to give; the text is one line.
    public init(
        _ format: Format, sink: @escaping @Sendable ([UInt8]) -> Void
    ) throws(ServerFailure) {
        self.format = format
        thread = Monitor(nil)
        let state = state
        do {
            let started = try Threads.start(name: "accesslog") {
                Self.run(state, format, sink)
            }
            thread.withLock { $0 = started }
        } catch {
            throw ServerFailure("access log: \(error)")
        }
    }

    deinit {
        state.withLock {
            $0.isOver = true; state.wakeAll()
        }
    }

    /// Ends it when all lines are written; blocks until then. More than once is as good as once.
    public func finish() {
        state.withLock {
            $0.isOver = true; state.wakeAll()
        }
        let taken = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        taken?.join()
    }

    func add(_ entry: Entry) {
        let line = Self.line(entry, format)
        state.withLock { state in
            guard !state.isOver else { return }
            if state.lines.count < Self.linesMax {
                state.lines.append(line)
            } else {
                state.droppedCount += 1
            }
            self.state.wakeAll()
        }
    }

    private static func run(
        _ state: Monitor<State>, _ format: Format, _ sink: ([UInt8]) -> Void
    ) {
        while true {
            let (lines, dropped, isOver) = state.withLock { held in
                while held.lines.isEmpty && held.droppedCount == 0 && !held.isOver {
                    state.wait(&held)
                }
                defer {
                    held.lines = []
                    held.droppedCount = 0
                }
                return (held.lines, held.droppedCount, held.isOver)
            }
            for line in lines { sink(line) }
            if dropped > 0 {
                let text =
                    format == .json ? "{\"dropped\":\(dropped)}" : "# \(dropped) lines dropped"
                sink(Array((text + "\n").utf8))
            }
            if isOver { return }
        }
    }

    // MARK: Lines

    static func line(_ entry: Entry, _ format: Format) -> [UInt8] {
        var text: [UInt8] = []
        switch format {
        case .common:
            // https://httpd.apache.org/docs/current/logs.html#common
            text += entry.remote.utf8
            text += " - - [\(HTTPDate.logTime(entry.time))] \"".utf8
            escape("\(entry.method) \(entry.target) \(entry.version)", into: &text)
            text += "\" \(entry.status) \(entry.bytesSent) \(entry.milliseconds)".utf8
            if !entry.isWhole { text += " cut".utf8 }
        case .json:
            text += "{\"time\":\"\(HTTPDate.timestamp(entry.time))\",\"remote\":\"".utf8
            escape(entry.remote, into: &text)
            text += "\",\"method\":\"".utf8
            escape(entry.method, into: &text)
            text += "\",\"target\":\"".utf8
            escape(entry.target, into: &text)
            text += "\",\"version\":\"\(entry.version)\",\"status\":\(entry.status)".utf8
            text += ",\"bytes\":\(entry.bytesSent),\"milliseconds\":\(entry.milliseconds)".utf8
            text += ",\"whole\":\(entry.isWhole)}".utf8
        }
        text.append(UInt8(ascii: "\n"))
        return text
    }

    /// Writes a text so that it ends neither its quotes nor its line; what is not ASCII as `\u` of its UTF-16, which both
    /// formats read the same.
    private static func escape(_ value: String, into text: inout [UInt8]) {
        for unit in value.utf16 {
            switch unit {
            case 0x22, 0x5c: text += [0x5c, UInt8(unit)]
            case 0x20...0x7e: text.append(UInt8(unit))
            default:
                let digits = String(unit, radix: 16)
                text += "\\u".utf8
                text += String(repeating: "0", count: 4 - digits.utf8.count).utf8
                text += digits.utf8
            }
        }
    }
}
