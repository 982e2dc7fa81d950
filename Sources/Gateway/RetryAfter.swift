// When a server wants to be asked again.
//
// Text:     a number of seconds, or a date as in `Sun, 06 Nov 1994 08:49:37 GMT`. Older forms of dates,
//           which nobody may send any more, are passed over.
// Source:   RFC 9110, sections 10.2.3 and 5.6.7

/// The value of a Retry-After header.
enum RetryAfter {
    /// The longest time that is waited for a server, in milliseconds, whatever it says.
    static let millisecondsMax: Int64 = 300_000

    /// How many milliseconds from now, 0 to `millisecondsMax`; nil for what is neither a number nor a date.
    ///
    /// - Parameter now: seconds since the epoch.
    static func milliseconds(_ text: String, now: Int64) -> Int64? {
        if !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            // One that does not fit is as good as the bound.
            return min(Int64(text) ?? millisecondsMax, millisecondsMax / 1000) * 1000
        }
        guard let moment = seconds(ofDate: text) else { return nil }
        return min(max(0, moment - now), millisecondsMax / 1000) * 1000
    }

    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// Seconds since the epoch.
    private static func seconds(ofDate text: String) -> Int64? {
        let parts = text.split(separator: " ")
        guard parts.count == 6, parts[5] == "GMT", parts[0].hasSuffix(","),
            let day = Int64(parts[1]), (1...31).contains(day),
            let month = months.firstIndex(of: String(parts[2])),
            let year = Int64(parts[3]), (1970...9999).contains(year)
        else { return nil }
        let time = parts[4].split(separator: ":").compactMap { Int64($0) }
        guard time.count == 3, (0...23).contains(time[0]), (0...59).contains(time[1]),
            (0...60).contains(time[2])
        else { return nil }
        return days(year, Int64(month) + 1, day) * 86_400 + time[0] * 3600 + time[1] * 60 + time[2]
    }

    /// Days from 1970-01-01 to a date of the Gregorian calendar, whose year is counted from March on, so
    /// that the day of a leap year is its last.
    private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month > 2 ? year : year - 1
        let monthFromMarch = (month + 9) % 12
        let dayOfYear = (153 * monthFromMarch + 2) / 5 + day - 1
        return 365 * year + year / 4 - year / 100 + year / 400 + dayOfYear - 719_468
    }
}
