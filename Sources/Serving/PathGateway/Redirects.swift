// The file `_redirects` at the root of a site: what to answer for paths that the site does not have.
//
// Text:     lines of FROM TO [STATUS], separated by blanks; `#` begins a comment. FROM is a path, with `:NAME` for any
//           one name and `*` at the end for all the rest; TO is a path, or for redirects a URL, with `:NAME` and `:splat`
//           where they go.
// Validity: at most 64 KiB; STATUS is 200 (the content of TO), 301 (where none is given), 302, 303, 307 or 308 (go to TO),
//           404, 410 or 451 (the content of TO, with this status); no name of FROM comes twice.
// Order:    the first line whose FROM fits decides.
// Source:   https://specs.ipfs.tech/http-gateways/web-redirects-file/

/// Why a `_redirects` file cannot be used; for whoever wrote it.
struct RedirectsError: Error, Equatable {
    var reason: String
}

/// The rules of a `_redirects` file.
struct Redirects: Equatable {
    /// The longest file, in bytes.
    static let byteCountMax = 64 << 10

    /// What is answered for a path.
    enum Answer: Equatable {
        /// The client goes to a URL, or to a path of the site.
        case redirect(to: String, status: Int)
        /// The content at other names of the site, with a status.
        case content(names: [[UInt8]], status: Int)
    }

    private enum Pattern: Equatable {
        case name([UInt8])
        case placeholder([UInt8])
    }

    private struct Rule: Equatable {
        var from: [Pattern]
        var hasSplat: Bool
        var to: [UInt8]
        var status: Int
    }

    private var rules: [Rule] = []

