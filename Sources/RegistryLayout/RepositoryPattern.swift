internal import RegistryNames

// Which repositories and tags are meant.
//
// Text:     NAME or NAME:TAG; `*` stands for any run of characters, of slashes too.
// Validity: without the stars, a name or tag as the registry takes them (`RegistryGrammar`); `RepositoryPattern.lengthMax` bytes.

/// A name of repositories, with `*` in it or without, and of their tags.
package struct RepositoryPattern: Sendable, Hashable, CustomStringConvertible {
    /// The longest text, in bytes.
    package static let lengthMax = 512

    private let name: [UInt8]
    private let tag: [UInt8]?

    package let description: String

    /// - Throws: for what no name can be.
    package init(_ text: String) throws(LayoutError) {
        description = text
        let bytes = Array(text.utf8)
        let colon = bytes.lastIndex(of: UInt8(ascii: ":"))
        name = Array(bytes[..<(colon ?? bytes.endIndex)])
        tag = colon.map { Array(bytes[($0 + 1)...]) }
        guard bytes.count <= Self.lengthMax, Self.isName(name), tag.map(Self.isTag) ?? true else {
            throw LayoutError("'\(text)' is no repository: NAME or NAME:TAG, with * for any part")
        }
    }

    private static let star = UInt8(ascii: "*")

    private static func isName(_ pattern: [UInt8]) -> Bool {
        // A star may stand for nothing, or for what joins its sides.
        !pattern.isEmpty
            && pattern.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
                .allSatisfy { part in
                    part.contains(star)
                        ? part.allSatisfy { $0 == star || isNameByte($0) }
                        : RegistryGrammar.isComponent(Array(part))
                }
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        RegistryGrammar.isComponent([byte]) || "._-".utf8.contains(byte)
    }

    private static func isTag(_ pattern: [UInt8]) -> Bool {
        RegistryGrammar.isTag(pattern.map { $0 == star ? UInt8(ascii: "a") : $0 })
    }

    /// The one repository that is meant; nil where there may be several.
    var exactName: String? {
        name.contains(Self.star) ? nil : String(decoding: name, as: UTF8.self)
    }

    /// Whether all tags are meant.
    package var takesAllTags: Bool { tag == nil }

    package func matches(name other: String) -> Bool { Self.matches(name, Array(other.utf8)) }

    package func matches(tag other: String) -> Bool {
        tag.map { Self.matches($0, Array(other.utf8)) } ?? true
    }

    /// Goes back to the last star alone, so it takes at most the product of both lengths.
    private static func matches(_ pattern: [UInt8], _ text: [UInt8]) -> Bool {
        var (at, place) = (0, 0)
        var back: (at: Int, place: Int)?
        while place < text.count {
            if at < pattern.count, pattern[at] == star {
                back = (at + 1, place)
                at += 1
            } else if at < pattern.count, pattern[at] == text[place] {
                at += 1
                place += 1
            } else if let last = back {
                back = (last.at, last.place + 1)
                (at, place) = (last.at, last.place + 1)
            } else {
                return false
            }
        }
        return pattern[at...].allSatisfy { $0 == star }
    }
}
