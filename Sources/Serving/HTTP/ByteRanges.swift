// Which bytes of a representation a request asks for.
//
// Text:     bytes=FIRST-LAST, FIRST-, -COUNT, with commas between several; FIRST and LAST count from 0, both are in.
// Validity: what is malformed, of another unit, or more than `ByteRanges.countMax` ranges is passed over, as if nothing
//           had been asked: RFC 9110 allows that to every server. A range that begins beyond the end is left out; where
//           nothing is left, the answer is 416.
// Source:   https://www.rfc-editor.org/rfc/rfc9110#section-14

/// What a Range field asks for.
public enum RangeAnswer: Sendable, Equatable {
    /// All of it: 200.
    case whole
    /// These ranges, each within the size and not empty, in the order in which they were asked; no two have a byte in
    /// common. 206.
    case ranges([Range<UInt64>])
    /// Nothing of it lies within the size: 416.
    case unsatisfiable
}

/// Reads Range fields.
public enum ByteRanges {
    /// The most ranges that one request gets: as many as podman asks for at once of a layer in zstd:chunked.
    public static let countMax = 1_024

    /// What a Range field asks for of `size` bytes.
    ///
    /// Ranges that overlap become one, in the place of the first of them; those that only touch stay two, because
    /// clients that read image layers in parts want as many parts as they asked for.
    /// Numbers may have any length. Of nothing no range can be told, so an empty representation is given whole.
    public static func parse(_ field: String?, size: UInt64) -> RangeAnswer {
        guard let field, size > 0 else { return .whole }
        let sides = field.utf8.split(
            separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard sides.count == 2, trimmed(sides[0]).map(lowercased).elementsEqual("bytes".utf8) else {
            return .whole
        }
        var asked = 0
        var ranges: [Range<UInt64>] = []
        for part in sides[1].split(separator: UInt8(ascii: ",")) {
            let spec = trimmed(part)
            // Empty elements of a list are passed over (RFC 9110, 5.6.1.2).
            if spec.isEmpty { continue }
            asked += 1
            guard asked <= countMax, let range = range(spec, size: size) else { return .whole }
            if !range.isEmpty { ranges.append(range) }
        }
        guard asked > 0 else { return .whole }
        return ranges.isEmpty ? .unsatisfiable : .ranges(coalesced(ranges))
    }

    /// One range, empty where it is beyond the end; nil where it is malformed.
    private static func range(_ spec: Substring.UTF8View, size: UInt64) -> Range<UInt64>? {
        guard let hyphen = spec.firstIndex(of: UInt8(ascii: "-")) else { return nil }
        let first = spec[..<hyphen]
        let last = spec[spec.index(after: hyphen)...]
        if first.isEmpty {
            guard let count = number(last) else { return nil }
            return size - min(count, size)..<size
        }
        guard let lower = number(first) else { return nil }
        guard !last.isEmpty else { return min(lower, size)..<size }
        guard let upper = number(last), lower <= upper else { return nil }
        guard lower < size else { return size..<size }
        return lower..<min(upper, size - 1) + 1
    }

    /// A number of digits alone; what is too large for 64 bits is as large as can be, beyond every end.
    private static func number(_ digits: Substring.UTF8View) -> UInt64? {
        guard !digits.isEmpty else { return nil }
        var number: UInt64 = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            let (tens, isOver) = number.multipliedReportingOverflow(by: 10)
            let (sum, isOverToo) = tens.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
            number = isOver || isOverToo ? .max : sum
            // A number that was too large stays so: `max` times ten is too large as well.
        }
        return number
    }

    /// Makes one of those that overlap.
    private static func coalesced(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
        guard ranges.count > 1 else { return ranges }
        let ascending = ranges.enumerated().sorted { $0.element.lowerBound < $1.element.lowerBound }
        var groups: [(place: Int, range: Range<UInt64>)] = []
        for (place, range) in ascending {
            if let last = groups.last, range.lowerBound < last.range.upperBound {
                groups[groups.count - 1] = (
                    min(last.place, place),
                    last.range.lowerBound..<max(last.range.upperBound, range.upperBound)
                )
            } else {
                groups.append((place, range))
            }
        }
        return groups.sorted { $0.place < $1.place }.map(\.range)
    }

    private static func trimmed(_ text: Substring.UTF8View) -> Substring.UTF8View {
        var text = text
        while let first = text.first, isBlank(first) { text = text.dropFirst() }
        while let last = text.last, isBlank(last) { text = text.dropLast() }
        return text
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}
