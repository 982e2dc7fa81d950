internal import Base
internal import Glibc

/// Times in the forms that answers and logs have; all of them are UTC.
enum HTTPDate {
    private struct Recent {
        var seconds = Int64.min
        var text = ""
    }

    private static let recent = Monitor(Recent())
    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// The value of a Date field now (IMF-fixdate of RFC 9110, section 5.6.7); made once a second.
    static var now: String {
        let seconds = Timestamp.now().seconds
        return recent.withLock { recent in
            if recent.seconds != seconds {
                recent = Recent(seconds: seconds, text: text(of: seconds))
            }
            return recent.text
        }
    }

    static func text(of seconds: Int64) -> String {
        let parts = broken(seconds)
        return "\(days[index(parts.tm_wday, 7)]), \(two(parts.tm_mday)) \(month(parts)) "
            + "\(year(parts)) \(clock(parts)) GMT"
    }

    /// As the common log format has it.
    static func logTime(_ time: Timestamp) -> String {
        let parts = broken(time.seconds)
        return "\(two(parts.tm_mday))/\(month(parts))/\(year(parts)):\(clock(parts)) +0000"
    }

    /// RFC 3339, with milliseconds.
    static func timestamp(_ time: Timestamp) -> String {
        let parts = broken(time.seconds)
        let digits = String(time.subsecondNanoseconds / 1_000_000)
        let fraction = String(repeating: "0", count: 3 - digits.utf8.count) + digits
        return "\(year(parts))-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
            + "T\(clock(parts)).\(fraction)Z"
    }

    private static func broken(_ seconds: Int64) -> tm {
        var time = time_t(seconds)
        var parts = tm()
        gmtime_r(&time, &parts)
        return parts
    }

    private static func index(_ value: Int32, _ count: Int) -> Int {
        min(max(0, Int(value)), count - 1)
    }

    private static func month(_ parts: tm) -> String { months[index(parts.tm_mon, 12)] }

    private static func year(_ parts: tm) -> String { String(Int(parts.tm_year) + 1900) }

    private static func clock(_ parts: tm) -> String {
        "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
    }

    private static func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : String(value) }
}
