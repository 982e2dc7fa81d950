// Names of domains.
//
// Validity: 1 to 63 bytes a label, 253 in all; letters, digits, - and _; no dot at the begin, one at the end is
//           left out. Compared without regard to case, so kept in lower case.
// Other scripts: a label with characters beyond ASCII becomes xn-- and its punycode, in lower case. Only
//           characters that are one scalar each: what is composed has several forms, and nobody can say here which
//           is meant (that takes the tables of IDNA).
// Source:   RFC 1035 section 2.3, RFC 3492, https://dnslink.dev

/// The name of a domain, as it is asked for.
public struct DNSName: Hashable, Sendable, CustomStringConvertible {
    /// The longest text, in bytes.
    public static let lengthMax = 253

    /// In lower case, without a dot at its end.
    public let description: String

    /// Reads a name.
    ///
    /// - Throws: `malformed`, with the label that is none.
    public init(_ text: String) throws(NamingError) {
        var text = text[...]
        if text.hasSuffix("."), text.utf8.count > 1 { text.removeLast() }
        // Punycode is longer than its text, never shorter than a quarter of its bytes.
        guard !text.isEmpty, text.utf8.count <= 4 * Self.lengthMax else {
            throw NamingError(
                .malformed, "the name of a domain has 1 to \(Self.lengthMax) bytes")
        }
        var labels: [String] = []
        for label in text.split(separator: ".", omittingEmptySubsequences: false) {
            labels.append(try Self.checked(String(label), of: String(text)))
        }
        description = labels.joined(separator: ".")
        guard description.utf8.count <= Self.lengthMax else {
            throw NamingError(
                .malformed, "'\(text)' is longer than the \(Self.lengthMax) bytes of a domain")
        }
    }

    private init(checked text: String) { description = text }

    /// The labels, that of the host first.
    var labels: [Substring] { description.split(separator: ".") }

    /// Whether there is more than a host's name.
    public var hasDot: Bool { description.contains(".") }

    /// A name below this one; nil where that is too long.
    func below(_ label: String) -> DNSName? {
        let text = "\(label).\(description)"
        return text.utf8.count <= Self.lengthMax ? DNSName(checked: text) : nil
    }

    private static func checked(
        _ label: String, of name: String
    ) throws(NamingError) -> String {
        guard !label.isEmpty else {
            throw NamingError(.malformed, "'\(name)' is no domain: it has an empty part")
        }
        let lower = label.lowercased()
        let ascii = lower.utf8.allSatisfy { $0 < 0x80 } ? lower : try punycode(lower, of: name)
        guard ascii.utf8.count <= 63 else {
            throw NamingError(
                .malformed, "'\(name)' is no domain: '\(label)' is longer than 63 bytes")
        }
        let isGood = ascii.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard isGood else {
            throw NamingError(
                .malformed,
                "'\(name)' is no domain: '\(label)' has other characters than letters, digits, - and _"
            )
        }
        return ascii
    }

    // MARK: Punycode

    private static func punycode(_ label: String, of name: String) throws(NamingError) -> String {
        let scalars = label.unicodeScalars.map(\.self)
        let isPlain = scalars.allSatisfy { scalar in
            switch scalar.properties.generalCategory {
            case .nonspacingMark, .spacingMark, .enclosingMark, .format, .control, .surrogate,
                .privateUse, .unassigned, .spaceSeparator, .lineSeparator, .paragraphSeparator:
                false
            default: scalar.properties.isEmoji || scalar.properties.isIDContinue || scalar == "-"
            }
        }
        guard isPlain, scalars.count <= 63 else {
            throw NamingError(
                .malformed,
                "'\(name)' is no domain: write '\(label)' in its form that begins with xn--")
        }
        return "xn--" + encoded(scalars)
    }

    /// Source: RFC 3492 section 6.3. No overflow: at most 63 scalars below 2^21.
    private static func encoded(_ scalars: [Unicode.Scalar]) -> String {
        let basic = scalars.filter(\.isASCII)
        var output = String(String.UnicodeScalarView(basic))
        if !basic.isEmpty { output += "-" }
        var (next, delta, bias) = (128, 0, 72)
        var done = basic.count
        while done < scalars.count {
            let least = scalars.map { Int($0.value) }.filter { $0 >= next }.min() ?? next
            delta += (least - next) * (done + 1)
            next = least
            for scalar in scalars {
                if scalar.value < next { delta += 1 }
                guard scalar.value == next else { continue }
                append(delta, bias: bias, to: &output)
                bias = adapted(delta, count: done + 1, isFirst: done == basic.count)
                delta = 0
                done += 1
            }
            delta += 1
            next += 1
        }
        return output
    }

    private static func append(_ delta: Int, bias: Int, to output: inout String) {
        let digits = Array("abcdefghijklmnopqrstuvwxyz0123456789")
        var rest = delta
        var k = 36
        while true {
            let threshold = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias
            guard rest >= threshold else { break }
            output.append(digits[threshold + (rest - threshold) % (36 - threshold)])
            rest = (rest - threshold) / (36 - threshold)
            k += 36
        }
        output.append(digits[rest])
    }

    private static func adapted(_ delta: Int, count: Int, isFirst: Bool) -> Int {
        var delta = isFirst ? delta / 700 : delta / 2
        delta += delta / count
        var k = 0
        while delta > 35 * 26 / 2 {
            delta /= 35
            k += 36
        }
        return k + 36 * delta / (delta + 38)
    }
}
