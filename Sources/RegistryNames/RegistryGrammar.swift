// What names of repositories, tags and namespaces may be.
//
// Component:  [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
// Name:       components with slashes between, 255 bytes at most (the bound of the stock registry).
// Tag:        [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
// Source:     https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests

/// Looks whether names are what they may be. None that passes leads out of a directory.
package enum RegistryGrammar {
    /// The longest name of a repository, in bytes.
    package static let nameLengthMax = 255
    /// The longest tag, in bytes.
    package static let tagLengthMax = 128

    /// Whether some components are the name of a repository.
    package static func isName(_ components: some Collection<[UInt8]>) -> Bool {
        guard !components.isEmpty, components.allSatisfy(isComponent) else { return false }
        return length(components) <= nameLengthMax
    }

    /// Of a name as text, with its slashes.
    package static func length(_ components: some Collection<[UInt8]>) -> Int {
        // Each is bounded by what a request's target is.
        components.reduce(components.count - 1) { $0 + $1.count }
    }

    /// Whether bytes are what stands between two slashes of a name.
    package static func isComponent(_ bytes: [UInt8]) -> Bool {
        guard bytes.count <= nameLengthMax else { return false }
        var separator: [UInt8] = []
        var hasBegun = false
        for byte in bytes {
            if isLowercaseOrDigit(byte) {
                guard hasBegun || separator.isEmpty, isSeparator(separator) else { return false }
                hasBegun = true
                separator.removeAll(keepingCapacity: true)
            } else {
                separator.append(byte)
            }
        }
        return hasBegun && separator.isEmpty
    }

    /// Whether bytes are a tag.
    package static func isTag(_ bytes: [UInt8]) -> Bool {
        guard let first = bytes.first, bytes.count <= tagLengthMax, first != UInt8(ascii: "."),
            first != UInt8(ascii: "-")
        else { return false }
        return bytes.allSatisfy { byte in
            isLetterOrDigit(byte) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".")
                || byte == UInt8(ascii: "-")
        }
    }

    /// Whether a text is the host of a registry, with or without a port: of `ns=`.
    package static func isHost(_ text: String) -> Bool {
        let sides = text.utf8.split(
            separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
        guard text.utf8.count <= nameLengthMax, let host = sides.first, !host.isEmpty else {
            return false
        }
        let isHost = host.allSatisfy { byte in
            isLetterOrDigit(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
        }
        guard isHost, sides.count == 2 else { return isHost }
        return (1...5).contains(sides[1].count)
            && sides[1].allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// What may stand between two runs of letters and digits; nothing may as well.
    private static func isSeparator(_ bytes: [UInt8]) -> Bool {
        bytes.isEmpty || bytes == Array(".".utf8) || bytes == Array("_".utf8)
            || bytes == Array("__".utf8) || bytes.allSatisfy { $0 == UInt8(ascii: "-") }
    }

    private static func isLowercaseOrDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        isLowercaseOrDigit(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
    }
}
