internal import Base
internal import HTTPTypes
internal import MerkleDAG
internal import Multiformats

/// The names of a directory as HTML or JSON.
///
/// Sizes are those that the directory itself says: of a file of one raw block exactly, else of all blocks below.
struct ListingPage {
    /// The directory from the root of what is served on, each name with a slash before it, without one at the end.
    struct Place {
        /// `/ipfs/CID` or `/ipns/NAME`; empty where the root is a host's.
        var root: [[UInt8]]
        var names: [[UInt8]]

        var isHost: Bool { root.isEmpty }
    }

    /// What changes when the page looks different, for its entity tag.
    static let version = 1
    /// The most names of a page that is made at once, with a length.
    static let countInMemory = 512

    var place: Place
    var cid: CID
    var entries: [DirectoryEntry]

    static func etag(_ cid: CID, isJSON: Bool) -> String {
        isJSON ? "\"DirJSON-\(version)_CID-\(cid)\"" : "\"DirIndex-\(version)_CID-\(cid)\""
    }

    // MARK: HTML

    func html() -> ServeBody {
        let title = Self.escaped("Index of \(shownPath)/")
        var head = """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>\(title)</title>
            <style>
            body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
            h1 { font-size: 1.2rem; overflow-wrap: anywhere; }
            table { border-collapse: collapse; width: 100%; }
            td { border-top: 1px solid #ddd; padding: .2rem .5rem; overflow-wrap: anywhere; }
            td.size { text-align: right; white-space: nowrap; }
            .ipfs-hash { font-family: monospace; }
            </style>
            </head>
            <body>
            <h1>Index of \(breadcrumbs)</h1>
            <table>

            """
        if !place.names.isEmpty {
            head +=
                "<tr><td><a href=\"\(Self.escaped(href))/..\">..</a></td><td></td><td></td></tr>\n"
        }
        let base = Self.escaped(href)
        let links = !place.isHost
        return body(Array(head.utf8), Array("</table>\n</body>\n</html>\n".utf8)) { entry, _ in
            Array(Self.row(entry, base: base, linksCIDs: links).utf8)
        }
    }

    private static func row(_ entry: DirectoryEntry, base: String, linksCIDs: Bool) -> String {
        let name = escaped(shown(entry.name))
        // A name that no path can have leads elsewhere in a link.
        let link =
            PathWalk.isName(entry.name)
            ? "<a href=\"\(base)/\(escaped(URLText.pathName(entry.name)))\">\(name)</a>" : name
        let cid = "\(entry.cid)"
        let short = "\(cid.prefix(4))…\(cid.suffix(4))"
        // Encoded twice, as Kubo does it and `FileName.given` undoes.
        let fileName = URLText.component(URLText.pathName(entry.name))
        let hash =
            linksCIDs
            ? "<a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/\(cid)?filename=\(fileName)\">\(short)</a>"
            : "<span class=\"ipfs-hash\" translate=\"no\">\(short)</span>"
        let about = entry.cid.codec == .raw ? "" : "≈ "
        return "<tr><td>\(link)</td><td>\(hash)</td><td class=\"size\">"
            + "\(about)\(humanSize(entry.treeSize))</td></tr>\n"
    }

    /// The path to the directory as links of it.
    private var href: String { URLText.path(place.root + place.names) }

    private var shownPath: String {
        (place.root + place.names).map { "/" + Self.shown($0) }.joined()
    }

    /// The path with a link for each name, `/ipfs/` before them.
    private var breadcrumbs: String {
        var text = ""
        var passed: [[UInt8]] = []
        if place.isHost {
            text = "<a href=\"/\">/</a>"
        } else {
            passed = place.root.dropLast()
            text = passed.map { "/" + Self.escaped(Self.shown($0)) }.joined() + "/"
        }
        let names = place.root.suffix(1) + place.names
        for (index, name) in names.enumerated() {
            passed.append(name)
            text +=
                (index == 0 ? "" : "/") + "<a href=\"\(Self.escaped(URLText.path(passed)))\">"
                + "\(Self.escaped(Self.shown(name)))</a>"
        }
        return text
    }

