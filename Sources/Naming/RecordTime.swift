// Points in time as records write them.
//
// Text:     YYYY-MM-DDTHH:MM:SS[.d…]Z, with 0 to 9 digits behind the point, or +HH:MM or -HH:MM for the Z.
//           Nine digits and Z are written.
// Validity: ASCII; months, days, hours and minutes that there are; a second of 60 counts as 59.
// Source:   RFC 3339; "Validity" of https://specs.ipfs.tech/ipns/ipns-record/

internal import Base

/// Reads and writes the times until which records hold.
enum RecordTime {
    /// The point in time of a text; nil for what is none. One before 1677 or behind 2262 counts as the first
    /// or last that there is.
    static func parse(_ text: some Collection<UInt8>) -> Timestamp? {
        var rest = Substring(decoding: text, as: UTF8.self)
        guard let year = digits(4, &rest), take("-", &rest), let month = digits(2, &rest),
            take("-", &rest), let day = digits(2, &rest), take("T", &rest),
            let hour = digits(2, &rest), take(":", &rest), let minute = digits(2, &rest),
            take(":", &rest), let second = digits(2, &rest)
        else { return nil }
        var nanoseconds: Int64 = 0
        if take(".", &rest) {
            let fraction = rest.utf8.prefix { isDigit($0) }
            guard (1...9).contains(fraction.count) else { return nil }
            nanoseconds = fraction.reduce(0) { $0 * 10 + Int64($1 - 48) }
            for _ in fraction.count..<9 { nanoseconds *= 10 }
            rest = rest.dropFirst(fraction.count)
        }
        guard let offset = zone(&rest), rest.isEmpty, (1...12).contains(month),
            (1...daysIn(month, year)).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        let seconds =
            days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + min(second, 59) - offset
        return Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }

    /// The text of a point in time, with nine digits behind the point.
    static func text(_ time: Timestamp) -> String {
        let (day, second) = (floored(time.seconds, 86_400), modulo(time.seconds, 86_400))
        let (year, month, date) = civil(day)
        func pad(_ value: Int64, _ count: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return "\(pad(year, 4))-\(pad(month, 2))-\(pad(date, 2))T\(pad(second / 3600, 2)):"
            + "\(pad(second / 60 % 60, 2)):\(pad(second % 60, 2))."
            + "\(pad(time.subsecondNanoseconds, 9))Z"
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private static func digits(_ count: Int, _ rest: inout Substring) -> Int64? {
        let digits = rest.utf8.prefix(count)
        guard digits.count == count, digits.allSatisfy(isDigit) else { return nil }
        rest = rest.dropFirst(count)
        return digits.reduce(0) { $0 * 10 + Int64($1 - 48) }
    }

    private static func take(_ character: Character, _ rest: inout Substring) -> Bool {
        guard rest.first == character else { return false }
        rest.removeFirst()
        return true
    }

    private static func zone(_ rest: inout Substring) -> Int64? {
        if take("Z", &rest) { return 0 }
        let isNegative = take("-", &rest)
        guard isNegative || take("+", &rest), let hours = digits(2, &rest), take(":", &rest),
            let minutes = digits(2, &rest), hours < 24, minutes < 60
        else { return nil }
        return (hours * 3600 + minutes * 60) * (isNegative ? -1 : 1)
    }

    // The calendar by Howard Hinnant's "chrono-compatible low-level date algorithms": years begin in March, so
    // that a leap day is the last.

    private static func isLeap(_ year: Int64) -> Bool {
        year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    }

    private static func daysIn(_ month: Int64, _ year: Int64) -> Int64 {
        month == 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
    }

    private static func floored(_ value: Int64, _ divisor: Int64) -> Int64 {
        value / divisor - (value % divisor < 0 ? 1 : 0)
    }

    private static func modulo(_ value: Int64, _ divisor: Int64) -> Int64 {
        value - floored(value, divisor) * divisor
    }

    /// Days since 1970-01-01.
    private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let era = floored(year, 400)
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
            - 719_468
    }

    private static func civil(_ days: Int64) -> (Int64, Int64, Int64) {
        let shifted = days + 719_468
        let era = floored(shifted, 146_097)
        let day = shifted - era * 146_097
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365
        let dayOfYear = day - (365 * year + year / 4 - year / 100)
        let month = (5 * dayOfYear + 2) / 153
        let civilMonth = month < 10 ? month + 3 : month - 9
        return (
            year + era * 400 + (civilMonth <= 2 ? 1 : 0), civilMonth,
            dayOfYear - (153 * month + 2) / 5 + 1
        )
    }
}
