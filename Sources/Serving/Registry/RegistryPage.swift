// How lists are given in parts: `n` is the most that an answer has, `last` what the part before ended with, and a Link field
// leads to the next.
//
// Validity: n is digits; 0 gives nothing and no Link. What is larger than `RegistryPage.countMax` is that: Link goes on.
//           Results come in bytewise order, so `last` need not be one of them.
// Source:   https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags

/// The part of a list that is asked for.
struct RegistryPage {
    /// The most results of one answer, and how many it has where nobody says.
    static let countMax = 1000

    /// 0 or more.
    var count: Int
    /// What all results come behind; nil for those from the first on.
    var last: [UInt8]?

    init(count: Int, last: [UInt8]? = nil) {
        self.count = count
        self.last = last
    }

    init(_ request: ServeRequest) throws(RegistryError) {
        let number = request.value("n") ?? ""
        guard let count = Self.count(number) else { throw .pageInvalid(number) }
        self.count = count
        if let last = request.value("last"), !last.isEmpty { self.last = Array(last.utf8) }
    }

    private static func count(_ number: String) -> Int? {
        guard !number.isEmpty else { return countMax }
        var count = 0
        for digit in number.utf8 {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            count = min(10 * count + Int(digit - UInt8(ascii: "0")), countMax)
        }
        return count
    }

    /// The value of Link for what comes behind this part.
    ///
    /// - Parameters:
    ///   - path: of the list.
    ///   - query: what else the request said that decides what the list is.
    func link(
        path: String, last: [UInt8], query: [(name: String, value: String)] = []
    ) -> String {
        let parts =
            ["last=" + Self.escaped(last), "n=\(count)"]
            + query.map { "\($0.name)=" + Self.escaped(Array($0.value.utf8)) }
        return "<\(path)?\(parts.joined(separator: "&"))>; rel=\"next\""
    }

    /// For a query: all but what RFC 3986 calls unreserved.
    private static func escaped(_ bytes: [UInt8]) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                text += byte < 16 ? "%0\(digits)" : "%\(digits)"
            }
        }
        return text
    }
}

/// A sorted list from a name on.
enum SortedNames {
    /// The index of the first name that comes behind another; 0 behind nil.
    static func index(behind last: [UInt8]?, in names: [[UInt8]]) -> Int {
        guard let last else { return 0 }
        var low = 0
        var high = names.count
        while low < high {
            let middle = (low + high) / 2
            if last.lexicographicallyPrecedes(names[middle]) {
                high = middle
            } else {
                low = middle + 1
            }
        }
        return low
    }

    static func contains(_ name: some Collection<UInt8>, in names: [[UInt8]]) -> Bool {
        let index = index(behind: Array(name), in: names)
        return index > 0 && names[index - 1].elementsEqual(name)
    }
}