    // MARK: JSON

    /// An object: `path`, `cid`, and `entries`, each with `name` as text, `href` (the name as part of a URL, by which also one
    /// is told that is no UTF-8), `cid`, `size` in bytes or null, and `treeSize`, what the directory says of all blocks.
    func json() -> ServeBody {
        let head = "{\"path\":\(Self.quoted(href + "/")),\"cid\":\"\(cid)\",\"entries\":["
        return body(Array(head.utf8), Array("\n]}\n".utf8)) { entry, isFirst in
            let size = entry.cid.codec == .raw ? "\(entry.treeSize)" : "null"
            let name = Self.quoted(String(decoding: entry.name, as: UTF8.self))
            let href = Self.quoted(URLText.pathName(entry.name))
            return Array(
                ((isFirst ? "\n" : ",\n") + "{\"name\":\(name),\"href\":\(href),"
                    + "\"cid\":\"\(entry.cid)\",\"size\":\(size),\"treeSize\":\(entry.treeSize)}")
                    .utf8)
        }
    }

    // MARK: Both

    private func body(
        _ head: [UInt8], _ tail: [UInt8],
        _ row: @escaping @Sendable (DirectoryEntry, _ isFirst: Bool) -> [UInt8]
    ) -> ServeBody {
        guard entries.count > Self.countInMemory else {
            var bytes = head
            for (index, entry) in entries.enumerated() { bytes += row(entry, index == 0) }
            return .bytes(bytes + tail)
        }
        return .producer(Rows(head, entries, tail, row), count: nil)
    }

    /// Makes a long page some rows at a time.
    private final class Rows: BodyProducer {
        private static let batch = 256

        private let head: [UInt8]
        private let entries: [DirectoryEntry]
        private let tail: [UInt8]
        private let row: @Sendable (DirectoryEntry, Bool) -> [UInt8]
        /// How many rows were given; nil at the end.
        private let done = Monitor<Int?>(0)

        init(
            _ head: [UInt8], _ entries: [DirectoryEntry], _ tail: [UInt8],
            _ row: @escaping @Sendable (DirectoryEntry, Bool) -> [UInt8]
        ) {
            self.head = head
            self.entries = entries
            self.tail = tail
            self.row = row
        }

        func next() throws(ServeFault) -> BytesPlace? {
            done.withLock { done in
                guard let start = done else { return nil }
                let end = min(start + Self.batch, entries.count)
                var bytes = start == 0 ? head : []
                for index in start..<end { bytes += row(entries[index], index == 0) }
                done = end
                if end == entries.count {
                    bytes += tail
                    done = nil
                }
                return .bytes(bytes)
            }
        }
    }

    /// A name for people: what is no UTF-8 as `\xNN`, and what moves the cursor or turns the direction of writing as its number.
    static func shown(_ name: [UInt8]) -> String {
        guard let text = String(validating: name, as: UTF8.self) else {
            return Base.shown(name)
        }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0..<0x20, 0x7f...0x9f, 0x061c, 0x200e, 0x200f, 0x2028...0x202e, 0x2066...0x2069:
                result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&#34;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// A JSON string (RFC 8259).
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x22, 0x5c:
                result += "\\"
                result.unicodeScalars.append(scalar)
            case 0..<0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    static func humanSize(_ bytes: UInt64) -> String {
        guard bytes >= 1024 else { return "\(bytes) B" }
        var rest = Double(bytes)
        for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
            rest /= 1024
            // What would be rounded to 1024 is one of the next unit.
            guard rest >= 1023.95 else {
                let tenths = Int((rest * 10).rounded())
                return "\(tenths / 10).\(tenths % 10) \(unit)"
            }
        }
        return "\(Int((rest / 1024).rounded())) EiB"
    }
}
