// The bytes of a file that a CAR is to prove: `from:to`, both inclusive, counted from 0; negative ones from the end
// (-1 is the last byte); `*` for the end as `to`.
//
// Validity: decimal digits, behind a minus or none, that fit 64 bits.
// Source:   https://specs.ipfs.tech/http-gateways/trustless-gateway/#entity-bytes-request-query-parameter

/// What `entity-bytes` asks for.
struct EntityBytes: Hashable, Sendable {
    /// What a file of some size has of it.
    enum Place: Hashable {
        case range(Range<UInt64>)
        /// The range has no length.
        case empty
        /// All of it is before the beginning or behind the end.
        case outside
    }

    var from: Int64
    /// Nil for the end.
    var to: Int64?

    init?(_ text: String) {
        let sides = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard sides.count == 2, let from = Self.number(sides[0]) else { return nil }
        self.from = from
        guard sides[1] != "*" else { return }
        guard let to = Self.number(sides[1]) else { return nil }
        self.to = to
    }

    private static func number(_ text: Substring) -> Int64? {
        let digits = text.hasPrefix("-") ? text.dropFirst() : text
        guard !digits.isEmpty,
            digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int64(text)
    }

    /// - Parameter size: in bytes, at most `Int64.max`.
    func place(in size: UInt64) -> Place {
        guard size > 0 else { return .empty }
        let start = from >= 0 ? from.magnitude : size - min(from.magnitude, size)
        guard start < size else { return .outside }
        let end: UInt64
        switch to {
        case nil: end = size
        case let to? where to >= 0: end = min(to.magnitude, size - 1) + 1
        case let to?:
            guard to.magnitude <= size else { return .outside }
            end = size - to.magnitude + 1
        }
        return start < end ? .range(start..<end) : .empty
    }
}
