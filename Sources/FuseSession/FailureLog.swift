internal import Base
package import Logging

package import struct SystemPackage.Errno

/// Logs the errors that programs get and should not have to: the one place where that is done.
///
/// In a storm the log stays short, and what is left out is counted: within ten seconds each line comes
/// once, and no more than `linesMax` of them.
package final class FailureLog: Sendable {
    /// What a program gets an error for.
    package struct Failure: Sendable {
        package let operation: String
        package let inode: UInt64
        package let error: Errno
        /// What was left behind for it; nil where nothing was.
        package let cause: String?

        package init(operation: String, inode: UInt64, error: Errno, cause: String?) {
            self.operation = operation
            self.inode = inode
            self.error = error
            self.cause = cause
        }
    }

    private struct State {
        var isEnded = false
        /// In milliseconds of `MonotonicClock`; nil while nothing was logged.
        var windowEnd: Int64?
        /// What was logged in this window.
        var lines: Set<String> = []
        /// What was not, by operation and error.
        var leftOut: [String: UInt64] = [:]
    }

    /// The most lines of one window.
    package static let linesMax = 20
    /// The most kinds of errors that are counted apart.
    private static let kindsMax = 32
    /// The longest cause, in characters.
    private static let causeLengthMax = 600

    private let windowMilliseconds: Int64
    private let log: Logger
    private let state = Monitor(State())

    package init(log: Logger, windowMilliseconds: Int64 = 10_000) {
        self.log = log
        self.windowMilliseconds = windowMilliseconds
    }

    /// Logs a failure, or counts it.
    ///
    /// - Parameter path: asked for the path of the inode where the line is written, without any lock.
    package func note(_ failure: Failure, path: () -> String?) {
        let cause = Self.shown(failure.cause ?? "no cause was noted")
        let line = "\(failure.operation) \(failure.inode) \(failure.error.rawValue) \(cause)"
        let kind = "\(failure.operation): \(failure.error)"
        let (isShown, isFirst) = state.withLock { state in
            let isFirst = state.windowEnd == nil && !state.isEnded
            if isFirst {
                state.windowEnd = MonotonicClock.milliseconds + windowMilliseconds
            }
            if state.lines.count < Self.linesMax, state.lines.insert(line).inserted {
                return (true, isFirst)
            }
            let isKnown = state.leftOut[kind] != nil || state.leftOut.count < Self.kindsMax
            state.leftOut[isKnown ? kind : "others", default: 0] += 1
            return (false, isFirst)
        }
        if isShown {
            let place = path().map { "inode \(failure.inode) (\(Self.shown($0)))" }
            let text =
                "\(failure.operation) of \(place ?? "inode \(failure.inode)"): "
                + "\(failure.error): \(cause)"
            if failure.error == .ioError { log.error("\(text)") } else { log.warning("\(text)") }
        }
        guard isFirst else { return }
        // It ends the window, so that what was left out is told although nothing fails any more.
        let thread: Void? = try? Threads.startDetached(name: "rfs-failures") { [self] in
            waitForEnd()
        }
        if thread == nil { endWindow() }
    }

    /// Tells what was left out so far, and opens no window any more.
    package func end() {
        state.withLock { $0.isEnded = true }
        state.wakeAll()
        endWindow()
    }

    private func waitForEnd() {
        state.withLock { state in
            while let end = state.windowEnd, !state.isEnded {
                let left = end - MonotonicClock.milliseconds
                guard left > 0 else { return }
                self.state.wait(&state, milliseconds: Int(left))
            }
        }
        endWindow()
    }

    private func endWindow() {
        let leftOut = state.withLock { state in
            defer {
                state.windowEnd = nil
                state.lines = []
                state.leftOut = [:]
            }
            return state.leftOut
        }
        guard !leftOut.isEmpty else { return }
        let kinds = leftOut.sorted { $0.value > $1.value }.map { "\($0.key) (\($0.value))" }
        log.error(
            "errors of the last \(windowMilliseconds / 1000) s that are not shown one by one: \(kinds.joined(separator: ", "))"
        )
    }

    /// A text of others as part of a line: what moves the cursor or turns the text around as \u{…}.
    package static func shown(_ text: String) -> String {
        var shown = ""
        for (count, scalar) in text.unicodeScalars.enumerated() {
            if count == causeLengthMax { return shown + "…" }
            switch scalar.value {
            case 0..<0x20, 0x7f..<0xa0, 0x200e...0x200f, 0x2028...0x202e, 0x2066...0x2069:
                shown += "\\u{\(String(scalar.value, radix: 16))}"
            default: shown.unicodeScalars.append(scalar)
            }
        }
        return shown
    }
}
