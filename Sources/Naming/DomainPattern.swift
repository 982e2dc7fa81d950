// Which domains may be looked up because somebody asks for a repository of their name.
//
// Pattern:  DOMAIN, of two labels or more: that domain; *.SUFFIX: all below, at any depth, and not SUFFIX itself; *:
//           all that are everybody's.
// Domain:   two labels or more, 253 bytes at most. Label = letters a-z, digits and -, no - at an end, 63 bytes at most;
//           the last one is no number (0x and hexadecimal digits among them), which is how an IP address ends. That is
//           what both a repository's name and a domain can be: no upper case, no port.
// Special:  names that mean something else on each network, or nothing anywhere: * has none of them; a pattern that names
//           their suffix does. localhost is never one.
// Source:   RFC 1035 section 2.3.1, RFC 6761, 6762, 7686, 8375, 9476; the host parser of https://url.spec.whatwg.org
//           ("ends in a number"); the grammar of names in distribution's reference package.

/// One pattern of domains.
public struct DomainPattern: Hashable, Sendable, CustomStringConvertible {
    /// The text.
    public let description: String

    private enum Kind: Hashable {
        case all
        /// What is below a suffix, with its dot in front.
        case below(String)
        case domain(String)
    }

    private let kind: Kind

    /// Reads a pattern.
    ///
    /// - Throws: `malformed`, with what it may be.
    public init(_ text: String) throws(NamingError) {
        description = text
        if text == "*" {
            kind = .all
        } else if text.hasPrefix("*."), Self.areLabels(text.dropFirst(2), countMin: 1) {
            kind = .below(String(text.dropFirst()))
        } else if Self.isDomain(text) {
            kind = .domain(text)
        } else {
            throw NamingError(
                .malformed,
                "'\(text)' is no pattern of domains: write example.com, *.example.com or *, in lower case, "
                    + "without a port")
        }
    }

    /// Whether a name is a domain that the pattern has.
    public func covers(_ name: String) -> Bool {
        guard Self.isDomain(name) else { return false }
        return switch kind {
        case .all: !Self.isSpecial(name)
        case .below(let suffix): name.hasSuffix(suffix)
        case .domain(let domain): name == domain
        }
    }

    /// Whether a name can be a domain of a repository, whatever the patterns are.
    public static func isDomain(_ name: String) -> Bool {
        areLabels(name[...], countMin: 2)
    }

    private static func areLabels(_ text: Substring, countMin: Int) -> Bool {
        guard text.utf8.count <= DNSName.lengthMax else { return false }
        let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard labels.count >= countMin, labels.allSatisfy(isLabel), let last = labels.last,
            !isNumber(last)
        else { return false }
        return !last.elementsEqual("localhost".utf8)
    }

    private static func isLabel(_ label: Substring.UTF8View.SubSequence) -> Bool {
        let dash = UInt8(ascii: "-")
        return (1...63).contains(label.count) && label.first != dash && label.last != dash
            && label.allSatisfy { isDigit($0) || isLetter($0) || $0 == dash }
    }

    private static func isNumber(_ label: Substring.UTF8View.SubSequence) -> Bool {
        if label.allSatisfy(isDigit) { return true }
        let letters = UInt8(ascii: "a")...UInt8(ascii: "f")
        return label.starts(with: "0x".utf8)
            && label.dropFirst(2).allSatisfy { isDigit($0) || letters.contains($0) }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    private static func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte) }

    private static let specialSuffixes = [
        // What RFC 6761 and those after it reserve; arpa has home.arpa and the addresses.
        ".local", ".test", ".example", ".invalid", ".onion", ".alt", ".arpa",
        ".example.com", ".example.net", ".example.org",
        // What ICANN delegates to nobody, or routers and offices use all the same.
        ".internal", ".lan", ".home", ".corp", ".mail", ".intranet", ".private", ".localdomain",
    ]

    private static func isSpecial(_ name: String) -> Bool {
        let name = "." + name
        return specialSuffixes.contains { name.hasSuffix($0) }
    }
}
