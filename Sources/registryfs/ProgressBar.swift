import Base
import Glibc

/// A line on standard error that shows how far a command is; nothing where no terminal is.
struct ProgressBar: ~Copyable {
    private let label: String
    /// Whether there is a terminal.
    let isShown: Bool
    private var drawnAtNanoseconds: Int64 = 0
    private static let width = 30
    private static let intervalNanoseconds: Int64 = 100_000_000

    init(_ label: String) {
        self.label = label
        isShown = Descriptors.isTerminal(STDERR_FILENO)
    }

    deinit {
        // Leaves the terminal as it was: the answer is what the command prints.
        if isShown && drawnAtNanoseconds != 0 { SystemFiles.say("\r\u{1b}[K", to: STDERR_FILENO) }
    }

    /// Shows bytes done of a total.
    mutating func update(bytes done: UInt64, of total: UInt64) {
        show { Self.bar(done, total) + " \(Figures.bytes(done)) of \(Figures.bytes(total))" }
    }

    /// Shows items done of a total.
    mutating func update(items done: UInt64, of total: UInt64) {
        show { Self.bar(done, total) + " \(Figures.count(done)) of \(Figures.count(total))" }
    }

    /// Shows bytes done where there may be fewer than a bound.
    mutating func update(bytes done: UInt64, ofAtMost most: UInt64) {
        show { "\(Figures.bytes(done)) of at most \(Figures.bytes(max(done, most)))" }
    }

    /// Shows bytes done where nobody knows how many there will be.
    mutating func update(bytes done: UInt64) {
        show { Figures.bytes(done) }
    }

    /// Shows how long it has gone on where nobody knows more.
    mutating func update(seconds: Int64) {
        show { "\(seconds) s" }
    }

    private mutating func show(_ text: () -> String) {
        guard isShown else { return }
        let now = Timestamp.now().nanoseconds
        guard now >= drawnAtNanoseconds + Self.intervalNanoseconds || now < drawnAtNanoseconds
        else { return }
        drawnAtNanoseconds = now
        SystemFiles.say("\r\(label) \(text())\u{1b}[K", to: STDERR_FILENO)
    }

    private static func bar(_ done: UInt64, _ total: UInt64) -> String {
        let share = total == 0 ? 1 : min(Double(done) / Double(total), 1)
        let full = Int(share * Double(width))
        let percent = Int(share * 100)
        let fill = String(repeating: "#", count: full) + String(repeating: ".", count: width - full)
        return "[\(fill)] \(percent) %"
    }
}

/// Figures for a person to read.
enum Figures {
    /// A count with a comma between thousands.
    static func count(_ value: UInt64) -> String {
        var text = ""
        for (place, digit) in String(value).reversed().enumerated() {
            if place > 0 && place % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return String(text.reversed())
    }

    /// A count with its noun, one or many.
    static func count(_ value: UInt64, _ noun: String, _ plural: String? = nil) -> String {
        "\(count(value)) \(value == 1 ? noun : plural ?? noun + "s")"
    }

    /// Bytes in the largest binary unit that leaves 1 or more, one digit behind the point.
    static func bytes(_ value: UInt64) -> String {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        guard value >= 1024 else { return "\(value) B" }
        var scaled = Double(value)
        var unit = ""
        for next in units where scaled >= 1024 {
            scaled /= 1024
            unit = next
        }
        let tenths = UInt64((scaled * 10).rounded(.down))
        return "\(tenths / 10).\(tenths % 10) \(unit)"
    }

    /// A time as RFC 3339 in UTC, with nanoseconds.
    static func time(_ timestamp: Timestamp, digits: Int = 9) -> String {
        var seconds = time_t(timestamp.seconds)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ value: Int, _ width: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, width - text.count)) + text
        }
        let date =
            "\(padded(Int(parts.tm_year) + 1900, 4))-\(padded(Int(parts.tm_mon) + 1, 2))"
            + "-\(padded(Int(parts.tm_mday), 2))"
        let clock =
            "\(padded(Int(parts.tm_hour), 2)):\(padded(Int(parts.tm_min), 2))"
            + ":\(padded(Int(parts.tm_sec), 2))"
        let fraction = padded(Int(timestamp.subsecondNanoseconds), 9).prefix(digits)
        return "\(date)T\(clock).\(fraction)Z"
    }
}