    /// Reads a file.
    init(_ text: [UInt8]) throws(RedirectsError) {
        guard text.count <= Self.byteCountMax else {
            throw RedirectsError(
                reason: "redirects file size cannot exceed \(Self.byteCountMax) bytes")
        }
        let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            let words = line.split { $0 == 0x20 || (0x09...0x0d).contains($0) }.map(Array.init)
            guard let first = words.first, first.first != UInt8(ascii: "#") else { continue }
            do throws(RedirectsError) {
                rules.append(try Self.rule(words))
            } catch {
                throw RedirectsError(reason: "line \(index + 1): \(error.reason)")
            }
        }
    }

    /// What the rules say of the names of a path that is not there; nil where no rule fits.
    func answer(to names: [[UInt8]]) -> Answer? {
        for rule in rules {
            guard let found = Self.match(rule, names) else { continue }
            let text = Self.expand(rule.to, found)
            if (301...308).contains(rule.status) {
                return .redirect(
                    to: Self.location(text, isPath: Self.isPath(rule.to)), status: rule.status)
            }
            let path = text.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
            let names = path.split(separator: UInt8(ascii: "/")).map { URLText.decoded($0) }
            return .content(names: names, status: rule.status)
        }
        return nil
    }

    /// Adds what a client's query had to the target of a redirect; where both have a name, the client's values count.
    static func adding(_ query: [(name: String, value: String)], to target: String) -> String {
        guard !query.isEmpty else { return target }
        let whole = target.utf8[...]
        let end = whole.firstIndex(of: UInt8(ascii: "#")) ?? whole.endIndex
        let mark = whole[..<end].firstIndex(of: UInt8(ascii: "?")) ?? end
        let asked = Set(query.map(\.name))
        let own = whole[mark..<end].dropFirst().split(separator: UInt8(ascii: "&")).filter { pair in
            let name = pair.prefix { $0 != UInt8(ascii: "=") }
            return !asked.contains(String(decoding: URLText.decoded(name), as: UTF8.self))
        }
        let pairs =
            own.map { String(decoding: $0, as: UTF8.self) }
            + query.map { URLText.component($0.name) + "=" + URLText.component($0.value) }
        return String(decoding: whole[..<mark], as: UTF8.self) + "?"
            + pairs.joined(separator: "&") + String(decoding: whole[end...], as: UTF8.self)
    }

    // MARK: Reading

    private static func rule(_ words: [[UInt8]]) throws(RedirectsError) -> Rule {
        guard words.count >= 2 else { throw RedirectsError(reason: "missing 'to' path") }
        guard words.count <= 3 else {
            throw RedirectsError(reason: "must match format 'from to [status]'")
        }
        let status = try words.count == 3 ? status(words[2]) : 301
        let (from, hasSplat) = try from(words[0])
        let isRedirect = (301...308).contains(status)
        guard isPath(words[1]) || isRedirect && isURL(words[1]) else {
            throw RedirectsError(
                reason: isRedirect
                    ? "'to' is neither a path nor a URL of http, https, ipfs or ipns"
                    : "'to' is no path, as it must be for status \(status)")
        }
        return Rule(from: from, hasSplat: hasSplat, to: words[1], status: status)
    }

    private static func from(_ word: [UInt8]) throws(RedirectsError) -> ([Pattern], Bool) {
        guard isPath(word) else { throw RedirectsError(reason: "'from' must begin with '/'") }
        guard !word.dropLast().contains(UInt8(ascii: "*")) else {
            throw RedirectsError(reason: "'from' can have one asterisk, at its end")
        }
        var parts = word.dropFirst().split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let last = parts.last ?? []
        let hasSplat = last.elementsEqual("*".utf8)
        if hasSplat || last.isEmpty { parts.removeLast() }
        var names: Set<[UInt8]> = []
        var patterns: [Pattern] = []
        for part in parts {
            if part.first == UInt8(ascii: ":"), part.count > 1 {
                let name = Array(part.dropFirst())
                guard names.insert(name).inserted else {
                    throw RedirectsError(
                        reason:
                            "'from' has the placeholder ':\(String(decoding: name, as: UTF8.self))' twice"
                    )
                }
                patterns.append(.placeholder(name))
            } else {
                patterns.append(.name(URLText.decoded(part)))
            }
        }
        return (patterns, hasSplat)
    }

    private static func status(_ word: [UInt8]) throws(RedirectsError) -> Int {
        let text = String(decoding: word, as: UTF8.self)
        guard word.last != UInt8(ascii: "!") else {
            throw RedirectsError(
                reason: "status '\(text)': forced redirects (or \"shadowing\") are not supported")
        }
        guard let status = Int(text),
            [200, 301, 302, 303, 307, 308, 404, 410, 451].contains(status)
        else { throw RedirectsError(reason: "status code '\(text)' is not supported") }
        return status
    }

    private static func isPath(_ word: [UInt8]) -> Bool { word.first == UInt8(ascii: "/") }

    private static func isURL(_ word: [UInt8]) -> Bool {
        let text = String(decoding: word, as: UTF8.self).lowercased()
        return ["http://", "https://", "ipfs://", "ipns://"].contains { text.hasPrefix($0) }
    }

    // MARK: Matching

    /// What the placeholders stand for, as text of URLs; nil where the rule does not fit.
    private static func match(_ rule: Rule, _ names: [[UInt8]]) -> [[UInt8]: String]? {
        let rest = names.count - rule.from.count
        // A splat stands for one name at least, but at the root of the site.
        guard rule.hasSplat ? rest > 0 || names.isEmpty && rest == 0 : rest == 0 else { return nil }
        let splat = names.suffix(rest).map { FieldText.escaped($0) }.joined(separator: "/")
        var found: [[UInt8]: String] = [Array("splat".utf8): splat]
        for (pattern, name) in zip(rule.from, names) {
            switch pattern {
            case .name(let wanted):
                guard wanted == name else { return nil }
            case .placeholder(let placeholder):
                found[placeholder] = FieldText.escaped(name)
            }
        }
        return found
    }

    /// Puts what was found in its places; of two names that fit, the longer one counts.
    private static func expand(_ to: [UInt8], _ found: [[UInt8]: String]) -> [UInt8] {
        let known = found.keys.sorted { $0.count > $1.count }
        var result: [UInt8] = []
        var rest = to[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: ":"), let name = known.first(where: { rest.starts(with: $0) }) {
                result += Array((found[name] ?? "").utf8)
                rest = rest.dropFirst(name.count)
            } else {
                result.append(byte)
            }
        }
        return result
    }

    /// - Parameter isPath: that it must stay on the site: two slashes at the beginning would name another host.
    private static func location(_ text: [UInt8], isPath: Bool) -> String {
        guard isPath else { return URLText.made(of: text) }
        let rest = text.drop { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") }
        return URLText.made(of: [UInt8(ascii: "/")] + rest)
    }
}
