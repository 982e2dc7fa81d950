// A part of a resource, as requests ask for it and replies tell of it.
//
// Layout:   Range: bytes=FIRST-LAST or bytes=FIRST-; Content-Range: bytes FIRST-LAST/TOTAL, where
//           TOTAL may be *.
// Validity: FIRST ≤ LAST < TOTAL, in decimal digits; a unit in any case.
// Source:   RFC 9110, sections 14.1.2 and 14.4.

/// The bytes of a resource that a request asks for. A server may answer with all of it (200).
public struct HTTPRange: Sendable, Hashable {
    public var offset: UInt64
    /// The most bytes, at least 1; nil for all up to the end.
    public var length: UInt64?

    public init(offset: UInt64, length: UInt64? = nil) {
        precondition(length != 0, "a range has one byte at least")
        self.offset = offset
        self.length = length
    }

    /// The last byte that is asked for.
    private var last: UInt64? {
        length.map { length in
            let (last, isOver) = offset.addingReportingOverflow(length - 1)
            return isOver ? .max : last
        }
    }

    /// The value of the request's Range.
    var value: String { "bytes=\(offset)-" + (last.map { "\($0)" } ?? "") }

    /// Whether a reply's part is what was asked for, which may end sooner where the resource does.
    func admits(_ part: HTTPContentRange) -> Bool {
        guard part.first == offset, part.last <= last ?? .max else { return false }
        return part.last == last || part.total.map { part.last == $0 - 1 } ?? true
    }
}

/// Which part of a resource the body of a reply is.
public struct HTTPContentRange: Sendable, Hashable {
    public var first: UInt64
    /// The last byte of the part, not one behind it.
    public var last: UInt64
    /// The bytes of the whole resource; nil where the server does not know them.
    public var total: UInt64?

    /// Reads the value of a Content-Range; nil for one that is malformed, or that has no part in it.
    public init?(_ value: String) {
        let words = value.split(separator: " ")
        guard words.count == 2, HTTPHeaders.isSame(String(words[0]), "bytes") else { return nil }
        let halves = words[1].split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count == 2 else { return nil }
        let ends = halves[0].split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, let first = Self.number(ends[0]), let last = Self.number(ends[1]),
            first <= last, last < .max
        else { return nil }
        if halves[1] != "*" {
            guard let total = Self.number(halves[1]), last < total else { return nil }
            self.total = total
        }
        self.first = first
        self.last = last
    }

    /// The bytes of the part.
    public var count: UInt64 { last - first + 1 }

    private static func number(_ text: Substring) -> UInt64? {
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            ? UInt64(text) : nil
    }
}
